"""The namespace: from an object's name to the actor process it lives in.

Owns the port that gateways call and its client; the server is
`actors.namespace_server`, beside the node's one Ray driver. A name gives an address
whether or not the object is awake: asking is what wakes it. Every answer may be stale
by the time it is used, so callers resolve again when a link breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from cfmessenger.errors import Unavailable
from cfmessenger.link.framing import framed, read_frame
from cfmessenger.placement import Mode, Placement, is_pool
from cfmessenger.wire.complaint import UNREADABLE

RESOLVE_TIMEOUT_S = 10.0
MAX_FRAME = 2**20
"""Bytes of one frame; a longer one ends the connection."""


class Address(msgspec.Struct, frozen=True):
    """An actor process: where its link server listens, the key, and who it is.

    `generation`: the number of the placement that led there; whoever knows an older one
    asks for it.
    """

    host: str
    port: int
    key: str
    actor_id: str
    pid: int
    actor: str = ""
    generation: int = 0

    @property
    def pooled(self) -> bool:
        """Many objects live there, and end with it."""
        return is_pool(self.actor)


class Described(msgspec.Struct, frozen=True):
    """One live object, for people: `cfmessenger rooms`."""

    name: str
    placement: str
    pid: int
    epoch: int = 0
    seq: int = 0
    sockets: int = 0
    state: str = "running"
    actor: str = ""
    load: float = 0.0  # share of its process's time, over the last seconds
    why: str = ""  # the reason of a room's exception; empty: it is none
    since: int = 0  # ms since 1970, of `why`


class Namespace(Protocol):
    """Names to actors. Every method may raise `Unavailable`."""

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False
    ) -> Address:
        """Get or create the actor of this name. `hint`: location, first time only;
        `moved`: a host has said so, so what is known of the placement is too old.

        Raises `Unavailable` AT_CAPACITY when no more actors may be made.
        """

    async def kill(self, actor: str, actor_id: str) -> bool:
        """End this very actor, if it is hung; never one that replaced it."""

    async def describe(self) -> list[Described]:
        """What is awake now."""

    async def ping(self) -> bool:
        """Whether names can be resolved now."""

    async def wakes(self) -> None:
        """Raises `Unavailable`, with the reason, unless a sleeping object could wake.

        Answers at once with what was found out in the last seconds.
        """

    async def placement(self) -> Placement:
        """The present generation."""

    async def place(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation: what is to live elsewhere moves there."""

    async def pin(self, name: str) -> Placement:
        """Give a room a named actor of its own, until it is unpinned."""

    async def unpin(self, name: str) -> Placement:
        """Let a room live where its load puts it."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One call: `id` comes back in the answer."""

    id: int
    verb: str
    args: list[str | None]
    key: str


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Its outcome: `error` is a code of errors.py, or None."""

    id: int
    error: str | None
    message: str | None
    result: msgspec.Raw


encode = msgspec.msgpack.Encoder().encode


def frame(message: Request | Answer) -> bytes:
    """One message as bytes for the wire. Raises `framing.TooLong`."""
    return framed(encode(message), MAX_FRAME)


class NamespaceClient:
    """`Namespace` over `unix:<path>` or `tcp://host:port`, one connection, many
    calls."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = url
        self._key = key
        self._calls: dict[int, asyncio.Future[Answer]] = {}  # by id, while under way
        self._next = 0  # the id of the last call
        # The newest connection and what reads from it, from the first call on.
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False
    ) -> Address:
        args = [name, hint, *(["moved"] if moved else [])]
        raw = await self._call("resolve", args, RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Address)

    async def kill(self, actor: str, actor_id: str) -> bool:
        raw = await self._call("kill", [actor, actor_id], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=bool)

    async def describe(self) -> list[Described]:
        raw = await self._call("describe", [], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=list[Described])

    async def ping(self) -> bool:
        """Whether the namespace server, and the Ray behind it, answer."""
        raw = await self._call("ping", [], 2.0)
        return msgspec.msgpack.decode(raw, type=bool)

    async def wakes(self) -> None:
        await self._call("wakes", [], 2.0)

    async def placement(self) -> Placement:
        raw = await self._call("placement", [], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def place(self, mode: Mode, size: int) -> Placement:
        raw = await self._call("place", [mode, str(size)], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def pin(self, name: str) -> Placement:
        raw = await self._call("pin", [name], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def unpin(self, name: str) -> Placement:
        raw = await self._call("unpin", [name], RESOLVE_TIMEOUT_S)
        return msgspec.msgpack.decode(raw, type=Placement)

    async def close(self) -> None:
        """Drop the connection; calls under way fail."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def _call(
        self, verb: str, args: list[str | None], timeout_s: float
    ) -> msgspec.Raw:
        try:
            async with asyncio.timeout(timeout_s):
                writer = await self._connect()
                self._next += 1
                call = self._next
                future: asyncio.Future[Answer] = (
                    asyncio.get_running_loop().create_future()
                )
                self._calls[call] = future
                try:
                    writer.write(frame(Request(call, verb, args, self._key)))
                    answer = await future
                finally:
                    self._calls.pop(call, None)
        except (OSError, TimeoutError) as error:
            raise Unavailable(message="The namespace does not answer.") from error
        if answer.error is not None:
            raise Unavailable(answer.error, answer.message)
        return answer.result

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await open_stream(self._url)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                body = await read_frame(reader, MAX_FRAME)
                answer = msgspec.msgpack.decode(body, type=Answer)
                future = self._calls.get(answer.id)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (EOFError, *UNREADABLE):
            pass
        finally:
            writer.close()
            for future in self._calls.values():
                if not future.done():
                    future.set_exception(ConnectionResetError("namespace closed"))


async def open_stream(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `unix:<path>` or `tcp://host:port`. Raises OSError."""
    if url.startswith("unix:"):
        return await asyncio.open_unix_connection(url.removeprefix("unix:"))
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve_stream(url: str, handler: Handler) -> asyncio.Server:
    """Listen on `unix:<path>` or `tcp://host:port`. Raises OSError."""
    if url.startswith("unix:"):
        path: Any = url.removeprefix("unix:")
        return await asyncio.start_unix_server(handler, path)
    parts = urlsplit(url)
    return await asyncio.start_server(handler, parts.hostname, parts.port)
