"""Reading what the server sends.

Owns only the choice of decoder; the shapes are cfmessenger.wire.protocol's. A frame
that is unknown or malformed is None and not an error: a newer server may say more.
"""

from __future__ import annotations

import msgspec

from cfmessenger.wire.complaint import UNREADABLE
from cfmessenger.wire.protocol import Message, ServerFrame, decode_message

_decode_other = msgspec.json.Decoder[ServerFrame](ServerFrame).decode

# "`type` comes first in a frame", so this is nearly always the whole question.
_MESSAGE = (b'{"type":"chat"', b'{"type":"nudge"', b'{"type":"wink"')


class _Probe(msgspec.Struct):
    type: str


_probe = msgspec.json.Decoder(_Probe).decode


def read_frame(data: bytes) -> ServerFrame | Message | None:
    """The frame, or None for what this client does not know."""
    try:
        if data.startswith(_MESSAGE) or _probe(data).type in ("chat", "nudge", "wink"):
            return decode_message(data)
        other: ServerFrame = _decode_other(data)
        return other
    except UNREADABLE:
        return None


def read_messages(raws: list[msgspec.Raw]) -> list[Message]:
    """The messages of a `history` frame that can be read."""
    found = []
    for raw in raws:
        message = read_frame(bytes(raw))
        if isinstance(message, Message):
            found.append(message)
    return found
