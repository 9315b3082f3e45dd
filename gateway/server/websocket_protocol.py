"""A WebSocket of a client's: the one owner of its connection, from upgrade to end.

uvicorn makes it (`ws=`) when a request is an upgrade. `Handshake` answers that; then
the application takes the socket over as a `Listener`, and ASGI is done with it: an ASGI
`send` per delivery costs 21-32 us, writing finished frames to the transport a tenth
(design.md §1), and what a client says reaches the listener in the call that read it.
Here are the rules of RFC 6455 about messages and closing, and the limits of wire.md §6
that need no knowledge of a room. Knows no endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Opcode

from cfmessenger.errors import CloseCode
from gateway.server.frames import (
    BrokenFrame,
    FrameReader,
    checked_text,
    close_code,
    close_frame,
    control_frame,
    plain_text,
)
from gateway.server.handshake import CONNECTION, Handshake
from gateway.server.refusals import LINGER_S, log
from gateway.server.upgrade import Headers

HIGH_WATER = 2**20
"""Unsent bytes after which a socket is a slow consumer (wire.md §6: 1013)."""
CLOSE_S = 10.0
"""How long a client may take to answer a close."""
MAX_FRAGMENTS = 64
"""Of one message; more is 1009 (wire.md §6)."""
PINGS_PER_S = 10
"""WebSocket pings; more is 4508 (wire.md §6)."""
MAX_UNREAD_PONGS = 64 * 1024
"""Unsent bytes beyond which pings are not answered."""
MAX_AFTER_CLOSE = 64 * 1024
"""How much is still read from a client that was told goodbye, to find its own."""

_PING = control_frame(Opcode.PING)
_NO_GOODBYE = 1005  # of a client that has gone without one


class Listener(Protocol):
    """Whoever takes a socket over."""

    def on_text(self, data: bytes) -> None:
        """A text message: UTF-8, at most `ws_max_size` bytes."""

    def on_binary(self) -> None:
        """A binary message."""

    def on_alive(self) -> None:
        """A WebSocket ping or pong."""

    def on_slow(self) -> None:
        """More than `HIGH_WATER` bytes are unsent: the client does not read."""

    def on_lost(self, code: int) -> None:
        """The socket is over and the listener did not `close` it. Comes once."""


def socket_of(scope: Mapping[str, Any]) -> WebSocket:
    """The connection that an ASGI scope is of."""
    try:
        return cast(WebSocket, scope["extensions"][CONNECTION])
    except KeyError:
        raise RuntimeError(f"uvicorn needs --ws {__name__}:WebSocket") from None


class WebSocket(asyncio.Protocol):
    """One client's connection.

    `write` takes finished frames and never waits; `transport` is for what is beside
    the frames. Whatever is called on a socket that is over does nothing.
    """

    __slots__ = (
        "_ended",
        "_frames",
        "_goodbye",
        "_handshake",
        "_kind",
        "_listener",
        "_loop",
        "_pieces",
        "_pings",
        "_second",
        "_server",
        "_unheard",
        "transport",
        "write",
    )

    transport: asyncio.Transport
    write: Callable[[bytes], None]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server_state
        opening = Handshake(self, config, server_state, app_state)
        self._handshake: Handshake | None = opening  # until it has succeeded
        self._listener: Listener | None = None  # from `take_over` to the end
        self._ended: int | None = None  # from the end on, ours or theirs: the code
        # While it ends: when it is cut, if the client does not do its part.
        self._goodbye: asyncio.TimerHandle | None = None
        self._unheard = 0  # bytes that came after our close frame
        self._frames = FrameReader(config.ws_max_size)
        self._kind = Opcode.TEXT  # of the message that is coming in fragments
        self._pieces: list[bytes] = []  # what has come of it
        self._second = 0  # of loop time, in which `_pings` came
        self._pings = 0

    # What uvicorn and the loop call.

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        self.transport = transport
        self.write = transport.write
        self._server.connections.add(cast(Any, self))

    def upgrade(self, request: bytes, headers: Headers) -> None:
        """Begin with a plain request (`plain_upgrade`) of which these headers count."""
        assert self._handshake is not None
        self._handshake.begin(request, headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(cast(Any, self))
        if self._handshake is not None:
            self._handshake.lost()
            self._handshake = None
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        self._over(_NO_GOODBYE)

    def data_received(self, data: bytes) -> None:
        try:
            if self._listener is not None and self._frames.idle:
                text = plain_text(data)
                if text is not None:
                    self._listener.on_text(text)
                    return
            self._received(data)
        except Exception:
            # The loop would cut the connection without a word of why.
            log.exception("a socket failed")
            self.fail(CloseCode.INTERNAL_ERROR, "internal error")

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.on_slow()

    def shutdown(self) -> None:
        """The server stops; whoever is still at the door is told to try again."""
        if self._handshake is not None:
            self._handshake.turn_away()
        else:
            self.fail(CloseCode.RESTART, "")
            self._hang_up()

    # What the handshake calls.

    def opened(self) -> None:
        self._handshake = None

    def application_done(self) -> None:
        if self._listener is None and self._handshake is None:
            self.fail(CloseCode.INTERNAL_ERROR, "internal error")  # nobody's socket

    # What the listener calls.

    def take_over(self, listener: Listener) -> None:
        """From here on the socket is the listener's; what has come already is told it
        before this returns."""
        if self._ended is not None:
            listener.on_lost(self._ended)
            return
        self._listener = listener
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if not self._frames.idle:
            self.resume()  # before the client's frames, for they may pause it again
            self.data_received(b"")

    def ping(self) -> None:
        """Send a WebSocket ping; the pong shows as `on_alive`."""
        if self._ended is None and not self.transport.is_closing():
            self.write(_PING)

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Write a finished frame that is in pieces: all of them, or none."""
        self.transport.writelines(pieces)

    def pause(self) -> None:
        """Read nothing until `resume`; what came with the last bytes still comes."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until the kernel has what was written; False if it takes too long."""
        end = self._loop.time() + timeout_s
        unsent = self.transport.get_write_buffer_size
        # No event tells that a transport is quite empty.
        while unsent() and self._loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return unsent() == 0

    def close(self, code: int, reason: str, within_s: float = CLOSE_S) -> None:
        """Send a close frame and hear nothing more; the connection ends with the
        client's own, or so many seconds later."""
        if self._ended is not None or self.transport.is_closing():
            return
        self._ended, self._listener = code, None
        self.write(close_frame(code, reason))
        self._goodbye = self._loop.call_later(within_s, self.transport.abort)
        self.resume()  # the answer to the close is to be read

    def fail(self, code: int, reason: str) -> None:
        """Close it for a reason that is not the listener's, who hears of it.

        It ends with the client's answer or `LINGER_S` later.
        """
        if self._handshake is not None:
            self.transport.abort()  # there is nothing to close yet
            return
        listener = self._listener
        self.close(code, reason, LINGER_S)
        if listener is not None and self._listener is None:
            listener.on_lost(code)

    # What the client says.

    def _received(self, data: bytes) -> None:
        if self._handshake is not None and not self._handshake.begun:
            self._handshake.begin(data)
            return
        if self._ended is not None:
            self._unheard += len(data)
            if self._unheard > MAX_AFTER_CLOSE:
                self.pause()  # `_goodbye` will end it
                return
        self._frames.feed(data)
        if self._listener is None and self._ended is None:
            self.pause()  # until somebody takes it over
            return
        try:
            # After a close of the client's nothing counts, and nothing is left to say.
            while not self.transport.is_closing():
                frame = self._frames.next()
                if frame is None:
                    break
                self._take(*frame)
        except BrokenFrame as fault:
            # §7.1.7: a reply could not be read, so nobody waits for one. But with bytes
            # unread TCP would throw away the close frame: §7.1.1, half a close first.
            self.fail(fault.code, fault.reason)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self._hang_up()

    def _take(self, opcode: Opcode, fin: bool, payload: bytes) -> None:
        listener = self._listener
        if listener is None:  # we have said goodbye, and wait for theirs
            if opcode is Opcode.CLOSE:
                self._hang_up()
        elif opcode is Opcode.CLOSE:
            code = close_code(payload)
            if self._pieces:
                raise BrokenFrame("incomplete fragmented message")
            self.write(control_frame(opcode, payload))  # §5.5.1: echoed
            self._hang_up()
            self._over(code)
        elif opcode is Opcode.PING:
            listener.on_alive()
            self._answer(payload)
        elif opcode is Opcode.PONG:
            listener.on_alive()
        else:
            self._add(listener, opcode, fin, payload)

    def _answer(self, ping: bytes) -> None:
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._pings = second, 0
        self._pings += 1
        if self._pings > PINGS_PER_S:
            self.fail(CloseCode.ABUSE, "too many pings")
        elif (
            self._ended is None
            # Else nobody reads the pongs: this one is dropped.
            and self.transport.get_write_buffer_size() <= MAX_UNREAD_PONGS
        ):
            self.write(control_frame(Opcode.PONG, ping))

    def _add(
        self, listener: Listener, opcode: Opcode, fin: bool, payload: bytes
    ) -> None:
        if opcode is not Opcode.CONT:
            self._kind = opcode
        elif len(self._pieces) >= MAX_FRAGMENTS:
            self.fail(CloseCode.TOO_BIG, "too many fragments")
            return
        if not fin:
            self._pieces.append(payload)
            return
        if self._pieces:
            payload = b"".join((*self._pieces, payload))
            self._pieces = []
        if self._kind is Opcode.TEXT:
            listener.on_text(checked_text(payload))
        else:
            listener.on_binary()

    def _hang_up(self) -> None:
        """End the connection once all is written, which a client that does not read
        must not put off for ever."""
        self.transport.close()
        if self._goodbye is None and self.transport.get_write_buffer_size():
            self._goodbye = self._loop.call_later(CLOSE_S, self.transport.abort)

    def _over(self, code: int) -> None:
        """It has ended, and not by our close: whoever listens hears of it."""
        if self._ended is None:
            self._ended = code
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.on_lost(code)
