"""Events: what a room's log holds and its clients are shown, as a tagged union.

Owns the shapes of what wire.md §3 calls a Message, one struct for each type, and how a
log is read that other code may have written: an older event is upgraded, and one of a
type or a version that this code does not know is an `UnknownEvent`, which is kept,
numbered and passed on as it stands. Must not know frames, rooms or time.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

Receipt = Literal["delivered", "read"]
Rate = Literal["chat", "nudge"]
"""What a message counts against: `chat_rate` or `nudge_rate` of the room's rules."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""From the fields of an event as they were in one version to those of the next."""


class Struct(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A value of the wire."""


class Tagged(Struct, frozen=True, gc=False, tag_field="type"):
    """One that travels by itself, and says what it is."""


class Message(Tagged, frozen=True, gc=False):
    """What every event has. `content` is also for clients that do not know its type.

    A status is no part of what is logged: `with_status` adds it to what is shown.
    """

    rate: ClassVar[Rate | None]  # None: it counts against none
    upgrades: ClassVar[tuple[Upgrade, ...]] = ()  # from each version to the next

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

    @property
    def era(self) -> int | UnsetType:
        """Since which loss its number counts (`LostMessage`): a field of each."""
        raise NotImplementedError


class ChatMessage(Message, frozen=True, gc=False, tag="chat"):
    """Something that was said.

    Once it is durable, to everyone. The sender's echo is the ack.
    """

    rate = "chat"

    status: Receipt | UnsetType = UNSET
    era: int | UnsetType = UNSET


class NudgeMessage(Message, frozen=True, gc=False, tag="nudge"):
    """Everyone's window was shaken.

    Once it is durable, to everyone.
    """

    rate = "nudge"

    status: Receipt | UnsetType = UNSET
    era: int | UnsetType = UNSET


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
    era: int | UnsetType = UNSET


class LostMessage(Message, frozen=True, gc=False, tag="lost"):
    """Storage has lost what had these numbers, or some of it.

    To everyone. From here on numbers are of another `era`, which is the `seq` of this.
    """

    rate = None

    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    status: Receipt | UnsetType = UNSET
    era: int | UnsetType = UNSET


Event = ChatMessage | NudgeMessage | WinkMessage | LostMessage
"""Everything that may become durable in a room."""


class UnknownEvent(Struct, frozen=True, gc=False):
    """An event of a type, or a version, that this code does not know: what it has in
    common with the others. All but type and number may be missing."""

    type: str
    seq: int
    id: str = ""
    sender_id: str = ""
    timestamp: int = 0
    version: int = 1
    era: int | UnsetType = UNSET


decode_any = msgspec.json.Decoder(UnknownEvent).decode
"""What is to be read of any event, whatever its type."""

_E = TypeVar("_E", bound=Message)


class EventReader(Generic[_E]):
    """Reads events as they are now, whichever release wrote them: `kinds` is a union.

    A type is of version 1, which nobody writes down, and one more for each of its
    `upgrades`; then it has a field `version` with that number as its default.
    """

    def __init__(self, kinds: Any) -> None:
        self._decode = msgspec.json.Decoder[_E](kinds).decode
        self._upgrades: dict[str, tuple[Upgrade, ...]] = {
            kind.__struct_config__.tag: kind.upgrades for kind in get_args(kinds)
        }
        self._upgradable = any(self._upgrades.values())

    def read(self, seq: int, event: bytes) -> tuple[_E | UnknownEvent, bytes]:
        """The event `seq` of a log, and its bytes, upgraded if they are older.

        Raises ValueError if it is damaged.
        """
        found: _E | UnknownEvent
        try:
            found = known = decode_any(event)
            upgrades = self._upgrades.get(known.type)
            if upgrades is not None and known.version <= len(upgrades) + 1:
                if known.version <= len(upgrades):
                    event = _upgraded(event, known.version, upgrades)
                found = self._decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError) as error:
            raise ValueError(f"event {seq} is unreadable: {error}") from error
        if found.seq != seq:
            raise ValueError(f"event {seq} says that it is {found.seq}")
        return found, event

    def upgraded(self, seq: int, event: bytes) -> bytes:
        """The bytes of an event that was read before, perhaps by an older release."""
        return self.read(seq, event)[1] if self._upgradable else event

    def shown(self, seq: int, event: bytes) -> bytes | None:
        """The event `seq` of a log as it may be shown; None if it is damaged."""
        try:
            return self.read(seq, event)[1]
        except ValueError:
            return None


def _upgraded(event: bytes, version: int, upgrades: tuple[Upgrade, ...]) -> bytes:
    fields = msgspec.json.decode(event)
    for upgrade in upgrades[version - 1 :]:
        fields = upgrade(fields)
    return msgspec.json.encode({**fields, "version": len(upgrades) + 1})


_reader = EventReader[Event](Event)
read_event = _reader.read
shown_event = _reader.shown
upgraded_event = _reader.upgraded


def era_of(event: bytes) -> int | UnsetType:
    """The era of an event of whatever type; UNSET too if it is damaged."""
    if b'"era":' not in event:
        return UNSET
    try:
        return decode_any(event).era
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UNSET


def lost_by(event: bytes) -> tuple[int, int] | None:
    """The numbers of which a `LostMessage` tells; None for any other event."""
    if not event.startswith(b'{"type":"lost"'):
        return None
    try:
        lost = _decode_lost(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return lost.first, lost.last


_decode_lost = msgspec.json.Decoder(LostMessage).decode


def with_status(event: bytes, status: Receipt) -> bytes:
    """The event as it is shown with a status: of whatever type, it goes at its end."""
    return b'%b,"status":"%b"}' % (event[:-1], status.encode())
