"""The generated part of deploy/CAPACITY.md: tables of a survey, the fit, the plans, and
the plots of growth. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cfmessenger.load.chart import number_tick
from cfmessenger.load.plot import Curve, logarithmic
from tests.bench.meter import KINDS
from tests.bench.model import KINDS as FITTED
from tests.bench.model import Costs, Demand, Line, Machine, Plan, fit, size
from tests.bench.page import number, table
from tests.bench.picture import picture
from tests.bench.sweep import Survey, Taken

RATES = ("sockets", "rooms", "rates", "gateways", "pool_size")
PICTURES = ("growth-rooms.svg", "growth-sockets.svg")
NONE = "–"
DEMANDS = (
    ("a million sockets, 100,000 rooms, quiet", Demand(1_000_000, 100_000, 2_000)),
    ("the same, each room a line every 10 s", Demand(1_000_000, 100_000, 10_000)),
    ("the same, and 1 % of the sockets return a minute",
     Demand(1_000_000, 100_000, 10_000, reconnects_per_s=167)),
    ("the same, when every log has its 10,000",
     Demand(1_000_000, 100_000, 10_000, kept=10_000)),
    ("a tenth of that", Demand(100_000, 10_000, 1_000)),
    ("and 10,000 who watch, ten changes of status a second",
     Demand(100_000, 10_000, 1_000, watchers=10_000, changes_per_s=10)),
)  # fmt: skip


def page(survey: Survey) -> str:
    """All that there are figures for."""
    facts = ", ".join(f"{key} {value}" for key, value in survey.machine.items())
    costs = costs_of(survey)
    parts = [
        f"Measured {survey.started_at} on: {facts}.",
        *_section(
            "CPU in µs a message by kind of process, at a steady rate; latency in ms.",
            _rates(survey),
        ),
        *(_fitted(costs, survey) if costs else ()),
        *_section(
            "**Presence.** So many people watch who is online, and twenty times a "
            "second one of them chooses another status. CPU in µs a change, beyond what"
            " is used at rest; bytes and frames are what a change costs each watcher.",
            _presence(survey),
        ),
        *_section(
            "**A crowd** that comes online within 5 s: CPU in ms a person, until "
            "nobody is told anything any more.",
            _crowds(survey),
        ),
        *_grown(survey),
        *(_planned(costs) if costs else ()),
        *_section("To be known of these figures:", _notes(survey)),
    ]
    return "\n\n".join(parts)


def _section(text: str, found: str) -> list[str]:
    return [text, found] if found else []


def _rates(survey: Survey) -> str:
    lines = []
    for taken in (t for sweep in RATES for t in survey.of(sweep)):
        sizes, settings = taken.point.sizes, taken.point.settings
        said = ", ".join(f"{k[4:].lower()} {v}" for k, v in settings.items())
        lines.append(
            [
                f"{sizes['rooms']:.0f} × {sizes['per_room']:.0f}",
                f"{sizes['rate']:,.0f}",
                said or NONE,
                *_kinds(taken, "cpu_us_per_message"),
                _figure(taken, "p50_ms"),
                _figure(taken, "p99_ms"),
            ]
        )
    head = ["rooms × sockets", "messages/s", "setting", *KINDS, "all", "p50", "p99"]
    return table(head, lines) if lines else ""


def _presence(survey: Survey) -> str:
    lines = [
        [
            f"{taken.point.sizes['people']:,.0f}",
            *_kinds(taken, "cpu_us_per_change"),
            _figure(taken, "bytes_per_watcher"),
            _figure(taken, "frames_per_watcher"),
        ]
        for taken in survey.of("presence")
    ]
    head = ["people", *KINDS, "all", "bytes", "frames"]
    return table(head, lines) if lines else ""


def _crowds(survey: Survey) -> str:
    lines = [
        [
            f"{taken.point.sizes['people']:,.0f}",
            *_kinds(taken, "cpu_ms_per_person"),
            _figure(taken, "all_in_s"),
            _figure(taken, "kib_per_person"),
            _figure(taken, "frames_per_person"),
        ]
        for taken in survey.of("crowd")
    ]
    head = ["people", *KINDS, "all", "all in after (s)", "KiB a socket", "frames"]
    return table(head, lines) if lines else ""


def _kinds(taken: Taken, figure: str) -> list[str]:
    assert taken.measured is not None
    found = taken.measured.parts[figure]
    return [
        *(number(found.get(kind, 0.0)) for kind in KINDS),
        _figure(taken, figure),
    ]


def _figure(taken: Taken, name: str) -> str:
    assert taken.measured is not None
    value = taken.measured.figures.get(name)
    return NONE if value is None else number(value)


# The fit.


def costs_of(survey: Survey) -> Costs | None:
    """What follows from the sweeps; None if one that it takes is missing."""
    cpu = _lines(survey, "sockets", "per_room", "cpu_us_per_message", FITTED)
    sockets = _lines(survey, "held_sockets", "sockets", "kib", ("gateway",))
    rooms = _lines(survey, "held_rooms", "sockets", "kib", ("actors",))
    if not (cpu and sockets and rooms):
        return None
    accept = survey.of("held_sockets")[-1].measured
    kept = [t.measured.figures for t in survey.of("rates") if t.measured]
    assert accept is not None
    pools = len(os.sched_getaffinity(0))
    return Costs(
        cpu=cpu,
        socket_kib=sockets["gateway"].slope,
        room_kib=rooms["actors"].slope,
        gateway_mib=sockets["gateway"].fixed / 1024,
        actor_mib=rooms["actors"].fixed / 1024 / pools,
        accept_ms=accept.parts["cpu_ms_per_accept"]["gateway"],
        # Of the run with most messages, in which all else that grows counts least.
        valkey_bytes=max(kept, key=lambda each: each["said"])[
            "valkey_bytes_per_message"
        ]
        if kept
        else 350.0,
        presence=_lines(survey, "presence", "people", "cpu_us_per_change", FITTED),
    )


def _lines(
    survey: Survey, sweep: str, by: str, figure: str, kinds: tuple[str, ...]
) -> dict[str, Line]:
    taken = survey.of(sweep)
    if len({t.point.sizes[by] for t in taken}) < 2:
        return {}
    found = {}
    for kind in kinds:
        points = [
            # A kind that did nothing at all is still on a line, next to zero.
            (t.point.sizes[by], max(t.measured.parts[figure].get(kind, 0.0), 0.01))
            for t in taken
            if t.measured
        ]
        found[kind] = fit(points)
    return found


def _fitted(costs: Costs, survey: Survey) -> list[str]:
    sizes = [t.point.sizes["per_room"] for t in survey.of("sockets")]
    lines = [
        [kind, f"{line.fixed:.0f}", f"{line.slope:.2f}", f"{line.error:.0%}"]
        for kind, line in costs.cpu.items()
    ]
    return [
        f"Fitted over one room of {min(sizes):.0f} to {max(sizes):.0f} sockets:",
        table(["", "µs a message", "µs a delivery", "mean deviation"], lines),
        f"A socket takes {costs.socket_kib:.1f} KiB of its gateway and "
        f"{costs.accept_ms:.2f} ms of its CPU to come in, an awake room "
        f"{costs.room_kib:.1f} KiB of its pool, a message that is kept "
        f"{costs.valkey_bytes:.0f} bytes of Valkey; a gateway that does nothing takes "
        f"{costs.gateway_mib:.0f} MiB, a pool's process {costs.actor_mib:.0f} MiB.",
    ]


def _planned(costs: Costs) -> list[str]:
    head = [
        "demand", "gateways (cores)", "actors (cores)",
        "GiB: gateways, actors, Valkey", "Valkey: appends/s, share of a thread",
        "shards", "nodes", "first limit",
    ]  # fmt: skip
    demands = [each for each in DEMANDS if costs.presence or not each[1].watchers]
    lines = [_plan(title, size(costs, d, Machine())) for title, d in demands]
    return [
        "Planned, on nodes of 16 cores and 64 GiB that may be 60 % busy and 70 % full; "
        "each shard of Valkey on such a machine of its own, of which it uses one core:",
        table(head, lines),
    ]


def _plan(title: str, plan: Plan) -> list[str]:
    cores, memory = plan.cores, plan.memory_gib
    return [
        title,
        f"{plan.processes['gateway']} ({cores['gateway']:.1f})",
        f"{plan.processes['actors']} ({cores['actors']:.1f})",
        f"{memory['gateway']:.0f}, {memory['actors']:.1f}, {memory['valkey']:.1f}",
        f"{plan.valkey_ops_per_s:,.0f}, {plan.valkey_cores:.0%}",
        str(plan.shards),
        str(plan.nodes),
        plan.limit,
    ]


# Growth.


def pictures(survey: Survey) -> dict[str, str]:
    """The plots by the name of their file; none of what was not measured."""
    drawn = (
        _drawn(
            survey,
            "grow_rooms",
            "CPU a message as rooms grow",
            "rooms of one socket, all awake",
            lambda taken: taken.point.sizes["rooms"],
            lambda taken: 1.0,
        ),
        _drawn(
            survey,
            "grow_sockets",
            "CPU a delivery as sockets grow",
            "sockets in ten rooms",
            lambda taken: 10 * taken.point.sizes["per_room"],
            lambda taken: taken.point.sizes["per_room"],
        ),
    )
    return {name: svg for name, svg in zip(PICTURES, drawn, strict=True) if svg}


def _drawn(
    survey: Survey,
    sweep: str,
    title: str,
    across: str,
    x_of: Callable[[Taken], float],
    share_of: Callable[[Taken], float],
) -> str:
    taken = survey.of(sweep)
    if len(taken) < 2:
        return ""
    figure = "cpu_us_per_message"
    curves = []
    for n, kind in enumerate(KINDS):
        points = [
            (x_of(t), t.measured.parts[figure].get(kind, 0.0) / share_of(t))
            for t in taken
            if t.measured
        ]
        shown = [(x, y if y > 0 else None) for x, y in points]
        curves.append(Curve(kind, f"s{n}", shown))
    every = [
        (x_of(t), t.measured.figures[figure] / share_of(t)) for t in taken if t.measured
    ]
    curves.append(Curve("all", "old dashed", every))
    values = [y for curve in curves for _, y in curve.points if y]
    return picture(
        title,
        ". ".join(f"{x:,.0f} {across}: {number(y)} µs" for x, y in every),
        logarithmic(across, [x for x, _ in every], number_tick, most=6),
        logarithmic("µs", values, number_tick, most=6),
        curves,
    )


def _grown(survey: Survey) -> list[str]:
    parts = [
        f"![{name[:-4].replace('-', ' of ')}]({name})" for name in pictures(survey)
    ]
    if not parts:
        return []
    lines = []
    for taken in (t for s in ("grow_rooms", "grow_sockets") for t in survey.of(s)):
        sizes = taken.point.sizes
        lines.append(
            [
                f"{sizes['rooms']:,.0f} × {sizes['per_room']:,.0f}",
                f"{sizes['rate']:,.0f}",
                *_kinds(taken, "cpu_us_per_message"),
                _figure(taken, "p50_ms"),
                _figure(taken, "p99_ms"),
            ]
        )
    head = ["rooms × sockets", "messages/s", *KINDS, "all", "p50", "p99"]
    return [
        "**Growth**, all rooms awake: CPU by number of rooms and of sockets.",
        *parts,
        table(head, lines),
    ]


def _notes(survey: Survey) -> str:
    said = []
    for taken in survey.taken:
        sizes = ", ".join(f"{k} {v:g}" for k, v in taken.point.sizes.items())
        about = f"{taken.point.sweep} ({sizes})"
        if taken.measured is None:
            said.append(f"* {about}: no figures: {taken.reason}")
        else:
            said += [f"* {about}: {note}" for note in taken.measured.notes]
    return "\n".join(said)
