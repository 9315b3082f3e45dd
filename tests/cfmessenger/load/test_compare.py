"""A regression is called one, and noise, or another test altogether, is not."""

import io
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cfmessenger.load.compare import (
    Change,
    Comparison,
    compare,
    conclusion,
    exit_code,
    parse_tolerance,
    ratio_interval,
    table,
)
from cfmessenger.load.result import Health, Host, Oracle, Result, Second, Server
from tests.effort import tries

from . import samples


def of(comparison: Comparison, name: str) -> Change:
    [change] = [change for change in comparison.changes if change.name == name]
    return change


def shown(comparison: Comparison) -> str:
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(table(comparison))
    return console.export_text()


def test_a_result_is_the_same_as_itself() -> None:
    comparison = compare(samples.result(), samples.result())
    verdicts = {change.verdict for change in comparison.changes}
    assert verdicts == {"same", "not judged"}
    assert comparison.differences == []
    assert comparison.comparable
    assert exit_code(comparison) == 0
    assert of(comparison, "ack.p99").ratio == 1
    assert conclusion(comparison) == "Nothing is worse by more than 10 %."


def test_slower_beyond_the_tolerance_is_worse() -> None:
    comparison = compare(samples.result(), samples.result(seed=2, slower=1.3))
    names = [change.name for change in comparison.worse]
    assert names == [
        "ack.p50",
        "ack.p90",
        "ack.p99",
        "delivery.p50",
        "delivery.p90",
        "delivery.p99",
    ]
    assert exit_code(comparison) == 3
    p50 = of(comparison, "ack.p50")
    assert p50.interval is not None
    assert 1.2 < p50.interval[0] < 1.3 < p50.interval[1] < 1.4
    assert conclusion(comparison).startswith("Worse: ack.p50, ack.p90")


def test_faster_is_better_and_no_failure() -> None:
    comparison = compare(samples.result(), samples.result(seed=2, slower=0.7))
    assert of(comparison, "ack.p99").verdict == "better"
    assert exit_code(comparison) == 0
    assert "Better: ack.p50" in conclusion(comparison)


def test_within_the_tolerance_is_the_same_whatever_the_noise() -> None:
    slower = samples.result(seed=2, slower=1.3)
    assert not compare(samples.result(), slower, 0.5).worse
    assert compare(samples.result(), slower, 0.0).worse


def test_a_lower_rate_is_worse_and_a_higher_one_better() -> None:
    def at(acked: int) -> Result:
        series = [Second(t=t, acked=acked) for t in range(30)]
        return samples.result(series=series, rates={"acked": float(acked)})

    assert of(compare(at(1000), at(800)), "rate.acked").verdict == "worse"
    assert of(compare(at(800), at(1000)), "rate.acked").verdict == "better"
    assert of(compare(at(1000), at(950)), "rate.acked").verdict == "same"


def test_a_change_that_the_noise_explains_is_unclear_and_says_so() -> None:
    def noisy(seed: int, p99: int) -> Result:
        chance = random.Random(seed)
        series = [Second(t=t, p99_us=chance.randrange(100, 9_000)) for t in range(20)]
        whole = samples.result(series=series)
        whole.histograms["ack"].p99 = p99
        return whole

    comparison = compare(noisy(1, 5_000), noisy(2, 6_000))
    assert of(comparison, "ack.p99").verdict == "unclear"
    assert exit_code(comparison) == 0
    assert "repeat the runs: ack.p99." in conclusion(comparison)


def test_a_broken_promise_is_worse_whatever_the_tolerance() -> None:
    broken = samples.result(oracle=Oracle(checked_sockets=200, lost=1))
    comparison = compare(samples.result(), broken, tolerance=10)
    assert [change.name for change in comparison.worse] == ["violations"]
    assert exit_code(comparison) == 3
    assert of(compare(broken, samples.result()), "violations").verdict == "better"


def test_new_errors_are_worse() -> None:
    failing = samples.result()
    failing.counts["error.STORAGE_UNAVAILABLE"] = 1
    comparison = compare(samples.result(), failing)
    assert of(comparison, "errors").verdict == "worse"
    assert of(comparison, "errors").share == "–"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"scenario": "mixed"}, "scenario"),
        ({"target": "actors"}, "target"),
        ({"workers": 4}, "workers"),
        ({"worker_kind": "ray"}, "kind of workers"),
        ({"settings": {"rooms": 11, "sockets": 200, "rate": 1000}}, "setting rooms"),
        ({"host": Host(name="bench-1", cpus=2, model="Example 3 GHz")}, "processors"),
        ({"host": Host(name="bench-1", cpus=8, model="Other")}, "processor"),
        ({"health": Health(valid=False, reasons=["late"])}, "generator"),
    ],
)
def test_tests_made_otherwise_are_not_judged(
    changes: dict[str, object], what: str
) -> None:
    other = samples.result(seed=2, slower=3.0, **changes)
    comparison = compare(samples.result(), other)
    blocking = [d.what for d in comparison.differences if d.blocks]
    assert what in blocking
    assert not comparison.comparable
    assert of(comparison, "ack.p99").verdict == "not judged"
    assert exit_code(comparison) == 4
    assert "not made alike" in conclusion(comparison)


def test_correctness_is_judged_however_the_tests_were_made() -> None:
    broken = samples.result(
        scenario="mixed", oracle=Oracle(checked_sockets=200, gaps=1)
    )
    assert exit_code(compare(samples.result(), broken)) == 3


def test_two_invalid_runs_are_not_judged_though_they_are_alike() -> None:
    invalid = samples.result(health=Health(valid=False, reasons=["late"]))
    assert exit_code(compare(invalid, invalid)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"cfmessenger": "0.4.0", "valkey": "9.1.2"}},
        {"duration_s": 90.0},
        {"url": "http://127.0.0.1:9000"},
        {"settings": {**samples.result(seconds=1).settings, "seed": 7, "run": "x"}},
    ],
)
def test_what_a_comparison_is_made_for_does_not_prevent_it(
    changes: dict[str, object],
) -> None:
    assert compare(samples.result(), samples.result(**changes)).comparable  # type: ignore[arg-type]


def test_a_duration_that_is_nearly_the_same_is_no_difference() -> None:
    nearly = compare(samples.result(), samples.result(duration_s=60.003))
    assert nearly.differences == []
    longer = compare(samples.result(), samples.result(duration_s=90.0))
    assert [difference.what for difference in longer.differences] == ["duration"]


def test_what_was_measured_once_only_is_shown_and_not_judged() -> None:
    comparison = compare(samples.result(server=None), samples.result())
    change = of(comparison, "cpuUsPerDelivery")
    assert (change.a, change.b, change.verdict) == (None, 52.0, "not judged")
    assert (change.moved, change.share, change.noise) == ("–", "–", "")
    idle = compare(Result(scenario="idle"), Result(scenario="idle"))
    assert "rate.acked" not in [change.name for change in idle.changes]


@pytest.mark.parametrize(("before", "after"), [(-5.0, 9.0), (9.0, -5.0), (0.0, 9.0)])
def test_a_cost_below_nothing_is_shown_and_not_judged(
    before: float, after: float
) -> None:
    a = samples.result(server=Server(kib_per_socket=before))
    b = samples.result(server=Server(kib_per_socket=after))
    change = of(compare(a, b), "kibPerSocket")
    assert (change.a, change.b, change.ratio) == (before, after, None)
    assert change.verdict == "not judged"


def test_dearer_deliveries_are_worse() -> None:
    dear = samples.result(server=Server(cpu_us_per_delivery=60.0))
    comparison = compare(samples.result(), dear)
    assert [change.name for change in comparison.worse] == ["cpuUsPerDelivery"]


series = st.lists(st.floats(1, 1e6), min_size=5, max_size=40)


@settings(max_examples=tries(25))
@given(series, series)
def test_the_interval_is_the_same_each_time_and_the_right_way_round(
    a: list[float], b: list[float]
) -> None:
    interval = ratio_interval(a, b)
    assert interval == ratio_interval(a, b)
    assert interval is not None
    low, high = interval
    assert min(b) / max(a) <= low <= high <= max(b) / min(a)


def test_the_interval_of_steady_seconds_is_their_ratio() -> None:
    assert ratio_interval([2.0] * 10, [3.0] * 7) == (1.5, 1.5)


def test_seconds_that_hang_together_say_less_than_as_many_that_do_not() -> None:
    chance = random.Random(3)
    alone = [chance.choice([1.0, 2.0, 3.0]) for _ in range(120)]
    together = sorted(alone)
    steady = [2.0] * 120

    def width(values: list[float]) -> float:
        interval = ratio_interval(steady, [v + 0.001 * i for i, v in enumerate(values)])
        assert interval is not None
        return interval[1] - interval[0]

    assert width(together) > width(alone)


@pytest.mark.parametrize(("a", "b"), [([1.0] * 4, [1.0] * 9), ([0.0] * 9, [1.0] * 9)])
def test_of_too_little_there_is_no_interval(a: list[float], b: list[float]) -> None:
    assert ratio_interval(a, b) is None


def test_the_table_tells_each_figure_and_what_differs() -> None:
    other = samples.result(seed=2, slower=1.3, scenario="mi\x1b[31mxed")
    text = shown(compare(samples.result(), other))
    assert "\x1b" not in text
    [row] = [line for line in text.splitlines() if line.startswith("  ack.p50")]
    assert row.split()[1:9] == ["2.03", "ms", "2.66", "ms", "+630", "µs", "+31.0", "%"]
    [row] = [line for line in text.splitlines() if line.startswith("scenario")]
    assert row.split()[1:3] == ["steady", "→"]
    text = shown(compare(samples.result(), samples.result(seed=2, slower=1.3)))
    [row] = [line for line in text.splitlines() if line.startswith("▼ ack.p50")]
    assert re.search(r"\+2\d … \+3\d %$", row.rstrip())
    assert "The tests differ in:" not in text


def test_nothing_of_the_table_is_cut_off_at_eighty_columns() -> None:
    slow = samples.result(seed=2, slower=1.3, health=Health(
        valid=False, reasons=["1 % of messages left 53.5 ms late or more " * 3]
    ))  # fmt: skip
    text = shown(compare(samples.result(), slow))
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "cpuUsPerDelivery" in text
    [row] = [line for line in lines if "rate.delivered" in line]
    assert row.endswith("0 … 0 %")
    assert " ".join(text.split()).count("left 53.5 ms late") == 3
    marks = text.replace("0 … 0 %", "").replace(" … ", "")
    assert "…" not in marks


def test_moves_have_their_sign() -> None:
    comparison = compare(samples.result(), samples.result(seed=2, slower=0.5))
    p50 = of(comparison, "ack.p50")
    assert p50.moved.startswith("−")
    assert p50.share.startswith("−")
    back = compare(samples.result(seed=2, slower=0.5), samples.result())
    assert of(back, "ack.p50").moved.startswith("+")
    assert of(back, "kibPerSocket").moved == "0"
    far = compare(samples.result(), samples.result(slower=50.0))
    assert of(far, "ack.p50").share == "× 50.0"


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.25", 0.25), (" 5 % ", 0.05)]
)
def test_a_tolerance_is_a_share(text: str, share: float) -> None:
    assert parse_tolerance(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "-5%", "10%%", "1e3", "nan"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a share such as 10% or 0.1"):
        parse_tolerance(text)
