"""Frames of RFC 6455 §5 as a server reads them; bytes in, frames out, no socket.

Not websockets' own parser: it takes lengths that are longer than they need be, which
§5.2 forbids, and to refuse those from outside one would have to read every head before
the library reads it again. It would also be 1.4 KiB of every idle socket, and answers a
ping before anybody can say that there were too many. What is left is short; the
library's are the handshake (`handshake`), the masking and the rules of close codes.
What the frames make together, and how many there may be, is `websocket_protocol`'s.
"""

from __future__ import annotations

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Opcode
from websockets.speedups import apply_mask

from cfmessenger.errors import CloseCode

Frame = tuple[Opcode, bool, bytes]
"""Opcode, whether it is the last of its message, unmasked payload."""

MAX_CONTROL = 125
"""Bytes of a control frame's payload (§5.5)."""

_OPCODES = {int(opcode): opcode for opcode in Opcode}


class BrokenFrame(Exception):
    """What no socket survives: the close code, and why in a few words."""

    def __init__(self, reason: str, code: CloseCode = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Cuts frames off a stream; `max_size` bytes is the most of one message.

    `idle`: nothing that came before is still here, neither half a frame nor the
    beginning of a message.
    """

    __slots__ = ("_buffer", "_max_size", "_size", "idle")

    def __init__(self, max_size: int) -> None:
        self.idle = True
        self._buffer = bytearray()
        self._max_size = max_size
        self._size: int | None = None  # of a message so far, from its first frame on

    def feed(self, data: bytes) -> None:
        """Bytes that have come; `next` cuts frames off them."""
        self._buffer += data
        self.idle = False

    def next(self) -> Frame | None:
        """The next whole frame, if there is one. Raises `BrokenFrame`."""
        buffer = self._buffer
        if len(buffer) < 2:
            self.idle = not buffer and self._size is None
            return None
        fin, opcode = buffer[0] >= 0x80, _OPCODES.get(buffer[0] & 0x0F)
        if buffer[0] & 0x70:
            raise BrokenFrame("reserved bits must be 0")
        if opcode is None:
            raise BrokenFrame("invalid opcode")
        if buffer[1] < 0x80:
            raise BrokenFrame("incorrect masking")
        head = self._head(buffer[1] & 0x7F)
        if head is None:
            return None
        start, length = head
        if opcode >= Opcode.CLOSE:
            if length > MAX_CONTROL:
                raise BrokenFrame("control frame too long")
            if not fin:
                raise BrokenFrame("fragmented control frame")
        else:
            self._check(opcode, length)
        end = start + length
        if len(buffer) < end:
            return None
        payload = apply_mask(buffer[start:end], buffer[start - 4 : start])
        del buffer[:end]
        if opcode < Opcode.CLOSE:
            self._size = None if fin else (self._size or 0) + length
        return opcode, fin, payload

    def _head(self, length: int) -> tuple[int, int] | None:
        """Where the payload starts, and its length; None: not all of it is here."""
        if length < 126:
            return 6, length
        start, least = (8, 126) if length == 126 else (14, 2**16)
        if len(self._buffer) < start - 4:
            return None
        length = int.from_bytes(self._buffer[2 : start - 4], "big")
        # §5.2: "the minimal number of bytes MUST be used", "the most significant bit
        # MUST be 0".
        if not least <= length < 2**63:
            raise BrokenFrame("length not minimal")
        return start, length

    def _check(self, opcode: Opcode, length: int) -> None:
        """Of a data frame: whether it may come now, and is small enough."""
        if opcode is Opcode.CONT and self._size is None:
            raise BrokenFrame("unexpected continuation frame")
        if opcode is not Opcode.CONT and self._size is not None:
            raise BrokenFrame("expected a continuation frame")
        if (self._size or 0) + length > self._max_size:
            raise BrokenFrame("message too big", CloseCode.TOO_BIG)


def plain_text(data: bytes) -> bytes | None:
    """The text, if `data` is just what a client nearly always sends: one whole frame,
    masked, unfragmented, below 64 KiB and UTF-8. None leaves it to a `FrameReader`,
    faults included."""
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


def checked_text(data: bytes) -> bytes:
    """The same text. Raises `BrokenFrame` if it is not UTF-8 (§8.1)."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise BrokenFrame("", CloseCode.INVALID_UTF8) from None
    return data


def close_code(payload: bytes) -> int:
    """The code of a client's close frame; 1005: it says none. Raises `BrokenFrame` for
    what nobody may send (§5.5.1, §7.4)."""
    try:
        return int(Close.parse(payload).code)
    except ProtocolError as error:
        raise BrokenFrame(str(error)) from None
    except UnicodeDecodeError:
        raise BrokenFrame("", CloseCode.INVALID_UTF8) from None


def close_frame(code: int, reason: str) -> bytes:
    """The server's close frame."""
    return control_frame(Opcode.CLOSE, Close(code, reason).serialize())


def control_frame(opcode: Opcode, payload: bytes = b"") -> bytes:
    """A finished frame of the server's, which is not masked (§5.1)."""
    return bytes((0x80 | opcode, len(payload))) + payload
