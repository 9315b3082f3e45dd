"""The meter of a socket, on a clock of the test's own."""

import pytest

from gateway.live.meter import (
    ABUSE,
    ALLOWED_PER_S,
    FLOOD_S,
    SLOWED_S,
    UNSLOWED_BLOCKS,
    Meter,
)


def read(meter: Meter, per_s: float, seconds: float, now: float = 0.0) -> float | None:
    """Frames at this rate, read as slowly as it wants; when it had enough of them."""
    end = now + seconds
    while now < end:
        now += 1 / per_s
        pause = meter.count(now)
        if pause == ABUSE:
            return now
        now += pause
    return None


@pytest.mark.parametrize("per_s", [1, 20, 150, 199])
def test_200_a_second_are_nobodys_business(per_s: float) -> None:
    assert read(Meter(0.0), per_s, 120) is None


@pytest.mark.parametrize("per_s", [210, 300, 1_000, 100_000])
def test_more_than_200_a_second_for_5_s_are_abuse(per_s: float) -> None:
    ended = read(Meter(0.0), per_s, 60)
    assert ended is not None
    assert FLOOD_S <= ended <= FLOOD_S + 2


def test_a_burst_of_1000_is_not_even_slowed() -> None:
    meter = Meter(0.0)
    assert not any(meter.count(0.001 * n) for n in range(1_000))
    # Nor is the next one, a while later, nor many of them.
    for again in range(1, 20):
        assert not any(meter.count(10.0 * again + 0.001 * n) for n in range(1_000))


def test_beyond_it_a_second_brings_no_more_than_400() -> None:
    meter, now = Meter(0.0), 0.0
    unslowed = ALLOWED_PER_S * UNSLOWED_BLOCKS
    assert not any(meter.count(now) for _ in range(unslowed))
    frames = 0
    while (pause := meter.count(now)) != ABUSE:
        frames += 1
        now += pause
    # The block that is too fast is read before its pause.
    assert frames - ALLOWED_PER_S <= now * ALLOWED_PER_S / SLOWED_S


def test_a_pause_forgives() -> None:
    meter = Meter(0.0)
    assert read(meter, 1_000, FLOOD_S - 1) is None
    assert read(meter, 100, 3, now=FLOOD_S) is None
    assert read(meter, 1_000, FLOOD_S - 1, now=FLOOD_S + 3) is None
