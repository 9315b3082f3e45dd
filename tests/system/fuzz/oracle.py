"""What wire.md says about a text frame, told anew and without the product's own reader.

`verdict` is slow and simple on purpose: Python's `json`, one rule a line. Where the
wire leaves a choice (a key that comes twice, a number beyond every range) it says
nothing, and the fuzzer takes another frame.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MAX_FRAME = 16 * 1024
ROOM = ("chat", "nudge", "wink", "typing", "presence", "ack", "ping")
PRESENCE = ("presence_update", "watch", "unwatch", "ping")

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_USER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_WINK = re.compile(r"[a-z0-9_-]{1,64}")
_STATUSES = ("online", "busy", "away", "offline")
_RECEIPTS = ("delivered", "read")
_FIELDS = {
    "chat": ("content", "id"),
    "nudge": ("id",),
    "wink": ("winkId", "id"),
    "typing": ("isTyping",),
    "presence": ("status", "displayName"),
    "presence_update": ("status", "displayName"),
    "watch": ("userIds",),
    "unwatch": ("userIds",),
    "ack": ("ackId", "status"),
    "ping": ("t",),
}
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Verdict:
    """What a frame is answered with.

    `kind`: `said` (an echo like `fields`), `pong` (with `fields`), `error` (`code`), or
    `silent`.
    """

    kind: str
    code: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class _Unclear(Exception):
    """The wire leaves it open."""


class _Bad(Exception):
    def __init__(self, code: str) -> None:
        self.code = code


class _Object(dict[str, Any]):
    """A JSON object that remembers how often each key came."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.times = Counter(key for key, _ in pairs)


def verdict(data: bytes, types: tuple[str, ...] = ROOM) -> Verdict | None:
    """The answer to these bytes of UTF-8 as one message; None where it is open."""
    if len(data) > MAX_FRAME:
        return Verdict("error", "TOO_LARGE")
    try:
        return _accepted(_frame(data.decode(), types))
    except _Bad as bad:
        return Verdict("error", bad.code)
    except (_Unclear, RecursionError):
        return None


def _frame(text: str, types: tuple[str, ...]) -> _Object:
    try:
        value = json.loads(
            text, object_pairs_hook=_Object, parse_constant=_no, parse_float=_number
        )
    except ValueError:
        raise _Bad("INVALID_JSON") from None
    if _unpaired(_texts(value)):
        raise _half(value)
    if not isinstance(value, _Object):
        raise _Bad("VALIDATION_ERROR")
    if value.times["type"] > 1:
        kinds = value["type"]
        raise _Unclear if kinds not in types else _Bad("VALIDATION_ERROR")
    if not isinstance(value.get("type"), str):
        raise _Bad("VALIDATION_ERROR")
    if value["type"] not in types:
        raise _Bad("UNKNOWN_TYPE")
    if any(times > 1 for times in value.times.values()):
        raise _Unclear
    return value


def _unpaired(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _half(value: Any) -> Exception:
    """Half a pair in a field of the frame is no text; elsewhere it is no JSON."""
    if not isinstance(value, _Object):
        return _Bad("INVALID_JSON")
    if any(times > 1 for times in value.times.values()):
        return _Unclear()
    kind = value.get("type")
    fields = ("type", *_FIELDS.get(kind if isinstance(kind, str) else "", ()))
    texts = [value[name] for name in fields if isinstance(value.get(name), str)]
    bad = any(map(_unpaired, texts))
    return _Bad("VALIDATION_ERROR" if bad else "INVALID_JSON")


def _no(text: str) -> None:
    raise ValueError(text)


def _number(text: str) -> float:
    if len(text) > 18 or "e" in text.lower():
        raise _Unclear
    return float(text)


def _texts(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, _Object):
        return "".join(f"{key}{_texts(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    if isinstance(value, int) and abs(value) > 2**53:
        raise _Unclear
    return ""


def _accepted(frame: _Object) -> Verdict:
    kind = frame["type"]
    if kind in ("chat", "nudge", "wink"):
        return _said(kind, frame)
    if kind == "ping":
        if "t" not in frame:
            return Verdict("pong")
        _check(type(frame["t"]) is int)
        return Verdict("pong", fields={"t": frame["t"]})
    if kind == "typing":
        _check(isinstance(frame.get("isTyping"), bool))
    elif kind in ("watch", "unwatch"):
        ids = frame.get("userIds")
        _check(isinstance(ids, list) and len(ids) <= 500)
        _check(all(_matches(_USER, each) for each in ids))
    elif kind == "ack":
        _check(_matches(_ID, frame.get("ackId")) and frame.get("status") in _RECEIPTS)
    else:
        _check(frame.get("status") in _STATUSES)
        if "displayName" in frame:
            _check(_visible_text(frame["displayName"], 50))
            _check(not _BIDI & set(frame["displayName"]))
            _check(not any(map(_control, frame["displayName"])))
    return Verdict("silent")


def _said(kind: str, frame: _Object) -> Verdict:
    fields = {"type": kind}
    if kind == "chat":
        content = frame.get("content")
        _check(_visible_text(content, 2048))
        assert isinstance(content, str)
        _check(not any(_control(char) for char in content if char not in "\t\n"))
        fields["content"] = content
    if kind == "wink":
        _check(_matches(_WINK, frame.get("winkId")))
        fields["winkId"] = frame["winkId"]
    if "id" in frame:
        _check(_matches(_ID, frame["id"]))
        fields["id"] = frame["id"]
    return Verdict("said", fields=fields)


def _check(holds: object) -> None:
    if not holds:
        raise _Bad("VALIDATION_ERROR")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _visible_text(value: Any, most: int) -> bool:
    if not isinstance(value, str):
        return False
    if not 1 <= len(value.encode("utf-16-le")) // 2 <= most:
        return False
    shown = [char for char in value if not (char.isspace() or _empty(ord(char)))]
    if shown and all(unicodedata.category(char)[0] == "C" for char in shown):
        raise _Unclear  # formats and the unassigned: blank, or only strange?
    return bool(shown)


def _empty(code: int) -> bool:
    """Unicode's default ignorable characters, and symbols drawn as a space."""
    if code in (0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0):
        return True
    if code in (0xFEFF, 0x2800, 0x1D159, 0x13441, 0x13442):
        return True
    return (
        0x180B <= code <= 0x180F
        or 0x200B <= code <= 0x200F
        or 0x202A <= code <= 0x202E
        or 0x2060 <= code <= 0x206F
        or 0xFE00 <= code <= 0xFE0F
        or 0xFFF0 <= code <= 0xFFF8
        or 0x1BCA0 <= code <= 0x1BCA3
        or 0x1D173 <= code <= 0x1D17A
        or 0xE0000 <= code <= 0xE0FFF
    )


def _control(char: str) -> bool:
    return unicodedata.category(char) == "Cc"
