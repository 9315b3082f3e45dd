"""The clock that tests hold promises of time to."""

import asyncio
import time
from pathlib import Path

import pytest

from tests import patience
from tests.patience import Stopwatch


@pytest.fixture
def pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel would say."""
    file = tmp_path / "cpu"
    monkeypatch.setattr(patience, "_PRESSURE", file)
    return file


def test_time_in_which_others_had_the_machine_does_not_count(pressure: Path) -> None:
    pressure.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5000000\nfull x")
    watch = Stopwatch()
    watch._began -= 12.0
    assert 12.0 <= watch.seconds < 13.0
    pressure.write_text("some avg10=9.00 avg60=0.00 avg300=0.00 total=14000000\nfull x")
    assert 3.0 <= watch.seconds < 4.0 and watch.wall >= 12.0
    pressure.write_text("some avg10=9.00 avg60=0.00 avg300=0.00 total=99000000\nfull x")
    assert 1.0 <= watch.seconds < 1.5, "and it ends on a machine that never rests"


def test_where_the_kernel_does_not_say_all_time_counts(pressure: Path) -> None:
    watch = Stopwatch()
    watch._began -= 12.0
    assert watch.seconds == pytest.approx(watch.wall, abs=0.1)


async def test_what_does_not_come_in_calm_seconds_is_too_late(pressure: Path) -> None:
    with pytest.raises(TimeoutError):
        await patience.wait_for(asyncio.Event().wait(), 0.05)
    assert await patience.wait_for(asyncio.sleep(0, "in time"), 5) == "in time"


async def test_a_busy_second_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0.0
    monkeypatch.setattr(patience, "_waited_s", lambda: waited)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience.within(0.1):
            waited = 0.2
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.3


async def test_who_waits_has_waited_once_time_is_skipped() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(500):
            patience.skip(500)
            await asyncio.Event().wait()
