"""Wall-clock milliseconds that never go backwards within a process.

Rate windows and typing deadlines are computed from it, so a clock that is set back must
not lock anybody out: time advances with the monotonic clock, and only a wall clock that
has run ahead (a resumed machine) moves it forward.
"""

from __future__ import annotations

import time

__all__ = ["Clock"]

_JUMP_MS = 1000


class Clock:
    """`now()` is integer Unix milliseconds, non-decreasing."""

    def __init__(self) -> None:
        self._offset = self._wall() - self._steady()

    @staticmethod
    def _wall() -> int:
        return time.time_ns() // 1_000_000

    @staticmethod
    def _steady() -> int:
        return time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        """The time; at most `_JUMP_MS` behind the wall clock, never set back."""
        steady = time.monotonic_ns() // 1_000_000 + self._offset
        wall = time.time_ns() // 1_000_000
        if wall - steady > _JUMP_MS:
            self._offset += wall - steady
            return wall
        return steady
