"""JSON Schemas of the wire's types, as both documents use them.

msgspec makes the schemas; added here is what the types cannot say: the rules that
`decoding` checks by hand, what a `msgspec.Raw` holds, and the unit of times.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from cfmessenger.data.currencies import CURRENCIES
from cfmessenger.errors import Where, codes
from cfmessenger.wire.decoding import (
    MAX_CONTENT,
    MAX_DISPLAY_NAME,
    MAX_PERSONAL_MESSAGE,
)
from cfmessenger.wire.events import Event
from cfmessenger.wire.protocol import DurableFrame
from cfmessenger.wire.visible import SHOWS

JSON = dict[str, Any]

# A regular expression of JSON Schema has no `\A`, and `[^]` is not every dialect's.
_NAME = {
    "pattern": (
        rf"^{SHOWS}"
        r"[^\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+(?![\s\S])"
    ),
    "description": (
        f"1-{MAX_DISPLAY_NAME} UTF-16 units, not blank, without control or "
        "bidirectional-override characters."
    ),
}
_LINE = {
    "pattern": (
        rf"^(?:{SHOWS}"
        r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+)?"
        r"(?![\s\S])"
    ),
    "description": (
        f"0-{MAX_PERSONAL_MESSAGE} UTF-16 units on one line, without control or "
        "bidirectional-override characters; empty takes it away."
    ),
}
_CONTENT = {
    "pattern": (
        rf"^{SHOWS}"
        r"[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]+(?![\s\S])"
    ),
    "description": (
        f"1-{MAX_CONTENT} UTF-16 units (JavaScript's `.length`), not blank, without "
        "control characters but tab and newline."
    ),
}
_TIME = {"description": "Unix time in milliseconds."}
_OWN_ID = {
    "description": (
        "The client's own id: the same user sending it again within the last 1,000 "
        "messages or 60 s is one message; other words under it are ID_REUSED."
    )
}
_SEQ = {"minimum": 1, "description": "Position in the room: no holes, no repeats."}


def reference(name: str) -> JSON:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


_MESSAGES = {"items": reference("Message")}

_EVERYWHERE: dict[str, JSON] = {
    "timestamp": _TIME,
    "expiresAt": _TIME,
    "createdAt": _TIME,
    "updatedAt": _TIME,
    "playAt": _TIME | {"description": "When to start the wink: ms, server's clock."},
    "seq": _SEQ,
    "lastSeq": {"minimum": 0},
    "nextBefore": {"minimum": 1},
    "retryAfterMs": {"minimum": 0, "description": "Wait this long, in milliseconds."},
    "unreadCount": {"minimum": 0},
}
_ABSENT = ("Row",)  # structs whose None is left out on the wire
_REFINED: dict[tuple[str, str], JSON] = {
    **{
        (frame.__name__, field): rule
        for frame in get_args(DurableFrame)
        for field, rule in (("content", _CONTENT), ("id", _OWN_ID))
    },
    ("SetPresence", "displayName"): _NAME,
    ("UpdatePresence", "displayName"): _NAME,
    ("PresenceRequest", "displayName"): {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_DISPLAY_NAME}
            | {"pattern": _NAME["pattern"]},
            {"type": "null"},
        ],
        "description": _NAME["description"],
    },
    ("SetPresence", "personalMessage"): _LINE,
    ("UpdatePresence", "personalMessage"): _LINE,
    ("PresenceRequest", "personalMessage"): {
        "anyOf": [
            {"type": "string", "maxLength": MAX_PERSONAL_MESSAGE}
            | {"pattern": _LINE["pattern"]},
            {"type": "null"},
        ],
        "description": _LINE["description"],
    },
    ("UserRowChange", "displayName"): _NAME,
    ("NewOrder", "currency"): {"enum": sorted(CURRENCIES)},
    ("OrderChange", "currency"): {"enum": sorted(CURRENCIES)},
    ("History", "messages"): _MESSAGES,
    ("MessagePage", "messages"): _MESSAGES,
    ("MessageNotification", "message"): reference("Message"),
    ("ErrorFrame", "code"): {"enum": list(codes(Where.FRAME))},
    ("ErrorFrame", "content"): {"description": "The same as `message`."},
    ("WinkMessage", "playbackKey"): {
        "pattern": "^[0-9a-f]{16}$",
        "description": 'SHA-256 over `winkId ":" timestamp`: play a key once.',
    },
}


def components(*kinds: Any) -> dict[str, JSON]:
    """The component schemas of these types and of all they use, by name."""
    _, found = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    for name, schema in found.items():
        schema.pop("title", None)
        if said := " ".join(schema.pop("description", "").split()):
            schema["description"] = said
        for field, rule in schema.get("properties", {}).items():
            if name.endswith(_ABSENT) and rule.get("default", 0) is None:
                _never_null(rule)
            rule |= _EVERYWHERE.get(field, {})
            if (refined := _REFINED.get((name, field))) is not None:
                rule |= refined
    return dict(sorted(found.items()))


def _never_null(rule: JSON) -> None:
    """A row's optional field is absent, never null."""
    [only] = [each for each in rule["anyOf"] if each != {"type": "null"}]
    rule.clear()
    rule.update(only)


def events() -> dict[str, JSON]:
    """The component schemas of what is durable: `Message`, and each of its types."""
    # Without the discriminator, of which AsyncAPI has another idea than OpenAPI.
    message = {"anyOf": [reference(kind.__name__) for kind in get_args(Event)]}
    return components(*get_args(Event)) | {"Message": message}


def schema_of(kind: Any) -> JSON:
    """The schema of one type, its components by reference."""
    [schema], _ = msgspec.json.schema_components(
        [kind], ref_template="#/components/schemas/{name}"
    )
    return schema


def tags(frames: Any) -> list[str]:
    """The `type` of each frame of a union, in its order."""
    return [frame.__struct_config__.tag for frame in get_args(frames)]


def plain(value: Any) -> Any:
    """A value of the wire's types as JSON's: what `encode` would write."""
    return msgspec.json.decode(msgspec.json.encode(value))
