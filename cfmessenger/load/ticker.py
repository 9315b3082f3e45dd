"""Waiting for a moment to the microsecond, which uvloop's timers (1 ms) cannot.

A message that is due between two ticks of the loop would be sent late, and a load of
2,000 messages a second would be bursts of two. Linux has a timer that is a file; the
standard library offers it from Python 3.13 on.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import time
from typing import Self

now = time.perf_counter
"""Seconds on the monotonic clock, the same for all processes of a machine."""

_ABSOLUTE = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class _TimerSpec(ctypes.Structure):
    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


class Ticker:
    """`await until(moment)`; one waiter at a time. `with Ticker() as ticker: …`.

    `tick_s > 0` rounds moments up to multiples of it: what is due in between leaves
    together, and the generator wakes less often.
    """

    def __init__(self, tick_s: float = 0.0) -> None:
        self._tick_s = tick_s
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._fired)
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def until(self, moment: float) -> None:
        """Returns at `moment` of `now()`, or at once if that is past."""
        if self._tick_s:
            moment = math.ceil(moment / self._tick_s) * self._tick_s
        if moment <= now():
            return
        whole = int(moment)
        spec = _TimerSpec(0, 0, whole, max(1, int((moment - whole) * 1e9)))
        self._waiter = self._loop.create_future()
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None)
        await self._waiter

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
