"""Arrivals: who came in a storm, of whom not everybody has been told yet.

Owns wire.md §4's storms. Of n people who come at once and are each told of each other
n² names are sent; and where so many come that they will soon be a crowd, each is told
of its scope then, so that most of these names need never be sent. Who comes in a storm
is therefore told of when it is over. Pure: whom that concerns is `Onlookers`'s, and its
shell counts the time. Must not know sockets.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple


class Storm(NamedTuple):
    """When arrivals are a storm: more than `burst` in a tick of the registry, with more
    than `above` people online. Each round of `ROUND_S` in which no more than `most`
    come ends it, and so does the last of `rounds`."""

    above: int = 100
    burst: int = 8
    most: int = 25
    rounds: int = 6


USUAL: Final = Storm()
ROUND_S: Final = 0.5


class Arrivals:
    """Of one gateway. `count` numbers those that were held back; it never falls, so
    that whoever was told of everybody at some time knows of those up to there."""

    def __init__(self, storm: Storm | None = None) -> None:
        """`storm`: only tests have another than the usual."""
        self.count = 0
        self._storm = storm or USUAL
        # By user, their numbers, rising: each from `take` until `forget` or `release`.
        self._held: dict[str, int] = {}
        self._round_at = 0  # `count` as this round began
        self._rounds = 0  # how many have passed; until `release`

    def __bool__(self) -> bool:
        return bool(self._held)

    def take(self, user_ids: Collection[str], online: int) -> None:
        """These have come in one tick; so many are online now. In a storm they are
        held back from here on."""
        storm = self._storm
        begins = online > storm.above and len(user_ids) > storm.burst
        if not (begins or self._held):
            return
        for user_id in user_ids:
            self.count += 1
            self._held.pop(user_id, None)
            self._held[user_id] = self.count

    def number(self, user_id: str) -> int:
        """Of somebody who is held back; 0: they are not."""
        return self._held.get(user_id, 0)

    def forget(self, user_id: str) -> None:
        """Somebody is gone."""
        self._held.pop(user_id, None)

    def over(self) -> bool:
        """A round has passed; whether all are to be told now."""
        came, self._round_at = self.count - self._round_at, self.count
        self._rounds += 1
        return came <= self._storm.most or self._rounds >= self._storm.rounds

    def release(self) -> dict[str, int]:
        """Nobody is held back any longer; who was, with their numbers."""
        held, self._held = self._held, {}
        self._round_at, self._rounds = self.count, 0
        return held
