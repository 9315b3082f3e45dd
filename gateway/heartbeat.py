"""A gateway's signs of life in Valkey, and the channels on which it is called.

Renews its place in `gateways` each second and the `presence:<user>` keys of its users
before they run out; listens for objects that woke and for logins that ended. A channel
forgets what it could not deliver, so after every (re)subscription the log tops are
compared (design.md §3.8, 3.11).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from cfmessenger import keys
from cfmessenger.errors import CloseCode
from cfmessenger.storage.derived import HEARTBEAT_TTL_S
from cfmessenger.storage.valkey_kv import Valkey, ask, listen, reachable

logger = logging.getLogger("cfmessenger.heartbeat")

RENEW_EVERY_S = 1.0
EXTEND_EVERY_S = 30.0
EXTEND_AT_ONCE = 500


class Called(Protocol):
    """The sockets, as the outside calls them."""

    @property
    def users(self) -> set[str]: ...
    def wake(self, name: str) -> None: ...
    async def compare_tops(self) -> None: ...
    async def close_login(self, login_id: str, code: int, reason: str) -> None: ...


class Heartbeat:
    """`renew` and `listen` run until cancelled; whoever runs them starts them again."""

    def __init__(self, kv: Valkey, gateway: str, sockets: Called) -> None:
        self._kv = kv
        self._gateway = gateway
        self._sockets = sockets

    async def renew(self) -> None:
        """Say that we live, each second; extend our users' presence now and then."""
        extend_at = 0.0
        while True:
            now = time.time_ns() // 1_000_000
            await ask(self._kv, "ZADD", keys.GATEWAYS, str(now), self._gateway)
            if time.monotonic() >= extend_at:
                extend_at = time.monotonic() + EXTEND_EVERY_S
                await self._extend(sorted(self._sockets.users), now)
            await asyncio.sleep(RENEW_EVERY_S)

    async def _extend(self, users: list[str], now: int) -> None:
        """Only what exists: the registry alone writes and deletes these keys."""
        for start in range(0, len(users), EXTEND_AT_ONCE):
            with reachable():
                async with self._kv.pipeline(transaction=False) as pipe:
                    for user in users[start : start + EXTEND_AT_ONCE]:
                        key = keys.presence(user)
                        fields = ("lastHeartbeat", now, "routingHint", self._gateway)
                        pipe.execute_command(
                            "HSETEX", key, "FXX", "KEEPTTL", "FIELDS", 2, *fields
                        )
                        pipe.expire(key, HEARTBEAT_TTL_S)
                    await pipe.execute()

    async def resign(self) -> None:
        """We end in good order."""
        await ask(self._kv, "ZREM", keys.GATEWAYS, self._gateway)

    async def listen(self) -> None:
        """Hear of woken objects and ended logins until the connection breaks."""
        mine = keys.gateway_channel(self._gateway)
        async for message in listen(self._kv, mine, keys.REVOKED_CHANNEL):
            if message is None:
                await self._sockets.compare_tops()
            elif message[0] == mine:
                self._sockets.wake(message[1])
            else:
                login_id, code = message[1], CloseCode.LOGGED_OUT
                await self._sockets.close_login(login_id, code, "logged out")
