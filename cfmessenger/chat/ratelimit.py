"""Rates as sliding logs of what was accepted, exact at their edges.

Owns the rule of wire.md §2: "a sliding log of accepted messages" per user, so the nudge
that was refused costs nothing and the next one passes exactly one window after the
first accepted. Times are the caller's, in milliseconds. A count of 0 means unlimited
and stores nothing. Must not know what is being limited.
"""

from collections import deque
from collections.abc import Iterable, Mapping


class SlidingLog:
    """At most `count` accepted events in any `window_ms`."""

    __slots__ = ("_accepted", "_count", "_window")

    def __init__(
        self, count: int, window_ms: int, accepted: Iterable[int] = ()
    ) -> None:
        """`accepted`: what `snapshot` returned, to continue from there."""
        self._count = count
        self._window = window_ms
        # Times in ms, oldest first. Older ones than the last `count` refuse nothing.
        self._accepted = deque(accepted, maxlen=count)

    def check(self, now: int) -> int:
        """Milliseconds until one more would be accepted: 0 is now."""
        if not self._count or len(self._accepted) < self._count:
            return 0
        wait = self._accepted[0] + self._window - now
        if wait > self._window:
            # The clock went back since. Nobody waits longer than a window for that.
            self._accepted = deque([now] * self._count, maxlen=self._count)
            return self._window
        return max(wait, 0)

    def record(self, now: int) -> None:
        """Note one accepted event."""
        self._accepted.append(now)

    def idle(self, now: int) -> bool:
        """Whether everything in it is too old to matter."""
        return not self._accepted or self._accepted[-1] + self._window <= now

    def snapshot(self) -> list[int]:
        """The times still remembered, oldest first."""
        return list(self._accepted)


class UserRates:
    """One sliding log per user, kept only while there is something in its window."""

    __slots__ = ("_count", "_latest", "_logs", "_sweep_at", "_window")

    def __init__(self, count: int, window_ms: int) -> None:
        self._count = count
        self._window = window_ms
        self._logs: dict[str, SlidingLog] = {}  # by user, until a sweep finds it idle
        self._latest = 0  # when the last event was noted; 0: none yet
        self._sweep_at = 64  # the number of users at which the next sweep is due

    def check(self, user_id: str, now: int) -> int:
        """Milliseconds until one more of this user would be accepted: 0 is now."""
        log = self._logs.get(user_id)
        return log.check(now) if log else 0

    def record(self, user_id: str, now: int) -> None:
        """Note one accepted event of this user."""
        self._latest = now
        log = self._logs.get(user_id)
        if log is None:
            if not self._count:
                return
            if len(self._logs) >= self._sweep_at:
                self._sweep()
            log = self._logs[user_id] = SlidingLog(self._count, self._window)
        log.record(now)

    def _sweep(self) -> None:
        # Amortised: the table has doubled since the last sweep.
        now = self._latest
        self._logs = {u: log for u, log in self._logs.items() if not log.idle(now)}
        self._sweep_at = 2 * len(self._logs) + 64

    def __len__(self) -> int:
        """How many users are remembered."""
        return len(self._logs)

    def snapshot(self) -> dict[str, list[int]]:
        """What mattered still when the last event was noted, for `restore`."""
        self._sweep()
        return {user_id: log.snapshot() for user_id, log in self._logs.items()}

    def restore(self, snapshot: Mapping[str, Iterable[int]]) -> None:
        """Continue from a snapshot, under this table's own count and window."""
        self._logs = {
            user_id: SlidingLog(self._count, self._window, times)
            for user_id, times in snapshot.items()
            if self._count
        }
