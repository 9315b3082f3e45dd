"""Which plots a result deserves, and what each of them says.

Chooses the series, the scales and the words; `plot` draws. A second result, the one
before, is drawn under it in grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from .markup import Markup
from .plot import (
    Curve,
    Hint,
    Points,
    linear,
    logarithmic,
    percentiles,
    plot,
    span,
)
from .quantity import clock, digits, duration
from .result import LATENCIES, Histogram, Result, Second

BINS_PER_DECADE: Final = 20
_MOST_HINTS = 900
_OLD = "before"
_SECOND = "time"

_Value = Callable[[Second], float | None]


def charts(result: Result, before: Result | None = None) -> list[Markup]:
    """The plots of a result, the telling ones first; none of what was not measured."""
    histograms = {
        name: data.histogram() for name, data in result.histograms.items() if data.count
    }
    old = before.histograms.get("ack") if before else None
    old_acks = old.histogram() if old and old.count else None
    drawn = [
        _over_time_latency(result, before),
        _by_percentile(histograms, old_acks),
        _distribution(histograms, old_acks),
        _flow("Messages per second", result, before, {
            "sent": lambda second: second.sent,
            "acked": lambda second: second.acked,
        }, old="acked"),
        _flow("Deliveries per second", result, before, {
            "delivered": lambda second: second.delivered,
        }, old="delivered"),
        _flow("Errors per second", result, None, {
            "errors": lambda second: second.errors,
        }, style=["s2"]),
        _flow("Sockets", result, before, {
            "sockets": lambda second: second.sockets,
        }, old="sockets", unless_steady=True),
        _lag(result),
    ]  # fmt: skip
    return [chart for chart in drawn if chart is not None]


def _over_time_latency(result: Result, before: Result | None) -> Markup | None:
    kinds: dict[str, _Value] = {
        "max": lambda second: second.max_us,
        "p99": lambda second: second.p99_us,
        "p50": lambda second: second.p50_us,
    }
    styles = {"max": "s2 thin", "p99": "s1", "p50": "s0"}
    lines = [
        Curve(f"{name} {_OLD}", f"old {'' if name == 'p50' else 'dashed'}", points)
        for name in ("p99", "p50")
        if before and (points := _points(before.series, kinds[name]))
    ]
    new = [
        Curve(name, styles[name], points)
        for name, value in kinds.items()
        if (points := _points(result.series, value))
    ]
    if not new:
        return None
    lines += new
    worst = max(result.series, key=lambda second: second.max_us or 0)
    return plot(
        "Ack latency over time",
        f"p50, p99 and maximum of each second, on a logarithmic scale. The slowest "
        f"took {duration(worst.max_us)}, {worst.t} s after the start.",
        span(_SECOND, _end(result, before), clock),
        logarithmic("log scale", _values(lines), tick),
        lines,
        _hints(result, lambda second: (
            f"p50 {duration(second.p50_us)}, p99 {duration(second.p99_us)}, "
            f"max {duration(second.max_us)}"
        )),
    )  # fmt: skip


def _by_percentile(
    histograms: dict[str, Histogram], old: Histogram | None
) -> Markup | None:
    if not histograms:
        return None
    lines = [
        Curve(name, _style(name), _quantiles(histogram))
        for name, histogram in histograms.items()
    ]
    if old:
        lines.insert(0, Curve(f"ack {_OLD}", "old dashed", _quantiles(old)))
    top = max(point[0] for line in lines for point in line.points)
    return plot(
        "Latency by percentile",
        "Each further nine of the percentile takes as much room as the last. "
        + " ".join(
            f"{name}: p50 {duration(p50)}, p99 {duration(p99)}, "
            f"p99.9 {duration(p999)}, max {duration(histogram.max)}."
            for name, histogram in histograms.items()
            for p50, p99, p999 in [histogram.quantiles(0.5, 0.99, 0.999)]
        ),
        percentiles("percentile", top),
        logarithmic("log scale", _values(lines), tick),
        lines,
    )


def _distribution(
    histograms: dict[str, Histogram], old: Histogram | None
) -> Markup | None:
    shown = {
        name: histograms[name]
        for name in ("ack", "delivery", "wake", "connect")
        if name in histograms
    }
    shown = dict(list(shown.items())[:2])  # more of them hide each other
    if not shown:
        return None
    lines = [
        Curve(name, _style(name), _density(histogram), stepped=True, filled=True)
        for name, histogram in shown.items()
    ]
    if old:
        lines.insert(0, Curve(f"ack {_OLD}", "old dashed", _density(old), stepped=True))
    edges = [x for line in lines for x, _ in line.points]
    return plot(
        "Distribution of latency",
        f"Share of all values in each of {BINS_PER_DECADE} bins a decade, for "
        f"{' and '.join(shown)}.",
        logarithmic("latency, log scale", edges, tick, most=6),
        linear("share", _values(lines), lambda share: f"{share * 100:g} %"),
        lines,
    )


def _flow(
    title: str,
    result: Result,
    before: Result | None,
    values: dict[str, _Value],
    *,
    old: str = "",
    style: Sequence[str] = ("s0", "s1"),
    unless_steady: bool = False,
) -> Markup | None:
    lines = [
        Curve(name, style[n], _points(result.series, value), filled=n == 0)
        for n, (name, value) in enumerate(values.items())
    ]
    numbers = _values(lines)
    if not any(numbers) or (unless_steady and len(set(numbers)) == 1):
        return None
    if before and old:
        points = _points(before.series, values[old])
        lines.insert(0, Curve(f"{old} {_OLD}", "old dashed", points))
    mean = ", ".join(
        f"{name} {digits(sum(y or 0 for _, y in line.points) / len(line.points))}"
        for name, line in zip(values, lines[-len(values) :], strict=True)
    )
    return plot(
        title,
        f"On average: {mean}.",
        span(_SECOND, _end(result, before), clock),
        linear("", _values(lines), number_tick),
        lines,
        _hints(result, lambda second: ", ".join(
            f"{name} {value(second):,.0f}" for name, value in values.items()
        )),
    )  # fmt: skip


def _lag(result: Result) -> Markup | None:
    points = _points(result.series, lambda second: second.lag_us or None)
    if not points:
        return None
    return plot(
        "Generator lag",
        "The furthest that the generator was behind its schedule in each second, at "
        f"most {duration(result.health.max_lag_us)}.",
        span(_SECOND, _end(result, None), clock),
        logarithmic("log scale", [y for _, y in points if y], tick),
        [Curve("lag", "s3", points)],
        _hints(result, lambda second: f"lag {duration(second.lag_us)}"),
    )


def tick(us: float) -> str:
    """A round number of microseconds."""
    for least, scale, unit in ((6e7, 6e7, "min"), (1e6, 1e6, "s"), (1e3, 1e3, "ms")):
        if us >= least:
            return f"{us / scale:.3g} {unit}"
    return f"{us:g} µs"


def number_tick(number: float) -> str:
    """A round number, short enough to stand beside an axis."""
    for least, letter in ((1e6, "M"), (1e5, "k")):
        if number >= least:
            return f"{number / (1e6 if letter == 'M' else 1e3):g}{letter}"
    return f"{number:,.10g}"


def _points(series: Sequence[Second], value: _Value) -> Points:
    """A point a second at its middle, with gaps where seconds are missing."""
    points: list[tuple[float, float | None]] = []
    last: int | None = None
    for second in series:
        if last is not None and second.t > last + 1:
            points.append((last + 1.0, None))
        points.append((second.t + 0.5, value(second)))
        last = second.t
    return points if any(y is not None for _, y in points) else []


def _style(name: str) -> str:
    """The same colour for the same histogram, whichever others there are."""
    known = name in LATENCIES
    return f"s{LATENCIES.index(name) if known else len(LATENCIES) - 1}"


def _quantiles(histogram: Histogram) -> Points:
    points: list[tuple[float, float | None]] = []
    seen, total = 0, histogram.count
    for _, high, count in histogram.slots():
        # From the first to the last of the values that this slot counted.
        points.append((1 / (1 - seen / total), float(high)))
        seen += count
        # The last value of all is where no value is above: at one of `total`.
        points.append((1 / (1 - min(seen, total - 1) / total), float(high)))
    return _thinned(points)


def _thinned(points: Points) -> Points:
    """Without points that no eye could tell from the one before."""
    kept = [points[0]]
    for x, y in points[1:-1]:
        before = kept[-1]
        if x > before[0] * 1.01 or (y or 0) > (before[1] or 0) * 1.01:
            kept.append((x, y))
    return [*kept, points[-1]]


def _density(histogram: Histogram) -> Points:
    bins: dict[int, int] = {}
    for low, high, count in histogram.slots():
        place = math.floor(math.log10((low + high) / 2) * BINS_PER_DECADE)
        bins[place] = bins.get(place, 0) + count
    first, last = min(bins), max(bins)
    points: list[tuple[float, float | None]] = [(_edge(first), 0.0)]
    points += [
        (_edge(n), bins.get(n, 0) / histogram.count) for n in range(first, last + 1)
    ]
    return [*points, (_edge(last + 1), 0.0)]


def _edge(place: int) -> float:
    return float(10 ** (place / BINS_PER_DECADE))


def _values(lines: Sequence[Curve]) -> list[float]:
    return [y for line in lines for _, y in line.points if y is not None]


def _end(result: Result, before: Result | None) -> float:
    ends = [r.series[-1].t + 1.0 for r in (result, before) if r and r.series]
    return max(ends, default=1.0)


def _hints(result: Result, say: Callable[[Second], str]) -> list[Hint]:
    if len(result.series) > _MOST_HINTS:
        return []
    return [
        Hint(second.t, second.t + 1.0, f"{clock(second.t)}: {say(second)}")
        for second in result.series
    ]
