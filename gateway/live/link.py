"""One stream to one actor process, as a gateway has it: greeted, batched, given up.

What the messages mean is the business of the stubs that ride on it, and whom to dial
that of `links`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link import messages as link
from cfmessenger.link import secured
from cfmessenger.link.greeting import NONCE_BYTES, Asking, Refusal, Versions, common
from cfmessenger.link.namespace import Address
from cfmessenger.seldom import Seldom
from cfmessenger.tls import Trust, why
from gateway import metrics

logger = logging.getLogger("cfmessenger.links")

CONNECT_TIMEOUT_S = 1.0
HUNG_AFTER_PINGS = 3
REFUSED_FOR_S = 5.0
"""A refusal is told of for so long after it; linked ahead is each second."""


class Lost(Unavailable):
    """Nobody answers where that very actor is to be."""


class Refused(Unavailable):
    """That actor is there, and either it or we do not trust the other, or they speak no
    version in common."""


class Rider(Protocol):
    """An object's stub, as a link sees it."""

    name: str

    def leaving(self) -> link.Inputs | None: ...
    def on_output(self, output: link.Output) -> None: ...
    def on_goodbye(self, goodbye: link.Goodbye) -> None: ...
    def on_lost(self, lost: Link) -> None: ...


class Link(asyncio.Protocol):
    """One stream to one actor process. `riders`: the attached stubs, by object.

    Stubs enter and leave by themselves; all are told when it is lost.
    """

    def __init__(self, address: Address, gateway: str, secure: bool = False) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._greeting = Asking(address.key, gateway, nonce, address.version, secure)
        self.address = address
        self.riders: dict[str, Rider] = {}
        # Done with the Welcome; fails with `Unavailable` if it is lost before.
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False  # True from the end of the stream on
        self.unanswered = 0  # pings since anything was heard
        self.gateway = gateway  # the name it said hello with
        self._reader = link.gateway_reader()
        self._transport: asyncio.Transport | None = None  # None: not connected yet
        self._outgoing: list[bytes] = []  # until the `_flush` of this iteration
        self._laden: dict[str, Rider] = {}  # who have something for it: likewise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(link.frame(self._greeting.hello))

    def data_received(self, data: bytes) -> None:
        self.unanswered = 0
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
        except Refusal as refusal:
            self._not_welcomed(Refused(message=str(refusal)))
            self.abort()
        except link.BrokenLink as error:
            logger.warning("link to pid %d broken: %s", self.address.pid, error)
            self.abort()

    def _on_message(self, message: object) -> None:
        if isinstance(message, link.Output | link.Goodbye):
            rider = self.riders.get(message.object)
            if rider is not None:
                self._hand_to(rider, message)
        elif isinstance(message, link.Welcome):
            self._on_welcome(message)
        elif isinstance(message, link.Refused):
            common(Versions(message.oldest, message.newest))
            raise Refusal(f"it refuses us: {message.why}")

    def _on_welcome(self, welcome: link.Welcome) -> None:
        if self.welcomed.done():
            return
        proof = self._greeting.welcomed(welcome)
        if proof is not None:
            assert self._transport is not None
            self._transport.write(link.frame(proof))
        self.welcomed.set_result(None)

    def _not_welcomed(self, problem: Unavailable) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(problem)
            self.welcomed.exception()  # looked at: nobody may be waiting any more

    def _hand_to(self, rider: Rider, message: link.Output | link.Goodbye) -> None:
        try:
            if isinstance(message, link.Output):
                rider.on_output(message)
            else:
                metrics.GOODBYES.labels(message.reason).inc()
                rider.on_goodbye(message)
        except Exception:
            self._failed(rider)

    def _failed(self, rider: Rider) -> None:
        """Our bug in one object's stub. Raised further it would end the link, and with
        it every other object's: this one comes back, and they never notice."""
        logger.exception("%s failed", rider.name)
        self.riders.pop(rider.name, None)
        rider.on_lost(self)

    @property
    def proved(self) -> bool:
        """The actor has shown that it knows the key; one of the release before cannot,
        and was sent it."""
        return self._greeting.proves

    def send(self, message: link.ToActor) -> None:
        """Queue a message; all of one iteration of the loop leave in one write.

        On a lost link it goes nowhere. A link whose peer leaves more than
        `link.HIGH_WATER` bytes unread is ended.
        """
        self._flush_soon()
        self._outgoing.append(link.frame(message))

    def take_from(self, rider: Rider) -> None:
        """What is `leaving` there when this iteration ends is in the same write, after
        all that is sent until then."""
        self._flush_soon()
        self._laden[rider.name] = rider

    def _flush_soon(self) -> None:
        if not self._outgoing and not self._laden:
            asyncio.get_running_loop().call_soon(self._flush)

    def _load(self) -> None:
        laden, self._laden = self._laden, {}
        for rider in laden.values():
            if self.riders.get(rider.name) is not rider:
                continue  # its next attach brings everything
            try:
                inputs = rider.leaving()
                if inputs is not None:
                    self._outgoing.append(link.frame(inputs))
            except Exception:
                self._failed(rider)

    def _flush(self) -> None:
        self._load()
        transport, out = self._transport, self._outgoing
        self._outgoing = []
        if transport is None or transport.is_closing() or not out:
            return
        if transport.get_write_buffer_size() > link.HIGH_WATER:
            logger.warning("link to pid %d dropped: it does not read", self.address.pid)
            transport.abort()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))

    def ping(self) -> bool:
        """Ask for a sign of life; False if three in a row went unanswered."""
        if self.unanswered >= HUNG_AFTER_PINGS:
            return False
        self.unanswered += 1
        self.send(link.Ping(0))
        return True

    def abort(self) -> None:
        """Drop the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if isinstance(exc, ssl.SSLError):
            self._not_welcomed(Refused(message=why(exc)))
        self._not_welcomed(Unavailable(message="The actor is gone."))
        riders, self.riders = self.riders, {}
        for rider in riders.values():
            rider.on_lost(self)


class Dialling:
    """Opens links, each address once at a time, and knows who was not linked to."""

    def __init__(self, trust: Trust | None) -> None:
        self._trust = trust
        # By the address's key: from the dial until the Welcome, or a failure.
        self._opening = Flights[Link]()
        self._refusals = Seldom(logger)
        # The last refusal, and the loop time until which it is told of.
        self._refused, self._refused_until = "", 0.0

    async def open(
        self, address: Address, gateway: str, keep: Callable[[Link], None]
    ) -> Link:
        """A link that was welcomed, under this gateway's name, and that `keep` has
        taken, whoever still waits for it. Raises `Lost`, `Refused`, or
        `Unavailable`."""
        opening = partial(self._open, address, gateway, keep)
        return await self._opening.join(address.key, opening)

    async def _open(
        self, address: Address, gateway: str, keep: Callable[[Link], None]
    ) -> Link:
        try:
            opened = Link(address, gateway, self._trust is not None)
        except Refusal as refusal:
            raise self._not_linked(address, str(refusal)) from None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                at = address.host, address.port
                await secured.connect(opened, *at, self._trust)
                await opened.welcomed
        except ssl.SSLError as error:
            opened.abort()
            raise self._not_linked(address, why(error)) from error
        except Refused as refused:
            raise self._not_linked(address, refused.message) from None
        except (OSError, TimeoutError) as error:
            opened.abort()
            raise Lost(message="The actor cannot be reached.") from error
        except asyncio.CancelledError:
            opened.abort()  # nobody else knows it yet
            raise Unavailable(message="The gateway closes.") from None
        if not opened.proved:
            told = "actors of the release before are sent their keys in clear"
            self._refusals.once("old", told)
        keep(opened)
        return opened

    def _not_linked(self, address: Address, why: str) -> Refused:
        """Told in the log, and for a while to who asks for `refused`."""
        at = f"{address.host}:{address.port}"
        self._refusals.warn(f"{address.host} {why}", f"no link to {at}: {why}")
        self._refused = why
        loop = asyncio.get_running_loop()
        self._refused_until = loop.time() + REFUSED_FOR_S
        return Refused(message=f"No link to the actor: {why}.")

    @property
    def refused(self) -> str:
        """Why an actor was not linked to lately, though it is there; empty: none."""
        late = asyncio.get_running_loop().time() > self._refused_until
        return "" if late else self._refused

    async def cancel(self) -> None:
        """Give up what is being opened."""
        await self._opening.cancel()
