"""Effects: what a state machine wants done, as values its shell carries out.

The machines return lists of these, in the order in which they are to be seen. The
shell may delay (output gate) but never reorder the visible ones. Frames are finished
JSON, encoded once. Must not import the machines, nor do anything.

`Notification` is what one object tells a room or the registry, as msgpack. Guests have
inboxes of their own.
"""

import msgspec
from msgspec.structs import replace

from ..wire.protocol import Participant, Status


class Attachment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Per-connection data that survives hibernation (a DO's serializeAttachment).

    `watch=False`: a room socket that counts for presence and is sent nothing.
    Name, message and picture are those of the user's row at its revision `words_at`.
    The status is the presence registry's, `status_at` the number of the choice; 0:
    nobody chose, so it is "online".
    """

    conn: str
    user_id: str
    display_name: str
    status: Status
    typing: bool = False
    watch: bool = True
    personal_message: str | None = None
    avatar_id: str | None = None
    words_at: int = 0
    status_at: int = 0


def newest(kept: Attachment, told: Attachment) -> Attachment:
    """`kept`, with those words and that status of `told` that are newer."""
    if told.words_at > kept.words_at:
        kept = replace(
            kept,
            display_name=told.display_name,
            personal_message=told.personal_message,
            avatar_id=told.avatar_id,
            words_at=told.words_at,
        )
    if told.status_at > kept.status_at:
        kept = replace(kept, status=told.status, status_at=told.status_at)
    return kept


class Wants(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Of whom the sockets of a gateway want to hear, by user.

    `whole`: of `add` and of nobody else, and it may have missed something; else it is
    the difference to what was said before. `batch`: its number at the gateway, higher
    than that of any before.
    """

    batch: int
    whole: bool
    add: list[str]
    drop: list[str]


class Append(msgspec.Struct, frozen=True, gc=False):
    """Make `event` durable as `<epoch>-<seq>`, and then, if it is `shown`, write it to
    every subscribed socket: the very bytes that the log holds."""

    seq: int
    event: bytes
    shown: bool = False


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """Write `frame`, which nobody logs, to every subscribed socket, except those of
    `but_user`."""

    frame: bytes
    but_user: str | None = None


class Roll(msgspec.Struct, frozen=True, gc=False):
    """Write `frame`, a crowd's `participants`, to those of these sockets that are
    subscribed.

    `conns` None: to every one, except `but`. It names `users`, oldest first.
    A socket of somebody else is sent its own user in place of the oldest, whose bytes
    are `frame[start:end]`: the gateway knows how its people are shown (design.md §3.6).
    """

    frame: bytes
    start: int
    end: int
    users: tuple[str, ...]
    conns: tuple[str, ...] | None = None
    but: tuple[str, ...] = ()


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write `frame` to these sockets, subscribed or not.

    `fault`: the answer to INVALID_JSON, VALIDATION_ERROR, UNKNOWN_TYPE or TOO_LARGE,
    which the gateway counts as abuse.
    """

    conns: tuple[str, ...]
    frame: bytes
    fault: bool = False


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """From here on these sockets get broadcasts. `afresh`: whatever they had seen
    before, they were shown the buffer."""

    conns: tuple[str, ...]
    afresh: bool = False


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """Answer a repeated id to `conn` alone with the original echo.

    `frame` is the original when it is still in the buffer; else it is None, and the
    gateway reads it from the log at `seq`.
    """

    conn: str
    seq: int
    frame: bytes | None


class Behind(msgspec.Struct, frozen=True, gc=False):
    """The socket's `since` is older than the buffer: it has joined, but is not
    subscribed yet.

    The gateway pages (since, seq] from the log, then connects again with
    `greeted=True` and `since` = the last seq it wrote.
    """

    conn: str
    since: int
    seq: int


class Close(msgspec.Struct, frozen=True, gc=False):
    """Close this socket."""

    conn: str
    code: int
    reason: str


class KeepAttachment(msgspec.Struct, frozen=True, gc=False):
    """The gateway keeps this attachment for its connection from now on."""

    attachment: Attachment


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Hand `payload` (what its inbox takes) to another object, best effort."""

    target: str
    payload: bytes


class Touch(msgspec.Struct, frozen=True, gc=False):
    """A direct room had a message: move it up in `user_rooms:<user>`, best effort."""

    users: tuple[str, ...]
    timestamp: int


class Read(msgspec.Struct, frozen=True, gc=False):
    """A user of a direct room has read up to `seq`, or further already."""

    user_id: str
    seq: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """Write `presence:<user>`: the status, its number, and whether they are `here`.

    Who is not here is shown to nobody; their choice is kept for 90 s, if they made one
    (`status_at` is not 0). Best effort.
    """

    user_id: str
    status: Status
    status_at: int
    here: bool


class News(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a gateway is to know of who is online, in the order in which it happened.

    `people` are shown so from now on, and `gone` are shown no more. `whole`: beside
    `people` nobody is whom it is to know of. `everybody`: those of `people` of whom
    every socket hears. `crowded`: so many are online (`online`) that each hears only of
    some. `answers`: the last `Wants` of the gateway that this is an answer to.
    """

    crowded: bool
    online: int
    answers: int
    whole: bool
    people: list[Participant]
    gone: list[str]
    everybody: list[str]


class Tell(msgspec.Struct, frozen=True, gc=False):
    """Let a gateway know who is online. One that is not seated is told when it
    attaches."""

    gateway: str
    news: News


class Meet(msgspec.Struct, frozen=True, gc=False):
    """From now on these sockets, each of one of these two users, want to hear of the
    other, with whom they have a direct room."""

    conns: tuple[str, ...]
    user_ids: tuple[str, str]


class GuestEffect(msgspec.Struct, frozen=True, gc=False):
    """The base of effects that belong to one kind of object, which brings who carries
    them out (`actors.kinds.Kind`)."""


Effect = (
    Append
    | Broadcast
    | Roll
    | Send
    | Subscribe
    | Repeat
    | Behind
    | Close
    | KeepAttachment
    | Notify
    | Touch
    | Read
    | Record
    | Tell
    | Meet
    | GuestEffect
)


class StatusChanged(msgspec.Struct, frozen=True, gc=False, tag="status"):
    """A user chose a status over HTTP, with or without a socket."""

    user_id: str
    status: Status


class Acquainted(msgspec.Struct, frozen=True, gc=False, tag="acquainted"):
    """A user has opened the direct room with another one."""

    user_id: str
    other_id: str


class DirectMessage(msgspec.Struct, frozen=True, gc=False, tag="direct"):
    """A direct room committed `message` (its wire JSON) between `user_ids`."""

    user_ids: tuple[str, ...]
    message: bytes


# Releases pass these two on to each other, so their names on the way stay as they were.


class Types(msgspec.Struct, frozen=True, gc=False, tag="bot_typing"):
    """Somebody without a socket types in a room, which shows it for a while, or
    stopped."""

    user_id: str = msgspec.field(name="bot_id")
    display_name: str
    is_typing: bool


class Says(msgspec.Struct, frozen=True, gc=False, tag="bot_says"):
    """Somebody without a socket says this in a room, in answer to its message `seq`: at
    most once, whatever happens. It takes no rate, and no ear hears it."""

    user_id: str = msgspec.field(name="bot_id")
    display_name: str
    seq: int
    content: str


class Published(msgspec.Struct, frozen=True, gc=False, tag="published"):
    """Whom a guest wants shown as online beside the people: these, as they are here,
    and no others of the same `source`, which is the guest's name."""

    source: str
    shown: tuple[Participant, ...]


Notification = StatusChanged | Acquainted | DirectMessage | Types | Says | Published

encode_notification = msgspec.msgpack.Encoder().encode
decode_notification = msgspec.msgpack.Decoder[Notification](Notification).decode
