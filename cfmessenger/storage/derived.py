"""Keys that follow from what objects know: written behind, never waited for.

`presence:<user>` for `/api/users`, `user_rooms:<user>` for `/api/rooms`, what guests
want written, and the call that makes other gateways re-attach to an object that woke:
best effort, and no promise of wire.md rests on them.

Read marks are here alone, so they are durable, and those that storage did not take are
kept and go with the next. They only go forwards (`ZADD GT`), so they need no fence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

from cfmessenger.chat.effects import Record
from cfmessenger.errors import Unavailable
from cfmessenger.ids import process_of, room_id_of
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import (
    Command,
    Multi,
    ReplyError,
    Valkey,
)

HEARTBEAT_TTL_S = 90
"""A status outlives the last socket by so much (wire.md §1)."""
MAX_WAITING = 10_000
"""Commands or transactions that wait to be sent, and objects whose read marks do; more
are dropped."""
ROOMS_KEPT = 1000
"""Direct rooms in a user's list, the latest ones."""


Damage = Literal["healed", "lost", "aside"]
"""What is counted: of events that a log has lost those that were given back, and those
that are gone for good; and mirrors that only a later release can read."""


class DerivedKeys:
    """Collects small writes and sends them in one pipeline after another; read marks in
    pipelines of their own, for which replicas may let it wait."""

    def __init__(
        self, kv: Valkey, reached: Callable[[str], None] = lambda point: None
    ) -> None:
        """`reached("before_derived")` is called before each pipeline."""
        self._kv = kv
        self._reached = reached
        self._waiting: list[Command | Multi] = []  # until they are sent
        self._damage: dict[Damage, int] = {}  # what storage has not taken yet of it
        # key → user → seq; until saved: what storage did not take comes back.
        self._reads: dict[str, dict[str, int]] = {}
        # While any of either are being sent.
        self._writing: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    def record(self, told: Record, gateway: str | None) -> None:
        """Write `presence:<user>`; `gateway` is where it is to be found (routingHint).

        `chosen` and its number `chosenAt` are what the next socket begins with; the
        other fields are there only while the user is.
        """
        key, expiry = keys.presence(told.user_id), HEARTBEAT_TTL_S
        chosen = ("chosen", told.status, "chosenAt", told.status_at)
        if told.here:
            hint = ("routingHint", gateway) if gateway else ()
            now = time.time_ns() // 1_000_000
            here = ("status", told.status, "lastHeartbeat", now, *hint)
            put = ("HSET", key, *chosen, *here)
            self.write(Multi(key, [put, ("EXPIRE", key, expiry)]))
        elif told.status_at:
            gone = ("HDEL", key, "status", "lastHeartbeat", "routingHint")
            put = ("HSET", key, *chosen)
            self.write(Multi(key, [gone, put, ("EXPIRE", key, expiry)]))
        else:
            self.write(("DEL", key))

    def touch(self, name: str, users: tuple[str, ...], timestamp: int) -> None:
        """Move a direct room up in its users' lists. `timestamp`: its last message's.

        `name` is the object's, `room:dm_…`.
        """
        room_id = room_id_of(name)
        for user in users:
            key = keys.user_rooms(user)
            moved = ("ZADD", key, "GT", timestamp, room_id)
            self.write(moved, ("ZREMRANGEBYRANK", key, 0, -ROOMS_KEPT - 1))

    def read(self, name: str, user_id: str, seq: int) -> None:
        """A user has read an object's events up to `seq`; a lower one changes nothing.

        Many become one command. Beyond 10,000 objects that storage does not take new
        ones are dropped.
        """
        key = keys.reads(name)
        if key not in self._reads and len(self._reads) >= MAX_WAITING:
            return
        marks = self._reads.setdefault(key, {})
        marks[user_id] = max(seq, marks.get(user_id, 0))
        self._start()

    def damaged(self, what: Damage, events: int) -> None:
        """Count so many more, at least once: where storage does not say that it has,
        they are counted again with the next write."""
        if events:
            self._damage[what] = self._damage.get(what, 0) + events
            self._start()

    def write(self, *commands: Command | Multi) -> None:
        """What a guest wants written. All or none is taken: a key whose expiry is
        dropped would stay for ever."""
        if len(self._waiting) + len(commands) > MAX_WAITING:
            return
        self._waiting += commands
        self._start()

    async def ask(self, *command: object) -> Any:
        """What a guest wants to know. Raises `Unavailable`."""
        return await self._kv.ask(*command)

    def call_gateways(self, gateways: set[str], name: str) -> None:
        """Tell these gateways that the object is awake and wants them back (design.md
        §3.8)."""
        for gateway in sorted(gateways):
            channel = keys.gateway_channel(process_of(gateway))
            self.write(self._kv.to_one(channel, name))

    async def living(self, gateways: set[str]) -> set[str]:
        """Which of these have not been given up. Raises `Unavailable`."""
        if not gateways:
            return set()
        names = sorted(gateways)
        scores = await self._kv.ask("ZMSCORE", keys.GATEWAYS, *names)
        return {name for name, score in zip(names, scores, strict=True) if score}

    async def everyone(self) -> set[str]:
        """Every gateway that has not been given up. Raises `Unavailable`."""
        names = await self._kv.ask("ZRANGE", keys.GATEWAYS, 0, -1)
        return {name.decode() for name in names}

    def _start(self) -> None:
        if self._writing is None and (self._waiting or self._damage):
            self._writing = asyncio.create_task(self._write())
        if self._saving is None and self._reads:
            self._saving = asyncio.create_task(self._save())

    async def _write(self) -> None:
        try:
            while self._waiting or self._damage:
                batch, self._waiting = self._waiting, []
                damage, self._damage = self._damage, {}
                counts = [("HINCRBY", keys.DAMAGE, *each) for each in damage.items()]
                try:
                    self._reached("before_derived")
                    replies = await self._kv.execute([*counts, *batch])
                except Unavailable:
                    replies = [None] * len(counts)
                for (what, events), reply in zip(damage.items(), replies, strict=False):
                    if not isinstance(reply, int):
                        self._damage[what] = self._damage.get(what, 0) + events
                if self._damage and not self._waiting:
                    break  # they go with the next
        finally:
            self._writing = None

    async def _save(self) -> None:
        try:
            more = True
            while more:
                reads, self._reads = self._reads, {}
                unsaved = await self._unsaved(reads)
                more = bool(self._reads)
                for key, marks in unsaved.items():
                    newer = self._reads.get(key, {})
                    self._reads[key] = marks | {
                        user: max(seq, marks.get(user, 0))
                        for user, seq in newer.items()
                    }
        finally:
            self._saving = None

    async def _unsaved(
        self, reads: dict[str, dict[str, int]]
    ) -> dict[str, dict[str, int]]:
        """The read marks of these that storage did not take."""
        moved = [
            (
                "ZADD",
                key,
                "GT",
                *(part for mark in marks.items() for part in mark[::-1]),
            )
            for key, marks in reads.items()
        ]
        try:
            self._reached("before_derived")
            replies = await self._kv.execute(moved, durable=True)
        except Unavailable:
            return reads
        return {
            key: marks
            for (key, marks), reply in zip(reads.items(), replies, strict=True)
            if isinstance(reply, ReplyError | Unavailable)
        }

    async def flush(self) -> None:
        """Wait until what is collected was sent, or given up as storage is away."""
        self._start()
        tasks = [each for each in (self._writing, self._saving) if each is not None]
        await asyncio.gather(*tasks)
