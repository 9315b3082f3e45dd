"""Crowd: when a group room has so many people that not everybody is told everything.

Owns the numbers of wire.md §3, "Crowds". They follow from what a room can bear: each of
n people who is told of each other's coming costs n² frames, and n² is what a crowd must
not cost anywhere. Must not know who is here.
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec

COALESCE_MS: Final = 50


class Crowd(msgspec.Struct, frozen=True, gc=False):
    """From when on a room is a crowd, and how much travels there.

    A room is one while it has more than `above` people, which is also how many
    `participants` names. A socket is told every `tick_ms` at most, every `vast_tick_ms`
    from `vast` people on. `typists`: so many are shown as typing at a time, and begin
    to type in a second.
    """

    above: int = 200
    tick_ms: int = 2_000
    vast: int = 2_000
    vast_tick_ms: int = 5_000
    typists: int = 5

    def holds(self, people: int) -> bool:
        """Whether so many are a crowd.

        The bound is the same both ways: who comes and goes at it costs no more than in
        a room that has as many people and is no crowd.
        """
        return people > self.above

    def coalesce_ms(self, people: int) -> int:
        """From a change until it is told in a room of so many that is no crowd.

        Each of n people gets a list of n, so from 50 on the wait grows with n², and
        what it costs them all in a second does not.
        """
        return max(COALESCE_MS, people * people // COALESCE_MS)

    def interval_ms(self, people: int) -> int:
        """Between two frames that a socket of a crowd of so many is sent.

        It grows to that of a vast one without a jump, as a crowd that gathers does.
        """
        share = min(people, self.vast) / self.vast
        return max(self.tick_ms, int(self.vast_tick_ms * share))


USUAL: Final = Crowd()
NEVER: Final = Crowd(above=sys.maxsize)
"""A direct room's."""
