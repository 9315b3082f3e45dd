"""Who listens to an object at a gateway, and how far each has got.

The state of a gateway's half of the link that belongs to sockets: in which phase each
is, what the object knows of it, and the last event that all were shown (design.md
§3.2, §3.6). Pure: it writes to no socket and knows no time. The gateway's stub and the
load harness are its shells; `S` is what either takes for a socket.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from cfmessenger.chat.effects import Attachment, newest


class Socket(Protocol):
    """A socket, as far as its audience must know it."""

    @property
    def conn(self) -> str: ...


S = TypeVar("S", bound=Socket)


class Phase(enum.Enum):
    """Where a socket is on its way into the fan-out."""

    ENTERING = "entering"  # from `enter` until it is let in
    PAGING = "paging"  # from `falls_behind`: the log has what it missed
    RETURNING = "returning"  # it has that, and has entered again
    IN = "in"  # it gets every event, in order


class Standing(Generic[S]):
    """Where one socket stands."""

    __slots__ = ("phase", "seen", "since", "socket")

    def __init__(self, socket: S, since: int | None) -> None:
        self.socket = socket
        self.phase = Phase.ENTERING
        # The last event it had when it entered; None: none. Until it is IN, and from
        # then on what everybody was shown counts.
        self.since = since
        # While it is PAGING or RETURNING: the last event it had before. Its client
        # would resume after whatever it is shown, and miss what lies between.
        self.seen: int | None = None


class Arrival(NamedTuple):
    """What an attach says of the audience.

    `seq`: the last event that the sockets in the fan-out got; None: there are none.
    """

    seq: int | None
    attachments: list[Attachment]


class Audience(Generic[S]):
    """The sockets of one object at one gateway."""

    def __init__(self) -> None:
        self.seq = 0  # the last event that the sockets were shown; never falls
        # By connection, every socket, from `enter` until `leave`.
        self._standings: dict[str, Standing[S]] = {}
        # Those of them that are IN.
        self._members: dict[str, S] = {}
        # Whom the object knows: from `known` until `unknown`, which may be after it
        # has left.
        self._held: dict[str, Attachment] = {}
        # Whose next `let_in` is ignored: the attach brings it, and it enters later by
        # an Opened of its own. From `arrive` until that, or the next `arrive`.
        self._reopening: set[str] = set()

    def __contains__(self, conn: object) -> bool:
        return conn in self._standings

    def __bool__(self) -> bool:
        return bool(self._standings)

    def __iter__(self) -> Iterator[S]:
        return (standing.socket for standing in self._standings.values())

    @property
    def members(self) -> Mapping[str, S]:
        """Who is in the fan-out, by connection."""
        return self._members

    @property
    def held(self) -> Mapping[str, Attachment]:
        """Whom the object knows, by connection."""
        return self._held

    @property
    def typing(self) -> bool:
        """Somebody here is shown to type, and must be shown to stop."""
        return any(attachment.typing for attachment in self._held.values())

    def get(self, conn: str) -> S | None:
        """The socket of this connection, unless it has left."""
        standing = self._standings.get(conn)
        return None if standing is None else standing.socket

    def phase(self, conn: str) -> Phase | None:
        """Where it is on its way in; None: it has left."""
        standing = self._standings.get(conn)
        return None if standing is None else standing.phase

    # What sockets do.

    def enter(self, socket: S, since: int | None) -> None:
        """A socket wants to be let in, or again, once it has paged what it missed."""
        standing = self._standings.get(socket.conn)
        if standing is None or standing.phase is not Phase.PAGING:
            self._members.pop(socket.conn, None)
            self._standings[socket.conn] = Standing(socket, since)
        else:
            standing.phase, standing.since = Phase.RETURNING, since

    def leave(self, conn: str) -> bool:
        """A socket is gone; whether it had not left before."""
        self._members.pop(conn, None)
        return self._standings.pop(conn, None) is not None

    def seen_by(self, conn: str) -> int | None:
        """The last event a socket had by now; None: none, or its history is to come."""
        standing = self._standings.get(conn)
        if standing is None or standing.phase is Phase.IN:
            return self.seq
        return standing.since

    # What the object does.

    def arrive(self, opened: Collection[str]) -> Arrival:
        """An attach begins. `opened`: whose Opened is still uncovered, so that it is
        sent with it."""
        paging = {
            conn for conn, each in self._standings.items() if each.phase is Phase.PAGING
        }
        # They come in (again) after it: the answer to that is what counts.
        self._reopening = (paging | set(opened)) & self._held.keys()
        return Arrival(self.seq if self._members else None, list(self._held.values()))

    def let_in(self, conn: str) -> bool:
        """From here on a socket is in the fan-out; whether it was entering until now.

        Not by the answer to an attach if an Opened of its own is to follow.
        """
        standing = self._standings.get(conn)
        if conn in self._reopening:
            self._reopening.discard(conn)
            return False
        if standing is None or standing.phase in (Phase.PAGING, Phase.IN):
            return False
        standing.phase, standing.seen = Phase.IN, None
        self._members[conn] = standing.socket
        return True

    def shown(self, seq: int) -> None:
        """The members were shown what is up to `seq`."""
        self.seq = max(self.seq, seq)

    def falls_behind(self, conn: str, since: int) -> None:
        """Only the log has what a socket missed after `since`: it will page that, and
        enter again."""
        standing = self._standings.get(conn)
        if standing is not None:
            self._members.pop(conn, None)
            standing.phase, standing.seen = Phase.PAGING, since

    def in_turn(self, conn: str, seq: int) -> bool:
        """Whether a socket may be shown event `seq` now.

        Not what is beyond the last event it had, while it is behind.
        """
        standing = self._standings.get(conn)
        return standing is None or standing.seen is None or seq <= standing.seen

    def known(self, attachment: Attachment) -> None:
        """The object knows a connection now, or knows it as this. What it was told
        since is kept."""
        conn = attachment.conn
        if conn in self._standings:
            self._held[conn] = newest(self._held.get(conn, attachment), attachment)

    def keep(self, attachment: Attachment) -> None:
        """The object wants this kept for a connection; newer words stay."""
        conn = attachment.conn
        if conn in self._standings:
            held = self._held.get(conn, attachment)
            self._held[conn] = newest(attachment, held)

    def change(self, told: Attachment) -> None:
        """A connection's user has newer words or a newer status."""
        held = self._held.get(told.conn)
        if held is not None:
            self._held[told.conn] = newest(held, told)

    def unknown(self, conn: str) -> None:
        """The object does not know a connection any more."""
        self._held.pop(conn, None)

    def rename(self, names: Mapping[str, str]) -> None:
        """Connections have new names, former to new; the sockets have theirs already.

        Whoever is not among them is closing, and has left.
        """
        self._standings = {s.socket.conn: s for s in self._standings.values()}
        self._members = {s.conn: s for s in self._members.values()}
        self._held = {
            names[conn]: replace(attachment, conn=names[conn])
            for conn, attachment in self._held.items()
            if conn in names
        }
        self._reopening.clear()
