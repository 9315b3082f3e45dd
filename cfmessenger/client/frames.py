"""Reading what the server sends.

Owns only the choice of decoder; the shapes are cfmessenger.wire's. A frame that is
unknown or malformed is None and not an error: a newer server may say more. What has a
`seq` is an event and has its place in the room, whatever its type.
"""

from __future__ import annotations

import msgspec

from cfmessenger.wire.complaint import UNREADABLE
from cfmessenger.wire.events import Event, UnknownEvent, decode_any
from cfmessenger.wire.protocol import ServerFrame

_decode = msgspec.json.Decoder[ServerFrame | Event](ServerFrame | Event).decode

Received = ServerFrame | Event | UnknownEvent


def read_frame(data: bytes) -> Received | None:
    """The frame, or None for what this client does not know."""
    try:
        frame: ServerFrame | Event = _decode(data)
        return frame
    except UNREADABLE:
        return _unknown(data)


def _unknown(data: bytes) -> UnknownEvent | None:
    try:
        return decode_any(data)
    except UNREADABLE:
        return None


def read_events(raws: list[msgspec.Raw]) -> list[Event | UnknownEvent]:
    """The events of a `history` frame, or of a page, that can be read."""
    found = (read_frame(bytes(raw)) for raw in raws)
    return [each for each in found if isinstance(each, Event | UnknownEvent)]
