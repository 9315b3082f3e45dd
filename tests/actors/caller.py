"""A gateway's link over TCP, played by the test on a `Visitor`."""

import asyncio
import secrets
from typing import Self, cast

from cfmessenger.link import messages as link
from cfmessenger.link.greeting import NONCE_BYTES, Asking, Refusal
from cfmessenger.link.namespace import Address
from cfmessenger.link.secured import connect
from cfmessenger.tls import Trust
from tests import patience
from tests.actors.scene import PATIENCE_S, Visitor


class Caller(asyncio.Protocol):
    """What it is sent is in `visitor`; `ended` is set when the link is gone."""

    def __init__(self, gateway: str) -> None:
        self.visitor = Visitor(gateway)
        self.welcome: link.Welcome | None = None
        self.pongs: list[int] = []
        self.ended = asyncio.Event()
        self.last: list[object] = []
        self.refused = ""  # why, by either end
        self.transport: asyncio.Transport
        self._reader = link.gateway_reader()
        self._greeting: Asking | None = None  # from `open` on

    @classmethod
    async def open(
        cls,
        at: Address,
        gateway: str = "gA",
        *,
        key: str = "",
        trust: Trust | None = None,
        speaks: int = link.VERSION,
    ) -> Self:
        """Connected, and welcomed if the key is right. `speaks`: what it takes the
        actor to speak at most."""
        caller = await cls.silent(at, gateway, trust)
        nonce = secrets.token_bytes(NONCE_BYTES)
        secure = trust is not None
        caller._greeting = Asking(key or at.key, gateway, nonce, speaks, secure)
        caller.say(caller._greeting.hello)
        await caller.visitor.until(
            lambda: caller.welcome is not None or caller.ended.is_set()
        )
        return caller

    @classmethod
    async def silent(
        cls, at: Address, gateway: str = "gA", trust: Trust | None = None
    ) -> Self:
        """Connected, and nothing said."""
        caller = cls(gateway)
        await connect(caller, at.host, at.port, trust)
        return caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self.last.append(message)
            if isinstance(message, link.Welcome):
                self._on_welcome(message)
            elif isinstance(message, link.Refused):
                self.refused = message.why
            elif isinstance(message, link.Pong):
                self.pongs.append(message.n)
            else:
                self.visitor.send(cast(link.Output | link.Goodbye, message))
            self.visitor.news.set()

    def _on_welcome(self, welcome: link.Welcome) -> None:
        assert self._greeting is not None
        try:
            proof = self._greeting.welcomed(welcome)
        except Refusal as refusal:
            self.refused = str(refusal)
            self.close()
            return
        self.welcome = welcome
        if proof is not None:
            self.say(proof)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self.visitor.news.set()

    def say(self, *messages: link.ToActor) -> None:
        self.raw(b"".join(map(link.frame, messages)))

    def raw(self, data: bytes) -> None:
        self.transport.write(data)

    def enter(self, name: str, *conns: str) -> None:
        """Attach, and open these sockets."""
        v = self.visitor
        opened: list[link.Input] = [v.opened(conn) for conn in conns]
        self.say(v.attach(name), link.Inputs(name, opened))

    def chat(self, name: str, conn: str, text: str) -> None:
        self.say(link.Inputs(name, [self.visitor.chat(conn, text)]))

    async def until_ended(self) -> None:
        async with patience.within(PATIENCE_S):
            await self.ended.wait()

    def close(self) -> None:
        self.transport.abort()
