"""A WebSocket as bytes on a TCP connection: what to send is the test's own business.

Blocking, for a thread beside the gateway's loop; every wait has a deadline.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

import msgspec

from tests.gateway.node import upgrade

DEADLINE_S = 10.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    declared: int | None = None,
) -> bytes:
    """A client's frame, well formed unless told otherwise.

    `declared` is a length of its own in the 64-bit form; no `mask`, no masking.
    """
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    masked = 0 if mask is None else 0x80
    size = len(payload)
    if declared is not None:
        head = bytes([first, masked | 127]) + declared.to_bytes(8, "big")
    elif size < 126:
        head = bytes([first, masked | size])
    elif size < 65536:
        head = bytes([first, masked | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, masked | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    body = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
    return head + mask + body


class Line:
    """One connection after its handshake."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._data = b""

    @classmethod
    def open(cls, port: int, path: str, token: str) -> Self:
        """Upgraded; the server has said 101."""
        line = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened = cls(line)
        line.sendall(upgrade(path, token))
        while b"\r\n\r\n" not in opened._data:
            assert opened._read(), opened._data
        head, _, opened._data = opened._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        return opened

    def send(self, parts: Iterable[bytes]) -> None:
        """In as many pieces; a server that has closed need not take them all."""
        with suppress(ConnectionError):
            for part in parts:
                self._line.sendall(part)

    def frame(self) -> tuple[int, bytes] | None:
        """The server's next frame, None at the end of the connection."""
        while True:
            if (found := self._parsed()) is not None:
                return found
            if not self._read():
                assert not self._data, "the server stopped in the middle of a frame"
                return None

    def message(self) -> dict[str, Any] | None:
        """The next text frame's JSON; pongs are passed, None at a close."""
        while (got := self.frame()) is not None and got[0] != CLOSE:
            if got[0] == TEXT:
                message: dict[str, Any] = msgspec.json.decode(got[1])
                return message
        return None

    def _parsed(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        assert data[0] & 0xF0 == 0x80, "whole frames without reserved bits"
        assert not data[1] & 0x80, "a server does not mask"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        self._data = data[start + size :]
        return data[0] & 0x0F, data[start : start + size]

    def _read(self) -> bool:
        try:
            got = self._line.recv(65536)
        except ConnectionError:
            got = b""
        self._data += got
        return bool(got)

    def close(self) -> None:
        """Ends the connection, whatever state it is in."""
        self._line.close()
