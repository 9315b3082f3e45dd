"""A copy of what Valkey keeps, taken while it is written to, and putting it back.

What belongs together is copied together: the keys of one object in one MULTI, so its
log, mirror and read marks are of one moment. Nothing is promised between two objects
(semantics.md), so each may be of a moment of its own, after the copy began. Needs no
right of an administrator (SCAN, DUMP and RESTORE of `cfm:*`), and so works with servers
that are somebody else's.

What is put back is older than what people have seen. So every log is fenced `JUMP`
epochs above all that is known of it, and an actor of before that comes back cannot
append; and numbers go on from the milliseconds since 1970 as it is put back, which no
room has reached by talking. So none is used twice, and who wakes a room finds that the
numbers between are missing: it says so and begins an era (design.md §3, Healing). Must
not know files: items come in and go out.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from cfmessenger.storage import generation, keys
from cfmessenger.storage.members import Holder
from cfmessenger.storage.valkey import (
    Command,
    Multi,
    Refused,
    ReplyError,
    Valkey,
    checked,
    pairs,
)

JUMP = 1_000_000
"""Epochs between the newest known one and the first after a restore: more than any
object can have taken since the copy was made, at one a second for 11 days."""
AT_ONCE = 16
"""Objects read, or put back, in one round trip; one may have megabytes."""
NAMES_AT_ONCE = 500
TIMEOUT_S = 60.0
GATEWAY_MS = 5000
"""A gateway that has renewed its place within so long runs."""

LEFT_OUT = {
    "cfm:session:": "a login that was ended since must not come back",
    "cfm:logins:": "as the sessions in it",
    "cfm:ticket:": "of a session",
    "cfm:presence:": "who is online is not to be remembered",
    "cfm:gateways": "processes that are gone by then",
    "cfm:{cluster}:": "machines that are gone by then, and their secret",
    "cfm:{placement}:loads": "of processes that are gone by then",
    "cfm:damage": "what this server has lost, and no copy of it",
    "cfm:login:": "a rate of some seconds, by address",
    "cfm:words:": "a rate of some seconds",
    "cfm:writes:": "a rate of some seconds",
    "cfm:new_rooms:": "a rate of some seconds",
}
"""Which keys are not copied, by how they begin, and why. All others are, those that a
later version adds too."""


class Kept(NamedTuple):
    """A key as DUMP gives it, and when it ends (ms since 1970; 0: never)."""

    key: str
    ends_at: int
    dump: bytes


class Item(msgspec.Struct, frozen=True, array_like=True):
    """What is put back together: an object, or a key by itself (`name` "").

    Of an object: the newest epoch that was taken, and the last seq in its log.
    """

    name: str
    epoch: int
    seq: int
    kept: list[Kept]


class NotEmpty(Exception):
    """There is something in the place that is to be restored to."""


class Busy(Exception):
    """Somebody uses it; the text says who."""


class NotReadable(Exception):
    """The server does not take what was copied; the text says why."""


async def copied(kv: Valkey) -> AsyncIterator[Item]:
    """Everything that is to be kept, each object once or, if keys move about meanwhile,
    again in a newer state. Raises `Unavailable`."""
    async for names in kv.names("cfm:*", NAMES_AT_ONCE):
        wanted = [asked for name in names if (asked := _wanted(name)) is not None]
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            replies = await kv.execute([each for _, each in some], TIMEOUT_S)
            for (name, multi), reply in zip(some, replies, strict=True):
                if (item := _item(name, multi, checked(reply))) is not None:
                    yield item


def _wanted(key: str) -> tuple[str, Multi] | None:
    """How a key is copied; None: not at all, or with the log of its object."""
    if any(key.startswith(start) for start in LEFT_OUT):
        return None
    name = keys.object_of(key)
    if name is None or name == generation.NAME or key not in keys.of_object(name):
        return "", Multi(key, _asked([key]))
    if key != keys.log(name):
        return None
    read = ("XINFO", "STREAM", key)
    return name, Multi(key, [read, *_asked(keys.of_object(name))])


def _asked(wanted: Iterable[str]) -> list[Command]:
    return [each for key in wanted for each in (("DUMP", key), ("PEXPIRETIME", key))]


def _item(name: str, multi: Multi, replies: Sequence[Any]) -> Item | None:
    commands, epoch, seq = multi.commands, 0, 0
    if name:
        about, *replies = replies
        if isinstance(about, ReplyError):
            return None  # it went between the look and the copy
        epoch, seq = _top(pairs(about))
        commands = commands[1:]
    kept = [
        Kept(str(command[1]), max(0, ends_at), dump)
        for command, dump, ends_at in zip(
            commands[::2], replies[::2], replies[1::2], strict=True
        )
        if dump is not None
    ]
    return Item(name, epoch, seq, kept) if kept else None


class Restored(NamedTuple):
    """What was done: objects and other keys put back, read marks that were set back to
    the top of their log."""

    objects: int
    others: int
    clipped: int


class Restore:
    """One restore into a server that nobody uses: `begin`, `put` each item, `end`.

    Every method may raise `Unavailable`. Between `begin` and `end` the server has an
    owner, so that no messenger starts on a half of it, even if we die meanwhile.
    """

    def __init__(self, kv: Valkey) -> None:
        self._kv = kv
        self._counts = [0, 0, 0]  # as in `Restored`

    async def begin(self, replace: bool) -> None:
        """Take the server; `replace`: what is there goes, but for its logs' fences.

        Raises `Busy`, and `NotEmpty` unless told to replace.
        """
        found = await self._kv.ask("SET", keys.OWNER, _MARK, "NX", "GET")
        again = found is not None and found == _MARK
        if found is not None and not again:
            holder = msgspec.json.decode(found, type=Holder)
            raise Busy(f"{holder.name} uses it")
        try:
            await self._check(replace or again)
        except BaseException:
            if not again:
                await self._kv.ask("DEL", keys.OWNER)
            raise
        await self._clear()

    async def _check(self, replace: bool) -> None:
        seconds, _ = await self._kv.ask("TIME")
        fresh = int(seconds) * 1000 - GATEWAY_MS
        gateways = await self._kv.ask("ZRANGEBYSCORE", keys.GATEWAYS, fresh, "+inf")
        if gateways:
            raise Busy(f"{len(gateways)} gateways use it")
        if replace:
            return
        async for names in self._kv.names("cfm:*", NAMES_AT_ONCE):
            if any(not name.startswith("cfm:{cluster}:") for name in names):
                raise NotEmpty

    async def _clear(self) -> None:
        async for names in self._kv.names("cfm:*", NAMES_AT_ONCE):
            there = [name for name in names if name != keys.OWNER]
            objects = [
                name
                for key in there
                if (name := keys.object_of(key)) and key == keys.log(name)
            ]
            tops = await self._tops(objects)
            others = [key for key in there if key not in map(keys.log, objects)]
            await self._done(
                [
                    *(("DEL", key) for key in others),
                    *(
                        Multi(keys.log(n), [("DEL", keys.log(n)), *_fence(n, *tops[n])])
                        for n in objects
                        if n != generation.NAME
                    ),
                    *(("DEL", keys.log(n)) for n in objects if n == generation.NAME),
                ]
            )

    async def put(self, items: Sequence[Item]) -> None:
        """Put these back. Raises `NotReadable`."""
        tops = await self._tops([item.name for item in items if item.name])
        seconds, micros = await self._kv.ask("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        batch: list[Command | Multi] = []
        for item in items:
            commands: list[Command] = [
                ("RESTORE", each.key, each.ends_at, each.dump, "REPLACE", "ABSTTL")
                for each in item.kept
                if not each.ends_at or each.ends_at > now
            ]
            if item.name:
                epoch, seq = tops[item.name]
                above = max(item.epoch, epoch), max(item.seq, seq)
                commands += _fence(item.name, *above)
            if commands:
                batch.append(Multi(item.kept[0].key, commands))
            self._counts[0 if item.name else 1] += 1
        await self._done(batch)
        await self._clip([item for item in items if item.name])

    async def _clip(self, items: Sequence[Item]) -> None:
        """Nobody has read what is not there."""
        above = [
            ("ZRANGEBYSCORE", keys.reads(item.name), f"({item.seq}", "+inf")
            for item in items
        ]
        found = await self._kv.ask_all(*above)
        back: list[Command | Multi] = [
            ("ZADD", keys.reads(item.name), "XX", item.seq, user)
            for item, users in zip(items, found, strict=True)
            for user in users
        ]
        self._counts[2] += len(back)
        await self._done(back)

    async def end(self) -> Restored:
        """The server is free."""
        await self._kv.ask("DEL", keys.OWNER)
        objects, others, clipped = self._counts
        return Restored(objects, others, clipped)

    async def _tops(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The newest epoch and the last number, 0 for an object that is not there."""
        asked = [("XINFO", "STREAM", keys.log(name)) for name in names]
        replies = await self._kv.execute(asked, TIMEOUT_S)
        return {
            name: (0, 0) if isinstance(reply, ReplyError) else _top(pairs(reply))
            for name, reply in zip(names, replies, strict=True)
        }

    async def _done(self, batch: Sequence[Command | Multi]) -> None:
        try:
            for reply in await self._kv.execute(batch, TIMEOUT_S):
                for each in reply if isinstance(reply, list) else [reply]:
                    checked(each)
        except Refused as error:
            raise NotReadable(str(error.__cause__)) from None


_MARK = msgspec.json.encode(
    Holder("restore", "a restore that has not ended (if it died, run it again)")
)


def _top(said: Mapping[bytes, Any]) -> tuple[int, int]:
    epoch, seq = _number(said[b"last-generated-id"])
    last = said[b"last-entry"]
    return epoch, max(seq, _number(last[0])[1] if last else 0)


def _number(entry_id: bytes) -> tuple[int, int]:
    high, _, low = entry_id.partition(b"-")
    return int(high), int(low)


def _fence(name: str, epoch: int, seq: int) -> list[Command]:
    """No epoch and no number up to these, or soon above, is taken again. Of an object
    without events no number is."""
    number = max(seq + 1, time.time_ns() // 1_000_000) if seq else 0
    marker = f"{epoch + JUMP}-{number}"
    return [
        ("XADD", keys.log(name), marker, "e", ""),
        ("XDEL", keys.log(name), marker),
    ]


async def estimate(kv: Valkey) -> int:
    """About how many keys there are, for who shows progress. Raises `Unavailable`."""
    said = (await kv.info("keyspace")).get("db0", "")
    for part in said.split(","):
        name, _, value = part.partition("=")
        if name == "keys" and value.isdigit():
            return int(value)
    return 0
