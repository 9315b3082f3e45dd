"""The mirror of a room: its versioned snapshot, as msgpack.

Owns the format and its version, nothing of its meaning: `room` fills it and reads it
back. A snapshot of an older version is upgraded, the statuses in it included; one of a
later version says nothing here, but is not to be lost (`is_later`), and what can be
known without it is in the log.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from .effects import Attachment
from .history import KeptRow

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
_UPGRADES: tuple[Upgrade, ...] = ()
VERSION = len(_UPGRADES) + 1

_S = TypeVar("_S", bound=msgspec.Struct)


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


class Snapshots(Generic[_S]):
    """Reads snapshots: `kind` is a struct whose tag is its version, to which `upgrades`
    lead from the `first` that can be read: each from the fields of one version to those
    of the next."""

    def __init__(
        self, kind: type[_S], upgrades: tuple[Upgrade, ...] = (), first: int = 1
    ) -> None:
        self._kind = kind
        self._upgrades = upgrades
        self._first = first
        self._now = first + len(upgrades)
        assert kind.__struct_config__.tag == self._now
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def decode(self, data: bytes) -> _S | None:
        """The snapshot, None if it is of a later version or damaged."""
        try:
            return self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._older(data)

    def is_later(self, data: bytes) -> bool:
        """Whether a later release has written it, in a version of its own."""
        try:
            return _version(data).type > self._now
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False

    def _older(self, data: bytes) -> _S | None:
        try:
            version: int = _version(data).type
            if not self._first <= version < self._now:
                return None
            fields = msgspec.msgpack.decode(data)
            for upgrade in self._upgrades[version - self._first :]:
                fields = upgrade(fields)
            fields["type"] = self._now
            return msgspec.convert(fields, self._kind)
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError):
            return None


class _Version(msgspec.Struct):
    type: int


_version = msgspec.msgpack.Decoder(_Version).decode
_snapshots = Snapshots(RoomSnapshot, _UPGRADES)
decode, is_later = _snapshots.decode, _snapshots.is_later


class _Marks(msgspec.Struct):
    read_marks: dict[str, int] = {}


_marks = msgspec.msgpack.Decoder(_Marks).decode


def read_marks(data: bytes) -> dict[str, int]:
    """How far users had read when the mirror still held it, in whichever version: user
    id → seq."""
    try:
        return _marks(data).read_marks
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
