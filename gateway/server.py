"""uvicorn as an internet-facing edge: its configuration and two hardened protocols.

Bare uvicorn waits for ever for a request's head, hangs on upgrades whose headers its
WebSocket library refuses, lets Content-Length and Transfer-Encoding contradict each
other, answers pings without end and logs query strings (reliability.md D6). Everything
here is about one connection and knows no endpoint. What is refused below the
application is an envelope as well; its codes (BAD_REQUEST, URI_TOO_LONG,
HEADERS_TOO_LARGE) are about HTTP itself and therefore not in `errors.py`.

The application finds its connection in the WebSocket scope's extensions (`CONNECTION`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import h11
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHeaderValue,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask
from websockets.streams import StreamReader

from cfmessenger.errors import CloseCode
from cfmessenger.settings import Settings
from gateway import metrics
from gateway.door import Door, connections_allowed
from gateway.envelope import RETRY_AFTER_S, choose_request_id, failure
from gateway.middleware import SECURITY

CONNECTION = "cfmessenger.connection"
"""Key of `scope["extensions"]`: the `GuardedWebSocket` that carries this socket."""

REQUEST_S = 10.0
"""From the connection (or a request's first byte) to the request's last byte."""
HANDSHAKE_S = 10.0
"""From a complete upgrade request to its answer."""
STALLED_WRITE_S = 30.0
"""How long an HTTP client may leave an answer unread."""

MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_HEADER_LINE = 8 * 1024 - 64  # below what websockets refuses
MAX_TARGET = 4 * 1024
MAX_WS_MESSAGE = 64 * 1024
MAX_FRAGMENTS = 64
PINGS_PER_S = 10
LINGER_S = 2.0
"""How long a peer has to read why it is thrown out. Closing at once, with its bytes
still coming, would make TCP throw the answer away."""
MAX_UNREAD_PONGS = 64 * 1024
LOGGED_PER_S = 20
"""Lines a second about malformed requests, which cost whoever sends them nothing."""

# RFC 9112 §3.2: an invalid Host is a 400, for what is built from it may be believed.
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")

# Level and filter are on our own logger: uvicorn's, at INFO, prints the URL of every
# handshake with its query, and websockets', at DEBUG, every header.
log = logging.getLogger("cfmessenger.server")
_quiet = logging.getLogger("cfmessenger.server.connection")
_quiet.setLevel(logging.WARNING)

_MALFORMED = {
    400: ("BAD_REQUEST", "The request is malformed."),
    403: ("FORBIDDEN", "This is not allowed."),
    405: ("METHOD_NOT_ALLOWED", "This method is not allowed here."),
    414: ("URI_TOO_LONG", "The URL is too long."),
    426: ("UPGRADE_REQUIRED", "This is a WebSocket endpoint, version 13."),
    431: ("HEADERS_TOO_LARGE", "The headers are too large or too many."),
    500: ("INTERNAL_ERROR", "Something went wrong on our side."),
    503: ("UNAVAILABLE", "Not available right now."),
    505: ("BAD_REQUEST", "WebSockets need HTTP/1.1."),
}


def server_config(
    app: Any, settings: Settings, *, host: str | None = None, port: int | None = None
) -> uvicorn.Config:
    """The one way we run uvicorn. `app` is an application or its import string.

    Logging is left as it is; the process configures it. Clients' addresses are taken
    from `X-Forwarded-For` only behind the proxies of the settings. An address may have
    as many other connections as it may have sockets.
    """
    config = _Config(
        app,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        factory=isinstance(app, str),
        http=GuardedHTTP,
        ws=GuardedWebSocket,
        ws_max_size=MAX_WS_MESSAGE,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # the heartbeat is wire.md §6's, not uvicorn's
        ws_ping_timeout=None,
        h11_max_incomplete_event_size=MAX_HEAD,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_s)),
    )
    config.door = Door(
        per_address=settings.max_sockets_per_address,
        in_all=connections_allowed(),
        proxies=settings.trusted_proxies,
    )
    return config


class _Config(uvicorn.Config):
    door: Door


_BETWEEN_FRAMES = StreamReader.at_eof.__code__


class _Stays:
    """In place of a timer: uvicorn closes whoever has none when the call ends."""

    def cancel(self) -> None: ...


_STAYS = cast(asyncio.TimerHandle, _Stays())


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Answered 1007 and 400; a traceback for each would be a way to fill disks.
        return not str(record.msg).startswith(("Invalid UTF-8", "Invalid HTTP request"))


_quiet.addFilter(_Quiet())


class _Sampled(logging.Filter):
    """So many lines a second, and how many there would have been besides."""

    def __init__(self) -> None:
        super().__init__()
        self._second = self._lines = self._unsaid = 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > LOGGED_PER_S:
            self._unsaid += 1
            return False
        if self._unsaid:
            record.msg = f"{record.getMessage()} ({self._unsaid} more before it)"
            record.args = None
            self._unsaid = 0
        return True


log.addFilter(_Sampled())


class _Timer:
    """One deadline that may be set and dropped many times.

    It knows its owner only while it runs, so that what a connection no longer needs
    (the HTTP protocol of every WebSocket) is freed at once and not by the collector.
    """

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, act)

    def drop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _StrictConnection(h11.Connection):
    """h11 plus the refusals it leaves out; `fault` is why the last event failed."""

    fault: h11.RemoteProtocolError | None = None

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                _check_head(event)
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise
        return event


def _check_head(request: h11.Request) -> None:
    if len(request.target) > MAX_TARGET:
        raise h11.RemoteProtocolError("target too long", 414)
    if len(request.headers) > MAX_HEADERS:
        raise h11.RemoteProtocolError("too many headers", 431)
    names = set()
    for name, value in request.headers:
        if len(name) + len(value) > MAX_HEADER_LINE:
            raise h11.RemoteProtocolError("header too long", 431)
        if name == b"host" and not _HOST.match(value):
            raise h11.RemoteProtocolError("no such host", 400)
        names.add(name)
    # Whoever is in front of us may have believed the other one (request smuggling).
    if b"content-length" in names and b"transfer-encoding" in names:
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
        self.logger = _quiet
        self.access_log = False  # ours is middleware.py's
        self._reading = _Timer(self.loop)
        self._writing = _Timer(self.loop)
        self._door = cast(_Config, config).door
        self._admitted: str | None = None

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        address = self.client[0] if self.client else None
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
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # Answered before its end (413): the rest is thrown away for a while.
            self._reading.drop()
            self._reading.set(LINGER_S, self._too_slow)
        self._settle()

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
        body, headers = _refusal(status, self.headers or [])
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

    def _settle(self) -> None:
        """A request that is under way has a deadline, an idle connection uvicorn's."""
        if self.transport.get_protocol() is not self:
            return  # it was an upgrade, and h11 never heard how it went on
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            self._reading.set(REQUEST_S, self._too_slow)
        elif state is not h11.IDLE or self.cycle is not None:
            self._reading.drop()

    def _too_slow(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("slow_request").inc()
        self.transport.abort()

    def _unread(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("unread_answer").inc()
        self.transport.abort()


class _Handshake(ServerProtocol):
    """websockets' handshake and frames, refusing with envelopes."""

    offered_headers: Headers | None = None

    def accept(self, request: Request) -> Response:
        self.offered_headers = request.headers
        return super().accept(request)

    def reject(self, status: int, text: str) -> Response:
        fault = self.handshake_exc
        wrong_version = (
            isinstance(fault, InvalidHeaderValue)
            and fault.name == "Sec-WebSocket-Version"
        )
        if wrong_version:
            status = 426  # RFC 6455 §4.4
        given = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in (self.offered_headers or Headers()).raw_items()
        ]
        body, raw = _refusal(int(status), given)
        headers = Headers([(n.decode(), v.decode()) for n, v in raw])
        headers["Connection"] = "close"
        if status == 426:
            headers["Upgrade"] = "websocket"
            headers["Sec-WebSocket-Version"] = "13"
        return Response(int(status), HTTPStatus(status).phrase, headers, body)


def _rests_in(parser: Any) -> Any:
    """The generator that a parser waits in."""
    return parser.gi_yieldfrom


def plain_text(data: bytes) -> bytes | None:
    """The text, if `data` is just what a client nearly always sends: one whole frame,
    masked, unfragmented, below 64 KiB and UTF-8. None leaves it to the library, faults
    included."""
    size = len(data)
    if size < 8 or data[0] != 0x81:
        return None
    start, length = 6, data[1] - 0x80
    if length == 126:
        start, length = 8, int.from_bytes(data[2:4], "big")
    if size != start + length or data[1] == 0xFF:
        return None
    text = apply_mask(data[start:], data[start - 4 : start])
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return None
    return text


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket by websockets' sans-I/O protocol, limited.

    For the application, beyond ASGI: `transport` (to write ready-made frames),
    `last_heard` (loop time of the latest bytes from the client, pongs included), `stay`
    (to outlive the application's call) and `fail` (to close with a code at once).
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _quiet
        self.conn = _Handshake(max_size=config.ws_max_size, logger=_quiet)
        self.last_heard = self.loop.time()
        self.on_text: Callable[[bytes], None] | None = None
        self._second = 0
        self._pings = 0
        self._unanswered = _Timer(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unanswered.drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.last_heard = self.loop.time()
        if self.on_text is not None and self._between_messages():
            text = plain_text(data)
            if text is not None:
                self.on_text(text)
                return
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self._refuse_unreadable(self.conn.handshake_exc)

    def _between_messages(self) -> bool:
        """Nothing that came before is still with the library."""
        conn = self.conn
        return (
            conn.state is State.OPEN
            and conn.current_size is None
            and _rests_in(conn.parser).gi_code is _BETWEEN_FRAMES
        )

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            # The application's task has not run yet.
            cast(dict[str, Any], self.scope["extensions"])[CONNECTION] = self
            self._unanswered.set(HANDSHAKE_S, self._too_slow)
        else:
            metrics.REFUSED_CONNECTIONS.labels("handshake").inc()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if not self.handshake_complete and self.close_sent:
            # Refused with an answer of its own, which uvicorn would call incomplete.
            self.handshake_complete = True
        if message["type"] == "websocket.accept":
            self._forget_handshake()
        if self.handshake_complete:
            self._unanswered.drop()

    def _forget_handshake(self) -> None:
        """What nobody asks for again must not be kept for hours."""
        del self.request, self.response
        conn = cast(_Handshake, self.conn)
        conn.offered_headers = None
        frames = _rests_in(conn.parser)
        if _rests_in(frames).gi_code is _BETWEEN_FRAMES:
            # The same parser without the one around it, which holds the request.
            conn.parser = Protocol.parse(conn)
            next(conn.parser)

    def stay(self, on_text: Callable[[bytes], None]) -> None:
        """The application's call may end: the socket lives until somebody closes it.

        `on_text` gets the usual frame without the library's help.
        """
        self.on_text = on_text
        self.close_timer = _STAYS

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if self.close_timer is _STAYS:
            self.close_timer = None
        if self.on_text is not None:
            del self.scope

    def handle_ping(self) -> None:
        if self.close_sent:
            self.conn.data_to_send()
            return
        second = int(self.last_heard)
        if second != self._second:
            self._second, self._pings = second, 0
        self._pings += 1
        if self._pings > PINGS_PER_S:
            self.fail(CloseCode.ABUSE, "too many pings")
        elif self.transport.get_write_buffer_size() > MAX_UNREAD_PONGS:
            self.conn.data_to_send()  # nobody reads the pongs: drop this one
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= MAX_FRAGMENTS:
            self.fail(CloseCode.TOO_BIG, "too many fragments")
            return
        super().handle_cont(event)

    def shutdown(self) -> None:
        """Whoever is still at the door when the server stops is told to try again."""
        if self.handshake_initiated and not self.handshake_complete:
            self.handshake_complete = self.close_sent = True
            self.transport.write(self.conn.reject(503, "").serialize())
        super().shutdown()

    def fail(self, code: int, reason: str) -> None:
        """Sends a close frame; the connection ends with the reply or `LINGER_S` later.

        The application receives a `websocket.disconnect` with the code at once. Calling
        it on a closed socket does nothing.
        """
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.data_to_send()
        self.conn.send_close(code, reason)
        self.close_sent = True
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": code, "reason": reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _refuse_unreadable(self, fault: Exception) -> None:
        """The library could not read the request, and uvicorn would never answer."""
        if self.close_sent:
            return
        metrics.REFUSED_CONNECTIONS.labels("malformed").inc()
        log.info("malformed upgrade: %s", type(fault).__name__)
        self.handshake_complete = self.close_sent = True
        answer = b"".join(self.conn.data_to_send())
        if not answer:
            status = 400
            if isinstance(fault, HeaderLineTooLong | TooManyHeaders):
                status = 431
            elif isinstance(fault, RequestLineTooLong):
                status = 414
            answer = self.conn.reject(status, "").serialize()
        self.transport.write(answer)
        self.transport.close()

    def _too_slow(self) -> None:
        metrics.REFUSED_CONNECTIONS.labels("slow_handshake").inc()
        self.transport.abort()


def _refusal(
    status: int, given: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    code, message = _MALFORMED.get(status, _MALFORMED[400])
    request_id = choose_request_id(given)
    body = failure(code, message, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        *SECURITY,
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return body, headers
