"""A gateway's link over TCP, played by the test on a `Visitor`."""

import asyncio
from typing import Self, cast

from cfmessenger.link import messages as link
from cfmessenger.link.namespace import Address
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
        self.transport: asyncio.Transport
        self._reader = link.gateway_reader()

    @classmethod
    async def open(cls, at: Address, gateway: str = "gA", *, key: str = "") -> Self:
        """Connected, and welcomed if the key is right."""
        caller = await cls.silent(at, gateway)
        caller.say(link.Hello(link.VERSION, key or at.key, gateway))
        await caller.visitor.until(
            lambda: caller.welcome is not None or caller.ended.is_set()
        )
        return caller

    @classmethod
    async def silent(cls, at: Address, gateway: str = "gA") -> Self:
        """Connected, and nothing said."""
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(lambda: cls(gateway), at.host, at.port)
        return caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self.last.append(message)
            if isinstance(message, link.Welcome):
                self.welcome = message
            elif isinstance(message, link.Pong):
                self.pongs.append(message.n)
            else:
                self.visitor.send(cast(link.Output | link.Goodbye, message))
            self.visitor.news.set()

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
