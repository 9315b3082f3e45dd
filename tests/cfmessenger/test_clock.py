"""The clock: never back, and forward with a wall clock that has run ahead."""

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
