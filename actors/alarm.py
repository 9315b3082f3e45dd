"""An object's one alarm: a timer on the loop for what its machine wants to do later.

Which time that is only the machine knows; here is no more than the timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cfmessenger.clock import Clock


class Alarm:
    """`ring` is called when the time that was `set` last has come, or for an earlier
    one that was set before: who is rung looks whether anything is due."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, ring: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        # The timer and when it rings (ms), from `set` until it rings or `cancel`.
        self._timer: asyncio.TimerHandle | None = None
        self._at: int | None = None

    def set(self, due: int | None) -> None:
        """Ring at `due`, in place of what was set before. None changes nothing."""
        if due is None or due == self._at:
            return  # a timer for nothing is harmless
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, due - self._clock.now()) / 1000
        self._at = due
        self._timer = self._loop.call_later(delay, self._rung)

    def _rung(self) -> None:
        self._timer = self._at = None
        self._ring()

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._at = None
