"""The connections of a gateway: from the handshake until they leave.

A socket is admitted (`admission`), its room reached, and only then accepted; from there
a `Connection` and a `Stub` do the work. Owns who is connected, by which id, and who is
turned away; pings all, and closes all. What a user's sockets share is `People`'s, what
those of a login share is `Logins`'.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random

from msgspec.structs import replace
from starlette.types import Scope, Send

from cfmessenger.accounts.login_rate import subject
from cfmessenger.errors import CloseCode, Unavailable
from cfmessenger.ids import PRESENCE, connection_id, room_name
from cfmessenger.storage.log import ValkeyLog
from gateway import metrics
from gateway.api.admission import Admission
from gateway.api.hub import Services
from gateway.envelope import Refusal, refuse
from gateway.live.capacity import Capacity
from gateway.live.connection import Connection
from gateway.live.logins import Logins
from gateway.live.people import People
from gateway.live.readiness import Readiness
from gateway.live.stub import Stub
from gateway.live.stubs import Stubs, kind_of
from gateway.server.websocket_protocol import socket_of

logger = logging.getLogger("cfmessenger.sockets")

PING_EVERY_S = 20
"""Between WebSocket pings (wire.md §6, 4400)."""
DRAIN_BATCHES = 20


class Connections:
    """Those of the gateway that is called `gateway`."""

    def __init__(
        self,
        gateway: str,
        services: Services,
        log: ValkeyLog,
        logins: Logins,
        stubs: Stubs,
        people: People,
        readiness: Readiness,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = services.clock
        self.log = log
        self.stubs = stubs
        self.people = people
        self.by_id: dict[str, Connection] = {}  # each from accept to `leave`
        # The same, by the second in which they are pinged: to look at all of 2,000 each
        # second, to find those whose turn it is, was most of what they cost at rest.
        self._turns: list[dict[Connection, None]] = [{} for _ in range(PING_EVERY_S)]
        self.refusing = False  # True from `refuse_new` on
        self._cut_off = readiness.cut_off  # while it is set nobody is let in
        self.reserve = readiness.reserve
        self._gateway = gateway  # until `rename`
        self._logins = logins
        settings = services.settings
        self._capacity = Capacity(
            settings.max_sockets_per_address, settings.max_sockets_per_session
        )
        self._numbers = itertools.count(1)  # of connections
        self._watchers = 0  # presence sockets

    # Handshakes.

    async def serve(self, admission: Admission, scope: Scope, send: Send) -> None:
        """Reach the object, then accept the socket; or refuse it with an envelope.

        Returns with that; the socket lives on.
        """
        # As logins are counted: whoever has one IPv6 address has a /64 of them.
        address = subject(scope["client"][0] if scope.get("client") else None)
        name = room_name(admission.room_id) if admission.room_id else PRESENCE
        login_id = admission.session.login_id
        stub = self.stubs.of(name)
        with stub.life.wanted():
            # Before the first wait, so that a crowd of handshakes counts too.
            self._capacity.enter(address, login_id)
            connection, friends = None, None
            try:
                if self.refusing or self._cut_off.is_set():
                    raise Unavailable("AT_CAPACITY")
                self._capacity.check(address, login_id)
                stub.life.hint = stub.life.hint or admission.session.location_hint
                await stub.life.reach()
                if stub.name == PRESENCE:
                    friends = await self.people.friends_of(admission.session.user_id)
                connection = await self._accept(admission, scope, send, stub, address)
            except Unavailable as problem:
                await refuse(send, Refusal.from_error(problem))
            finally:
                if connection is None:
                    self._capacity.leave(address, login_id)
            if connection is None:
                return
            self._register(connection)
            connection.start(admission.since, admission.era, friends)
            self._logins.settle(connection)

    async def _accept(
        self,
        admission: Admission,
        scope: Scope,
        send: Send,
        stub: Stub,
        address: str,
    ) -> Connection:
        user_id = admission.session.user_id
        status, status_at = await self.people.status_of(user_id)
        wire = socket_of(scope)
        await send({"type": "websocket.accept", "subprotocol": admission.subprotocol})
        # Only now, for a client may have left by then: a login is forgotten with its
        # last socket, and the gateway's name and the person's must be the present ones.
        conn = connection_id(self._gateway, next(self._numbers))
        attachment = self.people.worded(conn, user_id, status, status_at)
        login = self._logins.of(admission.session)
        return Connection(self, wire, login, stub, attachment, address)

    def _register(self, connection: Connection) -> None:
        self.by_id[connection.conn] = connection
        self._turns[connection.number % PING_EVERY_S][connection] = None
        self.people.enter(connection)
        connection.login.connections.add(connection)
        kind = kind_of(connection.room.name)
        metrics.SOCKETS.labels(kind).inc()
        registry = self.stubs.registry
        self._watchers += kind == "presence"
        if connection.room is not registry:
            # A room socket counts for presence too, and is sent nothing of it.
            unwatched = replace(connection.attachment, watch=False)
            registry.open(connection, unwatched, None, greeted=True)
            self.people.acquaint(connection)

    def leave(self, connection: Connection) -> None:
        """A socket is gone."""
        connection.room.close(connection)
        self.stubs.registry.close(connection)
        kind = kind_of(connection.room.name)
        if kind == "presence":
            self._watchers -= 1
            self.stubs.watching.leave(connection)
        metrics.SOCKETS.labels(kind).dec()
        login_id = connection.login.session.login_id
        self._capacity.leave(connection.address, login_id)
        self._logins.forget(connection)
        self.by_id.pop(connection.conn, None)
        self._turns[connection.number % PING_EVERY_S].pop(connection, None)
        self.people.leave(connection)

    def watched(self) -> Stub | None:
        """The presence registry, if somebody here watches it."""
        return self.stubs.registry if self._watchers else None

    # All of them.

    async def ping(self) -> None:
        """Until cancelled: ping every socket once in `PING_EVERY_S`, a twentieth of
        them each second."""
        beaten = int(self.loop.time())
        while True:
            now = self.loop.time()
            seconds = range(max(beaten + 1, int(now) - PING_EVERY_S), int(now) + 1)
            for turn in {second % PING_EVERY_S for second in seconds}:
                for connection in tuple(self._turns[turn]):
                    connection.beat(now)
            beaten = int(now)
            await asyncio.sleep(0.5)

    def rename(self, gateway: str) -> dict[str, str]:
        """The gateway has a new name: every connection's former name to its new one."""
        self._gateway = gateway
        names: dict[str, str] = {}
        for connection in self.by_id.values():
            names[connection.conn] = connection_id(gateway, connection.number)
            connection.rename(names[connection.conn])
        self.by_id = {each.conn: each for each in self.by_id.values()}
        return names

    def refuse_new(self) -> None:
        """Turn new sockets away from now on."""
        self.refusing = True

    async def close_all(self, within_s: float) -> None:
        """Close every socket with 1012, spread over about `within_s`.

        In batches and in random order, so that not all reconnect at once.
        """
        connections = list(self.by_id.values())
        random.shuffle(connections)
        size = max(1, math.ceil(len(connections) / DRAIN_BATCHES))
        pause = within_s / DRAIN_BATCHES
        for start in range(0, len(connections), size):
            if start:
                await asyncio.sleep(random.uniform(0.5, 1.0) * pause)
            for connection in connections[start : start + size]:
                connection.end(CloseCode.RESTART, "server restarts")
        if connections:
            logger.info("%d sockets closed", len(connections))
