"""Events: what a room's log holds and its clients are shown, as a tagged union.

Owns the shapes of what wire.md §3 calls a Message, one struct for each type, and how a
log is read that other code may have written: an event of a type that this code does not
know is an `UnknownEvent`, which is kept, numbered and passed on as it stands. Must not
know frames, rooms or time.
"""

from typing import ClassVar, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

Receipt = Literal["delivered", "read"]
Rate = Literal["chat", "nudge"]
"""What a message counts against: `chat_rate` or `nudge_rate` of the room's rules."""


class Struct(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A value of the wire."""


class Tagged(Struct, frozen=True, gc=False, tag_field="type"):
    """One that travels by itself, and says what it is."""


class Message(Tagged, frozen=True, gc=False):
    """What every event has. `content` is also for clients that do not know its type.

    A status is no part of what is logged: `with_status` adds it to what is shown.
    """

    rate: ClassVar[Rate]

    id: str
    room_id: str
    sender_id: str
    display_name: str
    content: str
    timestamp: int
    seq: int
    is_nudge: bool
    is_wink: bool

    @property
    def type(self) -> str:
        """Its tag."""
        return str(self.__struct_config__.tag)

    @property
    def status(self) -> Receipt | UnsetType:
        """How far it has come: a field of each."""
        raise NotImplementedError


class ChatMessage(Message, frozen=True, gc=False, tag="chat"):
    """Something that was said.

    Once it is durable, to everyone. The sender's echo is the ack.
    """

    rate = "chat"

    status: Receipt | UnsetType = UNSET


class NudgeMessage(Message, frozen=True, gc=False, tag="nudge"):
    """Everyone's window was shaken.

    Once it is durable, to everyone.
    """

    rate = "nudge"

    status: Receipt | UnsetType = UNSET


class WinkMessage(Message, frozen=True, gc=False, tag="wink"):
    """An animation, on every screen at the same moment.

    Once it is durable, to everyone. All screens start at `playAt`, by the clock offset
    that `ping` measured.
    """

    rate = "chat"

    wink_id: str
    play_at: int
    playback_key: str
    status: Receipt | UnsetType = UNSET


Event = ChatMessage | NudgeMessage | WinkMessage
"""Everything that may become durable in a room."""


class UnknownEvent(Struct, frozen=True, gc=False):
    """An event of a type that this code does not know: what it has in common with the
    others. All but type and number may be missing."""

    type: str
    seq: int
    id: str = ""
    sender_id: str = ""
    timestamp: int = 0


decode_message = msgspec.json.Decoder[Event](Event).decode
"""Read back what `encode` made of an event."""

decode_any = msgspec.json.Decoder(UnknownEvent).decode
"""What is to be read of any event, whatever its type."""

_TYPES = frozenset(kind.__struct_config__.tag for kind in get_args(Event))


def decode_event(seq: int, event: bytes) -> Event | UnknownEvent:
    """Read the event `seq` of a room's log. Raises ValueError if it is damaged."""
    found: Event | UnknownEvent
    try:
        found = decode_any(event)
        if found.type in _TYPES:
            found = decode_message(event)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"event {seq} is unreadable: {error}") from error
    if found.seq != seq:
        raise ValueError(f"event {seq} says that it is {found.seq}")
    return found


def is_readable(seq: int, event: bytes) -> bool:
    """Whether an event of a room's log may be shown."""
    try:
        decode_event(seq, event)
    except ValueError:
        return False
    return True


def with_status(event: bytes, status: Receipt) -> bytes:
    """The event as it is shown with a status: of whatever type, it goes at its end."""
    return b'%b,"status":"%b"}' % (event[:-1], status.encode())
