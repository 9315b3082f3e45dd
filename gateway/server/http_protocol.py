"""uvicorn's HTTP/1.1 protocol, hardened: deadlines, and no two readings of one request.

Bare uvicorn waits for ever for a request's head and lets Content-Length and
Transfer-Encoding contradict each other (design.md §10). Knows no endpoint.
"""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus
from typing import Any, Protocol, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gateway import forwarded, metrics
from gateway.server.door import Door
from gateway.server.refusals import LINGER_S, Timer, log, quiet, refusal
from gateway.server.upgrade import HOST, Headers, plain_upgrade

REQUEST_S = 10.0
"""From the connection (or a request's first byte) to the request's last byte."""
STALLED_WRITE_S = 30.0
"""How long an HTTP client may leave an answer unread."""

SEND_BUFFER, RECEIVE_BUFFER = 128 * 1024, 64 * 1024
"""What the kernel keeps for a connection, asked for; Linux takes that for the payload
and doubles it. Left alone it grows to several MiB for a peer that does not read, or
that we do not. It is enough for 1 MiB/s to somebody 200 ms away."""

MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_HEADER_LINE = 8 * 1024 - 64  # below what websockets refuses
MAX_TARGET = 4 * 1024

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([/?].*|)\Z", re.IGNORECASE)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_ODD_LINE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")


class Doored(Protocol):
    """uvicorn's configuration with the door that all connections pass."""

    door: Door


class _StrictConnection(h11.Connection):
    """h11 plus what it leaves out."""

    fault: h11.RemoteProtocolError | None = None  # why the last event failed
    trusted = False  # from connecting on: the peer is a trusted proxy (`forwarded`)

    def next_event(self) -> Any:
        try:
            if self.their_state is h11.IDLE:
                self._check_lines()
            event = super().next_event()
            if isinstance(event, h11.Request):
                _check_head(event)
                event = self._settled(event)
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise
        return event

    def _check_lines(self) -> None:
        """Of a head that is complete; h11 is lenient about what ends a line."""
        buffer = self._receive_buffer
        # RFC 9112 §2.2: an empty line before a request is passed over.
        while buffer._data[:2] == b"\r\n":
            buffer.maybe_extract_at_most(2)
        end = _END_OF_HEAD.search(buffer._data)
        # A bare LF or CR may be no end of line to whoever is in front of us, and a
        # folded line another header: request smuggling (§2.2, §5.2).
        if end is not None and _ODD_LINE.search(buffer._data, 0, end.end()):
            raise h11.RemoteProtocolError("odd line endings", 400)

    def _settled(self, request: h11.Request) -> h11.Request:
        """Its target in origin form, its forwarding headers true."""
        target, headers = request.target, list(request.headers)
        if not target.startswith(b"/"):
            found = _ABSOLUTE.match(target)
            if found is not None and HOST.match(found[1]):
                # RFC 9112 §3.2.2: the target's authority counts, Host is ignored.
                target = (b"" if found[2].startswith(b"/") else b"/") + found[2]
                headers = [h for h in headers if h[0] != b"host"]
                headers.append((b"host", found[1]))
            elif (request.method, target) != (b"OPTIONS", b"*"):
                raise h11.RemoteProtocolError("no such target", 400)
        if any(name in forwarded.NAMES for name, _ in headers):
            headers = forwarded.settled(headers, self.trusted)
        elif target is request.target:
            return request
        return h11.Request(
            method=request.method,
            target=target,
            headers=headers,
            http_version=request.http_version,
        )


def _check_head(request: h11.Request) -> None:
    if not request.http_version.startswith(b"1."):
        raise h11.RemoteProtocolError("no such version", 505)
    if len(request.target) > MAX_TARGET:
        raise h11.RemoteProtocolError("target too long", 414)
    if len(request.headers) > MAX_HEADERS:
        raise h11.RemoteProtocolError("too many headers", 431)
    names = set()
    for name, value in request.headers:
        if len(name) + len(value) > MAX_HEADER_LINE:
            raise h11.RemoteProtocolError("header too long", 431)
        if name == b"host" and not HOST.match(value):
            raise h11.RemoteProtocolError("no such host", 400)
        names.add(name)
    # Whoever is in front of us may have believed the other one (request smuggling).
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version == b"1.0"
    ):
        raise h11.RemoteProtocolError("two framings", 400)


class GuardedHTTP(H11Protocol):
    """HTTP/1.1 by h11, with deadlines for reading a request and writing its answer."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _StrictConnection(h11.SERVER, MAX_HEAD)
        self.logger = quiet
        self.access_log = False  # ours is middleware.py's
        self._reading = Timer(self.loop)  # while a request is under way
        self._writing = Timer(self.loop)  # while the peer does not read the answer
        self._door = cast(Doored, config).door
        self._fresh = True  # until the first bytes
        # What the door said; None: not let in, or not counted there any more.
        self._admitted: str | None = None

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        address = self.client[0] if self.client else None
        if address is not None:
            strict = cast(_StrictConnection, self.conn)
            strict.trusted = self._door.is_proxy(address)
        self._admitted = self._door.admit(address, len(self.connections))
        if self._admitted is None:
            metrics.REFUSED_CONNECTIONS.labels("crowd").inc()
            self._refuse(503)
            return
        self._reading.set(REQUEST_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._reading.drop()
        self._writing.drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._fresh:
            self._fresh = False
            headers = plain_upgrade(data)
            if headers is not None and self._admitted is not None:
                self._become_socket(data, headers)
                return
        super().data_received(data)
        self._set_deadline()

    def _become_socket(self, request: bytes, headers: Headers) -> None:
        """What `handle_websocket_upgrade` comes to, without h11."""
        if any(name in forwarded.NAMES for name, _ in headers):
            trusted = cast(_StrictConnection, self.conn).trusted
            headers = forwarded.settled(headers, trusted)
        self._leave()
        self._reading.drop()
        self.connections.discard(self)
        opened = cast(type[Any], self.ws_protocol_class)(
            config=self.config,
            server_state=self.server_state,
            app_state=self.app_state,
        )
        opened.connection_made(self.transport)
        opened.upgrade(request, headers)
        self.transport.set_protocol(opened)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # Answered before its end (413): the rest is thrown away for a while.
            self._reading.drop()
            self._reading.set(LINGER_S, self._too_slow)
        self._set_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.set(STALLED_WRITE_S, self._unread)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.drop()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._leave()
        self._reading.drop()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        fault = cast(_StrictConnection, self.conn).fault
        status = 400 if fault is None else fault.error_status_hint
        metrics.REFUSED_CONNECTIONS.labels("malformed").inc()
        log.info("malformed request: %s", fault)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # half an answer is under way
            return
        self._refuse(status)

    def _refuse(self, status: int) -> None:
        body, headers = refusal(status, self.headers or [])
        head = h11.Response(
            status_code=status,
            headers=[*headers, (b"connection", b"close")],
            reason=HTTPStatus(status).phrase.encode(),
        )
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def _leave(self) -> None:
        if self._admitted is not None:
            self._door.leave(self._admitted)
            self._admitted = None

    def _should_upgrade(self) -> bool:
        # Anything else stays an ordinary request, and the application refuses it.
        return (
            self._get_upgrade() == b"websocket"
            and self.scope["method"] == "GET"
            and self.scope["http_version"] == "1.1"
        )

    def _set_deadline(self) -> None:
        """Set the deadline while a request is under way; drop it between two, when
        uvicorn's own timer for idle connections runs."""
        if self.transport.get_protocol() is not self:
            return  # it was an upgrade, and h11 never heard how it went on
        state = self.conn.their_state
        between = state is h11.IDLE and (
            # What came was no request: half a head, or empty lines.
            self.conn.trailing_data[0] or self.timeout_keep_alive_task is None
        )
        if state is h11.SEND_BODY or between:
            self._reading.set(REQUEST_S, self._too_slow)
        elif state is not h11.IDLE or self.cycle is not None:
            self._reading.drop()

    def _too_slow(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("slow_request").inc()
        self.transport.abort()

    def _unread(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("unread_answer").inc()
        self.transport.abort()
