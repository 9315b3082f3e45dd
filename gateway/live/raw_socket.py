"""Ready-made frames onto sockets, and text off them: the one place that knows uvicorn.

An ASGI `send` per delivery costs 21-32 us; writing finished bytes to the transport
costs a tenth (design.md §1). So once a socket is accepted we step around ASGI:
`RawSocket` writes to the transport of uvicorn's `websockets-sansio` protocol, and takes
the protocol's inbox, so that a text frame reaches us in the very call that parsed it.
Handshake, parsing, control frames and closing stay uvicorn's.
`tests/gateway/live/test_raw_socket.py` pins what is relied on here; any other server is
refused when the first socket comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

from gateway.server.websocket_protocol import GuardedWebSocket

SERVER_KEY = "cfm.server"
HIGH_WATER = 2**20
"""Unsent bytes after which a socket is a slow consumer (wire.md §6: 1013)."""

_PING = b"\x89\x00"
# One for all: nothing but ASGI's `send` waits for it.
_WRITABLE = asyncio.Event()
_WRITABLE.set()


class ServerTap:
    """Outermost middleware: keeps the server's own `send` before anything wraps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope[SERVER_KEY] = getattr(send, "__self__", None)
        await self._app(scope, receive, send)


class RawSocket:
    """An accepted socket, from the moment ASGI is done with it until it closes.

    `on_text` gets each text frame, `on_binary` is called for a binary one, `on_alive`
    for a WebSocket ping or pong, `on_slow` when the peer does not read, `on_lost`
    (perhaps twice) with the code when the socket is gone.
    """

    __slots__ = ("_protocol", "_transport", "write")

    def __init__(self, scope: Scope) -> None:
        protocol = scope.get(SERVER_KEY)
        if not isinstance(protocol, WebSocketsSansIOProtocol):
            raise RuntimeError("WebSockets need uvicorn with --ws websockets-sansio")
        self._protocol = protocol
        self._transport = protocol.transport
        self.write: Callable[[bytes], None] = protocol.transport.write

    def take_over(
        self,
        *,
        on_text: Callable[[bytes], None],
        on_binary: Callable[[], None],
        on_alive: Callable[[], None],
        on_slow: Callable[[], None],
        on_lost: Callable[[int], None],
    ) -> bool:
        """From here on frames come to these; what ASGI had not read yet comes first.

        True if the socket stays open when the application's call ends.
        """
        protocol: Any = self._protocol
        before: asyncio.Queue[Any] = protocol.queue
        protocol.queue = _Inbox(on_text, on_binary, on_lost)
        protocol.writable = _WRITABLE
        stays = isinstance(protocol, GuardedWebSocket)
        if stays:
            protocol.stay(on_text)
        # uvicorn pauses reading after each message, unless it believes it has already.
        paused, protocol.read_paused = protocol.read_paused, True
        answer_ping = protocol.handle_ping

        def handle_ping() -> None:
            on_alive()
            answer_ping()

        protocol.handle_ping = handle_ping
        protocol.handle_pong = lambda event: on_alive()
        protocol.pause_writing = on_slow
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        if paused:
            self.resume()  # before the client's frames, for they may pause it again
        while not before.empty():
            protocol.queue.put_nowait(before.get_nowait())
        return stays

    def ping(self) -> None:
        """Send a WebSocket ping; the pong shows as `on_alive`."""
        if not self._transport.is_closing():
            self.write(_PING)

    def pause(self) -> None:
        """Read nothing until `resume`; what came with the last bytes still comes."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until the kernel has what was written; False if it takes too long."""
        loop = self._protocol.loop
        end = loop.time() + timeout_s
        # No event tells that a transport is quite empty.
        while (  # noqa: ASYNC110
            self._transport.get_write_buffer_size() and loop.time() < end
        ):
            await asyncio.sleep(0.005)
        return self._transport.get_write_buffer_size() == 0

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the transport ends with it, or 10 s later."""
        protocol, transport = self._protocol, self._transport
        if protocol.close_sent or transport.is_closing():
            return
        if protocol.conn.state.name != "OPEN":
            return  # the client was faster, and uvicorn is answering its close
        protocol.conn.send_close(code, reason)
        transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        protocol.close_timer = protocol.loop.call_later(
            protocol.close_timeout, transport.abort
        )
        self.resume()  # the answer to the close is to be read


class _Inbox:
    """Stands where uvicorn keeps its queue: what it puts in goes straight to us."""

    __slots__ = ("_on_binary", "_on_lost", "_on_text")

    def __init__(
        self,
        on_text: Callable[[bytes], None],
        on_binary: Callable[[], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self._on_text = on_text
        self._on_binary = on_binary
        self._on_lost = on_lost

    def put_nowait(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "websocket.receive":
            text = event.get("text")
            if text is None:
                self._on_binary()
            else:
                self._on_text(text.encode())
        elif kind == "websocket.disconnect":
            self._on_lost(event.get("code", 1006))
