"""`cfmessenger gateway` and `cfmessenger namespace`: the processes that `up`
supervises.

Each says "ready" on the descriptor it was given once it serves, and ends in good order
on SIGTERM: a gateway turns new sockets away, closes its own in batches and then stops;
the namespace server puts the node's objects to sleep first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import click
import uvicorn
import uvloop

from cfmessenger import asgi, log_format
from cfmessenger.cli.flags import EXIT_SETTINGS, settings_or_exit
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings, SettingsError
from gateway.door import raise_file_limit
from gateway.server import server_config
from gateway.sockets import Sockets

logger = logging.getLogger("cfmessenger.namespace")

DRAIN_ROOMS_S = 2.0
DRAIN_SHARE = 0.6
"""Of `CFM_DRAIN_S`, for closing sockets; the rest is for them to go."""


def _ready() -> None:
    fd = os.environ.get("CFMX_READY_FD")
    if fd is not None:
        with contextlib.suppress(OSError):
            os.write(int(fd), b"ready\n")
            os.close(int(fd))


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(work)


class _Server(uvicorn.Server):
    """uvicorn that drains before it stops: afterwards would be too late."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            _ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()


@click.command(hidden=True)
def gateway() -> None:
    """Serve HTTP and WebSockets on the socket that was inherited."""
    settings = settings_or_exit()
    log_format.configure(settings.log_level, settings.log_format)
    raise_file_limit()
    try:
        uvloop.run(_serve_gateway(settings))
    except SettingsError as error:
        click.echo(f"cfmessenger: {error}", err=True)
        sys.exit(EXIT_SETTINGS)


async def _serve_gateway(settings: Settings) -> None:
    namespace = asgi.namespace_from(os.environ)
    app = asgi.build(settings, namespace)
    sockets = app.state.services.hub
    assert isinstance(sockets, Sockets)
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    async def drain() -> None:
        sockets.refuse_new()
        await sockets.close_sockets(settings.drain_s * DRAIN_SHARE)
        server.should_exit = True

    def begin() -> None:
        if not draining:
            draining.append(loop.create_task(drain()))
        else:
            server.should_exit = server.force_exit = True

    server = _Server(server_config(app, settings), lambda: _soon(loop, begin))
    fd = os.environ.get("CFMX_LISTEN_FD")
    listener = [socket.socket(fileno=int(fd))] if fd is not None else None
    await server.serve(listener)
    await namespace.close()
    if not server.started:
        sys.exit(1)


@click.command(hidden=True)
def namespace() -> None:
    """Be the node's Ray driver, for the gateways."""
    from actors.ray_namespace import RayNamespace  # half a second a gateway can save

    settings = settings_or_exit()
    log_format.configure(settings.log_level, settings.log_format)
    address = os.environ.get("CFMX_RAY_ADDRESS") or settings.ray_address
    url = os.environ.get(asgi.NAMESPACE)
    if not address or not url or settings.valkey_url is None:
        click.echo("cfmessenger: the namespace is started by `up`", err=True)
        sys.exit(EXIT_SETTINGS)
    try:
        # On the main thread, before our own signal handlers: Ray sets its own.
        RayNamespace.connect(address)
        asyncio.run(_serve_namespace(settings, url))
    except Unavailable as problem:
        click.echo(f"cfmessenger: {problem.message}", err=True)
        sys.exit(1)


async def _serve_namespace(settings: Settings, url: str) -> None:
    from actors.host import HostSettings
    from actors.namespace_server import NamespaceServer
    from actors.ray_namespace import RayNamespace

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    backend = RayNamespace(
        HostSettings.of(settings),
        settings.log_level,
        warm_workers=settings.warm_workers,
        max_rooms=settings.max_active_rooms,
        location=settings.location_hint,
        strict=settings.location_strict,
        placement=(
            settings.placement,
            settings.pool_size,
            os.environ.get("CFMX_PLACEMENT_SEED", ""),
        ),
        front=url,
    )
    server = NamespaceServer(backend, url, os.environ.get(asgi.NAMESPACE_KEY, ""))
    if url.startswith("unix:"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(url.removeprefix("unix:"))
    await server.start()
    _ready()
    ends = [asyncio.create_task(each) for each in (asked.wait(), backend.lost())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not asked.is_set():
        # The rooms may well be alive; whoever starts us again finds them.
        logger.error("Ray does not answer any more: giving up")
        os._exit(1)
    await server.close()
    with contextlib.suppress(Unavailable):
        await backend.drain(DRAIN_ROOMS_S)
    os._exit(0)  # Ray's threads may wait for a control store that is gone
