"""What happened in a run, as the people and the log saw it: the checker's only input.

Times are virtual seconds. A `Socket` is one life of one connection, seen from the
client's side; a tab that reconnects has a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

Frame = dict[str, Any]

CHAT, NUDGE, WINK = "chat", "nudge", "wink"
KNOCK = "knock"
"""A type that the product does not know: a later release said it here, once."""
LOST = "lost"
"""By which a room tells what storage has lost; nobody sent it."""
MESSAGES = frozenset({CHAT, NUDGE, WINK, KNOCK, LOST})
LATER = "later"
"""Whose messages are in some rooms' logs before anybody comes."""

GUEST = "guest"
"""Who answers in some worlds, and has no socket (`tests/system/sim/guest.py`)."""

NOBODY = ""
"""Who says that something is lost."""

POISON = "poison"
"""A chat with this word is one at which rooms fail here (`processes.Bug`)."""


def serial_of(message: Frame) -> int | None:
    """Which `Sent` a message is: clients put it into the text."""
    if message["senderId"] in (LATER, GUEST, NOBODY):
        return None
    if message["type"] == CHAT:
        return int(message["content"].rpartition("#")[2])
    if message["type"] == WINK:
        return int(message["winkId"].removeprefix("w"))
    return None


class Heard(NamedTuple):
    """A frame that arrived at a client."""

    at: float
    frame: Frame


@dataclass
class Sent:
    """A durable frame that a client sent. `serial` is unique and in its text."""

    serial: int
    socket: int
    user: str
    room: str
    kind: str
    id: str | None
    at: float
    poison: bool = False


@dataclass
class Socket:
    """One connection, from accept to close."""

    number: int
    user: str
    room: str
    since: int | None
    opened_at: float
    closed_at: float | None = None
    era: int | None = None
    heard: list[Heard] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)


@dataclass
class Gazed:
    """One presence socket, from accept to close. `watched`: whom it said it watches;
    `ever`: and whom it said so of before."""

    user: str
    opened_at: float
    closed_at: float | None = None
    heard: list[Heard] = field(default_factory=list)
    watched: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)


@dataclass
class Online:
    """Who is online in the end, as the registry has it: status by user. `crowded`: each
    is told of some of them alone."""

    statuses: dict[str, str]
    crowded: bool


class Logged(NamedTuple):
    """An entry of a room's log; `writer` is the process that appended it."""

    epoch: int
    seq: int
    writer: str
    message: Frame


class Gone(NamedTuple):
    """A message that a log had on disk and lost in a failover, at this time."""

    at: float
    room: str
    message: Frame


class Owed(NamedTuple):
    """A message that a log lost while a process had it that lived on, and beside which
    nobody spoke for the room."""

    room: str
    process: str
    message: Frame


class Refused(NamedTuple):
    """STORAGE_UNAVAILABLE, as a gateway wrote it to a socket of `user`."""

    at: float
    room: str
    user: str
    id: str


class Shown(NamedTuple):
    """What a place holds about somebody in the end: their `words` or their `status`."""

    user: str
    what: str
    place: str
    value: object


@dataclass
class History:
    """A whole run. Rates are (count, seconds), count 0 = unlimited."""

    chat_rate: tuple[int, int] = (0, 1)
    nudge_rate: tuple[int, int] = (0, 1)
    crowd: int = 200
    """How many people a group room may have and be no crowd."""
    sockets: list[Socket] = field(default_factory=list)
    logs: dict[str, list[Logged]] = field(default_factory=dict)
    gone: list[Gone] = field(default_factory=list)
    owed: list[Owed] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    """Processes that have written in a log and are dead in the end."""
    gazes: list[Gazed] = field(default_factory=list)
    online: Online | None = None
    """None: nobody looked."""
    early: list[str] = field(default_factory=list)
    """Messages that a gateway wrote to a socket before the log held them for good."""
    shown: dict[tuple[str, str, str], Heard] = field(default_factory=dict)
    """When a gateway first wrote a message to anyone, by room, sender and id."""
    refusals: list[Refused] = field(default_factory=list)
    blind: list[float] = field(default_factory=list)
    """When a gateway asked the log what became of inputs, in vain."""
    unsure: list[tuple[float, float]] = field(default_factory=list)
    """From when until when what is shown may be refused all the same (wire.md §5):
    memory was full, or another server has not got back yet what it lacked."""
    unsettled: list[str] = field(default_factory=list)
    """What was not as it must be 60 s after everything was healed: inputs that are not
    covered, sockets that are behind, people that nobody answers, two activations."""
    outlived: list[str] = field(default_factory=list)
    """Rooms that sleep, and are exceptions all the same."""
    two: dict[tuple[str, int], str] = field(default_factory=dict)
    """Who spoke for an object, by name and epoch, long after another had taken over."""
    failures: list[str] = field(default_factory=list)
    """Exceptions nobody caught, and what the product logged as an error."""
    held: list[Shown] = field(default_factory=list)
    """What rows, registry, rooms and gateways hold about everybody in the end."""
    lame: list[tuple[float, float]] = field(default_factory=list)
    """Times in which a gateway stood still and could answer nobody."""
    ended_at: float = 0.0
