"""A host's end of gateways' links (design.md §3): where they link to, and each link:
frames in, one write out for each turn of the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from typing import Protocol, cast

from actors.turn import Turn
from cfmessenger.link import messages as link
from cfmessenger.link.greeting import NONCE_BYTES, OURS, PROVES, Answering, Refusal
from cfmessenger.link.secured import Entrance
from cfmessenger.seldom import Seldom
from cfmessenger.settings import Ports
from cfmessenger.tls import Trust

logger = logging.getLogger("cfmessenger.host")

MAX_HELLO = 4096
"""Bytes that may come, in all, before the greeting is over; and what one read of a
socket brings more."""


class Served(Protocol):
    """What of the host this needs."""

    def deliver(self, peer: Peer, message: link.Attach | link.Inputs) -> None: ...
    def lost(self, peer: Peer) -> None: ...


class LinkServer:
    """Where gateways link to, for as long as a host lives."""

    def __init__(
        self, served: Served, hello_s: float, turn: Turn, trust: Trust | None = None
    ) -> None:
        self.key = secrets.token_hex(32)  # of this life: a gateway proves it knows it
        self.peers: set[Peer] = set()  # from accept to connection_lost
        self.closed = False  # true from `close` on
        self.port = 0  # once it listens
        self.hello_s = hello_s  # in which a link must say who it is
        self.served = served
        self.turn = turn  # in which links are written
        self.secure = trust is not None
        self.refused = Seldom(logger)
        self._entrance = Entrance(lambda: Peer(self), trust, "links")

    async def listen(self, address: str, ports: Ports | None = None) -> None:
        """Serve on a free port of this address. Raises OSError."""
        await self._entrance.open(address, ports)
        self.port = self._entrance.port

    def greeted(self, version: int) -> None:
        """A link stands. Whose keys travel is said once."""
        if version < PROVES:
            told = "gateways of the release before send their keys in clear"
            self.refused.once("old", told)

    def lost(self, peer: Peer) -> None:
        """A link is gone."""
        self.peers.discard(peer)
        self.served.lost(peer)

    async def finish(self, within_s: float) -> None:
        """End the links once they are read to the end, or so long after."""
        for peer in tuple(self.peers):
            peer.finish()
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while self.peers and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Listen no more, and drop all links at once."""
        self.closed = True
        self._entrance.close()
        for peer in tuple(self.peers):
            peer.abort()


class Peer(asyncio.Protocol):
    """One gateway's link: cuts frames, greets, batches what goes out."""

    def __init__(self, server: LinkServer) -> None:
        self.gateway = ""  # its name, from an accepted greeting on
        self._server = server
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._greeting = Answering(server.key, nonce, os.getpid(), server.secure)
        self._reader = link.actor_reader()
        self._transport: asyncio.Transport | None = None  # once it is connected
        self._outgoing: list[bytes] = []  # frames, until the `flush` of this turn
        self._finished = False  # from `finish` on: nothing more is sent
        self._deadline: asyncio.TimerHandle | None = None  # for the greeting
        self._unproved = 0  # bytes that came before it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.closed:  # accepted before, told only now
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._server.hello_s, self.abort)
        self._server.peers.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
            if not self.gateway:  # what follows a proof may be long
                self._unproved += len(data)
                if self._unproved > MAX_HELLO:
                    raise link.BrokenLink("too much before hello")
        except Refusal as refusal:
            self._refuse(refusal)
        except link.BrokenLink as error:
            if self.gateway:
                logger.warning("link of %s broken: %s", self.gateway, error)
            else:  # anybody can cause it
                self._server.refused.warn("broken", f"link of nobody broken: {error}")
            self.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """With a last word, so that the other end need not guess."""
        assert self._transport is not None
        host = (self._transport.get_extra_info("peername") or ("a gateway",))[0]
        told = f"link of {host} is refused: {refusal}"
        self._server.refused.warn(f"{host} {refusal.kind}", told)
        self._transport.write(link.frame(link.Refused(*OURS, str(refusal))))
        self._transport.close()

    def _on_message(self, message: object) -> None:
        if isinstance(message, link.Ping):
            self.send(link.Pong(message.n))
        elif isinstance(message, link.Hello):
            self.send(self._greeting.on_hello(message))
            self._greeted()
        elif isinstance(message, link.Proof):
            self._greeting.on_proof(message)
            self._greeted()
        elif not self.gateway:
            raise link.BrokenLink("no hello")
        else:
            assert isinstance(message, link.Attach | link.Inputs)
            self._server.served.deliver(self, message)

    def _greeted(self) -> None:
        """Whoever still owes a proof has no name yet."""
        if self._greeting.gateway:
            assert self._deadline is not None
            self._deadline.cancel()
            self.gateway = self._greeting.gateway
            self._server.greeted(self._greeting.version)

    def send(self, message: link.ToGateway) -> None:
        """Queue a message; all of one turn leave in one write."""
        if self._finished:
            return
        if not self._outgoing:
            self._server.turn.write(self.flush)
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
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:  # TLS has no half-closed stream, but its close reads to the end, too
            transport.close()

    def abort(self) -> None:
        """Drop the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._server.lost(self)
