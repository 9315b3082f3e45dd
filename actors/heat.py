"""How much of its host's loop an object takes, and how long it keeps it at a time.

Objects of a pool share one loop: what one of them takes the others wait for. Measured
around everything an object does there, 0.1 µs each, and looked at twice a second.

Beside 200 calm rooms of one message a second, 2 cores, two pools: a room of 100 sockets
and 100 messages a second takes 1.6 % of its pool's time, and their p99 is 1.03 to 1.2
times what it was; at 800 a second 7 %, and theirs is 1.7 to 3.9 times. Between the two
lies the default, 4 %.
"""

from __future__ import annotations

import msgspec

HOT_AT = 2.0
"""Two hot looks in a row make a room hot, or three with one other between each."""

COOLS_BY = 0.25
"""What a look that is not hot takes off the level."""

SMOOTH = 0.5
"""Weight of the newest look in `share`."""


class Limits(msgspec.Struct, frozen=True):
    """When a room is hot, when it is calm, and how many may have their own actor.

    `hot_share`: of its loop's time, 0 to 1; 0: no room ever is. `hot_hold_s`: kept at a
    time. `calm_after_s`: without being near either. `own_rooms`: how many may have one,
    hot ones among them; beyond it only hot ones get one.
    """

    hot_share: float = 0.0
    hot_hold_s: float = 0.05
    calm_after_s: float = 180.0
    own_rooms: int = 0


class Heat:
    """How hot one object is: `took` at each thing it does, `look` twice a second."""

    __slots__ = ("_busy", "_level", "_longest", "calm_since", "share")

    def __init__(self, now_s: float) -> None:
        self.share = 0.0  # of the loop's time, smoothed over the last looks
        self._level = 0.0  # rises with each hot look, up to HOT_AT
        self.calm_since = now_s  # loop time of the last look that was not calm
        self._busy = 0.0  # seconds since the last look
        self._longest = 0.0  # seconds it kept the loop at a time, since the last look

    def took(self, seconds: float) -> None:
        """It has kept the loop for so long."""
        self._busy += seconds
        if seconds > self._longest:
            self._longest = seconds

    def look(
        self, now_s: float, elapsed_s: float, limits: Limits, alone: bool = False
    ) -> None:
        """Take stock, `elapsed_s` after the last look. `alone`: no other object shares
        the loop, so how long it keeps that at a time does not count."""
        share = self._busy / max(elapsed_s, 1e-3)
        hot, hold = limits.hot_share, 0.0 if alone else self._longest
        self._busy = self._longest = 0.0
        self.share += (share - self.share) * SMOOTH
        if hot and (share >= hot or hold >= limits.hot_hold_s):
            self._level = min(self._level + 1.0, HOT_AT)
        else:
            self._level = max(self._level - COOLS_BY, 0.0)
        if share >= hot / 4 or hold >= limits.hot_hold_s / 2:
            self.calm_since = now_s

    @property
    def hot(self) -> bool:
        """It takes too much for others to live with."""
        return self._level >= HOT_AT
