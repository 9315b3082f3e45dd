"""A load test as one HTML file that needs nothing else: no script, no request.

Owns the page: what is told first, the words and the tables (`document` is its frame,
`chart` its plots). Everything that came from outside is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from . import result as results
from .chart import charts
from .compare import MARKS, Comparison, Verdict, conclusion, exit_code
from .document import card, document, grid, section
from .expect import found
from .figure import closes_of, errors_of, kind_of, value_of
from .markup import Markup, joined, tag
from .quantity import UNKNOWN, clock, counted, digits, duration, moment, show
from .result import Result
from .sheet import facts, processes_sheet, sheet

_VERDICT_STYLE: dict[Verdict, str] = {
    "better": "good",
    "same": "dim",
    "worse": "bad",
    "unclear": "warn",
    "not judged": "dim",
}
_CARDS = 6
_KEY_FIGURES = {  # the first that there are
    "rate.acked": "acknowledged",
    "ackedShare": "acked of sent",
    "rate.delivered": "delivered",
    "ack.p50": "ack p50",
    "ack.p99": "ack p99",
    "delivery.p99": "delivery p99",
    "wake.p99": "wake p99",
    "entered.p99": "told who is there, p99",
    "allIn.max": "until all were",
    "bytesPerSocket": "got by each socket",
    "cpuUsPerDelivery": "µs of CPU a delivery",
    "kibPerSocket": "KiB a socket",
    "connect.p99": "connect p99",
}
_MOST_SECONDS = 900


def write(
    path: str | os.PathLike[str], result: Result, comparison: Comparison | None = None
) -> None:
    """Write the report to a file, whole or not at all; OSError as `open` raises it."""
    results.replace(path, html(result, comparison).encode())


def html(result: Result, comparison: Comparison | None = None) -> str:
    """The report of a result; with a comparison, against the result before it."""
    before = comparison.a if comparison else None
    title = f"Load test: {result.scenario}"
    main = tag(
        "main",
        section("Comparison", *_comparison(comparison)) if comparison else None,
        section("Charts", grid("plots", charts(result, before))),
        section("Latency", _latency(result)),
        section("Checks", grid("sheets", _checks(result))),
        section("Amounts", grid("sheets", _amounts(result))),
        section("What the server did", _processes(result)),
        section("How it was made", grid("sheets", _made(result))),
        _seconds(result),
    )
    return document(title, _header(result, title), main, _footer(result))


def _header(result: Result, title: str) -> Markup:
    frame = [
        result.url,
        moment(result.started_at),
        f"{clock(result.duration_s)} measured"
        + (f" after {clock(result.warmup_s)} of warm-up" if result.warmup_s else ""),
        counted(result.workers, f"{result.worker_kind} worker") + result.machines,
    ]
    notice = None
    if not result.health.valid:
        notice = tag(
            "p",
            tag("strong", "Not valid. "),
            "The generator did not keep up, so these figures tell of it and not of the "
            f"server: {_why_invalid(result)}.",
            class_="notice",
            role="note",
        )
    return tag(
        "header",
        tag("h1", title),
        tag("p", " · ".join(filter(None, frame)), class_="dim"),
        notice,
        tag("ul", *_verdicts(result), class_="cards verdicts"),
        tag("ul", *_key_figures(result), class_="cards"),
    )


def _verdicts(result: Result) -> list[Markup]:
    oracle, health, errors = result.oracle, result.health, errors_of(result)
    cards = []
    if result.expectations:
        held = sum(expectation.holds for expectation in result.expectations)
        every = held == len(result.expectations)
        said = f"{held} of {len(result.expectations)} hold"
        cards.append(card(f"{_mark(every)} {said}", "expectations", every))
    if oracle.checked_sockets:
        clean = not oracle.violations
        broken = counted(oracle.violations, "broken promise")
        said = f"{_mark(clean)} {'Nothing lost' if clean else broken}"
        sockets = counted(oracle.checked_sockets, "socket")
        rooms = counted(oracle.checked_rooms, "room")
        cards.append(card(said, f"oracle, {sockets}, {rooms}", clean))
    else:
        cards.append(card("Nothing checked", "oracle", None))
    total = sum(errors.values())
    said = f"✗ {counted(total, 'error')}" if total else "✓ No errors"
    cards.append(card(said, ", ".join(errors) or "error frames", not total))
    kept = "Generator kept up" if health.valid else "Generator fell behind"
    lag = f"lag at most {duration(health.max_lag_us)}"
    cards.append(card(f"{_mark(health.valid)} {kept}", lag, health.valid))
    return cards


def _key_figures(result: Result) -> list[Markup]:
    shown = [
        tag("li", tag("b", show(value, kind)), tag("span", label), class_="card")
        for name, label in _KEY_FIGURES.items()
        if (value := value_of(name, result)) and (kind := kind_of(name))
    ]
    return shown[:_CARDS]


def _comparison(comparison: Comparison) -> Iterable[Markup]:
    good = exit_code(comparison) == 0
    yield tag("p", conclusion(comparison), class_=f"notice{' good' * good}")
    rows = [
        (
            change.name,
            change.share,
            tag(
                "td",
                f"{MARKS[change.verdict]} {change.verdict}",
                class_=_VERDICT_STYLE[change.verdict],
            ),
            show(change.a, change.kind),
            show(change.b, change.kind),
            change.moved,
            change.noise,
        )
        for change in comparison.changes
    ]
    head = ("Figure", "Change", "Verdict", "Before", "After", "Moved", "Noise (95 %)")
    yield sheet("Figures before and after", head, rows, quiet=True)
    yield tag(
        "p",
        "Noise is where the ratio of the median seconds lies in 95 % of their "
        "resamples; a change beyond the tolerance but within the noise is unclear. "
        "What differs from run to run it cannot see.",
        class_="dim",
    )
    if comparison.differences:
        yield sheet(
            "The tests differ in",
            ("", "Before", "After", ""),
            [
                (
                    difference.what,
                    tag("td", difference.a, class_="wrapped"),
                    tag("td", difference.b, class_="wrapped"),
                    tag("td", "not comparable", class_="bad")
                    if difference.blocks
                    else "",
                )
                for difference in comparison.differences
            ],
        )


def _latency(result: Result) -> Markup | None:
    rows = [
        (
            name,
            f"{data.count:,}",
            *map(
                duration,
                (data.min, data.mean, data.p50, data.p90, data.p95, data.p99),
            ),
            duration(data.p999),
            duration(data.max),
        )
        for name, data in result.histograms.items()
        if data.count
    ]
    if not rows:
        return None
    head = ("", "Count", "Min", "Mean", "p50", "p90", "p95", "p99", "p99.9", "Max")
    note = tag(
        "p",
        "Acknowledgement and delivery are measured from the moment a message was due, "
        "not from when it could be sent, so that waiting is not left out. Values are "
        "exact to three digits.",
        class_="dim",
    )
    return joined(sheet("Latencies", head, rows, quiet=True), note)


def _checks(result: Result) -> Iterable[Markup]:
    if result.expectations:
        yield sheet(
            "Expectations",
            ("Expected", "Found", ""),
            [
                (expectation.text, found(expectation), _held(expectation.holds))
                for expectation in result.expectations
            ],
        )
    oracle = result.oracle
    counts = {
        "Sockets checked": f"{oracle.checked_sockets:,}",
        "Rooms checked": f"{oracle.checked_rooms:,}",
        "Lost": f"{oracle.lost:,}",
        "Duplicated": f"{oracle.duplicated:,}",
        "Out of order": f"{oracle.reordered:,}",
        "Gaps": f"{oracle.gaps:,}",
    }
    examples = None
    if oracle.examples:
        items = [tag("li", example) for example in oracle.examples]
        examples = tag("ul", *items, class_="examples")
    yield facts("Oracle", counts, examples)
    health = result.health
    yield facts(
        "Generator",
        {
            "Valid": "yes" if health.valid else f"no: {_why_invalid(result)}",
            "Greatest lag": duration(health.max_lag_us),
            "Event loop lag": duration(health.loop_lag_us),
            "Busiest worker": f"{show(health.cpu_share, 'share')} of a core",
        },
    )


def _amounts(result: Result) -> Iterable[Markup]:
    coded = ("error.", "closed.")
    rows = [
        (name, f"{count:,}", show(result.rates.get(name), "rate"))
        for name, count in _ordered(result.counts)
        if not name.startswith(coded)
    ]
    if rows:
        yield sheet("Counts", ("", "In all", "Per second"), rows)
    if errors := errors_of(result):
        yield _coded("Errors", "Code", errors)
    if closes := closes_of(result):
        yield _coded("Sockets closed", "Close code", closes)
    if server := result.server:
        costs = {
            "CPU": (server.cpu_s, "s"),
            "CPU a delivery": (server.cpu_us_per_delivery, "µs"),
            "CPU a message": (server.cpu_us_per_message, "µs"),
            "Memory a socket": (server.kib_per_socket, "KiB"),
        }
        shown = {
            name: f"{digits(value)} {unit}"
            for name, (value, unit) in costs.items()
            if value is not None
        }
        shown["Memory"] = show(server.memory_bytes, "bytes")
        if server.machine is not None:
            shown["Cores taken"] = f"{show(server.machine, 'share')} of all"
        yield facts("Server", shown)


def _processes(result: Result) -> Markup | None:
    known = result.server.processes if result.server else []
    return processes_sheet(known, quiet=True) if known else None


def _coded(caption: str, what: str, counts: dict[str, int]) -> Markup:
    rows = [(code, f"{count:,}") for code, count in counts.items()]
    return sheet(caption, (what, "Count"), rows)


def _made(result: Result) -> Iterable[Markup]:
    if result.settings:
        yield facts("Settings", {key: _said(v) for key, v in result.settings.items()})
    host = result.host
    yield facts(
        "Host of the generator",
        {
            "Name": host.name or UNKNOWN,
            "Processors": f"{host.cpus} × {host.model}" if host.cpus else UNKNOWN,
            "Memory": show(host.memory_bytes or None, "bytes"),
            "Kernel": host.kernel or UNKNOWN,
            "Python": host.python or UNKNOWN,
        },
    )
    if result.versions:
        yield facts("Versions", result.versions)


def _seconds(result: Result) -> Markup | None:
    if not 0 < len(result.series) <= _MOST_SECONDS:
        return None
    rows = [
        (
            clock(second.t),
            *(f"{n:,}" for n in (second.sent, second.acked, second.delivered)),
            *(f"{n:,}" for n in (second.errors, second.sockets)),
            *map(
                duration,
                (second.p50_us, second.p99_us, second.max_us, second.lag_us),
            ),
        )
        for second in result.series
    ]
    head = (
        "Time", "Sent", "Acked", "Delivered", "Errors", "Sockets", "Ack p50", "Ack p99",
        "Ack max", "Lag",
    )  # fmt: skip
    every = sheet("Every second of the measurement", head, rows, quiet=True)
    return tag("details", tag("summary", "Every second"), every)


def _footer(result: Result) -> Markup:
    version = result.versions.get("cfmessenger", "")
    said = f"cfmessenger {version}".rstrip() + f", result version {result.version}"
    return tag("footer", said)


def _held(holds: bool) -> Markup:
    said = f"{_mark(holds)} {'holds' if holds else 'missed'}"
    return tag("td", said, class_="good" if holds else "bad")


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _why_invalid(result: Result) -> str:
    return "; ".join(result.health.reasons) or "no reason is given"


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    first = ("sent", "acked", "delivered", "connected", "reconnected")
    rest = sorted(counts.keys() - set(first))
    return [(name, counts[name]) for name in (*first, *rest) if name in counts]


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value or UNKNOWN
    return msgspec.json.encode(value).decode()
