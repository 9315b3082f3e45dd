"""An actor process by hand: it hears a real link and says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from msgspec.structs import replace

from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.greeting import NONCE_BYTES, Answering, Refusal
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Placement
from tests import patience

T = TypeVar("T")


class ScriptedActor:
    """Listens on loopback; welcomes gateways that know its key."""

    def __init__(self, actor_id: str = "1") -> None:
        self.actor_id = actor_id
        self.key = f"key-{actor_id}"
        self.heard: list[object] = []
        self.answers_pings = True
        self.turn = 0  # of the last attach it heard
        self._seen = 0
        self._news = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.links = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def address(self) -> Address:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        at = ("127.0.0.1", port, self.key, self.actor_id, 1, "room:x")
        return Address(*at, version=link.VERSION)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.append(writer)
        self.links += 1
        frames = link.actor_reader()
        greeting = Answering(self.key, b"n" * NONCE_BYTES, 1, secure=False)
        try:
            while data := await reader.read(65536):
                for message in frames.feed(data):
                    if isinstance(message, link.Hello):
                        writer.write(link.frame(greeting.on_hello(message)))
                    elif isinstance(message, link.Proof):
                        greeting.on_proof(message)
                    else:
                        self._on_message(message, writer)
        except (ConnectionResetError, Refusal):
            pass
        finally:
            writer.close()

    def _on_message(self, message: object, writer: asyncio.StreamWriter) -> None:
        if isinstance(message, link.Ping):
            if self.answers_pings:
                writer.write(link.frame(link.Pong(message.n)))
        else:
            if isinstance(message, link.Attach):
                self.turn = message.turn
            self.heard.append(message)
            self._news.set()

    async def hears(self, kind: type[T]) -> T:
        """The next message of this type."""
        async with patience.within(3):
            while True:
                while self._seen < len(self.heard):
                    message = self.heard[self._seen]
                    self._seen += 1
                    if isinstance(message, kind):
                        return message
                self._news.clear()
                await self._news.wait()

    def says(self, *messages: link.ToGateway) -> None:
        """To the gateway that came last, in one write, and in its turn."""
        self._writers[-1].write(b"".join(link.frame(self._now(m)) for m in messages))

    def _now(self, message: link.ToGateway) -> link.ToGateway:
        if isinstance(message, link.Output | link.Goodbye) and not message.turn:
            return replace(message, turn=self.turn)
        return message

    def says_bytes(self, data: bytes) -> None:
        self._writers[-1].write(data)

    def drop(self) -> None:
        """As a process that dies: every link breaks."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        self.drop()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class Names:
    """A `Namespace` whose answer is whatever the test wants it to be."""

    unreachable_since: float | None = None

    def __init__(self) -> None:
        self.where: Address | None = None
        self.known = Placement()
        self.resolved = 0
        self.killed: list[tuple[str, str]] = []
        self.lost: list[str] = []  # what was said to be, by each resolve
        self.asked = asyncio.Event()

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        self.resolved += 1
        self.lost.append(lost)
        self.asked.set()
        if self.where is None:
            raise Unavailable(message="Nobody knows.")
        return self.where

    async def placement(self) -> Placement:
        return self.known

    async def kill(self, name: str, actor_id: str) -> bool:
        self.killed.append((name, actor_id))
        return True

    async def describe(self) -> list[Described]:
        return []

    async def wakes(self) -> None:
        """Nobody asks."""

    async def drain(self) -> int:
        return 0

    async def stored(self) -> bool:
        return True

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        pass


@asynccontextmanager
async def actor(actor_id: str = "1") -> AsyncIterator[ScriptedActor]:
    running = ScriptedActor(actor_id)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
