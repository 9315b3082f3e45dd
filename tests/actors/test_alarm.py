"""The one timer of an object: it rings when it should, once, and not when cancelled."""

import asyncio

from actors.alarm import Alarm
from cfmessenger.clock import Clock
from tests import patience
from tests.actors.scene import until


class Bell:
    """An alarm, and how often it rang."""

    def __init__(self) -> None:
        self.rings = 0
        self.news = asyncio.Event()
        self.clock = Clock()
        self.alarm = Alarm(asyncio.get_running_loop(), self.clock, self._ring)

    def _ring(self) -> None:
        self.rings += 1
        self.news.set()

    def set(self, in_ms: int) -> None:
        self.alarm.set(self.clock.now() + in_ms)

    async def until_rung(self, times: int) -> None:
        await until(lambda: self.rings == times, self.news)


async def test_what_is_due_rings_at_once_and_once() -> None:
    bell = Bell()
    bell.set(-1000)
    await bell.until_rung(1)
    bell.set(1)
    await bell.until_rung(2)
    assert bell.alarm._timer is None


async def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    bell = Bell()
    bell.set(3_600_000)
    bell.set(1)
    async with patience.within(5):
        await bell.until_rung(1)


async def test_nothing_rings_that_was_cancelled() -> None:
    bell = Bell()
    bell.set(0)
    bell.alarm.cancel()
    later = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, later.set_result, None)
    await later
    assert bell.rings == 0
    bell.set(0)
    await bell.until_rung(1)


async def test_the_same_time_is_set_again_after_it_was_cancelled() -> None:
    bell = Bell()
    due = bell.clock.now() + 5
    bell.alarm.set(due)
    bell.alarm.cancel()
    bell.alarm.set(due)
    await bell.until_rung(1)
