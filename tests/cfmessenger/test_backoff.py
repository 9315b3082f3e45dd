"""Who failed waits longer each time, but not for ever, and not with everybody else."""

import random

from cfmessenger.backoff import Backoff, doubled


def test_it_doubles_up_to_the_cap_however_often() -> None:
    assert [doubled(0.1, 2.0, times) for times in range(6)] == [
        *(0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
    ]
    # 2 ** 1100 is more than a float can be.
    assert doubled(0.1, 2.0, 1100) == doubled(0.1, 2.0, 100_000) == 2.0


def test_the_backoff_is_capped_full_jitter_from_the_first_delay_on() -> None:
    highest = Backoff(lambda low, high: high, base_s=1, cap_s=15)
    assert [highest.delay() for _ in range(6)] == [1, 2, 4, 8, 15, 15]
    highest.reset()
    assert highest.delay() == 1
    jittered = Backoff(random.Random(7).uniform, base_s=1, cap_s=15)
    firsts = set()
    for _ in range(100):
        jittered.reset()
        firsts.add(jittered.delay())
    assert len(firsts) == 100 and max(firsts) <= 1 and min(firsts) < 0.1
    for _ in range(5000):  # nor does it overflow
        assert 0 <= jittered.delay() <= 15


def test_a_retry_after_is_a_floor_with_jitter_above() -> None:
    assert Backoff(lambda low, high: low).delay(3.0) == 3.0
    assert Backoff(lambda low, high: high).delay(3.0) == 4.0
