"""A worker's judgement of itself."""

from __future__ import annotations

import time

from cfmessenger.load.strain import Strain


def test_a_generator_that_kept_up_is_valid() -> None:
    strain = Strain(0.02)
    strain.begin()
    for _ in range(1000):
        strain.late(0.001)
        strain.loop_late(0.001)
    health = strain.health([])
    assert health.valid and health.reasons == []
    assert health.max_lag_us == 1000


def test_sending_late_makes_a_run_invalid_but_one_hiccup_does_not() -> None:
    strain = Strain(0.02)
    strain.begin()
    for _ in range(990):
        strain.late(0.001)
    for _ in range(10):
        strain.late(0.5)
    assert strain.health([]).valid
    for _ in range(10):
        strain.late(0.5)
    health = strain.health([])
    assert not health.valid
    assert "late" in health.reasons[0]


def test_a_loop_that_hangs_makes_a_run_invalid() -> None:
    strain = Strain(0.02)
    strain.begin()
    for _ in range(20):
        strain.loop_late(0.1)
    assert "loop" in strain.health([]).reasons[0]


def test_a_core_that_is_used_up_makes_a_run_invalid() -> None:
    strain = Strain(0.02)
    strain.begin()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    strain.end()
    assert strain.cpu_share > 0
    strain.cpu_share = 0.95
    assert "core" in strain.health([]).reasons[0]


def test_reasons_from_elsewhere_count_too() -> None:
    assert Strain(0.02).health(["it was raining"]).reasons == ["it was raining"]


def test_what_was_late_in_the_warm_up_is_forgotten() -> None:
    strain = Strain(0.02)
    strain.late(0.5)
    strain.loop_late(0.5)
    assert not strain.health([]).valid
    strain.begin()
    assert strain.worst() == 0 and strain.health([]).valid
