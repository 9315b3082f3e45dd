"""A socket in a room, whatever carries it: what it says, hears, and is owed.

Owns the way of a frame: first to the oracle, then to the client library's own machine
(`RoomState`), which keeps the resume point and re-sends what was not acknowledged. The
machine is not shown other people's messages, which are most of the traffic: the oracle
follows their numbers, and the machine is told of the last when it matters. Who dials,
and when, is `crew`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from cfmessenger.client.errors import ClientError
from cfmessenger.client.events import Acknowledged, Event, Rejected
from cfmessenger.client.room_state import RoomState
from cfmessenger.wire.protocol import ErrorFrame, Participants

from .oracle import Room, Shown, Track
from .ticker import now

if TYPE_CHECKING:
    from .crew import Crew

_SEQ = b'"seq":'  # of every event, and of nothing else: a text has its quotes escaped
_HISTORY = b'{"type":"history"'
_OUTBOX = 1_000_000  # an open loop does not stop because answers are late


class Named(msgspec.Struct, gc=False):
    """As much of a message as the oracle needs."""

    id: str
    seq: int


class _History(msgspec.Struct, rename="camel"):
    messages: list[Named]
    last_seq: int
    gap: bool = False


_named = msgspec.json.Decoder(Named).decode
_history = msgspec.json.Decoder(_History).decode


class Chair:
    """What `crew` needs to know of a socket's place, whatever is heard there.

    `write` sends a frame and is None while there is no connection. `room.seats` counts
    who is to be in; `track` is None until something is owed to it.
    """

    path: str  # of the server's socket

    def __init__(self, crew: Crew, number: int, room: Room, user_id: str) -> None:
        self.crew = crew
        self.number = number
        self.room = room
        self.user_id = user_id
        self.track: Track | None = None
        self.write: Callable[[bytes], None] | None = None
        self.greeted_at = 0.0
        self.in_room = False  # of this connection: all that it begins with has come

    @property
    def since(self) -> int | None:
        """Where to go on; None before the first connection."""
        return None if self.track is None else self.track.last

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of what it said and was not answered yet."""
        return ()

    def opened(self, write: Callable[[bytes], None]) -> None:
        """A connection is there; nothing was heard on it yet."""
        self.write = write
        self.in_room = False
        self.greeted_at = 0.0

    def receive(self, body: bytes) -> None:
        """A text frame."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is gone."""
        self.write = None
        self.in_room = False

    def arrived(self) -> None:
        """All that a connection begins with has come."""
        if not self.in_room:
            self.in_room = True
            self.crew.lines.entered(self)


class Seat(Chair):
    """One person's socket in a room, through all its connections."""

    def __init__(self, crew: Crew, number: int, room: Room, user_id: str) -> None:
        super().__init__(crew, number, room, user_id)
        self.path = f"/api/ws/room/{room.name}"
        self.state = RoomState(
            room.name, user_id, id_prefix=f"s{number}", outbox_limit=_OUTBOX
        )
        self._repeats: set[str] = set()  # ours that were sent more than once

    # Said.

    def chat(self, content: str, message_id: str) -> None:
        """Say something; it is sent again after a reconnect until it is answered."""
        self._say(lambda: self.state.chat(content, message_id))

    def nudge(self, message_id: str) -> None:
        """Shake everyone's window."""
        self._say(lambda: self.state.nudge(message_id))

    def typing(self, is_typing: bool) -> bool:
        """Tell the others; whether it was sent."""
        told = self.state.typing(is_typing)
        self._flush()
        return told

    def _say(self, put: Callable[[], str]) -> None:
        try:
            put()
        except ClientError as error:
            self.crew.meter.error(error.code)
            return
        self._flush()

    def _flush(self) -> None:
        write = self.write
        if write is None or not self.state.has_output:
            return
        for frame in self.state.take():
            write(frame)

    # The connection.

    @property
    def waiting(self) -> tuple[str, ...]:
        return self.state.outbox

    def opened(self, write: Callable[[bytes], None]) -> None:
        super().opened(write)
        # Whatever was on its way may be answered twice: by the history, and as the
        # echo of what is sent again.
        self._repeats.update(self.state.outbox)
        self._sync()
        self._heed(self.state.opened())
        self._flush()

    def lost(self) -> None:
        super().lost()
        self._sync()
        self.state.lost()

    # Heard.

    def receive(self, body: bytes) -> None:
        # The first lines are the hot path: the next message, the very bytes that the
        # room's first socket got.
        track = self.track
        if track is not None:
            shown = track.room.shown.get(track.last + 1)
            if shown is not None and shown.body == body:
                track.last += 1
                self._count(shown)
                if shown.origin is self:
                    self._echo(body)
                return
        if not self.greeted_at:
            self.greeted_at = now()
        if body.startswith(_HISTORY):
            self._history(body)
        elif _SEQ in body:
            self._message(body)
        else:
            self._other(body)

    def _count(self, shown: Shown) -> None:
        us = int((now() - shown.due) * 1e6)
        tally = shown.tally
        tally[us] = tally.get(us, 0) + 1
        shown.seen += 1
        if shown.seen == self.room.seats:
            self.crew.seen_by_all(shown)

    def _message(self, body: bytes) -> None:
        shown = self._shown(_named(body), body)
        if shown is None or shown.origin is self:
            self._echo(body)

    def _shown(self, named: Named, body: bytes) -> Shown | None:
        """The message; None if it only repeats an answer that we asked for twice."""
        track, room = self._enter(0), self.room
        if named.id in self._repeats and named.seq <= track.last:
            self._repeats.discard(named.id)
            return None
        shown = room.find(named.seq, named.id)
        if shown is None:
            shown, repeated = self.crew.talk.recognise(named.id, named.seq, body)
            if named.seq > room.pruned:
                room.add(shown, repeated=repeated)
        if track.see(named.seq):
            self._count(shown)
        return shown

    def _enter(self, seq: int) -> Track:
        # A room that shows no history is empty: its first message will be number 1.
        if self.track is None:
            self.track = self.room.enter(seq)
        return self.track

    def _history(self, body: bytes) -> None:
        history = _history(body)
        track = self.track
        if track is None:
            self._enter(history.last_seq)
        else:
            for named in history.messages:
                if named.seq > track.last:
                    self._shown(named, b"")
            if history.gap:
                self.crew.meter.counts["gap"] += 1
                track.skip(history.last_seq)
        self._heed(self.state.received(now() * 1000, body))
        self._arrived()

    def _echo(self, body: bytes) -> None:
        """Our own message: the machine knows what it answers."""
        self._sync()
        self._heed(self.state.received(now() * 1000, body))

    def _other(self, body: bytes) -> None:
        events = self.state.received(now() * 1000, body)
        self._heed(events)
        if any(type(event) is Participants for event in events):
            self._arrived()

    def _arrived(self) -> None:
        self._enter(0)
        self.arrived()
        self._flush()

    def _heed(self, events: list[Event]) -> None:
        meter = self.crew.meter
        for event in events:
            match event:
                case Acknowledged(id=message_id):
                    self.crew.talk.answered(message_id)
                case Rejected(id=message_id, error=error):
                    meter.error(error.code)
                    self.crew.talk.refused(message_id, error.code)
                case ErrorFrame(code=code):
                    meter.error(code)

    def _sync(self) -> None:
        if self.track is not None:
            self.state.last_seq = self.track.last


class DeafSeat(Seat):
    """One that stops reading: when something reaches it says nothing of the server."""

    def _count(self, shown: Shown) -> None:
        shown.seen += 1
