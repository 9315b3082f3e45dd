"""A client's side of a room socket as a state machine.

Owns the resume point and the outbox: every message is returned once and in seq order,
what cannot be had is a `Gap`, every message of ours is answered once, and re-sent with
the same id until then ("the repeat is answered ... with the original echo", wire.md
§2). Bounded and pure as state.py says.
"""

from __future__ import annotations

from collections import deque

from msgspec import UNSET

from cfmessenger.client.errors import OutboxFull, RateLimited, SendRejected
from cfmessenger.client.events import Acknowledged, Event, Gap, Recap, Rejected, Rewound
from cfmessenger.client.frames import Received, read_events
from cfmessenger.client.state import EPHEMERAL_LIMIT, ClientState, checked
from cfmessenger.wire.events import LostMessage, Message, Receipt, UnknownEvent
from cfmessenger.wire.protocol import (
    Ack,
    Chat,
    DurableFrame,
    ErrorFrame,
    History,
    MessageNotification,
    Nudge,
    Participants,
    Pong,
    SetPresence,
    Status,
    Typing,
    Wink,
    decode_room_frame,
    encode,
)


class _Pending:
    __slots__ = ("frame", "written")

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.written = False  # True once written to any socket: it may be accepted


class RoomState(ClientState):
    """A room socket: every message once, in order, and every send answered once.

    `last_seq` is the resume point: all events up to it were returned by `received`
    (or reported as a `Gap`). None until the room has told where it is.
    """

    def __init__(
        self,
        room_id: str,
        user_id: str,
        *,
        id_prefix: str,
        since: int | None = None,
        outbox_limit: int = 256,
    ) -> None:
        """`id_prefix` makes our message ids unique among this user's clients."""
        super().__init__(user_id)
        self.room_id = room_id
        self.last_seq = since  # rises, unless the room was rewound
        self._id_prefix = id_prefix
        self._sent = 0  # ids given so far
        self._outbox: dict[str, _Pending] = {}  # by id, until answered or forgotten
        self._outbox_limit = outbox_limit
        self._acks: deque[bytes] = deque(maxlen=EPHEMERAL_LIMIT)  # until taken
        # Whether messages may be written: from when what came before is known, until
        # the socket is lost.
        self._resumed = False
        # From opening with `since` until the first history.
        self._may_rewind = False
        # That of `last_seq`, as far as the room has told; None: nothing was ever lost.
        self._era: int | None = None

    @property
    def era(self) -> int | None:
        """See `ClientState`."""
        return self._era

    @property
    def since(self) -> int | None:
        """See `ClientState`."""
        return self.last_seq

    @property
    def outbox(self) -> tuple[str, ...]:
        """The ids not answered yet, in the order they were said."""
        return tuple(self._outbox)

    # Said by us. Each returns the message's id and raises `OutboxFull`, or
    # `SendRejected` for what the server would refuse anyway.

    def chat(self, content: str, id: str | None = None) -> str:  # noqa: A002
        """Say something. An `id` of one's own makes a retry the same message."""
        message_id = self._fresh(id)
        return self._enqueue(message_id, Chat(content, message_id))

    def nudge(self, id: str | None = None) -> str:  # noqa: A002
        """Shake everyone's window."""
        message_id = self._fresh(id)
        return self._enqueue(message_id, Nudge(message_id))

    def wink(self, wink_id: str, id: str | None = None) -> str:  # noqa: A002
        """Play an animation everywhere at once."""
        message_id = self._fresh(id)
        return self._enqueue(message_id, Wink(wink_id, message_id))

    def typing(self, is_typing: bool) -> bool:
        """Tell the others; False if it was dropped (it is stale by the next socket)."""
        return self._resumed and self._ephemeral(encode(Typing(is_typing)))

    def presence(self, status: Status, display_name: str | None = None) -> None:
        """Choose a status; it is said again after every reconnect."""
        name = UNSET if display_name is None else display_name
        frame = SetPresence(status, name)
        self._say_status(frame, checked(decode_room_frame, frame))

    def ack(self, message_id: str, status: Receipt) -> None:
        """Receipt for another user's message; kept (the latest 256) while away."""
        self._acks.append(encode(Ack(message_id, status)))

    # Life.

    def opened(self) -> list[Event]:
        """See `ClientState`. Messages whose fate is unknown wait until the history has
        shown whether they are in it: the server's duplicate window may be over."""
        events = super().opened()
        self._resumed = False
        self._may_rewind = self.last_seq is not None
        if not any(pending.written for pending in self._outbox.values()):
            self._resume()
        return events

    def lost(self) -> None:
        """See `ClientState`."""
        super().lost()
        self._resumed = False

    def take(self) -> list[bytes]:
        """See `ClientState`. Receipts come last, and only after resuming."""
        out = super().take()
        if self._resumed and self._acks:
            out.extend(self._acks)
            self._acks.clear()
        return out

    @property
    def has_output(self) -> bool:
        """See `ClientState`."""
        return bool(self._out) or (self._resumed and bool(self._acks))

    def forget(self, message_id: str) -> None:
        """See `ClientState`."""
        pending = self._outbox.pop(message_id, None)
        if pending is not None and not pending.written and message_id in self._out:
            self._out.remove(message_id)

    # Said by the server.

    def _apply(self, frame: Received) -> list[Event]:
        match frame:
            case Message() | UnknownEvent():
                events = self._take_in(frame)
                self._resume()
                return events
            case History():
                return self._history(frame)
            case ErrorFrame():
                return self._error(frame)
            case Participants():
                # Comes only once the socket is subscribed, that is after all history:
                # if there was none the room is empty.
                if self.last_seq is None:
                    self.last_seq = 0
                self._resume()
                for someone in frame.participants:
                    if someone.id == self.user_id:
                        self._told_status(someone.status, SetPresence)
                return [frame]
            case MessageNotification() | Pong():
                return []
            case _:
                return [frame]

    def _history(self, frame: History) -> list[Event]:
        messages = read_events(frame.messages)
        events: list[Event] = []
        known, era = self.last_seq, None if frame.era is UNSET else frame.era
        another = frame.gap and era != self._era
        behind = known is not None and frame.last_seq < known
        if self._may_rewind and known is not None and (another or behind):
            events.append(Rewound(known, frame.last_seq))
            self.last_seq = None
        self._era = era
        self._may_rewind = False
        new: list[Message] = []
        for message in messages:
            for event in self._take_in(message):
                if isinstance(event, Message):
                    new.append(event)
                elif not isinstance(event, UnknownEvent):
                    events.append(event)
        # More frames follow until one reaches `lastSeq`.
        if not messages or messages[-1].seq >= frame.last_seq:
            events += self._skip_to(frame.last_seq)
            self._resume()
        events.append(Recap(frame.room_id, tuple(new)))
        return events

    def _take_in(self, message: Message | UnknownEvent) -> list[Event]:
        events: list[Event] = []
        if message.sender_id == self.user_id and message.id in self._outbox:
            if isinstance(message, Message):
                del self._outbox[message.id]
                events.append(Acknowledged(message.id, message))
        if self.last_seq is None:
            self.last_seq = message.seq - 1
        if message.seq <= self.last_seq:
            return events  # shown before, or the answer to a repeat
        if isinstance(message, LostMessage):
            events.append(Gap(message.first, message.last))
            self.last_seq = max(self.last_seq, message.last)
        events += self._skip_to(message.seq - 1)
        self.last_seq = message.seq
        if message.era is not UNSET:
            self._era = message.era
        events.append(message)
        return events

    def _skip_to(self, seq: int) -> list[Event]:
        known = self.last_seq
        if known is None or known < seq:
            self.last_seq = seq
        return [Gap(known + 1, seq)] if known is not None and known < seq else []

    def _error(self, frame: ErrorFrame) -> list[Event]:
        message_id = frame.id
        if message_id is UNSET or message_id not in self._outbox:
            return [frame]
        del self._outbox[message_id]
        kind = RateLimited if frame.code == "RATE_LIMITED" else SendRejected
        wait = frame.retry_after_ms
        error = kind(
            frame.code,
            frame.message,
            id=message_id,
            retryable=frame.retryable,
            retry_after_ms=None if wait is UNSET else wait,
        )
        return [Rejected(message_id, error)]

    # The outbox.

    def _resume(self) -> None:
        if not self._resumed:
            self._resumed = True
            self._out.extend(self._outbox)

    def _fresh(self, message_id: str | None) -> str:
        if message_id is not None:
            return message_id
        self._sent += 1
        return f"{self._id_prefix}-{self._sent}"

    def _enqueue(self, message_id: str, frame: DurableFrame) -> str:
        data = checked(decode_room_frame, frame)
        if message_id in self._outbox:
            raise ValueError(f"message {message_id!r} is being sent already")
        if len(self._outbox) >= self._outbox_limit:
            raise OutboxFull(self._outbox_limit)
        self._outbox[message_id] = _Pending(data)
        if self.connected and self._resumed:
            self._out.append(message_id)
        return message_id

    def _written(self, item: bytes | str) -> bytes | None:
        if isinstance(item, bytes):
            return item
        pending = self._outbox.get(item)  # gone: forgotten, or found in the history
        if pending is None:
            return None
        pending.written = True
        return pending.frame
