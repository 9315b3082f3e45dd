"""The generation of placement: a key in Valkey that everybody follows.

Settings only seed it (design.md §4). It is changed by compare-and-set, so that two who
change it at once make two generations, and nobody ever sees one number twice with two
meanings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cfmessenger import keys
from cfmessenger.errors import Unavailable
from cfmessenger.placement import Mode, Placement
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.resp import ReplyError

TRIES = 5


class _Stored(Placement, frozen=True, gc=False):
    """What the key holds: with it, whose settings it was seeded from."""

    seed: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


class Generation:
    """Reads, seeds and changes the key. Every method may raise `Unavailable`."""

    def __init__(self, log: ValkeyLog) -> None:
        self._log = log

    async def read(self) -> Placement | None:
        """The present generation; None: nobody has seeded it yet."""
        raw = await self._execute("GET", keys.PLACEMENT)
        return _plain(_decode(raw)) if raw is not None else None

    async def seed(self, mode: Mode, size: int, seed: str = "") -> Placement:
        """The present generation, made from settings if there is none.

        `seed`: names one start of a node that is the whole system; its settings are
        followed once more at each start, and changes made since then are kept.
        """
        return await self._begin(mode, size, seed)

    async def change(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation; rooms that live elsewhere under it move."""
        return await self._begin(mode, size, None)

    async def _begin(self, mode: Mode, size: int, seed: str | None) -> Placement:
        for _ in range(TRIES):
            raw = await self._execute("GET", keys.PLACEMENT)
            found = _decode(raw) if raw is not None else None
            if found is not None and seed is not None and seed in ("", found.seed):
                return _plain(found)
            owner = seed if seed is not None else found.seed if found else ""
            made = _next(found, mode, size, owner)
            # One command: nothing can come between it and what it compares.
            unless = ("NX",) if raw is None else ("IFEQ", raw)
            if await self._execute("SET", keys.PLACEMENT, _encode(made), *unless):
                return _plain(made)
        raise Unavailable(message="The placement changes all the time.")

    async def _execute(self, *command: Any) -> Any:
        (reply,) = await self._log.execute([command])
        if isinstance(reply, ReplyError):
            raise Unavailable(message="Valkey refused a command.") from reply
        return reply


def _next(found: _Stored | None, mode: Mode, size: int, seed: str) -> _Stored:
    same = found is not None and found.mode == mode
    if found is not None and same and (mode == "dedicated" or found.size == size):
        return msgspec.structs.replace(found, seed=seed)  # nothing moves
    number = found.number + 1 if found is not None else 1
    return _Stored(mode=mode, size=size, number=number, seed=seed)


def _plain(stored: _Stored) -> Placement:
    return Placement(stored.mode, stored.size, stored.number)
