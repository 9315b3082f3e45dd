"""Seats that sit on the actors themselves: a worker that plays a gateway.

It resolves names, speaks the link protocol and renews its place among the `gateways`,
without which it would be taken for dead after three seconds (design.md §3.11). No
directory is asked who somebody is, and nothing of HTTP or WebSocket is in the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from cfmessenger.chat.effects import Attachment
from cfmessenger.client.errors import Unreachable
from cfmessenger.errors import Unavailable
from cfmessenger.ids import connection_id, room_name
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.references import trust
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey

from .actor_link import Links
from .actor_room import ActorRoom, Member, numbering

if TYPE_CHECKING:
    from .seat import Chair

RENEW_EVERY_S = 1.0


class ActorConnection:
    """`lines.Connection` of a seat: leaving is a message like any other."""

    def __init__(self, room: ActorRoom, conn: str, lost: Callable[[int], None]) -> None:
        self._room = room
        self._conn = conn
        self._lost = lost

    def close(self) -> None:
        self._room.close(self._conn)
        self._lost(1000)

    def pause(self) -> None:
        raise NotImplementedError("one link serves all seats")

    resume = pause


class ActorCarrier:
    """`lines.Carrier` over links; `gateway` is what the worker calls itself."""

    def __init__(
        self, gateway: str, namespace: str, namespace_key: str, valkey_url: str
    ) -> None:
        self._gateway = gateway
        trusted = trust(os.environ)
        self._namespace = NamespaceClient(namespace, namespace_key, trust=trusted)
        self._links = Links(gateway, self._namespace, trusted)
        self._valkey = Valkey(valkey_url)
        self._rooms: dict[str, ActorRoom] = {}
        self._numbers, self._turns = numbering(), numbering()
        self._connections = numbering()
        self._leaving = asyncio.Event()
        self._living: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be known as a gateway. Raises `Unreachable`."""
        try:
            await self._namespace.ping()
            await self._renew()
        except Unavailable as error:
            raise Unreachable(f"no actors there: {error.message}") from None
        self._living = asyncio.create_task(self._live())
        self._pinging = asyncio.create_task(self._links.ping())

    async def _renew(self) -> None:
        now = await self._valkey.time(keys.GATEWAYS)
        await self._valkey.ask("ZADD", keys.GATEWAYS, now, self._gateway)

    async def _live(self) -> None:
        # Never cancelled: a Valkey client that is may swallow it on Python 3.11.
        while not self._leaving.is_set():
            with contextlib.suppress(Unavailable):
                await self._renew()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_EVERY_S):
                    await self._leaving.wait()

    async def connect(
        self, seat: Chair, since: int | None, lost: Callable[[int], None], slow: bool
    ) -> ActorConnection:
        name = seat.room.name
        room = self._rooms.get(name)
        if room is None:
            await self._links.to(room_name(name))  # so that a failure is told now
            room = self._rooms.setdefault(
                name, ActorRoom(name, self._links, self._numbers, self._turns)
            )
        conn = connection_id(self._gateway, next(self._connections))
        attachment = Attachment(conn, seat.user_id, seat.user_id, "online")
        seat.opened(lambda data: room.say(conn, data))
        room.open(
            attachment, since, Member(attachment.conn, attachment, seat.receive, lost)
        )
        return ActorConnection(room, conn, lost)

    async def aclose(self) -> None:
        """Leave; the rooms see that nobody of ours is there any more."""
        self._leaving.set()
        if self._pinging is not None:
            self._pinging.cancel()
        if self._living is not None:
            await self._living
        await asyncio.sleep(0)  # the last inputs leave with this iteration of the loop
        with contextlib.suppress(Unavailable):
            await self._valkey.ask("ZREM", keys.GATEWAYS, self._gateway)
        await asyncio.sleep(0)
        self._links.close()
        await self._namespace.close()
        self._valkey.close()
