"""The server's clock as seen from here, measured with `ping`/`pong` (wire.md §2, §3).

Owns the estimate only. Every client that has one starts a wink at the same moment.
Pure: `now` is the caller's own clock in ms, any clock that runs evenly.
"""

from __future__ import annotations

from collections import deque

#: Old samples are forgotten, so that a drifting or corrected clock is followed.
_SAMPLES = 8


class ClockOffset:
    """Keeps the sample of the least round trip among the latest eight.

    The error of that sample is at most half its round trip (Cristian's algorithm).
    """

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        # (round trip, offset) in ms; emptied when the local clock is set back.
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)

    def sample(self, sent: float, received: float, server: float) -> None:
        """One pong: all in ms, `sent` and `received` by the local clock."""
        round_trip = received - sent
        if round_trip < 0:  # the local clock was set back: all samples are void
            self._samples.clear()
            return
        self._samples.append((round_trip, server - (sent + received) / 2))

    @property
    def ms(self) -> float:
        """Server time minus local time, 0.0 before the first sample."""
        return min(self._samples)[1] if self._samples else 0.0

    def server_time(self, now: float) -> float:
        """The server's clock when the local one shows `now`, in ms."""
        return now + self.ms

    def delay(self, now: float, server_moment: float) -> float:
        """Local ms from `now` until the server's clock shows `server_moment`, >= 0."""
        return max(0.0, server_moment - self.server_time(now))
