"""A gateway's signs of life in Valkey, and the channels on which it is called.

Renews its place in `gateways` each second and the `presence:<user>` keys of its users
before they run out; removes gateways that do not, which is what makes their sockets
leave; listens for objects that woke and for logins that ended. A channel forgets what
it could not deliver, so after every (re)subscription the log tops are compared
(design.md §3.8, 3.11).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from cfmessenger.clock import Clock
from cfmessenger.ids import process_of
from cfmessenger.storage import keys
from cfmessenger.storage.capabilities import said_by
from cfmessenger.storage.derived import HEARTBEAT_TTL_S
from cfmessenger.storage.valkey import Command, Valkey

logger = logging.getLogger("cfmessenger.heartbeat")

SCAN_EVERY_S = 0.5
RENEW_EVERY_MS = 1000
DEAD_AFTER_MS = 3000
"""Without a renewal for so long a gateway is removed (design.md §3.11)."""
EXTEND_EVERY_MS = 30_000
EXTEND_AT_ONCE = 500
"""Users whose keys are extended in one round trip."""


class Called(Protocol):
    """The sockets, as the outside calls them."""

    @property
    def users(self) -> set[str]: ...
    def wake(self, name: str) -> None: ...
    def next_name(self) -> str: ...
    def rename(self, gateway: str) -> None: ...
    def buried(self) -> None: ...
    async def compare_tops(self) -> None: ...
    def revoked(self, told: str) -> None: ...


class Heartbeat:
    """`beat` and `listen` run until cancelled; whoever runs them starts them again.

    All times are Valkey's (of several servers that of the one with `gateways`), so that
    the clocks of two machines need not agree; the gateway's `clock` hears them too.
    """

    def __init__(self, kv: Valkey, gateway: str, sockets: Called, clock: Clock) -> None:
        self._kv = kv
        self._gateway = gateway  # until others give it up
        self._sockets = sockets
        self._clock = clock
        # In ms of Valkey's clock:
        self._extend_at = 0  # when users' keys are extended next
        self._beaten_at = 0  # the last renewal
        self._steady_since = 0  # since then no two renewals were 3 s apart

    async def register(self) -> None:
        """Take our place; before the first socket. Raises `Unavailable`."""
        now = await self._now()
        place = ("ZADD", keys.GATEWAYS, now, self._gateway)
        # What it is able to first: without it, it would count as an older one.
        await self._kv.ask_all(said_by(self._gateway), place)
        self._beaten_at = self._steady_since = now

    async def _now(self) -> int:
        asked_at = self._clock.steady()
        now = await self._kv.time(keys.GATEWAYS)
        self._clock.hear(now, self._clock.steady() - asked_at)
        return now

    async def beat(self) -> None:
        """Look for the dead twice a second, say each second that we live.

        Raises `Unavailable`. Nobody is removed in the first 3 s, nor in the 3 s after
        a time in which renewals were not possible.
        """
        while True:
            now = await self._now()
            if now - self._beaten_at >= RENEW_EVERY_MS:
                await self._renew(now)
            if now - self._steady_since > DEAD_AFTER_MS:
                await self._bury(now)
            if now >= self._extend_at:
                self._extend_at = now + EXTEND_EVERY_MS
                await self._extend(sorted(self._sockets.users), now)
            await asyncio.sleep(SCAN_EVERY_S)

    async def _renew(self, now: int) -> None:
        command = ("ZADD", keys.GATEWAYS, "XX", "CH", now, self._gateway)
        _, there = await self._kv.ask_all(said_by(self._gateway), command)
        if not there:
            # Given up while we were away; our sockets have left under that name. The
            # new one must be known before anybody is seated under it.
            self._gateway = self._sockets.next_name()
            await self.register()
            self._sockets.rename(self._gateway)
        if now - self._beaten_at > DEAD_AFTER_MS:
            # So were the others, perhaps: Valkey was away. Give them time to renew.
            self._steady_since = now
        self._beaten_at = now

    async def _bury(self, now: int) -> None:
        """Whoever removes a dead gateway tells the registry; awake rooms see it."""
        command = ("ZRANGEBYSCORE", keys.GATEWAYS, "-inf", now - DEAD_AFTER_MS)
        for raw in await self._kv.ask(*command):
            gateway = raw.decode()
            if gateway != self._gateway and await self._kv.ask(
                "ZREM", keys.GATEWAYS, gateway
            ):
                logger.warning("gateway %s is dead", gateway)
                self._sockets.buried()

    async def _extend(self, users: list[str], now: int) -> None:
        """Only what exists: the registry alone writes and deletes these keys."""
        for start in range(0, len(users), EXTEND_AT_ONCE):
            commands: list[Command] = []
            for user in users[start : start + EXTEND_AT_ONCE]:
                key = keys.presence(user)
                fields = ("lastHeartbeat", now, "routingHint", self._gateway)
                exist = ("HSETEX", key, "FXX", "KEEPTTL", "FIELDS", 2, *fields)
                commands += (exist, ("EXPIRE", key, HEARTBEAT_TTL_S))
            await self._kv.ask_all(*commands)

    async def resign(self) -> None:
        """Give our place back, at an orderly end. Raises `Unavailable`."""
        await self._kv.ask("ZREM", keys.GATEWAYS, self._gateway)

    async def listen(self) -> None:
        """Hear of woken objects and ended logins until the connection breaks.

        Then it raises `Unavailable`; what is published meanwhile is lost.
        """
        mine = keys.gateway_channel(process_of(self._gateway))
        async for message in self._kv.listen(keys.REVOKED_CHANNEL, own=mine):
            if message is None:
                await self._sockets.compare_tops()
            elif message[0] == mine:
                self._sockets.wake(message[1])
            else:
                self._sockets.revoked(message[1])
