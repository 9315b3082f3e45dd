"""Rotation: which personas are online, hour by hour.

Owns two rules. Each hour (UTC) the least recently active come first: they stand in
line, and whoever was on goes to its end, so that nobody has two turns more than
another. And whoever is off and spoken to says so, once an hour in a room.
Deterministic: a life that replays the rotations chooses as the one before it would.
"""

from collections.abc import Sequence

import msgspec

SLOT_MS = 3_600_000
EXCUSES = 1_000
"""How many of an hour are remembered; whoever is forgotten may say so again."""


class Rotation:
    """`active` are on since the hour `slot`; `line` is all of them, the next first.

    `excused`: bots and the rooms that they told in this hour that they are off.
    """

    def __init__(self, bots: Sequence[str], count: int) -> None:
        self.slot = -1  # hours since 1970; -1: there was no rotation yet
        self.active: tuple[str, ...] = ()
        self.line = tuple(bots)
        self.excused: dict[tuple[str, str], None] = {}
        self._count = min(count, len(self.line))

    def due(self, now: int) -> tuple[int, tuple[str, ...]] | None:
        """The hour and who is to be on in it; None: nothing is to change.

        A clock that goes back changes nothing, unless the personas or their number did.
        """
        slot = now // SLOT_MS
        fits = len(self.active) == self._count and set(self.active) <= set(self.line)
        if slot <= self.slot and fits:
            return None
        return max(slot, self.slot), self.line[: self._count]

    def rotate(self, slot: int, active: Sequence[str]) -> None:
        """These are on now."""
        if slot != self.slot:
            self.excused.clear()
        self.slot, self.active = slot, tuple(active)
        others = [bot for bot in self.line if bot not in self.active]
        self.line = (*others, *(bot for bot in self.active if bot in self.line))

    def back_at(self, bot: str) -> int:
        """When the turn of a bot that is off begins, Unix ms, if every hour turns."""
        ahead = self.line.index(bot) // max(self._count, 1)
        return (self.slot + 1 + ahead) * SLOT_MS

    def excuse(self, bot: str, room_id: str) -> None:
        """Remember that the room was told that the bot is off."""
        self.excused[bot, room_id] = None
        if len(self.excused) > EXCUSES:
            del self.excused[next(iter(self.excused))]

    def restore(self, row: "RotationRow") -> None:
        """Go on from a snapshot; new bots come first in the line, others are left out
        of it if they are no longer in the list."""
        self.slot, self.active = row.slot, row.active
        self.excused = dict.fromkeys(row.excused)
        new = [bot for bot in self.line if bot not in row.line]
        self.line = (*new, *(bot for bot in row.line if bot in self.line))


class RotationRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Rotation` in a snapshot."""

    slot: int
    active: tuple[str, ...]
    line: tuple[str, ...]
    excused: tuple[tuple[str, str], ...] = ()
