"""A real HTTP and WebSocket server on a loopback port whose every word a test writes.

For the client library: it speaks wire.md's shapes over TCP, and can also do what a
healthy gateway never does (vanish mid-frame, stay silent, refuse upgrades).
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests import patience

Handler = Callable[["HttpRequest"], tuple[int, Any]]


def now_ms() -> int:
    return int(time.time() * 1000)


def envelope(status: int, body: Any) -> bytes:
    """`body` is `data`, or for an error status `(code, message)`."""
    meta = {"timestamp": now_ms(), "requestId": "test"}
    if status < 400:
        return json.dumps({"success": True, "data": body, "meta": meta}).encode()
    error = {"code": body[0], "message": body[1]}
    return json.dumps({"success": False, "error": error, "meta": meta}).encode()


class HttpRequest:
    def __init__(self, method: str, target: str, headers: Headers, body: bytes) -> None:
        parts = urlsplit(target)
        self.method = method
        self.path = parts.path
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def session_id(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


class ServerSocket:
    """The server's end of one WebSocket."""

    def __init__(
        self, request: HttpRequest, protocol: ServerProtocol, writer: Any
    ) -> None:
        self.path = request.path
        self.query = request.query
        self.pinged = asyncio.Semaphore(0)
        self.pings: list[dict[str, Any]] = []
        self.answers_pings = True
        self.skew_ms = 0
        self.close_code: int | None = None
        self.closed = asyncio.Event()
        self._protocol = protocol
        self._writer = writer
        self._frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @property
    def since(self) -> int | None:
        return int(self.query["since"]) if "since" in self.query else None

    async def recv(self) -> dict[str, Any]:
        """The client's next frame that is no ping."""
        return await patience.wait_for(self._frames.get(), 5)

    def idle(self) -> bool:
        return self._frames.empty()

    def send(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            self.send_raw(json.dumps(frame))

    def send_raw(self, text: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())
            self._write()

    def close(self, code: int, reason: str = "") -> None:
        self._protocol.send_close(code, reason)
        self._write()

    def abort(self) -> None:
        """Gone without a close frame."""
        self._writer.transport.abort()

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            else:  # the protocol's sign to end the TCP connection
                self._writer.close()

    def feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if event.opcode is Opcode.TEXT:
                self._heard(json.loads(event.data))
        self._write()
        if self._protocol.close_rcvd is not None:
            self.close_code = self._protocol.close_rcvd.code
            self.closed.set()

    def _heard(self, frame: dict[str, Any]) -> None:
        if frame["type"] != "ping":
            self._frames.put_nowait(frame)
            return
        self.pings.append(frame)
        self.pinged.release()
        if self.answers_pings:
            pong = {"type": "pong", "timestamp": now_ms() + self.skew_ms}
            self.send(pong | {"t": frame["t"]})


class ScriptedServer:
    """`async with ScriptedServer() as server`; `server.accept()` is its next socket."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/api/auth/login"): self._login,
            ("POST", "/api/auth/refresh"): self._refresh,
            ("POST", "/api/auth/logout"): lambda request: (200, {"success": True}),
            ("POST", "/api/auth/ticket"): self._ticket,
        }
        self.refusals: deque[tuple[int, tuple[str, str], dict[str, str]]] = deque()
        self.requests: list[HttpRequest] = []
        self.session_id = "session-0"
        self.session_ttl_ms = 1_200_000
        self._numbers = 0
        self._sockets: asyncio.Queue[ServerSocket] = asyncio.Queue()
        self._exchanges: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> "ScriptedServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._exchanges.values():
            writer.transport.abort()
        await asyncio.gather(*self._exchanges)

    async def accept(self) -> ServerSocket:
        return await patience.wait_for(self._sockets.get(), 5)

    def calls(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._exchanges[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            del self._exchanges[task]

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]
        body = await reader.readexactly(int(headers.get("Content-Length", "0")))
        request = HttpRequest(method, target, headers, body)
        self.requests.append(request)
        if headers.get("Upgrade") == "websocket" and not self.refusals:
            await self._upgrade(request, head, reader, writer)
            return False
        extra: dict[str, str] = {}
        if headers.get("Upgrade") == "websocket":
            status, answer, extra = self.refusals.popleft()
        else:
            handler = self.routes.get((method, request.path))
            status, answer = (
                handler(request) if handler else (404, ("NOT_FOUND", "nothing here"))
            )
        data = envelope(status, answer)
        fields = {"Content-Length": str(len(data))} | extra
        lines_out = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{lines_out}\r\n".encode() + data)
        return True

    async def _upgrade(
        self,
        request: HttpRequest,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(head)
        (opening,) = protocol.events_received()
        assert isinstance(opening, Request)
        protocol.send_response(protocol.accept(opening))
        socket = ServerSocket(request, protocol, writer)
        socket._write()
        self._sockets.put_nowait(socket)
        while data := await reader.read(65536):
            socket.feed(data)

    def _login(self, request: HttpRequest) -> tuple[int, Any]:
        user_id = request.json["userId"]
        if not user_id.startswith("user_"):
            return 404, ("USER_NOT_FOUND", "There is no such user.")
        user = {
            "id": user_id,
            "email": f"{user_id}@example.org",
            "displayName": user_id.title(),
            "avatarId": "cat",
            "status": "online",
            "isAiBot": False,
        }
        return 200, {
            "sessionId": self.session_id,
            "user": user,
            "expiresAt": now_ms() + self.session_ttl_ms,
            "locationHint": "uk",
        }

    def _refresh(self, request: HttpRequest) -> tuple[int, Any]:
        if request.session_id != self.session_id:
            return 401, ("AUTH_EXPIRED", "The session is not valid (any more).")
        self._numbers += 1
        self.session_id = f"session-{self._numbers}"
        expires = now_ms() + self.session_ttl_ms
        return 200, {"sessionId": self.session_id, "expiresAt": expires}

    def _ticket(self, request: HttpRequest) -> tuple[int, Any]:
        if request.session_id != self.session_id:
            return 401, ("AUTH_EXPIRED", "The session is not valid (any more).")
        self._numbers += 1
        return 200, {"ticket": f"ticket-{self._numbers}", "expiresAt": now_ms() + 30000}
