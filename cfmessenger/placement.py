"""Placement: which actor a name lives in, as one function of a generation.

*Pools*: rooms are hashed onto named actors `rooms:<n>`, each hosting thousands
(rendezvous hashing, so that a pool of another size moves no more rooms than it must).
*Auto*: the same, but for exceptions, the rooms with a named actor of their own,
`room:<id>`: public and pinned ones, those that are hot, and as many as there is room
for of those that live. *Dedicated*: every room has one. What is no room always has.

The generation is one entry in Valkey, which settings only seed: everybody who resolves
or hosts follows the same one, and a host that does not own an object any more puts it
to sleep and says `moved` (design.md §4). Pure; must not read settings or storage.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal, Self

import msgspec
from msgspec.structs import replace

from cfmessenger.ids import is_room

__all__ = ["MODES", "Mode", "Own", "Placement", "Why", "is_pool"]

Mode = Literal["auto", "dedicated", "pooled"]
MODES: tuple[Mode, ...] = ("auto", "dedicated", "pooled")
Why = Literal["public", "pinned", "hot", "lived"]
POOL = "rooms:"

MAX_OWN = 1000
"""Exceptions of all kinds: a generation of 1,000 is 60 KB, read where it changes."""

REST_MS = 60_000
"""A room whose exception has ended gets no other one for so long."""

_BY_MEASURE = ("hot", "lived")
"""These end with their rooms; the others stay until a person says so, or the list of
public rooms."""


class Own(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An exception: why a room has an actor of its own, since when (ms since 1970), and
    the number of the generation that it began with."""

    why: str  # a `Why`, or one of a later release, which stays as long as it wants
    since: int
    number: int


class Placement(msgspec.Struct, frozen=True, gc=False):
    """One generation. `number` rises with every change; `own`: the exceptions by object
    name, which count in `auto` alone; `ended`: those of the last minute, as (ms, number
    of the generation that ended them); `cluster`: the id of the Ray cluster in which
    all of it lives, "" where nobody has said so."""

    mode: Mode = "dedicated"
    size: int = 1
    number: int = 0
    own: dict[str, Own] = {}
    ended: dict[str, tuple[int, int]] = {}
    cluster: str = ""

    def lives_in(self, cluster: str) -> bool:
        """Whether objects live in this Ray cluster; "": in any."""
        return not cluster or self.cluster in ("", cluster)

    def actor_of(self, name: str) -> str:
        """The named actor that hosts this object."""
        if self.mode == "dedicated" or not is_room(name):
            return name
        if name in self.own and self.mode == "auto":
            return name
        return f"{POOL}{max(range(self.size), key=lambda n: _weight(n, name))}"

    def has(self, actor: str) -> bool:
        """Whether this actor has a part in it at all."""
        if actor.startswith(POOL):
            number = int(actor.removeprefix(POOL))
            return self.mode != "dedicated" and number < self.size
        return self.actor_of(actor) == actor

    @property
    def pools(self) -> list[str]:
        """The pools' actors."""
        count = 0 if self.mode == "dedicated" else self.size
        return [f"{POOL}{n}" for n in range(count)]

    def why(self, name: str) -> str | None:
        """Why this object is an exception; None: it is none."""
        own = self.own.get(name) if self.mode == "auto" else None
        return own.why if own is not None else None

    def measured(self) -> list[str]:
        """The exceptions that load and life have made."""
        return [name for name, own in self.own.items() if own.why in _BY_MEASURE]

    def may_promote(self, name: str, now: int) -> bool:
        """Whether load or life may give this room an actor of its own now."""
        if self.mode != "auto" or name in self.own or not is_room(name):
            return False
        return name not in self.ended or now - self.ended[name][0] >= REST_MS

    @property
    def full(self) -> bool:
        """There may be no more exceptions."""
        return len(self.own) >= MAX_OWN

    def changed_after(self, number: int) -> set[str]:
        """The rooms whose exception began or ended after that generation, also where it
        was undone since.

        Complete for generations of the last minute: what ended before is forgotten.
        """
        began = {name for name, own in self.own.items() if own.number > number}
        return began | {name for name, (_, n) in self.ended.items() if n > number}

    # What may come next. `number` of what is returned is the next one; None: nothing
    # would change, or not now.

    def promoted(
        self, name: str, why: Why, now: int, instead: str | None = None
    ) -> Self | None:
        """With this exception, or with another reason for it; `instead` loses its
        own."""
        known = self.own.get(name)
        if known is not None:
            if _rank(known.why) >= _rank(why):
                return None
            own = Own(why, known.since, known.number)
            return self._next(self.own | {name: own}, (), now)
        if why in _BY_MEASURE and not self.may_promote(name, now):
            return None
        own_now = {n: own for n, own in self.own.items() if n != instead}
        if len(own_now) >= MAX_OWN:
            return None
        own_now[name] = Own(why, now, self.number + 1)
        gone = (instead,) if instead in self.own else ()
        return self._next(own_now, gone, now)

    def cooled(self, name: str, now: int) -> Self | None:
        """A hot room that stays as one that lives: nothing moves."""
        known = self.own.get(name)
        if known is None or known.why != "hot":
            return None
        own = Own("lived", known.since, known.number)
        return self._next(self.own | {name: own}, (), now)

    def demoted(self, names: Iterable[str], now: int) -> Self | None:
        """Without those of these exceptions that load and life have made."""
        gone = [n for n in names if (o := self.own.get(n)) and o.why in _BY_MEASURE]
        return self._without(gone, now)

    def unpinned(self, name: str, now: int) -> Self | None:
        """Without this pin, whatever the mode."""
        known = self.own.get(name)
        return self._without([name] if known and known.why == "pinned" else [], now)

    def reseeded(
        self, mode: Mode, size: int, public: Iterable[str], now: int
    ) -> Self | None:
        """With this mode and size, and these public rooms. Pins stay whatever the mode;
        what was measured goes with `auto`."""
        wanted = set(public)
        kept = {
            name: own
            for name, own in self.own.items()
            if (name in wanted if own.why == "public" else True)
            and (mode == "auto" or own.why not in _BY_MEASURE)
        }
        for name in sorted(wanted - kept.keys()):
            kept[name] = Own("public", now, self.number + 1)
        same_size = size == self.size or mode == "dedicated"
        if mode == self.mode and same_size and kept.keys() == self.own.keys():
            return None
        gone = [name for name in self.own if name not in kept]
        return replace(self._next(kept, gone, now), mode=mode, size=size)

    def handed_to(self, cluster: str) -> Self:
        """The same, in another Ray cluster."""
        return replace(self, number=self.number + 1, cluster=cluster)

    def _without(self, gone: list[str], now: int) -> Self | None:
        left = {name: own for name, own in self.own.items() if name not in gone}
        return self._next(left, gone, now) if gone else None

    def _next(self, own: dict[str, Own], gone: Iterable[str], now: int) -> Self:
        number = self.number + 1
        ended = {n: end for n, end in self.ended.items() if now - end[0] < REST_MS}
        ended |= dict.fromkeys(gone, (now, number))
        return replace(self, number=number, own=own, ended=ended)


def is_pool(actor: str) -> bool:
    """Whether it is a pool's actor, which hosts many and outlives each."""
    return actor.startswith(POOL)


def _rank(why: str) -> int:
    ranks = ("lived", "hot", "pinned", "public")
    return ranks.index(why) if why in ranks else len(ranks)


def _weight(n: int, name: str) -> bytes:
    return blake2b(name.encode(), key=n.to_bytes(8, "big"), digest_size=8).digest()
