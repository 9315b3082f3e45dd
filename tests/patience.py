"""Promises of time on a machine that others keep busy.

That something happens within so many seconds is promised of our code, not of a machine
whose CPUs are taken. So time is measured without what the kernel says was spent with
some task waiting for a CPU (`/proc/pressure/cpu`): on a calm machine these are seconds,
on a busy one they are longer, and where the kernel does not say they are seconds too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PRESSURE = Path("/proc/pressure/cpu")
_SLOWEST = 1 / 12
"""A machine that never rests still comes to an end."""


def _waited_s() -> float:
    """Seconds since the machine's start in which some task waited for a CPU."""
    try:
        some = _PRESSURE.read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


class Stopwatch:
    """Since it was made: `seconds` are calm ones, for what may not take longer; `wall`
    are all, for what may not take less."""

    def __init__(self) -> None:
        self._began, self._waited = time.monotonic(), _waited_s()

    @property
    def wall(self) -> float:
        return time.monotonic() - self._began

    @property
    def seconds(self) -> float:
        passed = self.wall
        return max(passed - (_waited_s() - self._waited), passed * _SLOWEST)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, in calm seconds."""
    loop, watch = asyncio.get_running_loop(), Stopwatch()
    async with asyncio.timeout(None) as limit:

        def look() -> None:
            nonlocal handle
            left = seconds - watch.seconds
            if left > 0:
                handle = loop.call_later(left, look)
            else:
                limit.reschedule(loop.time())

        handle = loop.call_later(seconds, look)
        try:
            yield
        finally:
            handle.cancel()


async def wait_for(awaited: Awaitable[T], seconds: float) -> T:
    """As `asyncio.wait_for`, in calm seconds."""
    async with within(seconds):
        return await awaited


def skip(seconds: float) -> None:
    """Whoever waits for that long or less on this loop has waited: its clock is ahead.

    For a deadline that is to pass after something has happened, however slowly it did.
    """
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]
