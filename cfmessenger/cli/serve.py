"""`cfmessenger gateway-process` and `namespace-process`: what the roles supervise.

Each tells `up` that it is ready, that it lives and why it cannot go on (cli/voice.py),
and ends in good order on SIGTERM: a gateway turns new sockets away, closes its own in
batches and then stops; the namespace server puts the node's objects to sleep first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click
import uvicorn
import uvloop
from msgspec.structs import replace
from starlette.applications import Starlette

from cfmessenger import asgi, log_format, memory
from cfmessenger.cli import world
from cfmessenger.cli.agreed import agreed
from cfmessenger.cli.flags import EXIT_SETTINGS, settings_or_exit
from cfmessenger.cli.runtime import told
from cfmessenger.cli.service import EXIT_DRAINED, EXIT_LOST, EXIT_TAKEN
from cfmessenger.cli.voice import Voice
from cfmessenger.environment import SettingsError, with_secrets
from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_name
from cfmessenger.link.messages import VERSION
from cfmessenger.settings import Settings, cores
from cfmessenger.storage.capabilities import OURS, running
from cfmessenger.storage.members import Holder, Members, Node
from cfmessenger.storage.valkey import TooOld, Valkey
from cfmessenger.tls import Trust
from gateway.api.rooms import PUBLIC_ROOMS
from gateway.live.sockets import Sockets
from gateway.server.configuration import server_config
from gateway.server.door import raise_file_limit

if TYPE_CHECKING:
    from actors.membership import Membership
    from actors.namespace_server import NamespaceServer
    from actors.ray_namespace import RayNamespace

logger = logging.getLogger("cfmessenger.namespace")

POOL_SIZE = "CFMX_POOL_SIZE"
CONNECT_S = 20.0
SILENT = "Ray does not answer"

UNREADY_S, UNREADY_FROM_S = 3.0, 10.0
"""Unready for so long before anybody is turned away: a balancer that asks each second
or two sends nobody any more by then. Not where there is little time, as with `up`."""
HANDED_S = 3.0
"""From when another cluster has the lease until it says that rooms go one by one."""
LET_GO_S = 60.0
"""For all rooms to leave one by one; those that are left then go at once."""
ROOMS_SHARE = 0.45
"""Of `CFM_DRAIN_S`, for a node's rooms to go to sleep."""
DRAIN_SHARE = 0.6
"""Of `CFM_DRAIN_S`, for closing sockets; the rest is for them to go."""


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(work)


class _Server(uvicorn.Server):
    """uvicorn that says when it serves, and drains before it stops: afterwards would
    be too late."""

    def __init__(
        self, config: uvicorn.Config, voice: Voice, drain: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._voice = voice
        self._drain = drain
        self._living: asyncio.Task[None] | None = None  # from the start to the end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            memory.settled()
            self._living = asyncio.create_task(self._voice.live())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()


@click.command(hidden=True)
def gateway() -> None:
    """Serve HTTP and WebSockets on the socket that was inherited."""
    settings = settings_or_exit()
    log_format.configure(settings.log_level, settings.log_format)
    raise_file_limit()
    voice = Voice()
    try:
        uvloop.run(_serve_gateway(settings, voice))
    except SettingsError as error:
        _give_up(voice, str(error), EXIT_SETTINGS)


def _give_up(voice: Voice, why: str, code: int = 1) -> NoReturn:
    """Ends the process; its reason is told by `up`, or here where there is none."""
    if not voice.failed(why):
        click.echo(f"cfmessenger: {why}", err=True)
    os._exit(code)


def _explained(app: Starlette, settings: Settings, voice: Voice) -> None:
    """Makes a start that fails for a reason in the world say that and nothing more."""
    start = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def explained(own: Starlette) -> AsyncIterator[Any]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                state = await stack.enter_async_context(start(own))
            except (Unavailable, TooOld, OSError) as error:
                try:
                    await world.check(settings)
                except world.Absent as absent:
                    _give_up(voice, str(absent))
                # Back by now. Raised, it would be a traceback and uvicorn's 3.
                _give_up(voice, f"what it needs was away for a moment: {error}")
            yield state

    app.router.lifespan_context = explained


async def _serve_gateway(settings: Settings, voice: Voice) -> None:
    namespace = asgi.namespace_from(os.environ, settings)
    app = asgi.build(settings, namespace)
    _explained(app, settings, voice)
    sockets = app.state.services.hub
    assert isinstance(sockets, Sockets)
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    async def drain() -> None:
        sockets.leave()
        if settings.drain_s >= UNREADY_FROM_S:
            await asyncio.sleep(UNREADY_S)
        sockets.refuse_new()
        await sockets.close_sockets(settings.drain_s * DRAIN_SHARE)
        server.should_exit = True

    def begin() -> None:
        if not draining:
            draining.append(loop.create_task(drain()))
        else:
            server.should_exit = server.force_exit = True

    server = _Server(server_config(app, settings), voice, lambda: _soon(loop, begin))
    fd = os.environ.get("CFMX_LISTEN_FD")
    listener = [socket.socket(fileno=int(fd))] if fd is not None else None
    await server.serve(listener)
    await namespace.close()
    if not server.started:
        sys.exit(1)


@click.command(hidden=True)
def namespace() -> None:
    """Be the node's Ray driver, for the gateways."""
    from actors.ray_driver import RayDriver  # half a second a gateway can save

    settings = settings_or_exit()
    log_format.configure(settings.log_level, settings.log_format)
    address = os.environ.get("CFMX_RAY_ADDRESS") or settings.ray_address
    url = os.environ.get(asgi.NAMESPACE)
    if not address or not url or settings.valkey_url is None:
        click.echo("cfmessenger: the namespace is started by `up`", err=True)
        sys.exit(EXIT_SETTINGS)
    voice = Voice()
    # Ray's client would wait for a minute, and more than once.
    patience = threading.Timer(CONNECT_S, _give_up, (voice, SILENT, EXIT_LOST))
    patience.daemon = True
    patience.start()
    try:
        # On the main thread, before our own signal handlers: Ray sets its own.
        node = os.environ.get("CFMX_NODE_ADDRESS")
        RayDriver.connect(address, node, os.environ.get("CFMX_RAY_FOLDER"))
        patience.cancel()
        asyncio.run(_serve_namespace(settings, url, voice))
    except SettingsError as error:
        _give_up(voice, str(error), EXIT_SETTINGS)
    except Unavailable as problem:
        _give_up(voice, problem.message)
    except OSError as error:
        _give_up(voice, told(error))
    except Exception as error:
        logger.exception("a bug")
        _give_up(voice, f"{type(error).__name__}: {error}")


async def _leave_when_told(backend: RayNamespace, told: asyncio.Event) -> None:
    """Whoever ends Ray's nodes need not know of us. Returns when no room is left."""
    await backend.told_to_leave()
    told.set()
    logger.warning("Ray ends this node: its rooms go elsewhere")
    with contextlib.suppress(Unavailable):
        await backend.drain()


async def _let_go(
    backend: RayNamespace,
    membership: Membership,
    reached_from_afar: Sequence[NamespaceServer],
    handed: asyncio.Task[None],
    taken: asyncio.Task[None],
) -> None:
    """Another cluster has taken over: its hosts have a room once ours let it go, and
    gateways ask its servers. Returns when all have left, or at once if they are not to
    go one by one."""
    await asyncio.wait((handed,), timeout=HANDED_S)
    if not handed.done():
        return
    await membership.leave()
    for server in reached_from_afar:
        await server.close()
    left = await backend.let_go(LET_GO_S)
    await asyncio.wait((taken,), timeout=HANDED_S)  # which says by whom
    logger.warning("all rooms are another cluster's now; %d actors did not leave", left)


async def _serve_namespace(settings: Settings, url: str, voice: Voice) -> None:
    from actors.bots.guest import invite
    from actors.following import Seed
    from actors.host_settings import HostSettings
    from actors.membership import Disagreement, Membership, Owned
    from actors.namespace_server import NamespaceServer
    from actors.ray_driver import RayDriver
    from actors.ray_namespace import RayNamespace
    from actors.raylet import Raylet

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    here = await RayDriver.here()
    raylet = Raylet(here.raylet)
    public = os.environ.get("CFMX_NAMESPACE_TCP", "")
    kv = Valkey(settings.valkey_url or "")
    cluster = os.environ.get("CFMX_OWNER") or here.cluster
    membership = Membership(
        Members(kv),
        Holder(cluster, socket.gethostname()),
        Node(
            *(here.node, socket.gethostname(), public),
            cores=cores(),
            link=VERSION,
            cluster=cluster,
            release=OURS.release,
            knows=OURS.knows,
        ),
        agreed(settings),
    )
    backend = RayNamespace(
        replace(HostSettings.of(settings, invite(settings)), cluster=cluster),
        settings.log_level,
        warm_workers=settings.warm_workers,
        max_rooms=settings.max_active_rooms,
        location=settings.location_hint,
        strict=settings.location_strict,
        seed=Seed(
            settings.placement,
            settings.pool_size,
            os.environ.get("CFMX_PLACEMENT_SEED", ""),
            tuple(map(room_name, PUBLIC_ROOMS)),
            cluster,
        ),
        front=url,
        membership=membership,
        raylet=raylet,
        grows=bool(public) and not os.environ.get(POOL_SIZE),
    )
    key = with_secrets(os.environ, [asgi.NAMESPACE_KEY]).get(asgi.NAMESPACE_KEY, "")
    # Whoever may open the Unix socket needs no key.
    servers = [NamespaceServer(backend, url, "" if public else key)]
    if public:
        trust = None if settings.tls is None else Trust(settings.tls)
        servers.append(NamespaceServer(backend, public, key, trust=trust))
    # Whoever owns the data folder has ended who had it before.
    alone = bool(os.environ.get("CFMX_OWNER"))

    async def prepare(owner: str) -> None:
        await backend.prepare(owner)
        for each in servers[1:]:  # by which gateways come for what the others let go
            await each.start()

    try:
        if os.environ.get("CFMX_TAKE_OVER"):
            await membership.take_over(
                lambda: running(kv), prepare, backend.take_over, alone
            )
        await membership.join(alone=alone)
    except (Owned, Disagreement) as error:
        _give_up(voice, str(error), EXIT_SETTINGS)
    if url.startswith("unix:"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(url.removeprefix("unix:"))
    for server in servers:
        await server.start()
    taken = asyncio.create_task(membership.run())
    handed = asyncio.create_task(backend.handed())
    waits = (asked.wait(), backend.lost(whole=not public), raylet.ended())
    ends = [taken, handed, *(asyncio.create_task(each) for each in waits)]
    if public:
        # Whoever restarts nodes one after another waits for that.
        await backend.warmed()
    living = asyncio.create_task(voice.live())
    told = asyncio.Event()
    leaving = asyncio.create_task(_leave_when_told(backend, told))
    # A raylet of others' we have to leave to them; ours ends with us.
    ours = bool(public and os.environ.get("CFMX_RAY_FOLDER"))
    if ours:
        ends.append(leaving)
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    drained = ours and told.is_set()
    replaced = taken.done() or handed.done()
    if replaced:
        going = _let_go(backend, membership, servers[1:], handed, taken)
        letting_go = asyncio.create_task(going)
        others = [each for each in ends if each not in (taken, handed, leaving)]
        await asyncio.wait((letting_go, *others), return_when=asyncio.FIRST_COMPLETED)
        letting_go.cancel()
    if not asked.is_set() and not replaced and not drained:
        # The rooms may well be alive; whoever starts us again finds them, unless the
        # Ray is ours to replace: then the supervisor does that.
        await membership.gone(alone=False)
        _give_up(voice, SILENT, EXIT_LOST)
    with contextlib.suppress(Unavailable):
        await backend.drain(settings.drain_s * ROOMS_SHARE)
    for server in servers:
        await server.close()
    await membership.gone(alone=len(membership.nodes) <= 1)
    if replaced:
        os._exit(EXIT_TAKEN)
    living.cancel()
    if drained and not asked.is_set():
        os._exit(EXIT_DRAINED)
    os._exit(0)  # Ray's threads may wait for a control store that is gone
