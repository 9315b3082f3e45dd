"""Sliding logs: exact at the edges, and no bigger than they must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.chat.ratelimit import SlidingLog, UserRates


def test_three_pass_until_9999_and_the_fourth_at_exactly_10000() -> None:
    log = SlidingLog(3, 10_000)
    for at in (0, 5_000, 9_999):
        assert log.check(at) == 0
        log.record(at)
    assert log.check(9_999) == 1
    assert log.check(10_000) == 0
    log.record(10_000)
    assert log.check(10_000) == 5_000


def test_what_was_refused_costs_nothing() -> None:
    log = SlidingLog(1, 100)
    log.record(0)
    assert [log.check(at) for at in (1, 50, 99)] == [99, 50, 1]
    assert log.check(100) == 0


def test_no_count_is_no_limit_and_no_memory() -> None:
    log = SlidingLog(0, 10)
    for _ in range(5):
        assert log.check(0) == 0
        log.record(0)
    assert log.snapshot() == []


def test_a_clock_set_back_locks_nobody_out_for_longer_than_a_window() -> None:
    log = SlidingLog(2, 1_000)
    log.record(1_000_000)
    log.record(1_000_001)
    assert log.check(500) == 1_000
    assert log.check(600) == 900
    assert log.check(1_500) == 0


@given(
    st.integers(1, 4),
    st.integers(1, 20),
    st.lists(st.integers(0, 12), max_size=60),
)
def test_never_more_than_count_in_any_window_and_never_less(
    count: int, window: int, steps: list[int]
) -> None:
    log, accepted, now = SlidingLog(count, window), [], 0
    for step in steps:
        now += step
        recent = [at for at in accepted if at > now - window]
        wait = log.check(now)
        assert (wait == 0) == (len(recent) < count)
        if wait:
            assert now + wait == recent[-count] + window
        else:
            log.record(now)
            accepted.append(now)


@given(st.integers(0, 3), st.lists(st.integers(0, 9), max_size=20))
def test_a_snapshot_continues(count: int, steps: list[int]) -> None:
    log, now = SlidingLog(count, 20), 0
    for step in steps:
        now += step
        if not log.check(now):
            log.record(now)
    twin = SlidingLog(count, 20, log.snapshot())
    assert [log.check(now + d) for d in range(25)] == [
        twin.check(now + d) for d in range(25)
    ]


def test_users_are_independent() -> None:
    rates = UserRates(1, 1_000)
    rates.record("a", 0)
    assert rates.check("a", 1) == 999
    assert rates.check("b", 1) == 0


def test_users_with_an_empty_window_are_dropped() -> None:
    rates = UserRates(1, 1_000)
    for n in range(10_000):
        rates.record(f"user_{n}", n)
    # At most those of the window, twice, and the smallest table.
    assert len(rates) <= 2 * 1_000 + 64


def test_a_snapshot_has_nobody_whose_window_is_empty() -> None:
    rates = UserRates(1, 1_000)
    for n in range(50):
        rates.record(f"user_{n}", 0)
    rates.record("late", 1_000)
    assert rates.snapshot() == {"late": [1_000]}


def test_a_snapshot_forgets_nobody_because_the_clock_went_back() -> None:
    rates = UserRates(1, 1_000)
    rates.record("before", 1_000_000)
    rates.record("after", 7)
    assert rates.snapshot() == {"before": [1_000_000], "after": [7]}


def test_users_in_their_window_are_never_dropped() -> None:
    rates = UserRates(1, 1_000)
    for n in range(500):
        rates.record(f"user_{n}", n)
    assert all(rates.check(f"user_{n}", 500) for n in range(500))


def test_unlimited_users_are_not_stored() -> None:
    rates = UserRates(0, 1_000)
    rates.record("a", 0)
    assert (rates.check("a", 0), len(rates), rates.snapshot()) == (0, 0, {})
    rates.restore({"a": [1]})
    assert len(rates) == 0


def test_a_table_continues_from_its_snapshot() -> None:
    rates = UserRates(2, 1_000)
    rates.record("a", 1)
    rates.record("a", 2)
    twin = UserRates(2, 1_000)
    twin.restore(rates.snapshot())
    assert twin.check("a", 3) == rates.check("a", 3) == 998


@pytest.mark.parametrize(("now", "idle"), [(0, False), (999, False), (1_000, True)])
def test_idle_is_when_nothing_matters_any_more(now: int, idle: bool) -> None:
    log = SlidingLog(2, 1_000)
    assert log.idle(0)
    log.record(0)
    assert log.idle(now) is idle
