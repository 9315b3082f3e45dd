"""The wire as types: every frame, the HTTP payloads, and how they are read and written.

Owns the shapes of wire.md §1-4, but for those of `events`; `decoding` owns how strictly
they are read. The
machines see only values that passed both. Must not know rooms, sockets or time.
"""

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import ProtocolError
from ..ids import MESSAGE_ID_PATTERN, USER_ID_PATTERN, WINK_ID_PATTERN
from .decoding import (
    MAX_CONTENT,
    MAX_DISPLAY_NAME,
    MAX_PERSONAL_MESSAGE,
    MAX_WATCHED,
    FrameReader,
    check_content,
    check_display_name,
    check_personal_message,
)
from .events import (
    ChatMessage,
    Message,
    NudgeMessage,
    Receipt,
    Struct,
    Tagged,
    WinkMessage,
)

HISTORY_FRAME = 100
"""A `history` frame holds at most this many messages."""

Status = Literal["online", "busy", "away", "offline"]
MessageId = Annotated[str, Meta(pattern=MESSAGE_ID_PATTERN, examples=["m-41"])]
# msgspec counts code points; UTF-16 units, the wire's measure, are never fewer.
Content = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_CONTENT, examples=["up for a listening party?"]),
]
DisplayName = Annotated[str, Meta(min_length=1, max_length=MAX_DISPLAY_NAME)]
PersonalMessage = Annotated[str, Meta(max_length=MAX_PERSONAL_MESSAGE)]
UserIds = Annotated[
    list[Annotated[str, Meta(pattern=USER_ID_PATTERN, examples=["user_2"])]],
    Meta(max_length=MAX_WATCHED),
]
Scope = Literal["all", "watched"]
Milliseconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]


# Client to server.


class Durable(Tagged, frozen=True, gc=False):
    """A frame that becomes an event of its room's log, once for each `id`.

    Its sender gets an echo or an error, and it counts against the rate of what it
    `becomes`. The documents quote its docstring, a line and then its rule, and show it
    with the first example of each field's type.
    """

    becomes: ClassVar[type[Message]]

    @property
    def id(self) -> MessageId | UnsetType:
        """The sender's own id: a field of each."""
        raise NotImplementedError


class Chat(Durable, frozen=True, gc=False, tag="chat"):
    """Say something.

    At most 20 in 10 s per user and room, winks included.
    """

    becomes = ChatMessage

    content: Content
    id: MessageId | UnsetType = UNSET


class Nudge(Durable, frozen=True, gc=False, tag="nudge"):
    """Shake everyone's window.

    At most 3 in 10 s per user and room.
    """

    becomes = NudgeMessage

    id: MessageId | UnsetType = UNSET


class Wink(Durable, frozen=True, gc=False, tag="wink"):
    """Play an animation on every screen at the same moment.

    Counts against the rate of `chat`.
    """

    becomes = WinkMessage

    wink_id: Annotated[str, Meta(pattern=WINK_ID_PATTERN, examples=["dancing_pig"])]
    id: MessageId | UnsetType = UNSET


class Typing(Tagged, frozen=True, gc=False, tag="typing"):
    """Started or stopped typing."""

    is_typing: bool


class SetPresence(Tagged, frozen=True, gc=False, tag="presence"):
    """Choose a status (and a name, a personal message), said in a room."""

    status: Status
    display_name: DisplayName | UnsetType = UNSET
    personal_message: PersonalMessage | UnsetType = UNSET


class Ack(Tagged, frozen=True, gc=False, tag="ack"):
    """A message of someone else arrived or was read."""

    ack_id: MessageId
    status: Receipt


class Ping(Tagged, frozen=True, gc=False, tag="ping"):
    """Measure the clock offset."""

    t: Milliseconds | UnsetType = UNSET


class UpdatePresence(Tagged, frozen=True, gc=False, tag="presence_update"):
    """Choose a status (and a name, a personal message), said on the presence socket."""

    status: Status
    display_name: DisplayName | UnsetType = UNSET
    personal_message: PersonalMessage | UnsetType = UNSET


class Watch(Tagged, frozen=True, gc=False, tag="watch"):
    """Hear of these people too, however many are online."""

    user_ids: UserIds


class Unwatch(Tagged, frozen=True, gc=False, tag="unwatch"):
    """Hear of these people no more, where so many are online."""

    user_ids: UserIds


DurableFrame = Chat | Nudge | Wink
RoomFrame = DurableFrame | Typing | SetPresence | Ack | Ping
PresenceFrame = UpdatePresence | Watch | Unwatch | Ping
Wish = SetPresence | UpdatePresence
"""What somebody wants to be shown as."""


# Server to client.


class Participant(Struct, frozen=True, gc=False):
    """One user of a room or of the whole messenger."""

    id: str
    display_name: str
    status: Status
    personal_message: str | UnsetType = UNSET
    avatar_id: str | UnsetType = UNSET


class System(Tagged, frozen=True, gc=False, tag="system"):
    """A line of the house; `room_id` is absent on the presence socket."""

    content: str
    timestamp: int
    room_id: str | UnsetType = UNSET


class History(Tagged, frozen=True, gc=False, tag="history"):
    """Messages from before the socket entered, oldest first. `era`: since which loss
    numbers count; absent where nothing was ever lost."""

    messages: list[msgspec.Raw]
    room_id: str
    last_seq: int
    gap: bool
    era: int | UnsetType = UNSET


class Participants(Tagged, frozen=True, gc=False, tag="participants"):
    """Who is in the room: everyone, each once. `total` is there in a crowd alone: how
    many are in, of whom `participants` are the latest and the receiver."""

    room_id: str
    participants: list[Participant]
    total: int | UnsetType = UNSET


class TypingState(Tagged, frozen=True, gc=False, tag="typing"):
    """Someone else started or stopped typing."""

    room_id: str
    sender_id: str
    display_name: str
    is_typing: bool


class DeliveryStatus(Tagged, frozen=True, gc=False, tag="delivery_status"):
    """A message's status went up; `sender_id` is who acknowledged it."""

    room_id: str
    ack_id: str
    status: Receipt
    sender_id: str
    timestamp: int


class ErrorFrame(Tagged, frozen=True, gc=False, tag="error"):
    """What was wrong with a frame; `content` repeats `message` for old clients."""

    code: str
    message: str
    content: str
    retryable: bool
    retry_after_ms: int | UnsetType = UNSET
    id: str | UnsetType = UNSET


class SessionExpiring(Tagged, frozen=True, gc=False, tag="session_expiring"):
    """The session ends in two minutes unless it is refreshed."""

    expires_at: int


class Pong(Tagged, frozen=True, gc=False, tag="pong"):
    """The answer to `ping`: its `t` and our time."""

    timestamp: int
    t: int | UnsetType = UNSET


class PresenceFullSync(Tagged, frozen=True, gc=False, tag="presence_full_sync"):
    """Everyone online, or in a crowd (`scope: "watched"`) those of whom this socket
    hears; with `partial: true` those alone who have changed or were asked for."""

    participants: list[Participant]
    online: int
    scope: Scope
    partial: bool | UnsetType = UNSET


class PresenceJoin(Tagged, frozen=True, gc=False, tag="presence_join"):
    """A user came online."""

    user_id: str
    display_name: str
    personal_message: str | UnsetType = UNSET
    avatar_id: str | UnsetType = UNSET


class PresenceUpdate(Tagged, frozen=True, gc=False, tag="presence_update"):
    """A user's status, name, message or picture changed; `offline` when they left."""

    user_id: str
    display_name: str
    status: Status
    personal_message: str | UnsetType = UNSET
    avatar_id: str | UnsetType = UNSET


class MessageNotification(Tagged, frozen=True, gc=False, tag="message_notification"):
    """A message in one of the user's direct rooms; `message` is an event."""

    message: msgspec.Raw


ServerFrame = (
    System
    | History
    | Participants
    | TypingState
    | DeliveryStatus
    | ErrorFrame
    | SessionExpiring
    | Pong
    | PresenceFullSync
    | PresenceJoin
    | PresenceUpdate
    | MessageNotification
)


# HTTP payloads.


class User(Struct, frozen=True, gc=False):
    """A person or bot of the directory, with live status."""

    id: str
    email: str
    display_name: str
    avatar_id: str
    status: Status
    is_ai_bot: bool
    personal_message: str | UnsetType = UNSET
    persona: str | UnsetType = UNSET
    bot_archetype: str | UnsetType = UNSET
    bot_style: str | UnsetType = UNSET


class RoomInfo(Struct, frozen=True, gc=False):
    """A room as `GET /api/rooms` lists it (wire.md calls it `Room`)."""

    id: str
    name: str
    type: Literal["group", "direct"]
    participant_ids: list[str]
    unread_count: int


# Writing.

encode = msgspec.json.Encoder().encode
"""The JSON bytes of a frame, event or HTTP payload: `type` first, absent not null."""


def error_frame(error: ProtocolError) -> bytes:
    """The `error` frame that answers a client's fault."""
    return encode(
        ErrorFrame(
            error.code,
            error.message,
            error.message,
            error.row.retryable,
            UNSET if error.retry_after_ms is None else error.retry_after_ms,
            UNSET if error.id is None else error.id,
        )
    )


def history_frame(
    events: Iterable[bytes],
    room_id: str,
    last_seq: int,
    gap: bool,
    era: int | UnsetType = UNSET,
) -> bytes:
    """A `history` frame around messages that are JSON already."""
    raw = [msgspec.Raw(event) for event in events]
    return encode(History(raw, room_id, last_seq, gap, era))


def with_gaps(
    numbered: Iterable[tuple[int, bytes]],
    room_id: str,
    since: int,
    upto: int,
    era: int | UnsetType = UNSET,
) -> list[bytes]:
    """Frames for a socket that has everything up to `since`: these events, in order,
    and for each row of them that is missing an empty `history` with `gap: true`."""
    frames: list[bytes] = []
    for seq, event in numbered:
        if seq != since + 1:
            frames.append(history_frame([], room_id, seq - 1, True, era))
        frames.append(event)
        since = seq
    if since < upto:
        frames.append(history_frame([], room_id, upto, True, era))
    return frames


# Reading.

_room: FrameReader[RoomFrame] = FrameReader(RoomFrame)
_presence: FrameReader[PresenceFrame] = FrameReader(PresenceFrame)


def decode_room_frame(data: bytes) -> RoomFrame:
    """Read what a room socket sent.

    Raises ProtocolError INVALID_JSON, VALIDATION_ERROR (naming the field), UNKNOWN_TYPE
    or TOO_LARGE, with the frame's `id` if it had a valid one.
    """
    frame = _room.read(data)
    if isinstance(frame, Chat):
        check_content(frame.content, data)
    elif isinstance(frame, SetPresence):
        _check_words(frame)
    return frame


def decode_presence_frame(data: bytes) -> PresenceFrame:
    """Read what a presence socket sent; raises as `decode_room_frame` does."""
    frame = _presence.read(data)
    if isinstance(frame, UpdatePresence):
        _check_words(frame)
    return frame


def _check_words(wish: Wish) -> None:
    if wish.display_name is not UNSET:
        check_display_name(wish.display_name)
    if wish.personal_message:
        check_personal_message(wish.personal_message)


_FOR_GATEWAY = Ping | SetPresence | UpdatePresence | Watch | Unwatch
_CHAT = (b'{"type":"chat"', b'{"type": "chat"')


def for_gateway(data: bytes, registry: bool) -> Ping | Wish | Watch | Unwatch | None:
    """A frame that the gateway itself answers or acts upon, None for all others.

    `registry`: it came over a presence socket. Nearly every other frame costs a look at
    its beginning or a few substring searches, and is not decoded. None for a bad one.
    """
    if data.startswith(_CHAT):
        return None  # and a second `type` would be refused
    if not (b'"ping"' in data or b'"presence' in data or b"\\u" in data):
        if not (registry and b'watch"' in data):
            return None
    try:
        frame = decode_presence_frame(data) if registry else decode_room_frame(data)
    except ProtocolError:
        return None
    return frame if isinstance(frame, _FOR_GATEWAY) else None
