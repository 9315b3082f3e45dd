"""Effects: what a state machine wants done, as values its shell carries out.

`Room` and `Presence` return lists of these, in the order in which they are to be seen.
The shell may delay (output gate) but never reorder the visible ones. Frames are
finished JSON, encoded once. Must not import the machines, nor do anything.

`Notification` is what one object tells another, as msgpack.
"""

import msgspec

from .bots.talk import Answer, Question
from .protocol import Status


class Attachment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Per-connection data that survives hibernation (a DO's serializeAttachment).

    `watch=False`: a room socket that counts for presence and is sent nothing.
    """

    conn: str
    user_id: str
    display_name: str
    status: Status
    typing: bool = False
    watch: bool = True


class Append(msgspec.Struct, frozen=True, gc=False):
    """Make `event`, a Message's wire JSON, durable as `<epoch>-<seq>`."""

    seq: int
    event: bytes


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """Write `frame` to every subscribed socket, except those of `but_user`.

    `seq > 0`: durable, shown only once its `Append` is confirmed; `frame` is then the
    same bytes object as the `Append`'s event. `seq == 0`: ephemeral.
    """

    frame: bytes
    but_user: str | None = None
    seq: int = 0


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write `frame` to these sockets, subscribed or not.

    `fault`: the answer to INVALID_JSON, VALIDATION_ERROR, UNKNOWN_TYPE or TOO_LARGE,
    which the gateway counts as abuse.
    """

    conns: tuple[str, ...]
    frame: bytes
    fault: bool = False


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """From here on these sockets get broadcasts."""

    conns: tuple[str, ...]


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """Answer a repeated id to `conn` alone with the original echo.

    `frame` is the original when it is still in the buffer; else it is None and must be
    read from the log at `log_id`.
    """

    conn: str
    seq: int
    log_id: str | None
    frame: bytes | None


class Behind(msgspec.Struct, frozen=True, gc=False):
    """The socket's `since` is older than the buffer, and it has not entered yet.

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


class Attach(msgspec.Struct, frozen=True, gc=False):
    """The gateway keeps this attachment for its connection from now on."""

    attachment: Attachment


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Hand `payload` (an encoded `Notification`) to another object, best effort."""

    target: str
    payload: bytes


class Touch(msgspec.Struct, frozen=True, gc=False):
    """A direct room had a message: move it up in `user_rooms:<user>`, best effort."""

    users: tuple[str, ...]
    timestamp: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """Write `presence:<user>`; `status=None` deletes it. Best effort."""

    user_id: str
    status: Status | None


class Think(msgspec.Struct, frozen=True, gc=False):
    """Find an answer; it comes back as the notification `Answered`, or never.

    With `excuse` there is nothing to find: that is said, unless bots are switched off.
    """

    question: Question
    excuse: Answer | None = None


class Count(msgspec.Struct, frozen=True, gc=False):
    """Add to a figure of a bot's day (days since 1970). Best effort."""

    day: int
    bot_id: str
    figure: str
    amount: int = 1


class Spent(msgspec.Struct, frozen=True, gc=False):
    """Show how many of a day's answers are used up, by this person or by all (None)."""

    day: int
    user_id: str | None
    count: int


class Active(msgspec.Struct, frozen=True, gc=False):
    """Write `bots:active` and `bots:line`: these are in rotation, and no others; and
    in this order everybody's turn comes. Best effort."""

    bot_ids: tuple[str, ...]
    line: tuple[str, ...] = ()


Effect = (
    Append
    | Broadcast
    | Send
    | Subscribe
    | Repeat
    | Behind
    | Close
    | Attach
    | Notify
    | Touch
    | Record
    | Think
    | Count
    | Spent
    | Active
)


class StatusChanged(msgspec.Struct, frozen=True, gc=False, tag="status"):
    """A user chose a status (and a name) in a room or over HTTP."""

    user_id: str
    status: Status
    display_name: str | None = None


class DirectMessage(msgspec.Struct, frozen=True, gc=False, tag="direct"):
    """A direct room committed `message` (its wire JSON) between `user_ids`."""

    user_ids: tuple[str, ...]
    message: bytes


class Asked(msgspec.Struct, frozen=True, gc=False, tag="asked"):
    """A room committed a message that speaks to a bot."""

    question: Question


class Answered(msgspec.Struct, frozen=True, gc=False, tag="answered"):
    """A question was thought about. Without text the outcome says why not."""

    room_id: str
    seq: int
    bot_id: str
    answer: Answer
    latency_ms: int


class RotationDue(msgspec.Struct, frozen=True, gc=False, tag="rotation"):
    """It may be a new hour, or nobody knows which bots are on."""


class BotTyping(msgspec.Struct, frozen=True, gc=False, tag="bot_typing"):
    """A bot writes in a room, which shows it for a while, or stopped."""

    bot_id: str
    display_name: str
    is_typing: bool


class BotSays(msgspec.Struct, frozen=True, gc=False, tag="bot_says"):
    """A bot answers the message `seq` of a room; at most once, whatever happens."""

    bot_id: str
    display_name: str
    seq: int
    content: str


class BotsActive(msgspec.Struct, frozen=True, gc=False, tag="bots"):
    """The bots that are on now, ids and display names, and no others."""

    bots: tuple[tuple[str, str], ...]


Notification = (
    StatusChanged
    | DirectMessage
    | Asked
    | Answered
    | RotationDue
    | BotTyping
    | BotSays
    | BotsActive
)

encode_notification = msgspec.msgpack.Encoder().encode
decode_notification = msgspec.msgpack.Decoder[Notification](Notification).decode
