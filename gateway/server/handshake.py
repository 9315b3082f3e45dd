"""A WebSocket's opening handshake (RFC 6455 §4): one request, one answer.

What is plain (`upgrade`) is accepted by its headers; of everything else websockets'
sans-I/O `ServerProtocol` reads the request and judges it, and what it refuses is
answered with our envelope. Then the application is asked, which is all
that there is of ASGI in a socket's life: it accepts, or refuses with an HTTP answer of
its own. An open socket keeps nothing of this. Knows no endpoint.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_local_addr,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHeaderValue,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from gateway import metrics
from gateway.server import upgrade
from gateway.server.refusals import Timer, log, quiet, refusal

CONNECTION = "cfmessenger.connection"
"""Key of `scope["extensions"]`: the connection that becomes this socket."""

HANDSHAKE_S = 9.0
"""From a complete upgrade request to its answer: a second more than a room that wakes
may take, and less than clients wait (websockets: 10 s)."""


class Upgraded(Protocol):
    """Whose handshake it is."""

    transport: asyncio.Transport

    def opened(self) -> None:
        """The 101 is written."""

    def application_done(self) -> None:
        """The application's call has ended, after the 101 or not."""

    def fail(self, code: int, reason: str) -> None:
        """Close the open socket."""


class Handshake:
    """From the request's bytes, which are given to `begin`, to the answer."""

    def __init__(
        self,
        socket: Upgraded,
        config: Config,
        server: ServerState,
        state: dict[str, Any],
    ) -> None:
        self.begun = False
        self._socket = socket
        self._config = config
        self._server = server
        self._state = state  # the application's, of its lifespan
        self._deadline = Timer(asyncio.get_running_loop())  # from `begin` to the end
        self._given: list[tuple[bytes, bytes]] = []  # the request's headers
        self._accept_key = ""  # of the 101, from `begin` on
        self._refusal: MutableMapping[str, Any] | None = None  # its start, then `body`
        self._asked = False  # the application has received that somebody connects
        self._open = False  # the 101 is sent
        self._over = asyncio.Event()  # answered, or nobody is there any more

    def begin(self, data: bytes, plain: upgrade.Headers | None = None) -> None:
        """The request, whole: as uvicorn's HTTP protocol hands it over, or with the
        headers that count, if it is plain."""
        self.begun = True
        key = None if plain is None else upgrade.key_of(plain)
        if plain is None:
            self._judge(data)
        elif key is None:
            self._judge(upgrade.request_of(data, plain))
        else:
            self._given = plain
            self._accept_key = accept_key(key.decode())
            self._begin(data.split(b" ", 2)[1].decode())

    def _judge(self, data: bytes) -> None:
        """Have websockets read the request and say whether it may be accepted."""
        library = ServerProtocol(logger=quiet)
        library.receive_data(data)
        request = next(iter(library.events_received()), None)
        if isinstance(request, Request):
            self._given = [
                (name.lower().encode("ascii"), value.encode("latin-1"))
                for name, value in request.headers.raw_items()
            ]
            response = library.accept(request)
            if response.status_code == 101:
                self._accept_key = response.headers["Sec-WebSocket-Accept"]
                self._begin(request.path)
            else:
                self._unacceptable(response.status_code, library.handshake_exc)
        else:
            self._unreadable(library.handshake_exc)
        # Its parser, a generator, holds it and the request, and it holds its parser:
        # what only the collector would free, and not soon.
        vars(library).clear()

    def _unacceptable(self, status: int, fault: Exception | None) -> None:
        metrics.REFUSED_CONNECTIONS.labels("handshake").inc()
        wrong_version = (
            isinstance(fault, InvalidHeaderValue)
            and fault.name == "Sec-WebSocket-Version"
        )
        # RFC 6455 §4.4
        self.refuse(426 if wrong_version else status)

    def _begin(self, target: str) -> None:
        """Ask the application."""
        self._deadline.set(HANDSHAKE_S, self._too_slow)
        task = asyncio.get_running_loop().create_task(self._ask(self._scope(target)))
        task.add_done_callback(self._server.tasks.discard)
        self._server.tasks.add(task)

    def _unreadable(self, fault: Exception | None) -> None:
        metrics.REFUSED_CONNECTIONS.labels("malformed").inc()
        log.info("malformed upgrade: %s", type(fault).__name__)
        if isinstance(fault, HeaderLineTooLong | TooManyHeaders):
            self.refuse(431)
        else:
            self.refuse(414 if isinstance(fault, RequestLineTooLong) else 400)

    def _scope(self, target: str) -> dict[str, Any]:
        transport, root = self._socket.transport, self._config.root_path
        raw_path, _, query = target.partition("?")
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "root_path": root,
            "path": root + unquote(raw_path),
            "raw_path": (root + raw_path).encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": self._given,
            "subprotocols": [
                token.strip()
                for name, value in self._given
                if name == b"sec-websocket-protocol"
                for token in value.decode("latin-1").split(",")
            ],
            "state": self._state.copy(),
            "extensions": {"websocket.http.response": {}, CONNECTION: self._socket},
        }

    async def _ask(self, scope: dict[str, Any]) -> None:
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
            if not self._over.is_set():
                quiet.error("the application left a handshake without an answer")
        except ClientDisconnected:
            pass
        except Exception:
            quiet.exception("the application failed in a handshake")
        self.refuse(500)
        self._socket.application_done()

    async def receive(self) -> dict[str, Any]:
        """ASGI's: that somebody connects, and then, if it comes to that, has left."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        await self._over.wait()
        if self._open:
            raise RuntimeError("an open socket is not received from: take it over")
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's: the answer, or the end of a socket that is open already.

        Raises uvicorn's `ClientDisconnected` if nobody waits for it any more.
        """
        kind = message["type"]
        if self._open and kind == "websocket.close":
            self._socket.fail(message.get("code", 1000), message.get("reason") or "")
        elif self._open:
            raise RuntimeError(f"{kind}: an open socket is written to, not sent to")
        elif self._over.is_set() or self._socket.transport.is_closing():
            raise ClientDisconnected
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self.refuse(403)
        elif kind == "websocket.http.response.start":
            self._refusal = {**message, "body": b""}
        elif kind == "websocket.http.response.body" and self._refusal is not None:
            self._refusal["body"] += message.get("body", b"")
            if not message.get("more_body", False):
                self._refuse_as_told(self._refusal)
        else:
            raise RuntimeError(f"{kind} is no answer to a handshake")

    def _accept(self, message: MutableMapping[str, Any]) -> None:
        headers = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", self._accept_key.encode()),
            *self._server.default_headers,
            *message.get("headers", ()),
        ]
        if message.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode()))
        lines = (b"%b: %b\r\n" % each for each in headers)
        head = b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % b"".join(lines)
        self._socket.transport.write(head)
        self._open = True
        self._end()
        self._socket.opened()

    def _refuse_as_told(self, told: MutableMapping[str, Any]) -> None:
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in told.get("headers", ())
        )
        headers.setdefault("Date", email.utils.formatdate(usegmt=True))
        headers.setdefault("Connection", "close")
        headers.setdefault("Content-Length", str(len(told["body"])))
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        self._refuse(told["status"], headers, told["body"])

    def refuse(self, status: int) -> None:
        """Answer with an envelope and end the connection; nothing after an answer."""
        if self._over.is_set():
            return
        body, raw = refusal(status, self._given)
        headers = Headers((name.decode(), value.decode()) for name, value in raw)
        headers["Connection"] = "close"
        if status == 426:
            headers["Upgrade"] = "websocket"
            headers["Sec-WebSocket-Version"] = "13"
        self._refuse(status, headers, body)

    def _refuse(self, status: int, headers: Headers, body: bytes) -> None:
        phrase = HTTPStatus(status).phrase
        response = Response(status, phrase, headers, body)
        self._end()
        self._socket.transport.write(response.serialize())
        self._socket.transport.close()

    def turn_away(self) -> None:
        """Whoever still waits is told to try again: what it waits for, Valkey or the
        namespace, may be there next time."""
        self.refuse(503)

    def _too_slow(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("slow_handshake").inc()
        self.turn_away()

    def lost(self) -> None:
        """The client has gone."""
        self._end()

    def _end(self) -> None:
        self._over.set()
        self._deadline.drop()
