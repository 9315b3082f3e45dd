"""What clients did and saw, as plain records with times of one monotonic clock.

Owns the vocabulary of the checker and its file format (JSON lines), so that a verdict
can be had again from a file. Must not judge. Everything is recorded by one process on
one event loop, so the order of two times is the order of two events as seen by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import msgspec
from msgspec import UNSET

from cfmessenger.wire.events import Message
from cfmessenger.wire.protocol import encode


class _Record(msgspec.Struct, frozen=True, gc=False, tag_field="record"):
    t: float


class Invoke(_Record, frozen=True, gc=False, tag="invoke"):
    """A client decided to say something; `id` is never used for anything else."""

    client: str
    user: str
    room: str
    kind: str
    id: str


class Written(_Record, frozen=True, gc=False, tag="written"):
    """The message's frame went onto a socket, perhaps not for the first time."""

    client: str
    socket: int
    id: str


class Ok(_Record, frozen=True, gc=False, tag="ok"):
    """The echo with a `seq` came: acknowledged. The first time only."""

    client: str
    room: str
    id: str
    seq: int


class Refused(_Record, frozen=True, gc=False, tag="refused"):
    """An `error` frame named this message."""

    client: str
    socket: int
    room: str
    id: str
    code: str


class GaveUp(_Record, frozen=True, gc=False, tag="gave_up"):
    """The socket was lost before an answer and the client does not ask again."""

    client: str
    room: str
    id: str


class Opened(_Record, frozen=True, gc=False, tag="opened"):
    """A socket opened; `since` is what it asked for."""

    client: str
    socket: int
    user: str
    room: str  # "" is the presence socket
    since: int | None
    port: int = 0


class Closed(_Record, frozen=True, gc=False, tag="closed"):
    """A socket ended. `ours`: because this client wanted it so."""

    client: str
    socket: int
    code: int
    reason: str
    ours: bool


class Shown(_Record, frozen=True, gc=False, tag="shown"):
    """A message reached a socket, live or inside a `history` frame."""

    client: str
    socket: int
    room: str
    seq: int
    sender: str
    id: str
    content: int
    live: bool


class Recap(_Record, frozen=True, gc=False, tag="recap"):
    """A `history` frame; its messages follow as `Shown` with the same time."""

    client: str
    socket: int
    room: str
    first: int  # 0: it had no messages
    last: int
    last_seq: int
    gap: bool


class Line(_Record, frozen=True, gc=False, tag="line"):
    """ "X joined the room." or "X left the room." """

    client: str
    socket: int
    room: str
    user: str
    joined: bool


class PresenceSample(_Record, frozen=True, gc=False, tag="presence"):
    """Who was online according to `source`, and who truly was; after quiet only."""

    source: str
    online: list[str]
    truth: list[str]
    judged: bool


class Fault(_Record, frozen=True, gc=False, tag="fault"):
    """Something was done to the system from `t` to `until`.

    `rooms` are those it could be felt in (none named: all); `sockets`, as
    "client/number", those it was bound to close.
    """

    until: float
    kind: str
    target: str
    rooms: list[str] = []
    sockets: list[str] = []


class Event(NamedTuple):
    """A message of the log, as far as the checker compares it."""

    seq: int
    sender: str
    id: str
    kind: str
    timestamp: int
    content: int

    @classmethod
    def of(cls, message: Message) -> Event:
        """Statuses are left out: they change."""
        return cls(
            message.seq,
            message.sender_id,
            message.id,
            message.type,
            message.timestamp,
            digest(message),
        )


def digest(message: Message) -> int:
    """One number for everything in a message that may never change."""
    return hash(encode(msgspec.structs.replace(message, status=UNSET)))


class _Log(msgspec.Struct, frozen=True, tag_field="record", tag="log"):
    room: str
    events: list[Event]


Record = (
    Invoke
    | Written
    | Ok
    | Refused
    | GaveUp
    | Opened
    | Closed
    | Shown
    | Recap
    | Line
    | PresenceSample
    | Fault
)
R = TypeVar("R", bound=_Record)


class History:
    """All records of a run, and at its end every room's whole log.

    `began` and `ended` bound the run; `lag_s` is the longest time for which our own
    loop did not run, by which waits are forgiven.
    """

    def __init__(self) -> None:
        self.logs: dict[str, list[Event]] = {}
        self.ended = 0.0
        self.lag_s = 0.0
        self._records: dict[type, list[_Record]] = defaultdict(list)

    def add(self, record: _Record) -> None:
        """Keep a record; times must not go back."""
        self._records[type(record)].append(record)
        self.ended = max(self.ended, record.t)

    def all(self, kind: type[R]) -> list[R]:
        """The records of one kind, in the order they were added."""
        return cast(list[R], self._records[kind])

    def __iter__(self) -> Iterator[_Record]:
        found = [record for kind in self._records.values() for record in kind]
        return iter(sorted(found, key=lambda record: record.t))

    def save(self, path: Path) -> None:
        """Write everything as JSON lines."""
        lines = [msgspec.json.encode(record) for record in self]
        lines += [
            msgspec.json.encode(_Log(room, log)) for room, log in self.logs.items()
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """What `save` wrote."""
        history = cls()
        decoder = msgspec.json.Decoder(Record | _Log)
        for line in path.read_bytes().splitlines():
            record = decoder.decode(line)
            if isinstance(record, _Log):
                history.logs[record.room] = record.events
            else:
                history.add(record)
        return history
