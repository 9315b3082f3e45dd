"""The gateway's sockets: their handshakes, their stubs, and what keeps them alive.

A socket is admitted (`admission`), its room reached, and only then accepted; from there
a `Connection` and a `Stub` do the work. This module holds what all sockets of the
process share: the stubs by name, the logins, the heartbeat, and the channels on which
other processes call this one. It keeps no state of any room.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from msgspec import UNSET, convert
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected

from cfmessenger.accounts.login_rate import subject
from cfmessenger.background import Background
from cfmessenger.chat.effects import Attachment, StatusChanged, encode_notification
from cfmessenger.errors import CloseCode, Unavailable
from cfmessenger.ids import PRESENCE, connection_id, gateway_id, room_name
from cfmessenger.link.namespace import Namespace
from cfmessenger.settings import Settings
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.wire.protocol import (
    Status,
    UpdatePresence,
    Wish,
    encode,
)
from gateway import metrics
from gateway.api.admission import Admission, authorise_upgrade
from gateway.api.hub import Services
from gateway.envelope import Refusal, refuse
from gateway.live.bots import BotWatch
from gateway.live.connection import Connection
from gateway.live.heartbeat import Heartbeat
from gateway.live.late import Late, Looks
from gateway.live.links import Links
from gateway.live.logins import Logins
from gateway.live.overdue import Overdue
from gateway.live.own_words import OwnWords
from gateway.live.paging import page
from gateway.live.readiness import Readiness, Ready
from gateway.live.stub import Stub
from gateway.server.websocket_protocol import socket_of

logger = logging.getLogger("cfmessenger.sockets")

TICK_S = 0.25
START_S = 3.0
"""How long a start waits for everything to be there, to be ready when it ends."""
CHECK_EVERY_S, FIRST_CHECK_S = 1.0, 0.1
"""Between checks of readiness: once everything was there, and before."""
PING_EVERY_S = 20
"""Between WebSocket pings (wire.md §6, 4400)."""
DRAIN_BATCHES = 20
COMPARED_AT_ONCE = 500
"""Log tops that are asked for in one round trip."""
FIRST_LOOK_S, WRITTEN_WITHIN_S = 0.005, 5.0
"""A chosen status is said again after the first, then after twice as long, and so on;
for the second at most."""


class Sockets:
    """The `Hub` of a gateway process. `start` it before anything else is called."""

    def __init__(
        self,
        services: Services,
        namespace: Namespace,
        log: ValkeyLog,
    ) -> None:
        self._process = f"g{secrets.token_hex(5)}"
        self._lives = 1  # names so far; one more with each that others gave up
        self.gateway = self._process  # the present name, until `rename`
        self.clock = services.clock
        self.log = log
        self._services = services
        self._settings: Settings = services.settings
        self._namespace = namespace
        self._stubs: dict[str, Stub] = {}  # by object, until idle
        self._connections: dict[str, Connection] = {}  # by id, from accept to `leave`
        self._by_user: dict[str, list[Connection]] = {}  # the same, by whose they are
        self._addresses: Counter[str] = Counter()  # sockets, handshakes included
        self._per_login: Counter[str] = Counter()  # likewise, by login id
        self._watchers = 0  # presence sockets
        self._numbers = itertools.count(1)  # of connections
        self._background = Background()  # from `start` to `drain`
        self._draining = False  # True from `refuse_new` or `close_sockets` on
        self._logins = Logins(services.sessions)
        self._looks = Looks(log)
        self._words = OwnWords(services.names, lambda: self.clock)
        store = services.store
        self._readiness = Readiness(
            services.kv, log, namespace, None if store is None else store.ping
        )

    # Life.

    async def start(self) -> None:
        """Ready for the first socket when it returns. Raises `Unavailable`.

        It waits at most `START_S` for readiness and for links to all pools.
        """
        # `loop`, `links` and `_heartbeat` are there from here on.
        self.loop = asyncio.get_running_loop()
        self.links = Links(self.gateway, self._namespace)
        self.links.start()
        self._heartbeat = Heartbeat(self._services.kv, self.gateway, self, self.clock)
        # First, so that nobody takes us for one that can do what it cannot.
        await self._readiness.say(self.gateway)
        await self._heartbeat.register()
        for work in (
            self._expire_inputs,
            self._watch_sockets,
            self._watch_sleepers,
            self._watch_logins,
            self._check_ready,
            self._heartbeat.listen,
            self._heartbeat.beat,
        ):
            self._spawn(work)
        self._watch_bots()
        if self._services.names is not None:
            self._services.names.heard = self._renamed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._readiness.proven.wait()
                await self.links.ahead.wait()
        logger.info("gateway %s is up", self.gateway)

    def _watch_bots(self) -> None:
        kv, directory = self._services.kv, self._services.directory
        if self._settings.bots_active and directory.bots:
            self._spawn(BotWatch(kv, directory, self, self.clock).watch)

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self._background.begin(self._for_ever(work))

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Unavailable as problem:
                logger.warning("%s: %s", work.__name__, problem.message)
            except Exception:
                logger.exception("%s failed", work.__name__)
            await asyncio.sleep(TICK_S)

    def ready(self) -> Ready:
        """Whether traffic is welcome."""
        return self._readiness.ready(not self._draining)

    async def _check_ready(self) -> None:
        proven = self._readiness.proven
        while True:
            await self._readiness.check(self.gateway)
            await asyncio.sleep(CHECK_EVERY_S if proven.is_set() else FIRST_CHECK_S)

    def refuse_new(self) -> None:
        """Draining begins: `/readyz` says so, new sockets are turned away."""
        self._draining = True

    async def close_sockets(self, within_s: float) -> None:
        """Close every socket with 1012, spread over about `within_s`.

        In batches and in random order, so that not all reconnect at once.
        """
        self._draining = True
        connections = list(self._connections.values())
        random.shuffle(connections)
        size = max(1, math.ceil(len(connections) / DRAIN_BATCHES))
        pause = within_s / DRAIN_BATCHES
        for start in range(0, len(connections), size):
            if start:
                await asyncio.sleep(random.uniform(0.5, 1.0) * pause)
            for connection in connections[start : start + size]:
                connection.end(CloseCode.RESTART, "server restarts")
        logger.info("%d sockets closed", len(connections))

    async def drain(self) -> None:
        """Let go of every socket and link; the last call."""
        await self.close_sockets(0.0)
        self._words.end()
        with contextlib.suppress(Unavailable):
            await self._heartbeat.resign()
        await self._stop_work()
        for stub in self._stubs.values():
            stub.life.end()
        await self.links.close()
        self.log.close()

    async def _stop_work(self) -> None:
        for _ in range(20):  # Python 3.11's wait_for may swallow a cancellation
            if not self._background:
                return
            self._background.cancel()
            await self._background.settle(0.1)
        logger.error("%d tasks did not end", len(self._background))

    # What HTTP asks for.

    async def presence_update(self, user_id: str, status: Status) -> None:
        """Tell the registry a status; done when the next socket would find it (wire.md
        §1). Raises `Unavailable`, after 5 s at the latest.

        The registry writes behind, and may die before it has written; if the user has
        no sockets nobody else remembers. So the status is said again until it is
        there, which is nearly always at once.
        """
        payload = encode_notification(StatusChanged(user_id, status))
        pause_s = FIRST_LOOK_S
        try:
            async with asyncio.timeout(WRITTEN_WITHIN_S):
                while True:
                    await self._stub(PRESENCE).notify(payload, once=False)
                    if (await self._status_of(user_id))[0] == status:
                        return
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
        except TimeoutError as error:
            raise Unavailable() from error

    async def close_login(self, login_id: str, code: int, reason: str) -> None:
        """Close this process's sockets of a login."""
        self._logins.close(login_id, code, reason)

    # Handshakes.

    async def serve(self, admission: Admission, scope: Scope, send: Send) -> None:
        """Reach the object, then accept the socket; or refuse it with an envelope.

        Returns with that; the socket lives on.
        """
        # As logins are counted: whoever has one IPv6 address has a /64 of them.
        address = subject(scope["client"][0] if scope.get("client") else None)
        name = room_name(admission.room_id) if admission.room_id else PRESENCE
        login_id = admission.session.login_id
        stub = self._stub(name)
        with stub.life.wanted():
            # Before the first wait, so that a crowd of handshakes counts too.
            self._count(address, login_id, 1)
            connection = None
            try:
                self._check_capacity(address, login_id)
                stub.life.hint = stub.life.hint or admission.session.location_hint
                await stub.life.reach()
                connection = await self._accept(admission, scope, send, stub, address)
            except Unavailable as problem:
                await refuse(send, Refusal.from_error(problem))
            finally:
                if connection is None:
                    self._count(address, login_id, -1)
            if connection is None:
                return
            self._register(connection)
            connection.start(admission.since)
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
        status, status_at = await self._status_of(user_id)
        wire = socket_of(scope)
        await send({"type": "websocket.accept", "subprotocol": admission.subprotocol})
        # Only now, for a client may have left by then: a login is forgotten with its
        # last socket, and the gateway's name and the person's must be the present ones.
        conn = connection_id(self.gateway, next(self._numbers))
        attachment = self._worded(conn, user_id, status, status_at)
        login = self._logins.of(admission.session)
        return Connection(self, wire, login, stub, attachment, address)

    def _check_capacity(self, address: str, login_id: str) -> None:
        per_address = self._settings.max_sockets_per_address
        per_login = self._settings.max_sockets_per_session
        if (
            self._draining
            or (per_address and self._addresses[address] > per_address)
            or (per_login and self._per_login[login_id] > per_login)
        ):
            raise Unavailable("AT_CAPACITY")

    async def _status_of(self, user_id: str) -> tuple[Status, int]:
        """What the registry last wrote of somebody: their choice, and its number."""
        fields = ("chosen", "chosenAt")
        status, at = await self.log.ask("HMGET", keys.presence(user_id), *fields)
        return (convert(status.decode(), Status), int(at)) if status else ("online", 0)

    def _worded(
        self, conn: str, user_id: str, status: Status = "online", status_at: int = 0
    ) -> Attachment:
        """An attachment with the words of the user's row as we know it."""
        user = self._services.directory.get(user_id)
        assert user is not None, "a session belongs to a person of the directory"
        return Attachment(
            conn,
            user_id,
            user.display_name,
            status,
            personal_message=user.personal_message,
            avatar_id=user.avatar_id,
            words_at=self._services.directory.revision(user_id),
            status_at=status_at,
        )

    def _count(self, address: str, login_id: str, change: int) -> None:
        counts = ((self._addresses, address), (self._per_login, login_id))
        for counter, key in counts:
            counter[key] += change
            if not counter[key]:
                del counter[key]

    def _register(self, connection: Connection) -> None:
        self._connections[connection.conn] = connection
        self._by_user.setdefault(connection.user_id, []).append(connection)
        connection.login.connections.add(connection)
        metrics.SOCKETS.labels(_kind(connection)).inc()
        registry = self._stub(PRESENCE)
        self._watchers += _kind(connection) == "presence"
        if connection.room is not registry:
            # A room socket counts for presence too, and is sent nothing of it.
            unwatched = replace(connection.attachment, watch=False)
            registry.open(connection, unwatched, None, greeted=True)

    def leave(self, connection: Connection) -> None:
        """A socket is gone."""
        connection.room.close(connection)
        self._stub(PRESENCE).close(connection)
        self._watchers -= _kind(connection) == "presence"
        metrics.SOCKETS.labels(_kind(connection)).dec()
        self._count(connection.address, connection.login.session.login_id, -1)
        self._logins.forget(connection)
        self._connections.pop(connection.conn, None)
        others = self._by_user[connection.user_id]
        others.remove(connection)
        if not others:
            del self._by_user[connection.user_id]

    # What people are called and shown as.

    def want(self, connection: Connection, wish: Wish, came: float) -> None:
        """A socket's user wants another status, and perhaps another name.

        `came`: when its frame did, in loop time.
        """
        # First, for whoever wants to appear offline: a name may be refused by its rate.
        status = encode(UpdatePresence(wish.status))
        self._stub(PRESENCE).say(connection, status, came)
        words = {"display_name": wish.display_name} if wish.display_name else {}
        if wish.personal_message is not UNSET:
            words["personal_message"] = wish.personal_message
        if words:
            self._words.want(connection.user_id, words, connection)

    def _renamed(self, user_ids: Collection[str]) -> None:
        """Rows have changed: tell the objects of these users' sockets.

        Contact lists show it at once, so the registry is woken for it; rooms are not.
        """
        for user_id in user_ids:
            for connection in self._by_user.get(user_id, ()):
                connection.learn(self._worded(connection.conn, user_id))
        if not self._by_user.keys().isdisjoint(user_ids):
            self._stub(PRESENCE).life.wake()

    def objects_of(self, connection: Connection) -> tuple[Stub, ...]:
        """Those that know this connection: its room, and the registry."""
        room, registry = connection.room, self._stub(PRESENCE)
        return (room,) if room is registry else (room, registry)

    # What the bots ask for.

    def object(self, name: str) -> Stub:
        """The stub of any object, whether or not it has sockets here.

        It is forgotten once it is idle.
        """
        return self._stub(name)

    def watched(self) -> Stub | None:
        """The presence registry, if somebody here watches it."""
        return self._stub(PRESENCE) if self._watchers else None

    # Stubs.

    def _stub(self, name: str) -> Stub:
        stub = self._stubs.get(name)
        if stub is None:
            stub = self._stubs[name] = Stub(
                name,
                self.links,
                forward=self._forward,
                page=self._page,
                look=self._look,
                covered=metrics.COVERED_SECONDS.observe,
                traffic=metrics.TRAFFIC[_kind_of(name)],
            )
        return stub

    def _forward(self, target: str, payload: bytes) -> None:
        done = self._stub(target).notify(payload, once=True)
        # Best effort: nobody waits, so a failure is nobody's news.
        done.add_done_callback(lambda future: future.exception())

    def _look(self, overdue: Overdue, late: list[Late]) -> None:
        self._background.begin(self._looks.look(overdue, late))

    def _page(self, stub: Stub) -> None:
        self._background.begin(page(stub, self.log))

    def wake(self, name: str) -> None:
        """We are called: an object of sockets here woke and wants us back (design.md
        §3.8)."""
        stub = self._stubs.get(name)
        if stub is not None:
            stub.life.wake()

    async def compare_tops(self) -> None:
        """Compare the log tops of all sleeping objects: a channel that was away has
        forgotten its calls (design.md §3.8). Raises `Unavailable`."""
        await self._compare([s for s in self._stubs.values() if s.life.asleep])

    async def _watch_sleepers(self) -> None:
        while True:
            lives = [(stub, stub.life) for stub in self._stubs.values()]
            unsure = [stub for stub, life in lives if life.unsure and life.asleep]
            if unsure:
                await self._compare(unsure)
            await asyncio.sleep(TICK_S)

    async def _compare(self, asleep: list[Stub]) -> None:
        """Wake those stubs whose log has a newer epoch or seq than they have seen."""
        for start in range(0, len(asleep), COMPARED_AT_ONCE):
            stubs = asleep[start : start + COMPARED_AT_ONCE]
            tops = await self.log.tops([stub.name for stub in stubs])
            for stub, top in zip(stubs, tops, strict=True):
                stub.life.unsure = False
                if top > (stub.epoch, stub.seq):
                    stub.life.wake()

    def buried(self) -> None:
        """A gateway was given up: wake the registry, which lets its sockets leave."""
        self._forward(PRESENCE, b"")

    def next_name(self) -> str:
        """A name never used before, for when others have given up the present one."""
        self._lives += 1
        return gateway_id(self._process, self._lives)

    def rename(self, gateway: str) -> None:
        """Others gave us up while we did not run: go on under a new name (design.md
        §3.11).

        Our sockets have left everywhere; under the new name they come back.
        """
        logger.warning("given up by others, now %s", gateway)
        self.gateway = gateway
        names: dict[str, str] = {}
        for connection in self._connections.values():
            names[connection.conn] = connection_id(gateway, connection.number)
            connection.rename(names[connection.conn])
        self._connections = {each.conn: each for each in self._connections.values()}
        for stub in self._stubs.values():
            stub.life.rename(names)
        self.links.rename(gateway)

    @property
    def users(self) -> set[str]:
        """The ids of those who have a socket here."""
        return set(self._by_user)

    # Clocks.

    async def _expire_inputs(self) -> None:
        now = self.loop.time()
        metrics.publish_traffic()
        for name, stub in list(self._stubs.items()):
            stub.overdue.expire(now)
            if stub.life.idle:
                del self._stubs[name]

    async def _watch_sockets(self) -> None:
        """Ping every socket once in `PING_EVERY_S`: a twentieth of them each second."""
        beaten = int(self.loop.time())
        while True:
            now = self.loop.time()
            seconds = range(max(beaten + 1, int(now) - PING_EVERY_S), int(now) + 1)
            shares = {second % PING_EVERY_S for second in seconds}
            for connection in list(self._connections.values()) if shares else ():
                if connection.number % PING_EVERY_S in shares:
                    connection.beat(now)
            beaten = int(now)
            await asyncio.sleep(0.5)

    async def _watch_logins(self) -> None:
        while True:
            await self._logins.tick(time.time_ns() // 1_000_000, self.loop.time())
            await asyncio.sleep(1.0)


def _kind(connection: Connection) -> str:
    return _kind_of(connection.room.name)


def _kind_of(name: str) -> str:
    return "presence" if name == PRESENCE else "room"


async def room_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """GET /api/ws/room/{id} with an upgrade."""
    await _socket(scope, send)


async def presence_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """GET /api/ws/presence with an upgrade."""
    await _socket(scope, send)


async def _socket(scope: Scope, send: Send) -> None:
    services: Services = scope["app"].state.services
    admission = await authorise_upgrade(scope, services)
    if isinstance(admission, Refusal):
        await refuse(send, admission)
        return
    with contextlib.suppress(ClientDisconnected):
        await services.hub.serve(admission, scope, send)
