"""Streams between machines, with TLS or without: who listens, who connects.

With a `Trust` a protocol hears of a stream only when its TLS stands; who fails is one
line in the log. The certificates of a connection are those of the moment at which it
begins. Must not know what is said on a stream.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from cfmessenger.background import Background
from cfmessenger.seldom import Seldom
from cfmessenger.settings import Ports
from cfmessenger.tls import Trust, why

logger = logging.getLogger("cfmessenger.tls")

HANDSHAKE_S = 5.0
MOST_HANDSHAKES = 200
"""Under way at once; who comes then is hung up on, and comes again."""
NO_FILES_S = 1.0
"""Until another try, where no file is left for one more connection."""
BACKLOG = 1024

Factory = Callable[[], asyncio.Protocol]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NoPort(OSError):
    """None of the ports that may be used is free; the text is for people."""


class Entrance:
    """Serves `factory`'s protocols, from `open` to `close`; `what` is for the log.

    The loop's own servers keep the certificates with which they began, and are silent
    about who fails: with TLS connections are accepted here, one by one.
    """

    def __init__(self, factory: Factory, trust: Trust | None, what: str) -> None:
        self.port = 0  # from `open` on
        self._factory = factory
        self._trust = trust
        self._what = what
        # One of them, from `open` on: the loop's, or our own.
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None  # with the latter
        self._handshakes = Background()  # each until it is over
        self._refused = Seldom(logger)

    async def open(self, address: str | None, ports: Ports | None = None) -> None:
        """Listen on a free port of this address, one of these. Raises `NoPort`, or
        another OSError."""
        if ports is None:
            await self._listen(address, 0)
            return
        for port in range(ports.first, ports.last + 1):
            try:
                await self._listen(address, port)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise NoPort(
            f"no port of CFM_LINK_PORTS ({ports}) is free at {address}: each actor "
            "process of a machine needs one; give it more"
        )

    async def _listen(self, address: str | None, port: int) -> None:
        loop = asyncio.get_running_loop()
        if self._trust is None:
            self._server = server = await loop.create_server(
                self._factory, address, port, start_serving=False
            )
            await server.start_serving()
            self.port = server.sockets[0].getsockname()[1]
            return
        self._trust.serving()  # that the files are good
        six = address is not None and ":" in address
        listening = socket.create_server(
            (address or "", port),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=BACKLOG,
        )
        listening.setblocking(False)
        self._socket, self.port = listening, listening.getsockname()[1]
        self._accepting = loop.create_task(self._accept(listening))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                self._refused.warn("accept", f"{self._what}: {why(error)}")
                await asyncio.sleep(NO_FILES_S)
                continue
            if len(self._handshakes) < MOST_HANDSHAKES:
                self._handshakes.begin(self._secure(accepted, peer[0]))
            else:
                accepted.close()
                self._refused.warn("many", f"{self._what}: too many handshakes")

    async def _secure(self, accepted: socket.socket, host: str) -> None:
        assert self._trust is not None
        loop = asyncio.get_running_loop()
        try:
            try:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                context = self._trust.serving()
            except OSError:
                accepted.close()
                raise
            # From here on it is the loop's, which closes it.
            await loop.connect_accepted_socket(
                self._factory,
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except OSError as error:  # an ssl.SSLError or a TimeoutError, too
            told = f"{self._what}: {host} is refused: {why(error)}"
            self._refused.warn(told, told)

    def close(self) -> None:
        """Listen no more; handshakes under way are given up."""
        if self._server is not None:
            self._server.close()
        if self._accepting is not None and self._socket is not None:
            self._accepting.cancel()
            self._socket.close()
        self._handshakes.cancel()


async def connect(
    protocol: asyncio.Protocol, host: str, port: int, trust: Trust | None
) -> None:
    """Connect this protocol. Raises OSError, of which an `ssl.SSLError` says that one
    end does not trust the other."""
    loop = asyncio.get_running_loop()
    context = None if trust is None else trust.calling()
    await loop.create_connection(lambda: protocol, host, port, ssl=context)


async def open_stream(
    url: str, trust: Trust | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `unix:<path>`, never with TLS, or `tcp://host:port`. Raises
    OSError."""
    if url.startswith("unix:"):
        return await asyncio.open_unix_connection(url.removeprefix("unix:"))
    parts = urlsplit(url)
    context = None if trust is None else trust.calling()
    return await asyncio.open_connection(parts.hostname, parts.port, ssl=context)


class Serving:
    """A server of streams, until it is closed. `port`: of TCP, else 0."""

    def __init__(self, close: Callable[[], None], port: int = 0) -> None:
        self.close = close
        self.port = port


async def serve_stream(
    url: str, handler: Handler, trust: Trust | None = None
) -> Serving:
    """Listen on `unix:<path>`, never with TLS, or `tcp://host:port`. Raises OSError."""
    loop = asyncio.get_running_loop()

    def stream() -> asyncio.Protocol:
        reader = asyncio.StreamReader(loop=loop)
        return asyncio.StreamReaderProtocol(reader, handler, loop=loop)

    if url.startswith("unix:"):
        server = await loop.create_unix_server(stream, url.removeprefix("unix:"))
        return Serving(server.close)
    parts = urlsplit(url)
    entrance = Entrance(stream, trust, "namespace")
    port = parts.port or 0
    await entrance.open(parts.hostname, Ports(port, port) if port else None)
    return Serving(entrance.close, entrance.port)
