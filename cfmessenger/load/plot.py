"""Plots as inline SVG: axes, lines, steps and what a pointer is told.

Owns the drawing and knows nothing of load tests. Colours are classes (`s0`, `s1`, ...)
that the page's style sheet fills in, so that a plot follows it into the dark. Sizes are
in the units of a view box that the page scales.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .markup import Markup, joined, tag

WIDTH, HEIGHT = 520, 272
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 16, 12, 46
_ACROSS, _DOWN = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

Show = Callable[[float], str]
Points = Sequence[tuple[float, float | None]]


class Axis(NamedTuple):
    """A scale from `low` to `high`; ticks are values and what is written there."""

    label: str
    low: float
    high: float
    log: bool
    ticks: Sequence[tuple[float, str]]

    def place(self, value: float) -> float:
        """Where a value is, 0 to 1; beyond the ends it is at the end."""
        low, high, value = self.low, self.high, max(value, self.low)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return min((value - low) / (high - low), 1.0)


class Curve(NamedTuple):
    """One line of a plot; where y is None there is a gap.

    `stepped` holds y up to the next x.
    """

    name: str
    style: str  # a class, as s0; more of them after spaces
    points: Points
    stepped: bool = False
    filled: bool = False


class Hint(NamedTuple):
    """What a pointer between two x is told."""

    start: float
    end: float
    text: str


def linear(label: str, values: Iterable[float], show: Show) -> Axis:
    """A scale from 0 to beyond the greatest value, with round ticks."""
    top = max(values, default=0.0) or 1.0
    step = _round_step(top / 4)
    count = math.ceil(top / step - 1e-9)
    ticks = [(step * n, show(step * n)) for n in range(count + 1)]
    return Axis(label, 0.0, step * count, False, ticks)


def span(label: str, end: float, show: Show) -> Axis:
    """A scale from 0 to exactly `end`, for time."""
    step = _time_step(end / 5)
    count = int(end / step + 1e-9)
    ticks = [(step * n, show(step * n)) for n in range(count + 1)]
    return Axis(label, 0.0, max(end, 1.0), False, ticks)


def logarithmic(
    label: str, values: Iterable[float], show: Show, *, most: int = 9
) -> Axis:
    """A logarithmic scale around the values above 0; of decades above `most` ticks."""
    found = [value for value in values if value > 0]
    low, high = min(found, default=1.0), max(found, default=10.0)
    grid = [
        digit * 10.0**power
        for power in range(
            math.floor(math.log10(low)) - 1, math.floor(math.log10(high)) + 2
        )
        for digit in (1, 2, 5)
    ]
    start = max(value for value in grid if value <= low)
    end = min(value for value in grid if value >= high and value > start)
    marks = [value for value in grid if start <= value <= end]
    if len(marks) > most:
        marks = [m for m in marks if round(math.log10(m), 9).is_integer()]
    return Axis(label, start, end, True, [(mark, show(mark)) for mark in marks])


def percentiles(label: str, top: float) -> Axis:
    """A scale of 1/(1-q) up to `top`: each nine takes as much room as the last."""
    nines = [(10.0, "90 %"), (100.0, "99 %"), (1_000.0, "99.9 %")]
    nines += [(1e4, "99.99 %"), (1e5, "99.999 %"), (1e6, "99.9999 %")]
    end = max(top, 10.0)
    ticks = [(1.0, "0 %"), *(tick for tick in nines if tick[0] <= end)]
    return Axis(label, 1.0, end, True, ticks)


def plot(
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Curve],
    hints: Sequence[Hint] = (),
) -> Markup:
    """A figure: caption, legend and the drawing, which says what it shows."""
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    drawing = tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", description, id=f"{name}-desc"),
        _grid(x, y),
        *(_drawn(line, x, y) for line in lines),
        *(_hinted(hint, x) for hint in hints),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )
    keys = [
        tag("li", tag("span", class_=f"key {line.style}"), line.name) for line in lines
    ]
    legend = tag("ul", *keys, class_="legend") if len(lines) > 1 else None
    caption = tag("figcaption", tag("h3", title), legend)
    return tag("figure", caption, drawing, class_="plot")


def _grid(x: Axis, y: Axis) -> Markup:
    bottom = _TOP + _DOWN
    parts = []
    for value, text in y.ticks:
        at = _y(y, value)
        parts += [
            tag("path", d=f"M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}", class_="grid"),
            tag("text", text, x=_LEFT - 8, y=f"{at:.1f}", dy="0.35em", class_="end"),
        ]
    for value, text in x.ticks:
        at = _x(x, value)
        # The outer labels stay within the drawing.
        edge = "start" if value <= x.low else "end" if at > WIDTH - 40 else "middle"
        parts += [
            tag("path", d=f"M{at:.1f} {bottom}v4", class_="tick"),
            tag("text", text, x=f"{at:.1f}", y=bottom + 18, class_=edge),
        ]
    parts += [
        tag("path", d=f"M{_LEFT} {bottom}H{WIDTH - _RIGHT}", class_="axis"),
        tag("text", x.label, x=WIDTH - _RIGHT, y=HEIGHT - 6, class_="end label"),
        tag("text", y.label, x=0, y=HEIGHT - 6, class_="start label"),
    ]
    return joined(*parts)


def _drawn(line: Curve, x: Axis, y: Axis) -> Markup:
    base = _TOP + _DOWN
    outline: list[str] = []
    area: list[str] = []
    for run in _runs(line.points):
        corners = [(_x(x, at), _y(y, value)) for at, value in run]
        path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
        for across, down in corners[1:]:
            path += f"H{across:.1f}V{down:.1f}" if line.stepped else (
                f"L{across:.1f} {down:.1f}"
            )  # fmt: skip
        if len(corners) == 1:
            path += "h0.1"  # a round cap makes a dot of it
        outline.append(path)
        area.append(f"{path}V{base}H{corners[0][0]:.1f}Z")
    fill = tag("path", d="".join(area), class_=f"area {line.style}")
    stroke = tag("path", d="".join(outline), class_=f"line {line.style}")
    return joined(fill if line.filled else None, stroke)


def _hinted(hint: Hint, x: Axis) -> Markup:
    left, right = _x(x, hint.start), _x(x, hint.end)
    return tag(
        "rect",
        tag("title", hint.text),
        x=f"{left:.1f}",
        y=_TOP,
        width=f"{right - left:.1f}",
        height=_DOWN,
        class_="hint",
    )


def _runs(points: Points) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * _ACROSS


def _y(axis: Axis, value: float) -> float:
    return _TOP + (1 - axis.place(value)) * _DOWN


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least * 0.999999)


def _time_step(least: float) -> float:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return next((float(step) for step in steps if step >= least), 7200.0)
