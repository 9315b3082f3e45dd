"""A plot shows its values where they are."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.plot import (
    HEIGHT,
    WIDTH,
    Axis,
    Curve,
    Hint,
    linear,
    logarithmic,
    percentiles,
    plot,
    span,
)

positive = st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=20)


def number(value: float) -> str:
    return f"{value:g}"


def drawing(*lines: Curve, hints: tuple[Hint, ...] = ()) -> ET.Element:
    x = Axis("x", 0, 10, False, [(0, "0"), (10, "10")])
    y = Axis("y", 0, 100, False, [(0, "0"), (100, "100")])
    return ET.fromstring(plot("A title", "What it shows", x, y, lines, hints))


def path(figure: ET.Element, style: str) -> str:
    [found] = [e for e in figure.iter("path") if e.get("class") == style]
    return found.attrib["d"]


@given(positive)
def test_a_linear_scale_begins_at_nothing_and_holds_all(values: list[float]) -> None:
    axis = linear("n", values, number)
    assert axis.low == 0
    assert axis.high >= max(values) * 0.999999
    assert 2 <= len(axis.ticks) <= 6
    assert axis.ticks[-1][0] == axis.high
    places = [axis.place(value) for value, _ in axis.ticks]
    assert places == sorted(set(places))


@given(positive, st.sampled_from([6, 9]))
def test_a_logarithmic_scale_holds_all_with_few_ticks(
    values: list[float], most: int
) -> None:
    axis = logarithmic("us", values, number, most=most)
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert 1 <= len(axis.ticks) <= max(most, 14)
    assert all(0 <= axis.place(value) <= 1 for value in values)


def test_decades_are_equally_far_apart() -> None:
    axis = logarithmic("us", [1, 1000], number)
    assert [text for _, text in axis.ticks] == ["1", "10", "100", "1000"]
    assert axis.place(10) == pytest.approx(1 / 3)
    assert axis.place(0) == 0
    assert axis.place(1e9) == 1


def test_every_nine_takes_as_much_room() -> None:
    axis = percentiles("percentile", 1_000)
    assert [text for _, text in axis.ticks] == ["0 %", "90 %", "99 %", "99.9 %"]
    assert axis.place(1 / (1 - 0.99)) == pytest.approx(2 / 3)


@given(st.floats(0.5, 100_000))
def test_time_has_round_ticks_within_its_span(end: float) -> None:
    axis = span("time", end, number)
    assert axis.high == max(end, 1.0)
    assert 1 <= len(axis.ticks) <= 16
    assert all(value <= axis.high for value, _ in axis.ticks)


def test_nothing_to_show_still_has_a_scale() -> None:
    assert linear("n", [], number).high == 1
    assert linear("n", [0, 0], number).high == 1
    axis = logarithmic("us", [0], number)
    assert (axis.low, axis.high) == (1, 10)
    assert logarithmic("us", [10], number).place(10) < 1


def test_greater_is_higher_and_later_is_further_right() -> None:
    figure = drawing(Curve("a", "s0", [(0, 0), (5, 100), (10, 50)]))
    numbers = [float(n) for n in re.findall(r"[\d.]+", path(figure, "line s0"))]
    (x0, y0, x1, y1, x2, y2) = numbers
    assert x0 < x1 < x2 <= WIDTH
    assert 0 <= y1 < y2 < y0 <= HEIGHT
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y2 == pytest.approx(y2 - y1)


def test_where_nothing_was_measured_there_is_a_gap() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 4.0)]
    drawn = path(drawing(Curve("a", "s0", points)), "line s0")
    assert drawn.count("M") == 2
    assert drawn.endswith("h0.1")  # a lone value is a dot


def test_steps_and_areas() -> None:
    figure = drawing(Curve("a", "s0", [(0, 1), (5, 9)], stepped=True, filled=True))
    assert re.fullmatch(r"M[\d. ]+H[\d.]+V[\d.]+", path(figure, "line s0"))
    assert path(figure, "area s0").endswith("Z")


def test_it_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    figure = drawing(Curve("a", "s0", [(0, 1)]), Curve("b & c", "s1", [(0, 2)]))
    [svg] = figure.iter("svg")
    assert svg.get("role") == "img"
    names = (svg.get("aria-labelledby") or "").split()
    texts = {e.get("id"): e.text for e in svg.iter() if e.get("id")}
    assert [texts[name] for name in names] == ["A title", "What it shows"]
    legend = ["".join(item.itertext()) for item in figure.iter("li")]
    assert legend == ["a", "b & c"]


def test_one_line_needs_no_legend() -> None:
    assert list(drawing(Curve("a", "s0", [(0, 1)])).iter("li")) == []


def test_a_pointer_is_told_where_it_is() -> None:
    figure = drawing(Curve("a", "s0", [(0, 1)]), hints=(Hint(0, 5, "<first>"),))
    [rect] = figure.iter("rect")
    assert rect.findtext("title") == "<first>"
    assert math.isclose(float(rect.attrib["width"]), (WIDTH - 66 - 16) / 2, abs_tol=0.1)
