"""An application on our server that answers with what it was told, and a raw client.

Sockets are taken over as `gateway.live` does it: `Heard` is the listener of one, and
remembers all that it hears.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected

from cfmessenger.link.messages import text_frame
from gateway.server.websocket_protocol import WebSocket, socket_of
from tests import patience
from tests.gateway.edge import Gateway, serving, settings_for
from tests.gateway.node import eventually, upgrade

SUBPROTOCOL = "spoken"


class Heard:
    """A socket that was taken over: it sends text back. `events` are texts, "binary",
    None for a sign of life, "slow", and the code of the end."""

    def __init__(self, wire: WebSocket) -> None:
        self.wire = wire
        self.events: list[Any] = []
        self.lost = asyncio.Event()

    def on_text(self, data: bytes) -> None:
        self.events.append(data)
        self.wire.write(text_frame(data))

    def on_binary(self) -> None:
        self.events.append("binary")

    def on_alive(self) -> None:
        self.events.append(None)

    def on_slow(self) -> None:
        self.events.append("slow")

    def on_lost(self, code: int) -> None:
        self.events.append(code)
        self.lost.set()


class Echo:
    """The application; it remembers scopes and sockets.

    Between accepting and taking over it waits for `hold`.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.sockets: list[Heard] = []
        self.clients: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Event()  # a request, or a handshake without an answer
        self.accepted = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        self.scopes.append(scope)
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        else:
            await self.websocket(scope, receive, send)

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ended.set()
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        length = str(len(body)).encode()
        start = {"type": "http.response.start", "status": 200}
        await send(start | {"headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        match scope["path"]:
            case "/never":
                assert (await receive())["type"] == "websocket.disconnect"
                try:
                    await send({"type": "websocket.accept"})
                except ClientDisconnected:
                    self.ended.set()
                return
            case "/refused":
                start = {"type": "websocket.http.response.start", "status": 403}
                await send(start | {"headers": [(b"x-own", b"1")]})
                body = {"type": "websocket.http.response.body"}
                await send(body | {"body": b"n", "more_body": True})
                await send(body | {"body": b"o"})
                return
            case "/closed":
                await send({"type": "websocket.close"})
                return
            case "/silent":
                return
            case "/failing":
                raise ZeroDivisionError
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        self.accepted.set()
        match scope["path"]:
            case "/unwanted":
                return
            case "/received":
                await receive()
            case "/sent":
                await send({"type": "websocket.send", "text": "x"})
            case "/ended":
                await send({"type": "websocket.close", "code": 4501, "reason": "why"})
                return
        await self.hold.wait()
        heard = Heard(socket_of(scope))
        self.sockets.append(heard)
        heard.wire.take_over(heard)


@asynccontextmanager
async def echoing(valkey_url: str) -> AsyncIterator[Gateway]:
    """The server; what clients by hand leave open is closed with it."""
    app = Echo()
    try:
        async with serving(app, settings_for(valkey_url)) as running:
            yield running
    finally:
        for writer in app.clients:
            writer.close()
        await asyncio.sleep(0)  # in which they are closed


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {n.lower(): v for n, _, v in fields}, body


def enveloped(answer: bytes, status: int, code: str) -> dict[str, str]:
    """Asserts the shape of an answer from below the application; its headers."""
    found, headers, body = parsed(answer)
    assert found == status, answer
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    envelope = json.loads(body)
    assert set(envelope) == {"success", "error", "meta"}
    assert envelope["error"]["code"] == code
    assert envelope["meta"]["requestId"] == headers["x-request-id"]
    assert "server" not in headers
    return headers


class Client:
    """A socket by hand: bytes out, frames back."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head

    @classmethod
    async def open(cls, edge: Gateway, *more: str, path: str = "/") -> Self:
        """Upgraded, with these lines more in its head."""
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        edge.app.clients.append(writer)
        writer.write(upgrade(path, "none", *more))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return cls(reader, writer, head)

    def send(self, *frames: bytes) -> None:
        """All in one write."""
        self.writer.write(b"".join(frames))

    async def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next; a server's are not masked (§5.1)."""
        async with patience.within(5):
            first, size = await self.reader.readexactly(2)
            assert size < 128, "masked"
            if size >= 126:
                least, count = (126, 2) if size == 126 else (65536, 8)
                size = int.from_bytes(await self.reader.readexactly(count), "big")
                assert size >= least, "not minimal"
            return first, await self.reader.readexactly(size)

    async def text(self) -> bytes:
        """The next frame, which is a text."""
        first, payload = await self.frame()
        assert first == 0x81, (first, payload)
        return payload

    async def closed(self) -> tuple[int, bytes]:
        """Code and reason of the close frame that is next; 1005 stands for none."""
        first, payload = await self.frame()
        assert first == 0x88, (first, payload)
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        return code, payload[2:]

    async def ends(self) -> None:
        """Nothing more comes; the server has ended the connection."""
        async with patience.within(5):
            assert await self.reader.read() == b""
        self.writer.close()


async def opened(edge: Gateway) -> tuple[Client, Heard]:
    """A client and the server's side of its socket."""
    app: Echo = edge.app
    before = len(app.sockets)
    client = await Client.open(edge)
    await eventually(lambda: len(app.sockets) > before)
    return client, app.sockets[-1]
