"""The link: what a gateway and an actor process say to each other, and how it is
framed.

One stream carries many objects and many sockets. A frame (`framing`) is one msgpack
value. Sans-IO: this module turns bytes into messages and back and owns no socket.

What makes a link trustworthy is in the numbers it carries. A gateway numbers its inputs
per object and keeps each until an `Output` says it is *covered* (committed, answered or
ephemeral); an `Output` is one frame, so what an input caused and its being covered
arrive together or not at all. Every `Output` carries its epoch, and a gateway drops
what is older than the newest it has seen (design.md §3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from cfmessenger.chat.effects import Attachment, News, Wants
from cfmessenger.link import framing
from cfmessenger.wire.complaint import UNREADABLE

VERSION = 6
"""What follows the greeting is the same in 5 and 6, so nothing is withheld from who
speaks 5."""

MAX_FRAME = 32 * 2**20
"""Bytes of one frame; a longer one is a broken or hostile peer."""

HIGH_WATER = 64 * 2**20
"""Unsent bytes after which a link is dropped: its peer re-attaches and catches up."""


class Struct(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all link messages: positional, immutable, no cycles."""


# What a gateway sends for one of its sockets, in the order it happened.


class Said(Struct, frozen=True, gc=False, tag=0):
    """A text frame, as it came. `seen`: the last event that its socket had by then;
    None: none, or its history is still to come."""

    n: int
    conn: str
    data: bytes
    seen: int | None = 0


class Opened(Struct, frozen=True, gc=False, tag=1):
    """A socket joins. `greeted` when it already had its greeting (a long resume).
    `era`: of what its client was shown, if that says so."""

    n: int
    attachment: Attachment
    since: int | None
    greeted: bool
    era: int | None = None


class Closed(Struct, frozen=True, gc=False, tag=2):
    """A socket is gone."""

    n: int
    conn: str


class Notified(Struct, frozen=True, gc=False, tag=3):
    """A notification for this object. One that may be given at most once is not
    repeated but by `GivenBefore`, others are repeated as they were."""

    n: int
    data: bytes


class Changed(Struct, frozen=True, gc=False, tag=4):
    """A connection's user has other words or another status. Sent only to an object
    that is awake, and never repeated: an attach brings it too."""

    n: int
    attachment: Attachment


class GivenBefore(Struct, frozen=True, gc=False, tag=5):
    """A notification that was sent once already, and may be given at most once: what is
    left of it is its number, to be covered."""

    n: int


Input = Said | Opened | Closed | Notified | Changed | GivenBefore


class Hello(Struct, frozen=True, gc=False, tag=0):
    """First frame of a gateway (`greeting`).

    `version`: the newest that it speaks. `oldest`: of those that it speaks; 0: no other
    (version 5 and before). `key`: of who proves none (likewise); `nonce`: of who does.
    """

    version: int
    key: str
    gateway: str
    oldest: int = 0
    nonce: bytes = b""


class Attach(Struct, frozen=True, gc=False, tag=1):
    """All sockets the gateway holds for an object, and what it has seen of it.

    `epoch` is the newest it has heard of. `seq` is the last event that its sockets got;
    None: none of them is in the fan-out, and `before` is the last that anybody here got
    who has left. Either was shown in the epoch `shown_in` (0: nobody knows);
    `elsewhere`: another process than this one said it. Inputs up to `covered` are done;
    those above it up to `replay` were sent before, perhaps in vain, and are sent again.
    `turn` is the number of this attach: what belongs to another turn, in either
    direction, is too late and is dropped.

    `rested`: the last thing it heard of the object was the goodbye of this epoch; 0: it
    was something else. Unless that was the life before the present one, the gateway may
    have missed what is not logged, and what is not logged no gap brings.
    """

    object: str
    epoch: int
    seq: int | None
    covered: int
    replay: int
    sockets: list[Attachment]
    turn: int = 0
    rested: int = 0
    before: int = 0
    shown_in: int = 0
    elsewhere: bool = False

    @property
    def known(self) -> int:
        """The last event that anybody at this gateway ever got."""
        return self.before if self.seq is None else self.seq


class Inputs(Struct, frozen=True, gc=False, tag=2):
    """New inputs for an attached object, in order.

    `wants`, for the registry alone, is what the gateway's sockets want behind these. It
    has no number and is never repeated: an attach brings the whole of it.
    """

    object: str
    inputs: list[Input]
    turn: int = 0
    wants: Wants | None = None


class Ping(Struct, frozen=True, gc=False, tag=3):
    """Answered at once, even while storage is away."""

    n: int


class Proof(Struct, frozen=True, gc=False, tag=4):
    """A gateway's second frame, since version 6: that it knows the key, too."""

    proof: bytes


ToActor = Hello | Attach | Inputs | Ping | Proof


# What an actor wants done at the gateway. Blobs are finished WebSocket frames.


class Fanout(Struct, frozen=True, gc=False, tag=0):
    """Bytes for every subscribed socket but those of `but_user`. `seq`: the last event
    in them; 0: they are ephemeral."""

    blob: bytes
    seq: int
    but_user: str | None


class ToSockets(Struct, frozen=True, gc=False, tag=1):
    """Bytes for these sockets alone. `fault`: it answers an abuse (wire.md §6,
    4508)."""

    conns: tuple[str, ...]
    blob: bytes
    fault: bool
    seq: int = 0  # of an event that is shown once more: the echo of a duplicate


class Roll(Struct, frozen=True, gc=False, tag=10):
    """A crowd's `participants`, as JSON, for those of these sockets that are in the
    fan-out; `conns` None: for every one but those of `but`. It names `users`; a socket
    of somebody else finds itself in place of `frame[start:end]` (`roll`)."""

    frame: bytes
    start: int
    end: int
    users: tuple[str, ...]
    conns: tuple[str, ...] | None
    but: tuple[str, ...]


class Subscribed(Struct, frozen=True, gc=False, tag=2):
    """From here on these sockets are in the fan-out, having seen what is up to
    `seq`."""

    conns: tuple[str, ...]
    seq: int


class Closing(Struct, frozen=True, gc=False, tag=3):
    """Close this socket with a code of wire.md §6."""

    conn: str
    code: int
    reason: str


class Kept(Struct, frozen=True, gc=False, tag=4):
    """Keep this attachment for its connection (a Durable Object's
    serializeAttachment)."""

    attachment: Attachment


class CatchUp(Struct, frozen=True, gc=False, tag=5):
    """Page `(since, seq]` from the log to this socket, then open it again, greeted."""

    conn: str
    since: int
    seq: int


class Recall(Struct, frozen=True, gc=False, tag=7):
    """Read event `seq` from the log and send it to this socket: a duplicate's echo."""

    conn: str
    seq: int


class Forward(Struct, frozen=True, gc=False, tag=6):
    """Hand this notification to another object."""

    target: str
    payload: bytes


class People(Struct, frozen=True, gc=False, tag=8):
    """Who is online, as far as the gateway is to know."""

    news: News


class Met(Struct, frozen=True, gc=False, tag=9):
    """These sockets want to hear of the one of these two who is not their own user."""

    conns: tuple[str, ...]
    user_ids: tuple[str, str]


Item = (
    Fanout
    | ToSockets
    | Roll
    | Subscribed
    | Closing
    | Kept
    | CatchUp
    | Recall
    | Forward
    | People
    | Met
)


class Welcome(Struct, frozen=True, gc=False, tag=0):
    """Answer to a good `Hello`: the version that both speak; since 6 with what proves
    that the actor knows the key."""

    version: int
    pid: int
    nonce: bytes = b""
    proof: bytes = b""


class Output(Struct, frozen=True, gc=False, tag=1):
    """What one release of an object shows to one gateway, all or nothing.

    With it, inputs of that gateway up to `covered` are covered. `turn`: the attach that
    it answers.
    """

    object: str
    epoch: int
    covered: int
    items: list[Item]
    turn: int = 0


class Pong(Struct, frozen=True, gc=False, tag=2):
    """Answer to `Ping`."""

    n: int


class Goodbye(Struct, frozen=True, gc=False, tag=3):
    """The object is no longer here: resolve its name again when there is a reason.

    `reason` is a deactivation reason (idle, shutting_down, moved, storage_failed,
    duplicate_activation, failed), or why to attach again here: one of `AGAIN`, and
    `behind` when the gap is larger than the buffer, so that the gateway must page it
    from the log first. `epoch` 0: nothing was done here for this gateway. `due`: it
    moved, and its sockets are still to be told something: they need it though they are
    silent.
    """

    object: str
    epoch: int
    covered: int
    reason: str
    turn: int = 0
    due: bool = False


AGAIN = frozenset({"reset", "fault", "damage"})
"""The object began anew: an append failed, its machine did, or storage lost some."""


class Refused(Struct, frozen=True, gc=False, tag=4):
    """The last frame to a gateway that is not greeted: why, and what is spoken here."""

    oldest: int
    newest: int
    why: str


ToGateway = Welcome | Output | Pong | Goodbye | Refused

_encoder = msgspec.msgpack.Encoder()
_to_actor: msgspec.msgpack.Decoder[ToActor] = msgspec.msgpack.Decoder(
    Annotated[ToActor, msgspec.Meta(title="ToActor")]
)
_to_gateway: msgspec.msgpack.Decoder[ToGateway] = msgspec.msgpack.Decoder(
    Annotated[ToGateway, msgspec.Meta(title="ToGateway")]
)


class BrokenLink(Exception):
    """The peer sent what no version of this protocol would."""


def frame(message: ToActor | ToGateway) -> bytes:
    """One message as bytes for the wire. Raises `framing.TooLong`, our bug."""
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    buffer[:4] = framing.head(len(buffer) - 4, MAX_FRAME)
    return bytes(buffer)


class MessageReader:
    """Cuts a byte stream into messages. `feed` may be called with any split."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[object]) -> None:
        self._decode = decoder.decode
        self._buffer = b""  # the beginning of a frame whose end has not come yet

    def feed(self, data: bytes) -> Iterator[object]:
        """All messages completed by `data`. Raises `BrokenLink`."""
        buffer = self._buffer + data if self._buffer else data
        start, end = 0, len(buffer)
        view = memoryview(buffer)
        while end - start >= 4:
            try:
                size = framing.size_in(buffer[start : start + 4], MAX_FRAME)
            except framing.TooLong as error:
                raise BrokenLink(str(error)) from error
            if end - start - 4 < size:
                break
            try:
                message = self._decode(view[start + 4 : start + 4 + size])
            except UNREADABLE as error:
                raise BrokenLink("undecodable frame") from error
            start += 4 + size
            # Whoever stops here must drop the reader: what is left is not kept.
            yield message
        self._buffer = buffer[start:]


def actor_reader() -> MessageReader:
    """A reader of what gateways send."""
    return MessageReader(_to_actor)  # type: ignore[arg-type]


def gateway_reader() -> MessageReader:
    """A reader of what actors send."""
    return MessageReader(_to_gateway)  # type: ignore[arg-type]


def text_frame(payload: bytes) -> bytes:
    """A finished, unmasked, unfragmented WebSocket text frame (RFC 6455 §5.2)."""
    return text_head(len(payload)) + payload


def text_head(size: int) -> bytes:
    """What comes before the payload of such a frame."""
    if size < 126:
        return b"\x81%c" % size
    if size < 65536:
        return b"\x81\x7e%b" % size.to_bytes(2, "big")
    return b"\x81\x7f%b" % size.to_bytes(8, "big")
