"""The clock: never back, forward with a wall that ran ahead, and as storage says."""

import time

import pytest

from cfmessenger import clock as clock_module
from cfmessenger.clock import Clock

S = 1_000_000_000


class Hands:
    """The machine's two clocks, turned by hand; nanoseconds."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000 * S
        self.steady = 77 * S

    def time_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += int(seconds * S)
        self.steady += int(seconds * S)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock_module, "time", hands)
    return hands


def test_it_is_unix_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    now = Clock().now()
    assert isinstance(now, int)
    assert before - 2 <= now <= time.time_ns() // 1_000_000 + 2


def test_it_advances_as_time_does(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    hands.advance(1.5)
    assert clock.now() - start == 1500


def test_a_clock_that_is_set_back_moves_nothing_back(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    hands.wall -= 3600 * S
    assert clock.now() == start
    hands.advance(2)
    assert clock.now() == start + 2000


def test_a_machine_that_was_asleep_catches_up(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    hands.wall += 600 * S  # the monotonic clock stood still meanwhile
    assert clock.now() == start + 600_000
    hands.advance(1)
    assert clock.now() == start + 601_000


def test_a_wall_clock_that_is_corrected_a_little_changes_nothing(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    hands.wall += S  # exactly what it may be behind
    assert clock.now() == start
    hands.wall += 1_000_000
    assert clock.now() == start + 1001


def test_it_never_goes_back_whatever_the_wall_does(hands: Hands) -> None:
    clock = Clock()
    seen = []
    for jump in (0, 5, -5, -3600, 0.5, 7200, -7200, 1.2, -0.1, 3):
        hands.wall += int(jump * S)
        hands.advance(0.01)
        seen.append(clock.now())
    assert seen == sorted(seen)


# What storage says.


def unix(hands: Hands) -> int:
    """What time it is by the wall, in ms."""
    return hands.wall // 1_000_000


@pytest.mark.parametrize("hours", [1, -1, 24 * 365])
def test_whoever_hears_before_it_is_asked_is_right_from_the_start(
    hands: Hands, hours: int
) -> None:
    right = unix(hands)
    hands.wall += hours * 3600 * S
    clock = Clock()
    clock.hear(right, took=2)
    assert 0 <= clock.now() - right <= 2


def test_once_it_has_heard_the_wall_counts_no_more(hands: Hands) -> None:
    clock = Clock()
    right = unix(hands)
    clock.hear(right, took=0)
    hands.wall += 3600 * S
    assert clock.now() == right
    hands.advance(5)
    assert clock.now() == right + 5000


def test_a_slow_answer_moves_nothing(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    clock.hear(start - 900, took=1000)  # it was read 900 ms ago
    hands.advance(1)
    assert clock.now() == start + 1000


def test_behind_it_goes_on_from_there_at_once(hands: Hands) -> None:
    clock = Clock()
    start = clock.now()
    clock.hear(start + 60_000, took=5)
    assert clock.now() == start + 60_000


def test_ahead_it_waits_for_storage_at_half_speed_and_locks_nobody_out(
    hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    start = clock.now()
    right = start - 10_000
    clock.hear(right, took=0)
    seen = [start]
    for second in range(1, 41):
        hands.advance(1)
        seen.append(clock.now())
        if second % 5 == 0:  # it hears again and again
            clock.hear(right + second * 1000, took=0)
    assert seen == sorted(seen)
    assert seen[10] - seen[0] == 5000, "time goes on meanwhile"
    assert seen[-1] == right + 40_000
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1, "said once"


def test_however_often_it_is_asked_it_catches_up(hands: Hands) -> None:
    clock = Clock()
    right = clock.now() - 100
    clock.hear(right, took=0)
    for _ in range(3000):
        hands.advance(0.001)
        clock.now()
    assert clock.now() == right + 3000
