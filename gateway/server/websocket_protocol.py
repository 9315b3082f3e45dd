"""uvicorn's WebSocket protocol, hardened, and shortened for the frame that is usual.

Bare uvicorn hangs on upgrades whose headers its WebSocket library refuses and answers
pings without end (design.md §10). Knows no endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHeaderValue,
    ProtocolError,
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
from gateway import metrics
from gateway.server.refusals import LINGER_S, Timer, log, quiet, refusal

HANDSHAKE_S = 9.0
"""From a complete upgrade request to its answer: a second more than a room that wakes
may take, and less than clients wait (websockets: 10 s)."""

MAX_FRAGMENTS = 64
"""Of one message; more is 1009 (wire.md §6)."""
PINGS_PER_S = 10
"""WebSocket pings; more is 4508 (wire.md §6)."""
MAX_UNREAD_PONGS = 64 * 1024
"""Unsent bytes beyond which pings are not answered."""
MAX_AFTER_CLOSE = 64 * 1024
"""How much is still read from a client that was told goodbye, to find its own."""

_BETWEEN_FRAMES = StreamReader.at_eof.__code__


class _Stays:
    """Stands where uvicorn keeps a socket's close timer: it closes a socket that has
    none when the application's call ends."""

    def cancel(self) -> None: ...


_STAYS = cast(asyncio.TimerHandle, _Stays())


class _MinimalLengths(StreamReader):
    """Refuses a length in more bytes than it needs, or with the top bit set.

    RFC 6455 §5.2, which websockets does not check. A frame is read in these steps:
    head, (length,) mask, payload.
    """

    _least = 0  # what the length must be, if one is read next
    _step = 0  # 0: a head, 1: its length, 2: its mask, 3: its payload

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        data = yield from super().read_exact(n)
        if self._step == 0:
            size = data[1] & 0x7F
            self._least = {126: 126, 127: 2**16}.get(size, 0)
            self._step = 1 if self._least else 2
        elif self._step == 1:
            if data[0] > 0x7F and n == 8 or int.from_bytes(data, "big") < self._least:
                raise ProtocolError("length not minimal")
            self._step = 2
        else:
            self._step = 3 if self._step == 2 else 0
        return data


class _Handshake(ServerProtocol):
    """websockets' handshake and frames, refusing with envelopes."""

    offered_headers: Headers | None = None  # the request's, until the socket is open

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reader = _MinimalLengths()
        self.parser = self.parse()
        next(self.parser)

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
        body, raw = refusal(int(status), given)
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
        if length < 126:
            return None
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

    For the application, beyond ASGI: `transport`, to write ready-made frames, and
    `stay`, to outlive the application's call.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = quiet
        self.conn = _Handshake(max_size=config.ws_max_size, logger=quiet)
        self.on_text: Callable[[bytes], None] | None = None  # from `stay` on
        self._second = 0  # of loop time, in which `_pings` came
        self._pings = 0
        self._after_close = 0  # bytes that came after our close frame
        self._unanswered = Timer(self.loop)  # from the whole request until its answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._unanswered.drop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            self._received(data)
        except Exception:
            # The loop would cut the connection without a word of why.
            log.exception("a socket failed")
            self._fail(CloseCode.INTERNAL_ERROR, "internal error")

    def _received(self, data: bytes) -> None:
        if self.on_text is not None and self._between_messages():
            text = plain_text(data)
            if text is not None:
                self.on_text(text)
                return
        if self.close_sent:
            self._after_close += len(data)
            if self._after_close > MAX_AFTER_CLOSE:
                self.transport.pause_reading()  # the timer will end it
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
        """Free the request and its headers, which a socket would keep for hours."""
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

        `on_text` gets the text of a frame that `plain_text` can read; any other goes
        through the library and uvicorn's queue.
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
        second = int(self.loop.time())
        if second != self._second:
            self._second, self._pings = second, 0
        self._pings += 1
        if self._pings > PINGS_PER_S:
            self._fail(CloseCode.ABUSE, "too many pings")
        elif self.transport.get_write_buffer_size() > MAX_UNREAD_PONGS:
            self.conn.data_to_send()  # nobody reads the pongs: drop this one
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= MAX_FRAGMENTS:
            self._fail(CloseCode.TOO_BIG, "too many fragments")
            return
        super().handle_cont(event)

    def shutdown(self) -> None:
        """Whoever is still at the door when the server stops is told to try again."""
        if self.handshake_initiated and not self.handshake_complete:
            self._turn_away()
        super().shutdown()

    def _fail(self, code: int, reason: str) -> None:
        """Sends a close frame; the connection ends with the reply or `LINGER_S` later.

        The application receives a `websocket.disconnect` with the code at once. On a
        socket that is closed or closing it does nothing; before the handshake is done
        it drops the connection.
        """
        if self.close_sent or self.transport.is_closing():
            return
        if self.conn.state is not State.OPEN:
            self.transport.abort()  # there is nothing to close yet
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
        if self.handshake_complete or self.transport.is_closing():
            return
        # Whatever it waits for, Valkey or the namespace: it may be there next time.
        self._turn_away()
        self.transport.close()

    def _turn_away(self) -> None:
        self.handshake_complete = self.close_sent = True
        self.transport.write(self.conn.reject(503, "").serialize())
