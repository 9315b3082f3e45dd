"""Each plot shows what the result says, and what was not measured is not drawn."""

import re
import xml.etree.ElementTree as ET

import pytest

from cfmessenger.load.chart import charts, number_tick, tick
from cfmessenger.load.result import Histogram, Result, Second

from . import samples


def titles(result: Result, before: Result | None = None) -> list[str | None]:
    return [figure.findtext(".//h3") for figure in drawn(result, before)]


def drawn(result: Result, before: Result | None = None) -> list[ET.Element]:
    return [ET.fromstring(chart) for chart in charts(result, before)]


def chart(title: str, result: Result, before: Result | None = None) -> ET.Element:
    [found] = [f for f in drawn(result, before) if f.findtext(".//h3") == title]
    return found


def legend(figure: ET.Element) -> list[str]:
    return ["".join(item.itertext()) for item in figure.iter("li")]


def paths(figure: ET.Element, style: str) -> list[str]:
    return [e.attrib["d"] for e in figure.iter("path") if e.get("class") == style]


def test_a_steady_test_has_its_six_plots() -> None:
    assert titles(samples.result()) == [
        "Ack latency over time",
        "Latency by percentile",
        "Distribution of latency",
        "Messages per second",
        "Deliveries per second",
        "Generator lag",
    ]


def test_what_was_not_measured_is_not_drawn() -> None:
    assert charts(Result(scenario="idle")) == []
    idle = Result(scenario="idle", series=[Second(t=t, sockets=5) for t in range(3)])
    assert charts(idle) == []
    idle.series[1].lag_us = 7
    assert titles(idle) == ["Generator lag"]


def test_sockets_and_errors_are_drawn_when_there_is_something_to_see() -> None:
    result = samples.result()
    result.series[4].errors = 2
    result.series[9].sockets = 150
    assert {"Errors per second", "Sockets"} <= set(titles(result))


def test_the_slowest_second_is_named() -> None:
    result = samples.result()
    result.series[33].max_us = 1_234_000
    description = chart("Ack latency over time", result).findtext(".//desc")
    assert description is not None
    assert "The slowest took 1.23 s, 33 s after the start." in description


def test_a_second_is_told_to_the_pointer() -> None:
    result = samples.result(seconds=20)
    hints = [
        rect.findtext("title")
        for rect in chart("Messages per second", result).iter("rect")
    ]
    assert len(hints) == 20
    assert hints[2] == "0:02: sent 1,000, acked 998"


def test_a_very_long_test_is_drawn_without_a_hint_for_each_second() -> None:
    result = samples.result(seconds=3, series=[
        Second(t=t, sent=5, p50_us=10, p99_us=20, max_us=30) for t in range(3600)
    ])  # fmt: skip
    figure = chart("Ack latency over time", result)
    assert list(figure.iter("rect")) == []
    assert paths(figure, "line s0")[0].count("L") == 3599


def test_missing_seconds_are_gaps() -> None:
    result = samples.result()
    del result.series[10:20]
    [line] = paths(chart("Ack latency over time", result), "line s0")
    assert line.count("M") == 2


def test_every_histogram_has_its_curve_up_to_its_last_value() -> None:
    figure = chart("Latency by percentile", samples.result())
    assert legend(figure) == ["ack", "delivery", "connect"]
    [delivery] = paths(figure, "line s1")
    [connect] = paths(figure, "line s2")

    def end(path: str) -> float:
        return float(re.findall(r"[ML]([\d.]+) ", path)[-1])

    # 60,000 values reach further into the nines than 200 do.
    assert end(delivery) > end(connect)


def test_the_shares_of_a_distribution_are_of_all_values() -> None:
    histogram = Histogram()
    histogram.record(1_500, 3)
    histogram.record(80_000, 1)
    result = Result(scenario="x", histograms={"wake": histogram.data()})
    figure = chart("Distribution of latency", result)
    labels = [e.text for e in figure.iter("text") if (e.text or "").endswith("%")]
    assert labels == ["0 %", "20 %", "40 %", "60 %", "80 %"]


def test_one_single_value_can_be_drawn() -> None:
    histogram = Histogram()
    histogram.record(1)
    result = Result(
        scenario="x",
        histograms={"ack": histogram.data()},
        series=[Second(t=0, p50_us=1, p99_us=1, max_us=1, acked=1)],
    )
    assert len(drawn(result)) == 4


def test_the_result_before_lies_under_the_new_one() -> None:
    result, before = samples.result(), samples.result(seed=2, seconds=90)
    figure = chart("Ack latency over time", result, before)
    assert legend(figure) == ["p99 before", "p50 before", "max", "p99", "p50"]
    assert [e.text for e in figure.iter("text")][-3] == "1:30"
    assert "ack before" in legend(chart("Latency by percentile", result, before))
    assert "ack before" in legend(chart("Distribution of latency", result, before))
    assert "acked before" in legend(chart("Messages per second", result, before))


@pytest.mark.parametrize(
    ("us", "text"),
    [(1, "1 µs"), (500, "500 µs"), (2e3, "2 ms"), (5e6, "5 s"), (6e7, "1 min")],
)
def test_ticks_of_latency_are_short(us: float, text: str) -> None:
    assert tick(us) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.5, "0.5"), (7500, "7,500"), (250e3, "250k"), (2.5e6, "2.5M")],
)
def test_ticks_of_numbers_are_short(number: float, text: str) -> None:
    assert number_tick(number) == text
