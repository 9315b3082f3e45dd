"""How fast one socket may speak: who floods is read slowly, who goes on is ended.

wire.md §6: 4508 is also for more than 200 frames a second for 5 s. Frames of every kind
count, `ping`, `ack` and WebSocket pongs included, for each costs the same to read. They
are counted in blocks of as many as a second may bring: a frame costs one subtraction,
and the time is compared once a block. A burst of 1,000 (the acks of an old client
after a history) is neither slowed nor ended. Pure: times are given.
"""

from __future__ import annotations

import math

ALLOWED_PER_S = 200
"""Frames a second, and frames in a block."""
FLOOD_S = 5.0
"""How long blocks may come faster than that, one after the other."""

UNSLOWED_BLOCKS = 5
"""So many fast blocks in a row are let through at any speed: a burst."""
SLOWED_S = 0.5
"""The least time of every fast block after those: 400 frames a second."""

ABUSE = math.inf
"""In place of a pause: close with 4508."""


class Meter:
    """Counts the frames of one socket."""

    __slots__ = ("_began", "_fast", "_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = ALLOWED_PER_S  # frames until this block is full
        self._began = now  # when this block did; of a slowed one: when read again
        self._since = now  # the start, or the end of the last block that was not fast
        self._fast = 0  # fast blocks since then

    def count(self, now: float) -> float:
        """One more frame at `now` (seconds, any origin).

        Answers for how many seconds the socket is not to be read: 0 nearly always,
        `ABUSE` when it is to be closed.
        """
        self._left -= 1
        return 0.0 if self._left else self._next_block(now)

    def _next_block(self, now: float) -> float:
        took = now - self._began
        self._left = ALLOWED_PER_S
        self._began = now
        if took >= 1.0:
            self._since, self._fast = now, 0
            return 0.0
        if now - self._since >= FLOOD_S:
            return ABUSE
        self._fast += 1
        if self._fast <= UNSLOWED_BLOCKS or took >= SLOWED_S:
            return 0.0
        self._began = now + SLOWED_S - took  # it is read again then
        return SLOWED_S - took
