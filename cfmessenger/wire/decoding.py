"""Reading what a client sent: whatever the bytes are, a frame or a ProtocolError.

Owns the rules for text on the wire (lengths, control characters, not blank) and the
wording of VALIDATION_ERROR, which names the field and its rule and never echoes a
value. Must not know any frame: `protocol` brings the types.

Strict where it protects and lenient where wire.md §2 says so: unknown fields are
ignored, a repeated key's last value wins, except that `type` may come only once.

Every error carries the frame's `id` when a valid one can be read, however broken the
rest is: without it a client cannot tell which of its lines will never be said.
"""

import json
import re
from itertools import islice
from typing import Any, Generic, TypeVar, get_args

import msgspec

from ..errors import ProtocolError
from ..ids import is_message_id
from .complaint import UNREADABLE, complaint
from .visible import shows

MAX_FRAME_BYTES = 16 * 1024
MAX_CONTENT = 2048
MAX_DISPLAY_NAME = 50
MAX_PERSONAL_MESSAGE = 200
MAX_WATCHED = 500
"""People whom one presence socket may watch."""

_RULES = {
    "type": "must be a string, given once",
    "content": (
        f"must be text of 1-{MAX_CONTENT} characters, not blank, without control "
        "characters but tab and newline"
    ),
    "id": "must be 1-64 of A-Z a-z 0-9 . _ : -",
    "ackId": "must be 1-64 of A-Z a-z 0-9 . _ : -",
    "winkId": "must be 1-64 of a-z 0-9 _ -",
    "isTyping": "must be true or false",
    "status": "must be online, busy, away or offline",
    "ack.status": "must be delivered or read",
    "displayName": (
        f"must be text of 1-{MAX_DISPLAY_NAME} characters, not blank, without control "
        "or bidirectional-override characters"
    ),
    "personalMessage": (
        f"must be text of 0-{MAX_PERSONAL_MESSAGE} characters on one line, without "
        "control or bidirectional-override characters"
    ),
    "t": "must be integer milliseconds",
    "userIds": f"must be at most {MAX_WATCHED} user ids",
    "watched": f"must be at most {MAX_WATCHED} people, of all that one socket watches",
}
_DOCUMENTED = "must be as /api/asyncapi.json has it"  # of a field without words

_NAME_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTENT_REFUSED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNPAIRED = re.compile("[\ud800-\udfff]")

_T = TypeVar("_T")

# A string, perhaps one that the end of the frame cuts off: each byte is looked at once.
_TOKEN = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[][{}:,]|[^]["{}:,\s]+', re.DOTALL
)
_TOKENS = 1_000  # of a broken frame that are looked at


def rule(name: str) -> str:
    """The words of a rule that is checked elsewhere."""
    return _RULES[name]


class _Probe(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


_probe = msgspec.json.Decoder(_Probe).decode
_skim = msgspec.json.Decoder(msgspec.Raw).decode


class FrameReader(Generic[_T]):
    """Reads one socket's frames: `frames` is a union of tagged structs."""

    def __init__(self, frames: Any) -> None:
        self._decode = msgspec.json.Decoder[_T](frames).decode
        self._fields = {
            frame.__struct_config__.tag: frame.__struct_encode_fields__
            for frame in get_args(frames)
        }

    def read(self, data: bytes) -> _T:
        """The frame in `data`, or ProtocolError with the frame's valid `id`."""
        if len(data) > MAX_FRAME_BYTES:
            raise ProtocolError("TOO_LARGE", id=frame_id(data))
        try:
            frame: _T = self._decode(data)
        except UNREADABLE as error:
            raise self._explain(data, error) from None
        # `type` a second time under its own name, or perhaps under an escaped one.
        if data.count(b'"type"') != 1 or b"\\u" in data:
            _refuse_repeated_type(data)
        return frame

    def _explain(self, data: bytes, error: Exception) -> ProtocolError:
        if not isinstance(error, msgspec.ValidationError):
            return self._unreadable(data)
        # A wrong type is reported before the rest is parsed, so ask again what this is.
        try:
            _skim(data)
            probe = _probe(data)
        except msgspec.ValidationError:
            return ProtocolError("VALIDATION_ERROR", "A frame must be a JSON object.")
        except UNREADABLE:
            return self._unreadable(data)
        kind, own = _text(probe.type), _own_id(probe)
        if kind is not None and kind not in self._fields:
            return ProtocolError("UNKNOWN_TYPE", id=own)
        return _bad_field(kind, complaint(error).where or "type", own)

    def _unreadable(self, data: bytes) -> ProtocolError:
        """Half a surrogate pair is JSON (RFC 8259 §8.2) and no text: its field is bad.

        Of a field that is none of ours it is INVALID_JSON like all that cannot be read.
        """
        own = frame_id(data)
        try:
            found = json.loads(data.decode(), parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return _not_json(own)
        if not isinstance(found, dict):
            return _not_json(own)
        kind = found.get("type")
        for field in ("type", *self._fields.get(str(kind), ())):
            value = found.get(field)
            if isinstance(value, str) and _UNPAIRED.search(value):
                return _bad_field(kind, field, own)
        return _not_json(own)


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except UNREADABLE:
        return None


def _own_id(probe: _Probe) -> str | None:
    text = _text(probe.id)
    return text if text is not None and is_message_id(text) else None


def _not_json(own_id: str | None) -> ProtocolError:
    return ProtocolError("INVALID_JSON", "The frame is not valid JSON.", id=own_id)


def _bad_field(kind: object, where: str, own_id: str | None) -> ProtocolError:
    field = where.partition("[")[0]  # of a list, whichever of it is bad
    rule = _RULES.get(f"{kind}.{field}") or _RULES.get(field, _DOCUMENTED)
    return ProtocolError("VALIDATION_ERROR", rule, field=field, id=own_id)


def _refuse_repeated_type(data: bytes) -> None:
    keys: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        keys[:] = [key for key, _ in pairs]  # the outermost object is closed last

    try:
        json.loads(data, object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise _not_json(frame_id(data)) from None
    if keys.count("type") > 1:
        raise ProtocolError(
            "VALIDATION_ERROR", _RULES["type"], field="type", id=frame_id(data)
        )


def frame_id(data: bytes) -> str | None:
    """The valid message id in a frame that was not taken, so that it can be echoed."""
    try:
        return _own_id(_probe(data))
    except UNREADABLE:
        return _last_id(data)


def _last_id(data: bytes) -> str | None:
    """The `id` of an object that may be broken anywhere: the last that is whole."""
    depth, recent, found = 0, (b"", b""), None
    for match in islice(_TOKEN.finditer(data), _TOKENS):
        token = match.group()
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif depth == 1 and recent == (b'"id"', b":"):
            found = token
        recent = recent[1], token
    text = None if found is None else _text(msgspec.Raw(found))
    return text if text is not None and is_message_id(text) else None


def check_display_name(name: str) -> None:
    """Raise VALIDATION_ERROR unless a user may be called this (wire.md §2)."""
    if (
        not 1 <= _utf16_length(name) <= MAX_DISPLAY_NAME
        or _NAME_REFUSED.search(name)
        or not shows(name)
    ):
        raise ProtocolError(
            "VALIDATION_ERROR", _RULES["displayName"], field="displayName"
        )


def check_personal_message(message: str) -> None:
    """Raise VALIDATION_ERROR unless somebody may say this of themselves."""
    if (
        _utf16_length(message) > MAX_PERSONAL_MESSAGE
        or _LINE_REFUSED.search(message)
        or (message and not shows(message))
    ):
        raise ProtocolError(
            "VALIDATION_ERROR", _RULES["personalMessage"], field="personalMessage"
        )


def check_content(content: str, data: bytes) -> None:
    """Raise VALIDATION_ERROR unless this may be said; `data` is its whole frame."""
    if content.isascii() and content.isprintable() and not content.isspace():
        return  # the common case; msgspec has checked the length
    if (
        _utf16_length(content) > MAX_CONTENT
        or _CONTENT_REFUSED.search(content)
        or not shows(content)
    ):
        raise ProtocolError(
            "VALIDATION_ERROR",
            _RULES["content"],
            field="content",
            id=frame_id(data),
        )


def _utf16_length(text: str) -> int:
    # JavaScript's `.length`: a character beyond U+FFFF counts twice.
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
