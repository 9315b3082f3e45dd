"""When a window opens: a start that is still going on must not be in it."""

import asyncio
import os
import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.meter import Meter, Reading
from tests.bench.steady import (
    SLICES,
    WINDOWS,
    Steadiness,
    until_steady,
    window,
)

US = frozenset({1, 2})


def steady_at(costs: Sequence[float], work: Sequence[float] | None = None) -> int:
    """After how many slices, from when the processes are known; -1: never."""
    judge = Steadiness()
    judge.add(US, 0.0, 0.0, 1.0)
    for n, cost in enumerate(costs):
        if judge.add(US, cost, work[n] if work else 100.0, 1.0):
            return n + 1
    return -1


def test_what_costs_the_same_all_the_time_is_steady_at_once() -> None:
    assert steady_at([0.5] * 10) == SLICES


@given(st.lists(st.floats(0.96, 1.04), min_size=SLICES, max_size=20))
def test_noise_within_the_tolerance_is_no_trend(noise: list[float]) -> None:
    assert steady_at([0.5 * each for each in noise]) == SLICES


def test_workers_that_start_meanwhile_are_waited_for() -> None:
    # Two of Ray's start in the first seconds: as long as that falls, nothing opens.
    costs = [1.5, 1.4, 0.9, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    assert steady_at(costs) >= 7


def test_a_load_that_still_grows_is_not_steady() -> None:
    work = [10.0, 20.0, 40.0, 80.0, 160.0, 320.0]
    assert steady_at([each / 100 for each in work], work) == -1


def test_a_server_that_does_nothing_is_never_steady() -> None:
    assert steady_at([0.5] * 10, [0.0] * 10) == -1


def test_what_uses_next_to_nothing_is_at_rest_however_that_varies() -> None:
    assert steady_at([0.0, 0.01, 0.0, 0.02], [1.0] * 4) == SLICES


def test_a_dozen_processes_that_rest_are_at_rest_in_steps_of_a_clock() -> None:
    # 8 % of a core, told in steps of 10 ms, of slices of half a second.
    assert steady_at([0.08, 0.06, 0.09, 0.09], [1.0] * 4) == SLICES
    # One of Ray's workers that starts takes more than that for a second.
    assert steady_at([0.08, 0.08, 0.5, 0.9, 0.08], [1.0] * 5) == -1


def test_who_comes_or_goes_begins_it_anew() -> None:
    judge = Steadiness()
    judge.add(US, 0.0, 0.0, 1.0)
    for _ in range(SLICES - 1):
        assert not judge.add(US, 0.5, 100.0, 1.0)
    assert not judge.add(US | {3}, 0.5, 100.0, 1.0)
    for _ in range(SLICES - 1):
        assert not judge.add(US | {3}, 0.5, 100.0, 1.0)
    assert judge.add(US | {3}, 0.5, 100.0, 1.0)


class _Told(Meter):
    """Tells who was there at each look, whoever is."""

    def __init__(self, *families: set[int]) -> None:
        super().__init__([os.getpid()])
        self._families = list(families)

    def read(self) -> Reading:
        now = self._families[0] if len(self._families) == 1 else self._families.pop(0)
        return Reading(dict.fromkeys(now, 1.0), dict.fromkeys(now, "server"))


async def test_a_window_in_which_somebody_came_is_taken_again() -> None:
    began: list[float] = []
    meter = _Told({1}, {1, 2}, {1, 2})
    found = await window(meter, time.perf_counter, 0.01, began.append)
    assert (len(began), found.note) == (2, "")
    assert found.seconds < began[1] - began[0] + 0.1


async def test_who_comes_and_goes_all_the_time_is_measured_and_said() -> None:
    families = [set(range(n + 1)) for n in range(2 * WINDOWS)]
    found = await window(_Told(*families), time.perf_counter, 0.01)
    assert "came or went" in found.note


async def test_a_load_that_never_gets_steady_is_measured_and_said() -> None:
    families = [set(range(n + 1)) for n in range(100)]
    note = await until_steady(_Told(*families), time.perf_counter, 0.001)
    assert note.startswith("not steady")


async def test_a_real_process_that_rests_is_at_rest() -> None:
    child = await asyncio.create_subprocess_exec("sleep", "30")
    try:
        assert await until_steady(Meter([child.pid]), time.perf_counter, 0.01) == ""
    finally:
        child.kill()
        await child.wait()
