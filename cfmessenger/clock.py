"""Milliseconds of one clock that all machines share, never back within a process.

Rooms move between machines, and what one says of the time the next has to go on from;
so whoever talks to storage takes the time from there (`hear`), and a machine whose own
clock is an hour ahead dates nothing into the future. Until then, and where nobody
hears, it is the machine's wall clock.

Rate windows and typing deadlines are computed from it, so a clock that is set back must
not lock anybody out: time advances with the monotonic clock, and what it is ahead by is
made up for by going at half speed.
"""

from __future__ import annotations

import logging
import time

__all__ = ["Clock"]

logger = logging.getLogger("cfmessenger.clock")

_JUMP_MS = 1000
"""A wall clock that is further ahead is followed at once, until storage is heard."""

_ASTRAY_MS = 5000
"""What two machines' clocks may differ by without a word."""


class Clock:
    """`now()` is integer Unix milliseconds, non-decreasing."""

    def __init__(self) -> None:
        self._offset = self._wall() - self.steady()  # ms from steady to our time
        self._asked = False  # from the first `now` on it must not go back
        self._heard = False  # from the first `hear` on the wall clock does not count
        self._ahead = 0  # ms that are still to be made up for
        self._slow_since = 0  # steady ms up to which what was ahead is made up for

    @staticmethod
    def _wall() -> int:
        return time.time_ns() // 1_000_000

    @staticmethod
    def steady() -> int:
        """Milliseconds since some moment, whatever becomes of the wall clock."""
        return time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        """The time; until it heard better, at most `_JUMP_MS` behind the wall."""
        self._asked = True
        steady = self.steady()
        if self._ahead:
            made_up = min(self._ahead, (steady - self._slow_since) // 2)
            self._slow_since += 2 * made_up
            self._ahead -= made_up
            self._offset -= made_up
        elif not self._heard and self._wall() - steady - self._offset > _JUMP_MS:
            self._offset = self._wall() - steady
        return steady + self._offset

    def hear(self, said: int, took: int) -> None:
        """Storage `said` the time (ms since 1970); its answer took `took` ms."""
        self._heard = True
        late = self.steady() + self._offset - said  # if it is right: 0 to `took`
        if late < 0:
            self._offset -= late
            self._ahead = 0
            if late < -_ASTRAY_MS:
                logger.warning("the clock was %d ms behind storage's", -late)
            return
        ahead = max(0, late - took)
        if ahead - self._ahead > _ASTRAY_MS:
            logger.warning("the clock is %d ms ahead of storage's", ahead)
        if not self._asked:
            self._offset -= ahead
        else:
            if not self._ahead:
                self._slow_since = self.steady()
            self._ahead = ahead
