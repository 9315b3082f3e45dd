"""What a search found, on a terminal and as a page.

Owns the words and the tables; both only read a `Capacity`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from . import result as results
from .capacity import LATENCY, UNITS, Capacity, Step
from .chart import number_tick, tick
from .document import card, document, grid, section
from .markup import Markup, tag
from .plot import Curve, linear, logarithmic, plot
from .quantity import UNKNOWN, counted, duration, moment, show
from .sheet import facts, processes_sheet, sheet
from .tables import brief, figures_table, plain, processes_table

_ENDED = {
    "precise": "",
    "top": "the greatest value that was to be tried held",
    "nothing held": "not even the least that was tried held",
    "time": "the time was over before it was known more precisely",
    "violation": "it ended at once: messages were lost, doubled or out of order",
}
_DRAWN = 4


def line(step: Step) -> str:
    """One try as one plain line, for a log."""
    busiest = step.busiest
    words = [
        f"{step.value:>10,.0f}",
        "held " if step.held else "broke",
        f"p50 {duration(step.p50_us):>8}",
        f"p99 {duration(step.p99_us):>8}",
        f"{busiest.name} {busiest.share:.0%} of a core" if busiest else "",
        "; ".join(step.broke),
    ]
    return plain("  ".join(filter(None, words)))


def conclusion(capacity: Capacity) -> str:
    """What came of it, in a sentence or two."""
    unit = UNITS[capacity.axis]
    said = f"{capacity.held:,.0f} {unit} held" if capacity.held else "Nothing held"
    if capacity.broke is not None and (breaking := capacity.breaking) is not None:
        why = "; ".join(breaking.broke)
        said += f", {capacity.broke:,.0f} did not: {why}"
    more = _ENDED[capacity.ended]
    return plain(f"{said}." + (f" {more[0].upper()}{more[1:]}." if more else ""))


def summary(capacity: Capacity) -> RenderableType:
    """All of it, for a terminal or a log."""
    table = figures_table("", "p50", "p99", "refused", "machine", "busiest", width=5)
    for step in sorted(capacity.steps, key=lambda each: each.value):
        table.add_row(*_cells(step))
    parts: list[RenderableType] = [
        Text(f"{capacity.scenario}  {plain(capacity.url)}", style="bold"),
        Text(),
        table,
        Text(),
        Text(conclusion(capacity)),
    ]
    if limit := capacity.limit:
        parts.append(Text(plain(f"The limit: {limit.text}.")))
        if (breaking := capacity.breaking) and breaking.processes:
            parts += [Text(), processes_table(breaking.processes)]
        parts += [
            Text(f"  {share:>4.0%}  {plain(name)}")
            for name, share in limit.functions.items()
        ]
    parts += [Text(f"· {plain(each)}") for each in capacity.violations[:5]]
    return Group(*parts)


def _cells(step: Step) -> tuple[str, ...]:
    busiest = step.busiest
    return (
        f"{step.value:,.0f}",
        "held" if step.held else "broke",
        duration(step.p50_us),
        duration(step.p99_us),
        show(step.refused, "share"),
        show(step.machine, "share"),
        f"{brief(busiest)} {busiest.share:.0%}" if busiest else UNKNOWN,
    )


def write(path: str | os.PathLike[str], capacity: Capacity) -> None:
    """Write the page, whole or not at all; OSError as `open` raises it."""
    results.replace(path, html(capacity).encode())


def html(capacity: Capacity) -> str:
    """The page of a search: no script, no request."""
    title = f"Capacity: {capacity.scenario}"
    breaking = capacity.breaking
    good = capacity.held is not None and not capacity.violations
    said = f"{capacity.held:,.0f}" if capacity.held else "Nothing"
    cards = [card(f"{said} held", UNITS[capacity.axis], good)]
    if capacity.broke is not None:
        cards.append(card(f"{capacity.broke:,.0f} did not", _why(breaking), False))
    if capacity.limit:
        cards.append(card(capacity.limit.kind, "the limit", None))
    frame = [
        capacity.url,
        moment(capacity.started_at),
        counted(len(capacity.steps), "run"),
    ]
    header = tag(
        "header",
        tag("h1", title),
        tag("p", " · ".join(filter(None, frame)), class_="dim"),
        tag("ul", *cards, class_="cards verdicts"),
        tag("p", conclusion(capacity)),
        tag("p", f"The limit: {capacity.limit.text}.") if capacity.limit else None,
    )
    main = tag(
        "main",
        section("Charts", grid("plots", _charts(capacity))),
        section("Runs", _runs(capacity)),
        section("What was in the way", *_in_the_way(capacity)),
        section("How it was made", grid("sheets", _made(capacity))),
    )
    version = capacity.versions.get("cfmessenger", "")
    footer = tag("footer", f"cfmessenger {version}".rstrip())
    return document(title, header, main, footer)


def _why(step: Step | None) -> str:
    return "; ".join(step.broke) if step else ""


def _runs(capacity: Capacity) -> Markup:
    head = ("", "", "p50", "p99", "Refused", "Of all cores", "Busiest", "What broke")
    rows = [
        (*_cells(step), tag("td", _why(step), class_="wrapped"))
        for step in sorted(capacity.steps, key=lambda each: each.value)
    ]
    return sheet(f"Runs, by {UNITS[capacity.axis]}", head, rows, quiet=True)


def _in_the_way(capacity: Capacity) -> Iterable[Markup]:
    breaking, limit = capacity.breaking, capacity.limit
    if breaking and breaking.processes:
        yield processes_sheet(breaking.processes)
    if limit and limit.functions:
        rows = [(name, show(n, "share")) for name, n in limit.functions.items()]
        yield sheet("Where it was seen", ("Function", "Of the samples"), rows)


def _made(capacity: Capacity) -> Iterable[Markup]:
    most = capacity.thresholds
    yield facts(
        "Must not be exceeded",
        {
            f"p99 of {LATENCY.get(capacity.scenario, 'ack')}": duration(most.p99_us),
            "Refused or closed": show(most.refused, "share"),
            "Any process": f"{show(most.core, 'share')} of a core",
        },
    )
    host = capacity.host
    yield facts(
        "Host of the generator",
        {
            "Processors": f"{host.cpus} × {host.model}" if host.cpus else UNKNOWN,
            "Memory": show(host.memory_bytes or None, "bytes"),
        },
    )
    told = {key: str(value) for key, value in capacity.settings.items()}
    yield facts("Settings of the first run", told)


def _charts(capacity: Capacity) -> Iterable[Markup]:
    steps = sorted(capacity.steps, key=lambda each: each.value)
    values = [step.value for step in steps]
    across = logarithmic(UNITS[capacity.axis], values, number_tick, most=6)
    times = [
        Curve(name, style, [(s.value, getattr(s, f"{name}_us")) for s in steps])
        for name, style in (("p99", "s1"), ("p50", "s0"))
    ]
    found = [y for line in times for _, y in line.points if y]
    if found:
        about = f"p50 and p99 of each run, by {UNITS[capacity.axis]}."
        down = logarithmic("log scale", found, tick)
        yield plot("Latency", about, across, down, times)
    if shares := _shares(steps):
        most = [y for line in shares for _, y in line.points if y is not None]
        about = (
            "The busiest processes of the server and the generator's busiest worker."
        )
        down = linear("of a core", most, lambda share: f"{share:.0%}")
        yield plot("CPU by process", about, across, down, shares)


def _shares(steps: Sequence[Step]) -> list[Curve]:
    if not any(step.processes for step in steps):
        return []
    names: dict[int, str] = {}
    for step in reversed(steps):  # the busiest where it was busiest
        for each in step.processes[:_DRAWN]:
            if len(names) < _DRAWN:
                names.setdefault(each.pid, f"{each.name} {each.pid}")
    lines = [
        Curve(name, f"s{n}", [(s.value, _share(s, pid)) for s in steps])
        for n, (pid, name) in enumerate(names.items())
    ]
    points = [(step.value, step.generator) for step in steps]
    return [*lines, Curve("generator", "old dashed", points)]


def _share(step: Step, pid: int) -> float | None:
    return next((each.share for each in step.processes if each.pid == pid), None)
