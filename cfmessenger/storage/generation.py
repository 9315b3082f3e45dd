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
    """Reads, seeds and changes the key. Every method may raise `Unavailable`.

    Needs a connection of its own: `change` watches the key on it.
    """

    def __init__(self, log: ValkeyLog) -> None:
        self._log = log

    async def read(self) -> Placement | None:
        """The present generation; None: nobody has seeded it yet."""
        found = await self._read(("GET", keys.PLACEMENT))
        return _plain(found) if found is not None else None

    async def seed(self, mode: Mode, size: int, seed: str = "") -> Placement:
        """The present generation, made from settings if there is none.

        `seed`: names one start of a node that is the whole system; its settings are
        followed once more at each start, and changes made since then are kept.
        """
        for _ in range(TRIES):
            found = await self._read(("WATCH", keys.PLACEMENT), ("GET", keys.PLACEMENT))
            if found is not None and (not seed or found.seed == seed):
                return _plain(found)
            made = _next(found, mode, size, seed)
            if await self._write(made):
                return _plain(made)
        raise Unavailable(message="The placement changes all the time.")

    async def change(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation; rooms that live elsewhere under it move."""
        for _ in range(TRIES):
            found = await self._read(("WATCH", keys.PLACEMENT), ("GET", keys.PLACEMENT))
            made = _next(found, mode, size, found.seed if found else "")
            if await self._write(made):
                return _plain(made)
        raise Unavailable(message="The placement changes all the time.")

    async def _read(self, *commands: tuple[Any, ...]) -> _Stored | None:
        raw = _checked((await self._log.execute(commands))[-1])
        return _decode(raw) if raw is not None else None

    async def _write(self, made: _Stored) -> bool:
        """False: somebody else was faster."""
        replies = await self._log.execute(
            [("MULTI",), ("SET", keys.PLACEMENT, _encode(made)), ("EXEC",)]
        )
        return _checked(replies[-1]) is not None


def _next(found: _Stored | None, mode: Mode, size: int, seed: str) -> _Stored:
    if found is not None and (found.mode, found.size) == (mode, size):
        return msgspec.structs.replace(found, seed=seed)  # nothing moves
    number = found.number + 1 if found is not None else 1
    return _Stored(mode=mode, size=size, number=number, seed=seed)


def _plain(stored: _Stored) -> Placement:
    return Placement(stored.mode, stored.size, stored.number)


def _checked(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        raise Unavailable(message="Valkey refused a command.") from reply
    return reply
