"""A host's end of a gateway's link (design.md §3): frames in, one write out for
each iteration of the event loop."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
from typing import Protocol, cast

from cfmessenger.link import messages as link

logger = logging.getLogger("cfmessenger.host")

HELLO_TIMEOUT_S = 5.0
MAX_HELLO = 4096
"""Bytes that may come at once before the hello is accepted."""


class Served(Protocol):
    """What of the host this needs."""

    key: str
    peers: set[Peer]
    closed: bool

    def deliver(self, peer: Peer, message: link.Attach | link.Inputs) -> None: ...
    def lost(self, peer: Peer) -> None: ...


class Peer(asyncio.Protocol):
    """One gateway's link: cuts frames, checks the hello, batches what goes out."""

    def __init__(self, host: Served) -> None:
        self.gateway = ""  # its name, from an accepted hello on
        self._host = host
        self._reader = link.actor_reader()
        self._transport: asyncio.Transport | None = None  # once it is connected
        self._outgoing: list[bytes] = []  # frames, until the `flush` of this iteration
        self._finished = False  # from `finish` on: nothing more is sent
        self._deadline: asyncio.TimerHandle | None = None  # for the hello
        self._unproved = 0  # bytes that came before it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._host.closed:  # accepted before, told only now
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HELLO_TIMEOUT_S, self.abort)
        self._host.peers.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            if not self.gateway:
                self._unproved += len(data)
                if self._unproved > MAX_HELLO:
                    raise link.BrokenLink("too much before hello")
            for message in self._reader.feed(data):
                self._on_message(message)
        except link.BrokenLink as error:
            logger.warning("link of %s broken: %s", self.gateway or "?", error)
            self.abort()

    def _on_message(self, message: object) -> None:
        if isinstance(message, link.Ping):
            self.send(link.Pong(message.n))
        elif isinstance(message, link.Hello):
            self._greet(message)
        elif not self.gateway:
            raise link.BrokenLink("no hello")
        else:
            assert isinstance(message, link.Attach | link.Inputs)
            self._host.deliver(self, message)

    def _greet(self, hello: link.Hello) -> None:
        good = hmac.compare_digest(hello.key.encode(), self._host.key.encode())
        if hello.version != link.VERSION or not good or not hello.gateway:
            raise link.BrokenLink("wrong version or key")
        if self.gateway:
            raise link.BrokenLink("hello twice")
        assert self._deadline is not None
        self._deadline.cancel()
        self.gateway = hello.gateway
        self.send(link.Welcome(link.VERSION, os.getpid()))

    def send(self, message: link.ToGateway) -> None:
        """Queue a message; all of one iteration of the loop leave in one write."""
        if self._finished:
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outgoing.append(link.frame(message))

    def flush(self) -> None:
        """Write what is queued; a gateway that does not read loses its link."""
        transport, self._outgoing, out = self._transport, [], self._outgoing
        if transport is None or not out or transport.is_closing():
            return
        if transport.get_write_buffer_size() > link.HIGH_WATER:
            logger.warning("link of %s dropped: it does not read", self.gateway)
            transport.abort()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))

    def finish(self) -> None:
        """Say no more, but read to the end, so that the last words arrive."""
        self.flush()
        self._finished = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Drop the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._host.lost(self)
