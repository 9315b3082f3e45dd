"""Keys that follow from what objects know: written behind, best effort, rebuildable.

`presence:<user>` for `/api/users`, `user_rooms:<user>` for `/api/rooms`, what the bots
did and who of them is there, and the call that makes other gateways re-attach to an
object that woke. Nobody waits for these writes and no promise of wire.md rests on them;
the log is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from cfmessenger import keys
from cfmessenger.errors import Unavailable
from cfmessenger.ids import process_of
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.storage.resp import ReplyError

logger = logging.getLogger("cfmessenger.derived")

HEARTBEAT_TTL_S = 90
MAX_WAITING = 10_000
ROOMS_KEPT = 1000
BOT_DAY_TTL_S = 48 * 3600
BOTS_ACTIVE_TTL_S = 3600 + 300
"""The hour of a rotation, and time for the next one to replace it."""


class DerivedKeys:
    """Collects small writes and sends them in one pipeline after another."""

    def __init__(self, log: ValkeyLog) -> None:
        self._log = log
        self._waiting: list[tuple[Any, ...]] = []
        self._task: asyncio.Task[None] | None = None

    def record(self, user_id: str, status: str | None, gateway: str | None) -> None:
        """Write `presence:<user>`, or delete it when `status` is None."""
        key = keys.presence(user_id)
        if status is None:
            self._add(("DEL", key))
            return
        hint = ("routingHint", gateway) if gateway else ()
        now = time.time_ns() // 1_000_000
        written = ("HSET", key, "status", status, "lastHeartbeat", now, *hint)
        self._add(written, ("EXPIRE", key, HEARTBEAT_TTL_S))

    def touch(self, name: str, users: tuple[str, ...], timestamp: int) -> None:
        """Move a direct room up in its users' lists."""
        room_id = name.removeprefix("room:")
        for user in users:
            key = keys.user_rooms(user)
            moved = ("ZADD", key, "GT", timestamp, room_id)
            self._add(moved, ("ZREMRANGEBYRANK", key, 0, -ROOMS_KEPT - 1))

    def count(self, day: int, bot_id: str, figure: str, amount: int) -> None:
        """Add to one of a bot's figures of a day (days since 1970)."""
        key = keys.bots_metrics(_date(day))
        added = ("HINCRBY", key, f"{bot_id}:{figure}", amount)
        self._add(added, ("EXPIRE", key, BOT_DAY_TTL_S))

    def spent(self, day: int, user_id: str | None, count: int) -> None:
        """So many answers of the day were used, by one person or in all."""
        key = keys.bots_quota(_date(day), user_id)
        self._add(("SET", key, count, "EX", BOT_DAY_TTL_S))

    def activate_bots(self, bot_ids: tuple[str, ...], line: tuple[str, ...]) -> None:
        """These and no others are in rotation; at no moment nobody is. `line` is the
        order in which everybody's turn comes."""
        key, ttl = keys.BOTS_ACTIVE, BOTS_ACTIVE_TTL_S
        put = [("SADD", key, *bot_ids), ("EXPIRE", key, ttl)] if bot_ids else []
        put.append(("SET", keys.BOTS_LINE, " ".join(line), "EX", ttl))
        self._add(("MULTI",), ("DEL", key), *put, ("EXEC",))

    async def bots_enabled(self) -> bool:
        """Nobody has switched the bots off. Raises `Unavailable`."""
        return bool(await self._log.ask("GET", keys.BOT_ENABLED) != b"0")

    def call_gateways(self, gateways: set[str], name: str) -> None:
        """Tell these gateways that the object is awake and wants them back."""
        for gateway in sorted(gateways):
            channel = keys.gateway_channel(process_of(gateway))
            self._add(("PUBLISH", channel, name))

    async def living(self, gateways: set[str]) -> set[str]:
        """Which of these have not been given up. Raises `Unavailable`."""
        if not gateways:
            return set()
        names = sorted(gateways)
        (scores,) = await self._log.execute([("ZMSCORE", keys.GATEWAYS, *names)])
        if isinstance(scores, ReplyError):
            raise Unavailable(message="Valkey refused a command.") from scores
        return {name for name, score in zip(names, scores, strict=True) if score}

    async def everyone(self) -> set[str]:
        """Every gateway that has not been given up. Raises `Unavailable`."""
        (names,) = await self._log.execute([("ZRANGE", keys.GATEWAYS, 0, -1)])
        if isinstance(names, ReplyError):
            raise Unavailable(message="Valkey refused a command.") from names
        return {name.decode() for name in names}

    def _add(self, *commands: tuple[Any, ...]) -> None:
        # All or none: a key whose expiry is dropped would stay for ever.
        if len(self._waiting) + len(commands) > MAX_WAITING:
            return
        self._waiting += commands
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                with contextlib.suppress(Unavailable):
                    await self._log.execute(batch)
        finally:
            self._task = None

    async def flush(self) -> None:
        """Wait until what is collected was sent, at most as long as a read takes."""
        if self._task is not None:
            await self._task


def _date(day: int) -> str:
    """`2026-01-31`, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
