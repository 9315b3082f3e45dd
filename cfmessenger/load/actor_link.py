"""Links from a load worker to actor processes, as a gateway has them (design.md §3).

Owns the streams and their handshake; one for each process, shared by all rooms in it.
What a message means is `actor_room`'s business.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol, cast

from cfmessenger.client.errors import Unreachable
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link import messages as link
from cfmessenger.link import secured
from cfmessenger.link.greeting import NONCE_BYTES, Asking, Refusal
from cfmessenger.link.namespace import Address, NamespaceClient
from cfmessenger.tls import Trust

CONNECT_TIMEOUT_S = 5.0
PING_EVERY_S = 1.0


class Rider(Protocol):
    """A room, as its link sees it."""

    @property
    def name(self) -> str: ...

    def leaving(self) -> link.Inputs | None: ...
    def on_output(self, output: link.Output) -> None: ...
    def on_goodbye(self, goodbye: link.Goodbye) -> None: ...
    def on_lost(self, lost: Link) -> None: ...


class Link(asyncio.Protocol):
    """One stream to one actor process; `riders` by the name of their object."""

    def __init__(self, address: Address, gateway: str, secure: bool) -> None:
        loop = asyncio.get_running_loop()
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._greeting = Asking(address.key, gateway, nonce, address.version, secure)
        self.riders: dict[str, Rider] = {}
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.lost = False
        self._reader = link.gateway_reader()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._laden: list[Rider] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(link.frame(self._greeting.hello))

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
        except (Refusal, link.BrokenLink):
            self.abort()

    def _on_message(self, message: object) -> None:
        if isinstance(message, link.Output):
            if (rider := self.riders.get(message.object)) is not None:
                rider.on_output(message)
        elif isinstance(message, link.Goodbye):
            if (rider := self.riders.get(message.object)) is not None:
                rider.on_goodbye(message)
        elif isinstance(message, link.Welcome) and not self.welcomed.done():
            proof = self._greeting.welcomed(message)
            if proof is not None and self._transport is not None:
                self._transport.write(link.frame(proof))
            self.welcomed.set_result(None)

    def send(self, message: link.ToActor) -> None:
        """Queue a message; all of one iteration of the loop leave in one write."""
        self._flush_soon()
        self._outgoing.append(link.frame(message))

    def take_from(self, rider: Rider) -> None:
        """What is `leaving` there when this iteration ends goes with it."""
        self._flush_soon()
        self._laden.append(rider)

    def _flush_soon(self) -> None:
        if not self._outgoing and not self._laden:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        laden, self._laden = self._laden, []
        for rider in laden:
            # Else its next attach brings everything.
            if self.riders.get(rider.name) is rider and (inputs := rider.leaving()):
                self._outgoing.append(link.frame(inputs))
        out, self._outgoing = self._outgoing, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def abort(self) -> None:
        """Drop it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionResetError("no welcome"))
            self.welcomed.exception()  # looked at: nobody may be waiting any more
        riders, self.riders = self.riders, {}
        for rider in riders.values():
            rider.on_lost(self)


class Links:
    """All links of a worker, which calls itself `gateway`."""

    def __init__(
        self, gateway: str, namespace: NamespaceClient, trust: Trust | None = None
    ) -> None:
        self._trust = trust
        self.gateway = gateway
        self._namespace = namespace
        self._links: dict[str, Link] = {}
        self._opening = Flights[Link]()

    async def to(self, name: str) -> Link:
        """A live link to where the object lives now. Raises `Unreachable`."""
        try:
            address = await self._namespace.resolve(name)
        except Unavailable as error:
            raise Unreachable(f"{name}: {error.message}") from None
        found = self._links.get(address.key)
        if found is not None and not found.lost:
            return found
        return await self._opening.join(address.key, lambda: self._open(address))

    async def _open(self, address: Address) -> Link:
        try:
            opened = Link(address, self.gateway, self._trust is not None)
        except Refusal as refusal:
            raise Unreachable(f"the actor {address.pid}: {refusal}") from None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                at = address.host, address.port
                await secured.connect(opened, *at, self._trust)
                await opened.welcomed
        except (OSError, TimeoutError) as error:
            opened.abort()
            raise Unreachable(
                f"the actor process {address.pid} does not answer: {error}"
            ) from None
        self._links[address.key] = opened
        return opened

    async def ping(self) -> None:
        """Until cancelled: show the actors, and the kernel, that we are there."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for each in self._links.values():
                if not each.lost:
                    each.send(link.Ping(0))

    def close(self) -> None:
        """Drop every link."""
        for each in self._links.values():
            each.riders.clear()
            each.abort()
