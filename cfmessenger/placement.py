"""Placement: which actor a name lives in, as one function of a generation.

*Dedicated*: every object is its own named actor, `room:<id>`. *Pooled*: rooms are
hashed onto named actors `rooms:<n>`, each hosting thousands (rendezvous hashing, so
that a pool of another size moves no more rooms than it must); what is no room stays
dedicated. The generation is a key in Valkey, which settings only seed: everybody who
resolves or hosts follows the same one, and a host that does not own an object any more
puts it to sleep and says `moved` (design.md §4). Pure; must not read settings or
storage.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec

__all__ = ["Mode", "Placement", "is_pool"]

Mode = Literal["dedicated", "pooled"]
ROOM, POOL = "room:", "rooms:"


class Placement(msgspec.Struct, frozen=True, gc=False):
    """One generation. `number` rises with every change."""

    mode: Mode = "dedicated"
    size: int = 1
    number: int = 0

    def actor_of(self, name: str) -> str:
        """The named actor that hosts this object."""
        if self.mode == "dedicated" or not name.startswith(ROOM):
            return name
        return f"{POOL}{max(range(self.size), key=lambda n: _weight(n, name))}"

    def has(self, actor: str) -> bool:
        """Whether this actor has a part in it at all."""
        if not actor.startswith(POOL):
            return self.mode == "dedicated" or not actor.startswith(ROOM)
        number = actor.removeprefix(POOL)
        return self.mode == "pooled" and int(number) < self.size


def is_pool(actor: str) -> bool:
    """Whether it is a pool's actor, which hosts many and outlives each."""
    return actor.startswith(POOL)


def _weight(n: int, name: str) -> bytes:
    return blake2b(name.encode(), key=n.to_bytes(8, "big"), digest_size=8).digest()
