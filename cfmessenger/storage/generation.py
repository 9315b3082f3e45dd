"""The generation of placement: a stream of length one in Valkey that everybody follows.

Its entry's id is `<number>-0`, and Valkey takes no id that is not above the last: that
is the compare-and-set. Two who change it at once make two generations, and no number
ever has two meanings. The number is read like an object's epoch, together with others
in one round trip (design.md §4). Settings only seed it.

What a later release has put into it stays there when this one changes it; a `mode` that
this one does not know is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from cfmessenger.errors import Unavailable
from cfmessenger.placement import Mode, Placement, Why
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog, is_stale
from cfmessenger.storage.valkey import checked

__all__ = ["NAME", "Generation"]

NAME = "placement"
"""The name under which `ValkeyLog.epochs` reads the number, as if it were an epoch."""

TRIES = 5
"""Of a change, when others change the generation at the same time."""
LOAD_FOR_S = 10
"""An exception whose load was not heard for so long has no process."""


class _Stored(Placement, frozen=True, gc=False):
    """What the entry holds: a generation, and the start whose settings seeded it."""

    seed: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_Unknown = dict[str, msgspec.Raw]  # the fields that only a later release knows
_Change = Callable[[_Stored], _Stored | None]


class Generation:
    """Reads, seeds and changes it; and keeps what exceptions say of their load. Every
    method may raise `Unavailable`. Times are ms since 1970, of Valkey's clock."""

    def __init__(self, log: ValkeyLog) -> None:
        self._log = log

    async def number(self) -> int:
        """Of the present generation; 0: nobody has seeded it yet."""
        return await self._log.epoch(NAME)

    async def read(self) -> Placement | None:
        """The present generation; None: nobody has seeded it yet."""
        found, _ = await self._read()
        return _plain(found) if found is not None else None

    async def seed(
        self,
        mode: Mode,
        size: int,
        seed: str = "",
        public: Iterable[str] = (),
        cluster: str = "",
    ) -> Placement:
        """The present generation, made from settings if there is none. `cluster`: who
        asks owns this Valkey, so if it is said to live elsewhere, that is over.

        `seed` names one start of a node that is the whole system ("" elsewhere): each
        start follows its settings once, and changes made after that are kept.
        """
        public, now = tuple(public), await self._now()

        def change(found: _Stored) -> _Stored | None:
            here = found.lives_in(cluster)
            if found.number and seed in ("", found.seed):
                return None if here else found.handed_to(cluster)
            made = _begun(found, mode, size, public, now) or found
            return replace(made, seed=seed, cluster=found.cluster if here else cluster)

        return await self._change(change)

    async def restore(self, known: Placement) -> Placement:
        """Put back what was last known, with a number above both, after storage has
        lost the generation or gave back an older one (design.md §4)."""

        def change(found: _Stored) -> _Stored | None:
            if found.number >= known.number:
                return None
            plain = {f: getattr(known, f) for f in Placement.__struct_fields__}
            return _Stored(**plain | {"number": known.number + 1}, seed=found.seed)

        return await self._change(change)

    async def change(
        self, mode: Mode, size: int, public: Iterable[str] = ()
    ) -> Placement:
        """Begin a new generation; rooms that live elsewhere under it move."""
        public, now = tuple(public), await self._now()
        return await self._change(lambda f: _begun(f, mode, size, public, now))

    async def hand_to(self, cluster: str) -> Placement:
        """All objects are to live in this Ray cluster from now on."""
        return await self._change(
            lambda f: None if f.cluster == cluster else f.handed_to(cluster)
        )

    async def promote(
        self, name: str, why: Why, now: int, instead: str | None = None
    ) -> Placement:
        """Give a room an actor of its own, if it may have one now.

        The rules are `Placement.promoted`'s; `instead` is the exception it replaces.
        """
        return await self._change(lambda f: f.promoted(name, why, now, instead))

    async def cool(self, name: str, now: int) -> Placement:
        """A hot room stays where it is, as one that lives."""
        return await self._change(lambda found: found.cooled(name, now))

    async def demote(self, names: Iterable[str], now: int) -> Placement:
        """Take back what load and life have made; pins and public rooms stay."""
        names = tuple(names)
        return await self._change(lambda found: found.demoted(names, now))

    async def pin(self, name: str) -> Placement:
        """A person wants this room to have an actor of its own."""
        return await self.promote(name, "pinned", await self._now())

    async def unpin(self, name: str) -> Placement:
        """It no longer needs to."""
        now = await self._now()
        return await self._change(lambda found: found.unpinned(name, now))

    # What exceptions say: that they are up, and how much of their loop they take.

    async def say_load(self, name: str, share: float) -> None:
        """`name` has its own process, and takes this share (0 to 1) of its time.

        Said again within `LOAD_FOR_S`, for it is forgotten then.
        """
        key, value = keys.OWN_LOADS, f"{share:.4f}"
        await self._log.ask("HSETEX", key, "EX", LOAD_FOR_S, "FIELDS", "1", name, value)

    async def withdraw_load(self, name: str) -> None:
        """Its process ends."""
        await self._log.ask("HDEL", keys.OWN_LOADS, name)

    async def loads(self, names: Iterable[str]) -> dict[str, float]:
        """The share, 0 to 1, of each of these names that has a process."""
        names = tuple(names)
        if not names:
            return {}
        found = await self._log.ask("HMGET", keys.OWN_LOADS, *names)
        pairs = zip(names, found, strict=True)
        return {name: float(load) for name, load in pairs if load is not None}

    # How.

    async def _change(self, change: _Change) -> Placement:
        for _ in range(TRIES):
            stored, unknown = await self._read()
            found = stored or await self._former()
            made = change(found)
            if made is None:
                if stored is not None or not found.number:
                    return _plain(found)
                made = found  # to where everybody looks
            if made.number == found.number:  # its seed or its place alone
                made = replace(made, number=found.number + 1)
            if await self._store(made, unknown):
                return _plain(made)
        raise Unavailable(message="The placement changes all the time.")

    async def _read(self) -> tuple[_Stored | None, _Unknown]:
        found = await self._log.newest(NAME, 1, None)
        if not found:
            return None, {}
        return _known(found[0].event), _unknown(found[0].event)

    async def _former(self) -> _Stored:
        """What was in a plain key before there was a log: numbers go on above it."""
        raw = await self._log.ask("GET", keys.PLACEMENT)
        return replace(_known(raw), seed="") if raw is not None else _Stored()

    async def _store(self, made: _Stored, unknown: _Unknown) -> bool:
        key, entry, event = keys.log(NAME), f"{made.number}-0", _encode(made)
        if unknown:
            event = _encode(_fields(event) | unknown)
        command = ("XADD", key, "MAXLEN", "=", "1", entry, "e", event)
        (reply,) = await self._log.execute([command])
        if is_stale(reply):
            return False  # somebody else was faster
        checked(reply)
        return True

    async def _now(self) -> int:
        return await self._log.time(keys.log(NAME))


def _known(event: bytes) -> _Stored:
    try:
        return _decode(event)
    except msgspec.DecodeError as error:
        raise Unavailable(message=f"The placement cannot be read: {error}.") from None


def _unknown(event: bytes) -> _Unknown:
    ours = _Stored.__struct_fields__
    return {name: raw for name, raw in _fields(event).items() if name not in ours}


def _begun(
    found: _Stored, mode: Mode, size: int, public: Iterable[str], now: int
) -> _Stored | None:
    made = found.reseeded(mode, size, public, now)
    # The first is one, even if it says what would hold without it.
    return made or (None if found.number else replace(found, number=1))


def _plain(stored: _Stored) -> Placement:
    return Placement(*(getattr(stored, f) for f in Placement.__struct_fields__))
