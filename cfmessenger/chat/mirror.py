"""The mirror of a room: its versioned snapshot, as msgpack.

Owns the format and its version, nothing of its meaning: `room` fills it and reads it
back. A snapshot of another version is worth nothing, because the log is the truth.
"""

import msgspec

from .effects import Attachment
from .history import KeptRow

VERSION = 1


class RoomSnapshot(msgspec.Struct, frozen=True, gc=False, tag=VERSION):
    """A room at rest. `stale`: who is here changed and nobody was told yet.

    `read_marks` are empty since they have a key of their own (`keys.reads`); rooms that
    have slept since before still have theirs here.
    """

    seq: int
    timestamp: int
    messages: list[KeptRow]
    chats: dict[str, list[int]]
    nudges: dict[str, list[int]]
    read_marks: dict[str, int]
    roster: list[Attachment]
    gateways: list[str]
    stale: bool


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RoomSnapshot).decode


def decode(data: bytes) -> RoomSnapshot | None:
    """The snapshot, None if it is of another version or damaged."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _Marks(msgspec.Struct, tag=VERSION):
    read_marks: dict[str, int]


_marks = msgspec.msgpack.Decoder(_Marks).decode


def read_marks(data: bytes) -> dict[str, int]:
    """How far users had read when the mirror still held it: user id → seq."""
    try:
        return _marks(data).read_marks
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
