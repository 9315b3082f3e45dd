"""What a connection yields besides the server's own frames (cfmessenger.wire.protocol).

Owns the events that only a client can know: that it resumed, that something is
missing, that a send was answered. Plain values; nothing here acts.
"""

from __future__ import annotations

import msgspec

from cfmessenger.client.errors import SendRejected
from cfmessenger.wire.events import Message, UnknownEvent
from cfmessenger.wire.protocol import (
    DeliveryStatus,
    ErrorFrame,
    Participants,
    PresenceFullSync,
    PresenceJoin,
    PresenceUpdate,
    SessionExpiring,
    System,
    TypingState,
)


class Opened(msgspec.Struct, frozen=True):
    """Connected. `since` is the seq we resume after, None when there is no past."""

    since: int | None = None


class Lost(msgspec.Struct, frozen=True):
    """Not connected; the next try is in `retry_s` seconds. `code` is the close code,
    0 when no socket came to be."""

    code: int
    reason: str
    retry_s: float
    attempt: int


class Recap(msgspec.Struct, frozen=True):
    """A `history` frame without what we had already: oldest first, maybe empty.

    Events of a type that this client does not know are counted and left out.
    """

    room_id: str
    messages: tuple[Message, ...]


class Gap(msgspec.Struct, frozen=True):
    """The messages `first` to `last` will not come by themselves."""

    first: int
    last: int


class Rewound(msgspec.Struct, frozen=True):
    """The room is now at `seq`, behind the `previous` we had seen: the server lost its
    data. We follow it; numbers seen before may come again as other messages."""

    previous: int
    seq: int


class Acknowledged(msgspec.Struct, frozen=True):
    """Our message `id` is in the room's log: `message` is its echo."""

    id: str
    message: Message


class Rejected(msgspec.Struct, frozen=True):
    """Our message `id` was refused and will not be re-sent."""

    id: str
    error: SendRejected


class DirectMessage(msgspec.Struct, frozen=True):
    """Presence sockets only: a message in one of our direct rooms."""

    message: Message


#: What iterating over a room connection yields; the machine's own events also have
#: `Acknowledged` and `Rejected`, which the shell turns into the results of `send`.
RoomEvent = (
    Opened
    | Lost
    | Recap
    | Gap
    | Rewound
    | Message
    | UnknownEvent
    | Participants
    | TypingState
    | DeliveryStatus
    | System
    | ErrorFrame
    | SessionExpiring
)
PresenceEvent = (
    Opened
    | Lost
    | DirectMessage
    | PresenceFullSync
    | PresenceJoin
    | PresenceUpdate
    | System
    | ErrorFrame
    | SessionExpiring
)
Event = RoomEvent | PresenceEvent | Acknowledged | Rejected
