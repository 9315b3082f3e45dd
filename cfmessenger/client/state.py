"""A client's side of a socket as a state machine: no clock, no loop, no randomness.

Owns what must survive a reconnect: the resume point (wire.md §3, `since`), the outbox
of unacknowledged messages, the chosen status, the clock offset. Used by the asyncio
shell (connection.py) and by the load harness alike. Bytes in by `received`, events out
as its result; frames to write by `take`, in order. Times are the caller's clock in ms.

Everything is bounded: the outbox refuses (`OutboxFull`), acks drop the oldest, and
other ephemeral frames are dropped when nobody takes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import UNSET

from cfmessenger.client.errors import SendRejected
from cfmessenger.client.events import (
    DirectMessage,
    Event,
    Opened,
)
from cfmessenger.client.frames import Received, read_events, read_frame
from cfmessenger.client.offset import ClockOffset
from cfmessenger.errors import ProtocolError
from cfmessenger.wire.decoding import MAX_WATCHED, rule
from cfmessenger.wire.events import Message, UnknownEvent
from cfmessenger.wire.protocol import (
    DeliveryStatus,
    DurableFrame,
    History,
    MessageNotification,
    Participant,
    Participants,
    Ping,
    Pong,
    PresenceFullSync,
    PresenceJoin,
    PresenceUpdate,
    Scope,
    SetPresence,
    Status,
    TypingState,
    Unwatch,
    UpdatePresence,
    Watch,
    decode_presence_frame,
    encode,
)

EPHEMERAL_LIMIT = 256
"""Frames that wait to be taken, and receipts that do."""

IDS_IN_A_FRAME = 200
"""So that a frame of the longest ids is not too large."""


class ClientState:
    """What room and presence sockets have in common.

    Life: `opened` once the socket is open, `received` for each text frame, `lost` when
    it is gone, again and again. `take` after any call that may have queued a frame.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.offset = ClockOffset()  # better with each pong
        self.connected = False  # from `opened` until `lost`
        # Frames, or ids of messages in the outbox; until taken, or the socket is lost.
        self._out: deque[bytes | str] = deque()
        # The chosen status, which is said again after each reconnect. None: none yet.
        self._status_frame: bytes | None = None
        self._status: Status | None = None  # that is in it
        self._shown = False  # from when the server has shown it

    @property
    def since(self) -> int | None:
        """What to pass as `?since=`; None: nothing to resume."""
        return None

    @property
    def era(self) -> int | None:
        """What to pass as `?era=`; None: nothing was ever lost."""
        return None

    def opened(self) -> list[Event]:
        """The socket is open; nothing was written to it yet."""
        self.connected = True
        self._out.clear()
        if self._status_frame is not None:
            self._out.append(self._status_frame)
        return [Opened(self.since)]

    def lost(self) -> None:
        """The socket is gone; frames not taken are void, the outbox is not."""
        self.connected = False
        self._out.clear()

    def received(self, now: float, data: bytes) -> list[Event]:
        """One text frame from the server; what it means, in order."""
        frame = read_frame(data)
        if frame is None:
            return []
        if type(frame) is Pong:
            if frame.t is not UNSET:
                self.offset.sample(frame.t, now, frame.timestamp)
            return []
        return self._apply(frame)

    def ping(self, now: float) -> bool:
        """Queue a `ping` that measures the clock offset; False if it was dropped."""
        return self._ephemeral(encode(Ping(int(now))))

    def take(self) -> list[bytes]:
        """The frames to write now, in order; they count as written."""
        out = [f for f in map(self._written, self._out) if f is not None]
        self._out.clear()
        return out

    @property
    def has_output(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._out)

    def forget(self, message_id: str) -> None:
        """Stop waiting for a message; it may have been, or be, accepted."""

    def _apply(self, frame: Received) -> list[Event]:
        raise NotImplementedError

    def _written(self, item: bytes | str) -> bytes | None:
        assert isinstance(item, bytes)
        return item

    def _ephemeral(self, frame: bytes) -> bool:
        if not self.connected or len(self._out) >= EPHEMERAL_LIMIT:
            return False
        self._out.append(frame)
        return True

    def _say_status(self, wish: SetPresence | UpdatePresence, frame: bytes) -> None:
        """Say all of it now, and the status alone after a reconnect: a name is the
        server's to remember, and may have been changed elsewhere meanwhile."""
        self._keep_status(wish.status, type(wish))
        self._shown = False
        self._ephemeral(frame)

    def _keep_status(
        self, status: Status, kind: type[SetPresence] | type[UpdatePresence]
    ) -> None:
        self._status, self._status_frame = status, encode(kind(status))

    def _told_status(
        self, status: Status, kind: type[SetPresence] | type[UpdatePresence]
    ) -> None:
        """The server shows our status. What differs from ours, once ours was shown, is
        another device's choice and holds from now on."""
        if status == self._status:
            self._shown = True
        elif self._shown:
            self._keep_status(status, kind)


class PresenceState(ClientState):
    """The presence socket: knows who is online (`roster`, by user id), or in a crowd
    (`scope` is "watched") who of those of whom the server tells us: oneself, whom we
    `watch`, with whom we have a direct room, and the bots."""

    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.online = 0  # how many there were at the last sync, whole or partial
        self.scope: Scope = "all"  # of the last sync
        self.watched: dict[str, None] = {}  # from `watch` until `unwatch`
        self._said: dict[str, None] = {}  # of these, what this connection has said
        # Who is online, as last told; a sync at the next connection begins it anew.
        self.roster: dict[str, Participant] = {}

    def presence(self, status: Status, display_name: str | None = None) -> None:
        """Choose a status; it is said again after every reconnect."""
        name = UNSET if display_name is None else display_name
        frame = UpdatePresence(status, name)
        self._say_status(frame, checked(decode_presence_frame, frame))

    def watch(self, user_ids: Iterable[str]) -> None:
        """Be told of these people in a crowd too, from now on and after every
        reconnect. Raises `SendRejected`, and changes nothing, if there would be more
        than 500, or one is no user id."""
        wanted = self.watched | dict.fromkeys(user_ids)
        if len(wanted) > MAX_WATCHED:
            raise SendRejected("VALIDATION_ERROR", f"userIds: {rule('watched')}")
        for part in _parts(wanted.keys() - self.watched.keys()):
            checked(decode_presence_frame, Watch(part))
        self.watched = wanted

    def unwatch(self, user_ids: Iterable[str]) -> None:
        """Be told of these no more. In a crowd nobody tells when they leave, so
        `roster` forgets them at once."""
        for user_id in user_ids:
            if user_id in self.watched:
                del self.watched[user_id]
                if self.scope == "watched" and user_id != self.user_id:
                    self.roster.pop(user_id, None)

    def opened(self) -> list[Event]:
        self._said = {}
        return super().opened()

    @property
    def has_output(self) -> bool:
        return super().has_output or (self.connected and self._said != self.watched)

    def take(self) -> list[bytes]:
        frames = super().take()
        if self.connected:
            over = [each for each in self._said if each not in self.watched]
            new = [each for each in self.watched if each not in self._said]
            frames += [encode(Unwatch(part)) for part in _parts(over)]
            frames += [encode(Watch(part)) for part in _parts(new)]
            self._said = dict(self.watched)
        return frames

    def _apply(self, frame: Received) -> list[Event]:
        match frame:
            case MessageNotification():
                found = read_events([frame.message])
                return [DirectMessage(e) for e in found if isinstance(e, Message)]
            case PresenceFullSync():
                self.online, self.scope = frame.online, frame.scope
                if frame.partial is not True:
                    self.roster.clear()
                for someone in frame.participants:
                    self._seen(someone)
            case PresenceJoin():
                self._joined(frame, "online")
            case PresenceUpdate():
                self._joined(frame, frame.status)
                if frame.user_id == self.user_id:
                    self._told_status(frame.status, UpdatePresence)
            case History() | Message() | UnknownEvent():
                return []  # a room's frames
            case Participants() | TypingState():
                return []
            case DeliveryStatus() | Pong():
                return []
        return [frame]

    def _joined(self, frame: PresenceJoin | PresenceUpdate, status: Status) -> None:
        words = frame.display_name, status, frame.personal_message, frame.avatar_id
        self._seen(Participant(frame.user_id, *words))

    def _seen(self, someone: Participant) -> None:
        if someone.status == "offline":
            self.roster.pop(someone.id, None)
        else:
            self.roster[someone.id] = someone


def _parts(user_ids: Iterable[str]) -> Iterator[list[str]]:
    ids = list(user_ids)
    for start in range(0, len(ids), IDS_IN_A_FRAME):
        yield ids[start : start + IDS_IN_A_FRAME]


def checked(
    decode: Callable[[bytes], object],
    frame: DurableFrame | SetPresence | UpdatePresence | Watch,
) -> bytes:
    """The frame's bytes. Raises `SendRejected` with what the server would answer."""
    try:
        data = encode(frame)
        decode(data)
    except ProtocolError as error:
        raise SendRejected(error.code, error.message) from error
    except UnicodeEncodeError as error:
        raise SendRejected("VALIDATION_ERROR", "not valid Unicode") from error
    return data
