"""Sockets to a gateway: picows for the WebSocket, the session in the handshake.

Owns the connection and nothing of what passes over it. Frames come in the very call
that read them off the network.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from cfmessenger.client.envelope import api_error
from cfmessenger.client.errors import Unreachable

from .meter import Meter

if TYPE_CHECKING:
    from .desk import Person
    from .seat import Chair

HANDSHAKE_S = 30.0
SMALL_BUFFER = 4096

_TEXT = WSMsgType.TEXT
_CLOSE = WSMsgType.CLOSE
NO_CLOSE = 1006


class Socket(WSListener):
    """One connection: text frames to `receive`, its end to `lost`, once."""

    def __init__(
        self,
        opened: Callable[[Callable[[bytes], None]], None],
        receive: Callable[[bytes], None],
        lost: Callable[[int], None],
        broke: Callable[[BaseException], None],
        meter: Meter,
    ) -> None:
        super().__init__()
        self._meter = meter
        self._opened = opened
        self._receive = receive
        self._lost = lost
        self._broke = broke
        self._code = NO_CLOSE
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._opened(lambda data: transport.send(_TEXT, data))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is _TEXT:
            body = frame.get_payload_as_bytes()
            self._meter.frames += 1
            self._meter.bytes += len(body)
            try:
                self._receive(body)
            except Exception as error:  # picows would only log it
                self._broke(error)
        elif kind is _CLOSE:
            self._code = int(frame.get_close_code().value) or 1005
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._transport is not None:
            self._transport = None
            self._lost(self._code)

    def close(self) -> None:
        """Say goodbye and go."""
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    def pause(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._reading().pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._reading().resume_reading()

    def _reading(self) -> asyncio.ReadTransport:
        assert self._transport is not None
        return self._transport.underlying_transport


async def dial(url: str, path: str, session_id: str, make: Socket, slow: bool) -> None:
    """Connect `make` to a path of the server.

    Raises `ApiError` when the handshake is refused, `Unreachable` when there is none.
    """
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    where = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}"
    try:
        await ws_connect(
            lambda: make,
            where,
            extra_headers={"Authorization": f"Bearer {session_id}"},
            websocket_handshake_timeout=HANDSHAKE_S,
            max_redirects=0,
            socket_factory=_small if slow else None,
        )
    except WSHandshakeError as error:
        answer = error.response
        if answer is None:
            raise Unreachable(f"no WebSocket at {url}: {error}") from None
        raise api_error(
            int(answer.status),
            bytes(error.raw_body or b""),
            answer.headers.get("Retry-After"),
        ) from None
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"no socket from {url}: {error}") from None


def _small(_: object) -> socket.socket:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    line.setblocking(False)
    return line


class GatewayCarrier:
    """`lines.Carrier` over WebSockets; each user's sockets share one session.

    `elsewhere`: another gateway's URL by room, for rooms that are to be entered there.
    """

    def __init__(
        self,
        url: str,
        people: list[Person],
        elsewhere: Callable[[str], str] = lambda room: "",
    ) -> None:
        self._url = url
        self._elsewhere = elsewhere
        self._sessions = {person.user_id: person.session_id for person in people}

    async def connect(
        self, seat: Chair, since: int | None, lost: Callable[[int], None], slow: bool
    ) -> Socket:
        path = seat.path if since is None else f"{seat.path}?since={since}"
        crew = seat.crew
        made = Socket(seat.opened, seat.receive, lost, crew.broke, crew.meter)
        url = self._elsewhere(seat.room.name) or self._url
        await dial(url, path, self._sessions[seat.user_id], made, slow)
        return made

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def try_room(url: str, room: str | None, session_id: str) -> None:
    """One handshake, so that a refusal is told before a load is made of it."""
    path = "/api/ws/presence" if room is None else f"/api/ws/room/{room}"
    nothing = (lambda _: None,) * 4
    probe = Socket(*nothing, Meter(0.0))
    await dial(url, path, session_id, probe, slow=False)
    probe.close()
