"""The search for how much: what is tried, what breaks, what is named as the limit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.capacity import (
    AXES,
    Capacity,
    Search,
    Step,
    Thresholds,
    encode,
    limit,
    step_of,
)
from cfmessenger.load.plan import SCENARIOS
from cfmessenger.load.result import (
    Health,
    HistogramData,
    Oracle,
    Process,
    Result,
    Server,
)

MOST = Thresholds()


def searched(search: Search, bears: float) -> list[float]:
    """The values that are tried of something that bears so much."""
    tried: list[float] = []
    while (value := search.next()) is not None:
        tried.append(value)
        assert len(tried) < 100
        search.tell(value, value <= bears)
    return tried


def test_it_doubles_and_then_halves_what_is_between() -> None:
    search = Search(100, 100_000, 0.1)
    tried = searched(search, bears=1_234)
    assert tried[:5] == [100, 200, 400, 800, 1600]
    assert tried[5] == 1200 and len(tried) < 12
    assert search.ended == "precise"


@given(
    st.integers(1, 1000),
    st.integers(1, 100_000),
    st.floats(0.01, 0.5),
)
def test_what_is_found_is_the_truth_within_the_precision(
    start: int, bears: int, precision: float
) -> None:
    search = Search(start, 200_000, precision)
    searched(search, bears)
    if search.held is None:
        assert search.ended == "nothing held" and bears < start
        return
    assert search.held <= bears
    assert search.broke is not None and search.broke > bears
    gap = search.broke - search.held
    assert gap <= 1 or search.broke <= search.held * (1 + precision)


def test_the_greatest_value_is_tried_and_no_more() -> None:
    search = Search(100, 1_000, 0.1)
    assert searched(search, bears=10**9)[-1] == 1_000
    assert (search.ended, search.held, search.broke) == ("top", 1_000, None)


def test_what_cannot_bear_the_first_is_tried_with_less_and_given_up() -> None:
    search = Search(100, 1_000, 0.1)
    tried = searched(search, bears=0)
    assert tried[:3] == [100, 50, 25] and tried[-1] >= 1
    assert search.ended == "nothing held"
    less = Search(100, 1_000, 0.1)
    assert searched(less, bears=30)[:3] == [100, 50, 25]
    assert less.held is not None and 27 <= less.held <= 30


# What breaks.


def result(**parts: Any) -> Result:
    data = HistogramData(count=10, p50=1_000, p99=2_000, max=3_000)
    fields: dict[str, Any] = {
        "scenario": "rooms",
        "counts": {"sent": 1_000, "acked": 1_000},
        "rates": {"acked": 100.0},
        "histograms": {"ack": data},
        "settings": {"sockets": 200, "durationS": 5.0},
        "duration_s": 5.0,
    }
    return Result(**fields | parts)


def process(share: float, **more: Any) -> Process:
    return Process(pid=7, name="cfmessenger gateway", user=share, **more)


def test_a_good_run_holds() -> None:
    step = step_of(result(), "rooms", 100.0, MOST)
    assert (step.held, step.p50_us, step.p99_us) == (True, 1_000, 2_000)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"histograms": {"ack": HistogramData(count=1, p99=60_000)}},
            "60 ms, above 50",
        ),
        ({"histograms": {}}, "nothing was measured"),
        ({"counts": {"sent": 1_000, "error.AT_CAPACITY": 2}}, "0.20%"),
        ({"counts": {"sent": 1_000, "closed.1013": 2}}, "refused or closed"),
        ({"counts": {"sent": 1_000, "refused": 2}}, "refused or closed"),
        ({"rates": {"acked": 94.0}, "duration_s": 5.3}, "only 94 of 100 a second"),
        ({"server": Server(processes=[process(0.96)])}, "gateway took 96% of a core"),
        ({"oracle": Oracle(lost=1)}, "lost"),
        ({"health": Health(valid=False, reasons=["late"])}, "the generator: late"),
    ],
)
def test_what_breaks_is_named(parts: dict[str, Any], says: str) -> None:
    [broke] = step_of(result(**parts), "rooms", 100.0, MOST).broke
    assert says in broke


def test_who_answers_the_last_in_time_has_kept_up() -> None:
    short = result(rates={"acked": 94.0}, duration_s=5.04)
    assert step_of(short, "rooms", 100.0, MOST).held


def test_thresholds_are_the_callers() -> None:
    slow = result(histograms={"ack": HistogramData(count=1, p99=60_000)})
    assert step_of(slow, "rooms", 100.0, Thresholds(p99_us=70_000)).held
    busy = result(server=Server(processes=[process(0.96)]))
    assert step_of(busy, "rooms", 100.0, Thresholds(core=0.99)).held


@pytest.mark.parametrize("scenario", AXES)
def test_each_scenario_is_judged_by_a_latency_of_its_own(scenario: Any) -> None:
    assert scenario in SCENARIOS
    names = ("ack", "delivery", "connect", "entered", "first")
    every = {name: HistogramData(count=1, p99=99_000) for name in names}
    assert not step_of(result(histograms=every), scenario, 100.0, MOST).held


# What was in the way.


def test_a_process_at_a_full_core_is_the_limit_whatever_else_was() -> None:
    full = process(0.7, system=0.28, waited=0.05)
    step = Step(value=1, broke=["x"], processes=[full], machine=1.0)
    found = limit(step, MOST)
    assert (found.kind, found.process) == ("process", full)
    assert "98% of a core: 70% its own code, 28% in the kernel" in found.text
    assert "waiting 5% for a core" in found.text


def test_a_full_machine_is_the_limit_where_no_process_is() -> None:
    step = Step(
        value=1, broke=["x"], processes=[process(0.6)], machine=0.99, generator=0.4
    )
    found = limit(step, MOST)
    assert found.kind == "machine"
    assert "worker took 0.40 of them, the server 0.60, most of it" in found.text


def test_a_generator_that_fell_behind_on_a_free_machine_is_the_limit() -> None:
    step = Step(value=1, broke=["x"], generator_valid=False, machine=0.3)
    assert limit(step, MOST).kind == "generator"


def test_where_nobody_was_busy_something_was_waited_for() -> None:
    step = Step(value=1, broke=["x"], processes=[process(0.3)], machine=0.5)
    found = limit(step, MOST)
    assert found.kind == "waiting" and "30% of a core" in found.text


def test_without_processes_it_is_said_how_to_see_them() -> None:
    found = limit(Step(value=1, broke=["x"]), MOST)
    assert found.kind == "unknown" and "--procs" in found.text


def test_a_search_is_written_and_read_again() -> None:
    steps = [Step(value=100.0), Step(value=200.0, broke=["p99"])]
    found = Capacity(scenario="rooms", axis="rate", steps=steps, broke=200.0)
    assert msgspec.json.decode(encode(found), type=Capacity) == found
    assert found.breaking is steps[1]
