"""The processes of the world: gateways and actor hosts, as the product makes them.

A gateway is `gateway.Sockets` behind an edge that is simpler than uvicorn's; a host is
`actors.Host`. Which of their parts touch the outside (clock, random names, sockets) is
said in `replaced`, and nothing else of them is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec

import actors.flow
import actors.host
import actors.peer
from actors.activation import Activation
from actors.host import Host
from actors.host_settings import HostSettings
from actors.pace import Pace
from cfmessenger.accounts.session_record import Session
from cfmessenger.chat.room import Room
from cfmessenger.data.names import Names
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Address
from cfmessenger.memory import Memory
from cfmessenger.placement import Placement
from cfmessenger.storage.log import Fenced, ValkeyLog
from cfmessenger.storage.valkey import Valkey
from cfmessenger.wire.protocol import Status
from gateway.api.admission import Admission
from gateway.live.sockets import Sockets
from gateway.server.handshake import CONNECTION
from gateway.server.websocket_protocol import Listener
from tests.system.sim.guest import INVITED
from tests.system.sim.history import MESSAGES, POISON
from tests.system.sim.names import SimStore, directory_of
from tests.system.sim.plan import NEW_MS, UP_WITHIN_S
from tests.system.sim.sim_loop import Died, Process, SimClock
from tests.system.sim.workload import split_frame

if TYPE_CHECKING:
    from tests.system.sim.world import World

LOG_LENGTH = 10_000
FOREVER_MS = 9_000_000_000_000


PLENTY, SHORT = Memory(100, 100), Memory(100, 5)


class SimHost(Host):
    """A host whose process may die at its named points."""

    world: World
    process: Process

    def reached(self, point: str) -> None:
        if self.world.dies_at(self.process, point):
            raise Died

    def trusted(self, activation: Activation) -> bool:
        good = super().trusted(activation)
        if good:
            self.world.believed(self, activation)
        return good

    async def _check_ownership(self) -> None:
        await super()._check_ownership()
        for activation in self.objects.values():
            self.trusted(activation)


class HostProcess:
    """An actor process. `ready` once it listens."""

    def __init__(self, world: World, key: str, placement: Placement) -> None:
        self.world = world
        self.key = key
        self.actor_id = str(world.number("actor"))
        self.process = Process(f"h{self.actor_id}")
        self.process.on_death = lambda: world.kill(self.process, "fuse")
        self.host: SimHost | None = None
        self.ready = False
        plan = world.plan
        self._settings = HostSettings(
            world.url,
            LOG_LENGTH,
            plan.hibernate_after,
            plan.chat_rate,
            plan.nudge_rate,
            listen=self.process.name,
            actor=key,
            placement=placement,
            presence_all=plan.presence_all,
            limits=plan.limits,
            guests=(INVITED,) if plan.guest else (),
            crowd=plan.crowd,
            pace=Pace(lived_s=plan.lived_s, up_within_s=UP_WITHIN_S, orphan_ms=NEW_MS),
        )
        self.process.run(asyncio.get_running_loop().create_task, self._boot())

    async def _boot(self) -> None:
        host = SimHost(self._settings, self._ended, lambda: self.world.memory)
        host.world, host.process = self.world, self.process
        try:
            await host.start()
        except (Fenced, Unavailable):
            self.world.kill(self.process, "cannot start")
            return
        self.host = host
        self.ready = True

    def _ended(self, reason: str) -> None:
        self.world.kill(self.process, reason)

    @property
    def leaving(self) -> bool:
        return self.host is not None and self.host.leaving

    def address(self) -> Address:
        assert self.host is not None
        return self.host.address(self.actor_id)


class GatewayProcess:
    """A gateway. `ready` once it listens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(f"g{world.number('gateway')}")
        self.process.on_death = lambda: world.kill(self.process, "fuse")
        self.sockets: Sockets | None = None
        self.directory = directory_of(world.plan.people)
        self.names: Names | None = None  # with rows to change
        self.ready = False
        self.draining = False
        self.process.run(asyncio.get_running_loop().create_task, self._boot())

    @property
    def name(self) -> str:
        return self.process.name

    async def _boot(self) -> None:
        world, kv = self.world, Valkey(self.world.url)
        if world.plan.rename_p:
            self.names = Names(SimStore(world), kv, self.directory)  # type: ignore[arg-type]
        services: Any = SimpleNamespace(
            settings=SimpleNamespace(
                max_sockets_per_address=0,
                max_sockets_per_session=0,
                bots_active=0,
                tls=None,
                cut_off_s=0.0,  # the one namespace of the world is there for all
            ),
            sessions=_Sessions(),
            kv=kv,
            directory=self.directory,
            clock=SimClock(),
            names=self.names,
            store=None,
        )
        sockets = Sockets(
            services, world.namespace, ValkeyLog(world.url, LOG_LENGTH, shown=True)
        )
        sockets._process = sockets.gateway = self.name
        try:
            if self.names is not None:
                self._following = self.names.following(SimClock().now)
                await self._following.__aenter__()
            await sockets.start()
        except Unavailable:
            world.kill(self.process, "cannot start")
            return
        self.sockets = sockets
        world.network.listen(self.process, lambda: Edge(self), self.name, 80)
        self.ready = True

    def ask(
        self, user_id: str, status: Status | None, words: Mapping[str, str]
    ) -> None:
        """Over HTTP: POST /api/presence, or without a status PATCH of the own row."""
        work = self._answer(user_id, status, words)
        self.process.run(asyncio.get_running_loop().create_task, work)

    async def _answer(
        self, user_id: str, status: Status | None, words: Mapping[str, str]
    ) -> None:
        assert self.sockets is not None
        assert self.names is not None
        with contextlib.suppress(Unavailable):
            if status is not None:
                await self.sockets.presence_update(user_id, status)
            if words:
                await self.names.change(user_id, words, SimClock().now())

    async def drain(self) -> None:
        """SIGTERM."""
        assert self.sockets is not None
        self.draining = True
        await self.sockets.drain()
        self.world.kill(self.process, "drained")


class Edge(asyncio.Protocol):
    """The gateway's end of a client's connection."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.transport: Any = None
        self.listener: Listener | None = None
        self.lost = False
        self.user = self.room = ""  # as it said on entering
        self._buffer = b""
        self._early: list[bytes] = []
        self._greeted = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                return
            text, self._buffer = self._buffer[4:end], self._buffer[end:]
            self._take(text)

    def _take(self, text: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            hello = msgspec.json.decode(text)
            self.gateway.world.loop.create_task(self._serve(hello))
        elif self.listener is None:
            self._early.append(text)
        else:
            self.listener.on_text(text)

    async def _serve(self, hello: dict[str, Any]) -> None:
        world, user = self.gateway.world, hello["user"]
        self.user, self.room = user, hello["room"]
        login = f"login-{world.number('login')}"
        session = Session(user, login, "", 0, FOREVER_MS, "", "")
        resumed = hello["since"], None, hello["era"]
        admission = Admission(session, hello["room"], *resumed)
        sockets = self.gateway.sockets
        assert sockets is not None
        extensions = {CONNECTION: SimWire(self)}
        scope = {"client": ("client", 1), "extensions": extensions}
        await sockets.serve(admission, scope, self._send)

    async def _send(self, event: Any) -> None:
        if event["type"] == "websocket.accept":
            self.transport.write(b"\x82\x00")
        elif event["type"] == "websocket.http.response.body":
            self.transport.close()

    def take_over(self, listener: Listener) -> None:
        self.listener = listener
        for text in self._early:
            listener.on_text(text)
        if self.lost:
            listener.on_lost(1006)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.listener is not None:
            self.listener.on_lost(1006)


class SimWire:
    """A gateway's `WebSocket` over an edge; what is written goes to the checker."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._world = edge.gateway.world
        self._closed = False
        self.write = self._write

    def _write(self, blob: bytes) -> None:
        self._world.inspect(blob)
        if b"STORAGE_UNAVAILABLE" in blob:
            self._world.refuses(blob, self._edge.room, self._edge.user)
        if not self._closed:
            self._edge.transport.write(blob)

    def write_all(self, pieces: Sequence[bytes]) -> None:
        self._write(b"".join(pieces))

    def take_over(self, listener: Listener) -> None:
        self._edge.take_over(listener)

    def pause(self) -> None:
        pass  # as if all that is still to come had come with the last bytes

    def resume(self) -> None:
        pass

    def ping(self) -> None:
        if not self._edge.lost and self._edge.listener is not None:
            self._edge.listener.on_alive()

    async def drained(self, timeout_s: float) -> bool:
        await asyncio.sleep(self._world.network.latency())
        return True

    def close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._edge.transport.write(b"\x88\x02" + code.to_bytes(2, "big"))
            self._closed = True


def frames_in(blob: bytes, decoded: Any) -> Iterator[dict[str, Any]]:
    """What a blob of WebSocket frames says."""
    rest: bytes = blob
    while (cut := split_frame(rest)) is not None:
        _, payload, rest = cut
        yield decoded(payload)


def messages_in(blob: bytes, decoded: Any) -> Iterator[dict[str, Any]]:
    """The durable messages that it shows."""
    for frame in frames_in(blob, decoded):
        if frame["type"] in MESSAGES:
            yield frame
        elif frame["type"] == "history":
            yield from frame["messages"]


class _Sessions:
    """Sessions that never end."""

    async def restore(self) -> None:
        pass

    async def slide(self, session: Session) -> Session:
        return session

    async def revalidate(self, sessions: list[Session]) -> dict[str, Session]:
        return {each.login_id: each for each in sessions}


class Bug(Exception):
    """What a room fails with at `POISON`."""


def _with_a_bug(sound: Callable[..., Any]) -> Callable[..., Any]:
    """A `Room.message` that fails at certain words, half of its work done."""

    def message(self: Room, now: int, conn: str, data: bytes, fresh_id: str) -> Any:
        if POISON.encode() in data:
            self.seq += 1
            raise Bug
        return sound(self, now, conn, data, fresh_id)

    return message


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """What of the product is played while a world runs."""
    numbers = itertools.count(1)

    class Peer(actors.peer.Peer):
        # The order of a set of peers must not depend on where they lie in memory.
        def __init__(self, server: actors.peer.LinkServer) -> None:
            super().__init__(server)
            self._number = next(numbers)

        def __hash__(self) -> int:
            return self._number

    with contextlib.ExitStack() as stack:
        for where, name, what in (
            # Nothing takes time, unless a fault says that it does.
            (actors.host, "perf_counter", lambda: 0.0),
            (actors.flow, "perf_counter", lambda: 0.0),
            (actors.host, "Clock", SimClock),
            (actors.peer, "Peer", Peer),
            (Room, "message", _with_a_bug(Room.message)),
        ):
            stack.enter_context(mock.patch.object(where, name, what))
        yield
