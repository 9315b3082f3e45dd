"""A gateway process: its start and its end, its names, and what runs all the while.

The `Hub` that the HTTP edge knows, and what other processes call. Of its parts the
`Connections` have the sockets, `People` their users, `Logins` their sessions and
`Stubs` the objects; this module makes them, keeps them going, and drains them. It keeps
no state of any room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected

from cfmessenger.background import Background
from cfmessenger.errors import Unavailable
from cfmessenger.ids import PRESENCE, gateway_id
from cfmessenger.link.namespace import Namespace
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.tls import Trust
from cfmessenger.wire.protocol import Status
from gateway.api.admission import Admission, authorise_upgrade
from gateway.api.hub import Services
from gateway.envelope import Refusal, refuse
from gateway.live.bots import BotWatch
from gateway.live.connections import Connections
from gateway.live.heartbeat import Heartbeat
from gateway.live.links import Links
from gateway.live.logins import Logins
from gateway.live.people import People
from gateway.live.readiness import Readiness, Ready
from gateway.live.stub import Stub
from gateway.live.stubs import TICK_S, Stubs

logger = logging.getLogger("cfmessenger.sockets")

START_S = 3.0
"""How long a start waits for everything to be there, to be ready when it ends."""
CHECK_EVERY_S, FIRST_CHECK_S = 1.0, 0.1
"""Between checks of readiness: once everything was there, and before."""


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
        self.log = log
        self._services = services
        self._namespace = namespace
        self._background = Background()  # from `start` to `drain`
        self._leaving = False  # True from `leave` on
        self._logins = Logins(services.sessions)
        store = services.store
        self._readiness = Readiness(
            *(services.kv, log, namespace),
            None if store is None else store.ping,
            services.settings.cut_off_s,
        )

    # Life.

    async def start(self) -> None:
        """Ready for the first socket when it returns. Raises `Unavailable`.

        It waits at most `START_S` for readiness and for links to all pools.
        """
        services = self._services
        # The parts that need the loop are there from here on.
        tls = services.settings.tls
        trust = None if tls is None else Trust(tls)
        self.links = Links(self.gateway, self._namespace, trust)
        self.stubs = Stubs(self.links, self.log, self._background, services.directory)
        self.people = People(services, self.log, self.stubs)
        self.connections = Connections(
            *(self.gateway, services, self.log, self._logins, self.stubs, self.people),
            self._readiness,
        )
        self._heartbeat = Heartbeat(services.kv, self.gateway, self, services.clock)
        self.links.start()
        # First, so that nobody takes us for one that can do what it cannot.
        await self._readiness.say(self.gateway)
        await self._heartbeat.register()
        for work in (
            self.stubs.expire_inputs,
            self.connections.ping,
            self.stubs.watch_sleepers,
            self.stubs.watching.sweep,
            self._watch_logins,
            self._check_ready,
            self._leave_when_cut_off,
            self._heartbeat.listen,
            self._heartbeat.beat,
        ):
            self._spawn(work)
        directory = services.directory
        if services.settings.bots_active and directory.bots:
            watch = BotWatch(services.kv, directory, self, services.clock)
            self._spawn(watch.watch)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._readiness.proven.wait()
                await self.links.ahead.wait()
        logger.info("gateway %s is up", self.gateway)

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

    async def _watch_logins(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._logins.tick(time.time_ns() // 1_000_000, loop.time())
            await asyncio.sleep(1.0)

    def ready(self) -> Ready:
        """Whether traffic is welcome."""
        return self._readiness.ready(not self._leaving)

    async def _check_ready(self) -> None:
        proven = self._readiness.proven
        while True:
            await self._readiness.check(self.gateway, self.links.refused)
            await asyncio.sleep(CHECK_EVERY_S if proven.is_set() else FIRST_CHECK_S)

    async def _leave_when_cut_off(self) -> None:
        """Whoever came in meanwhile goes too."""
        while True:
            await self._readiness.cut_off.wait()
            await self.connections.close_all(self._services.settings.drain_s / 2)
            await asyncio.sleep(TICK_S)

    def leave(self) -> None:
        """Draining begins: `/readyz` says so, for whoever sends new sockets here."""
        self._leaving = True

    def refuse_new(self) -> None:
        """New sockets are turned away."""
        self.leave()
        self.connections.refuse_new()

    async def close_sockets(self, within_s: float) -> None:
        """Close every socket with 1012, spread over about `within_s`; there will be no
        more."""
        self.refuse_new()
        await self.connections.close_all(within_s)

    async def drain(self) -> None:
        """Let go of every socket and link; the last call."""
        await self.connections.close_all(0.0)
        self.people.end()
        with contextlib.suppress(Unavailable):
            await self._heartbeat.resign()
        await self._stop_work()
        await self.stubs.close()
        self.log.close()

    async def _stop_work(self) -> None:
        for _ in range(20):  # Python 3.11's wait_for may swallow a cancellation
            if not self._background:
                return
            self._background.cancel()
            await self._background.settle(0.1)
        logger.error("%d tasks did not end", len(self._background))

    # What HTTP asks for.

    async def serve(self, admission: Admission, scope: Scope, send: Send) -> None:
        """Accept the socket, or refuse it with an envelope; it outlives the call."""
        await self.connections.serve(admission, scope, send)

    async def presence_update(self, user_id: str, status: Status) -> None:
        """Tell the registry a status; done when the next socket would find it (wire.md
        §1). Raises `Unavailable`, after 5 s at the latest."""
        await self.people.choose(user_id, status)

    def revoked(self, told: str) -> None:
        """Another gateway, or this one, has ended a login: `Logins.revoked`."""
        self._logins.revoked(told)

    async def close_login(self, login_id: str, code: int, reason: str) -> None:
        """Close this process's sockets of a login."""
        self._logins.close(login_id, code, reason)

    # What the bots ask for.

    def object(self, name: str) -> Stub:
        """The stub of any object, whether or not it has sockets here.

        It is forgotten once it is idle.
        """
        return self.stubs.of(name)

    def watched(self) -> Stub | None:
        """The presence registry, if somebody here watches it."""
        return self.connections.watched()

    # What other processes call.

    @property
    def users(self) -> set[str]:
        """The ids of those who have a socket here."""
        return self.people.ids

    def wake(self, name: str) -> None:
        """We are called: an object of sockets here woke and wants us back (design.md
        §3.8)."""
        self.stubs.wake(name)

    async def compare_tops(self) -> None:
        """Our channel was away, and has forgotten its calls. Raises `Unavailable`."""
        await self.stubs.compare_tops()

    def buried(self) -> None:
        """A gateway was given up: wake the registry, which lets its sockets leave."""
        self.stubs.forward(PRESENCE, b"")

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
        self.stubs.rename(gateway, self.connections.rename(gateway))


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
