"""What msgspec says when it will not read something: of which field, and in what words.

msgspec has no other way to tell than its message. Only its own words in it are trusted,
at the beginning, and its path at the end: between them it may quote the client.
"""

import re
from typing import Literal, NamedTuple

import msgspec

from ..errors import ProtocolError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises: bad UTF-8 is a UnicodeDecodeError, too deep a RecursionError,
all else, a value of the wrong kind included, a DecodeError."""

_AT = re.compile(r"(?: - )?at `\$\.?([\w.\[\]-]+)`\Z")
_MISSING = re.compile(r"Object missing required field `([\w-]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `([A-Za-z0-9_.-]{1,64})`")


class Complaint(NamedTuple):
    """`where`: the field's path, as in `items[0].sku`; empty: the whole, or a field
    whose name cannot be repeated. `says`: msgspec's words, without the path."""

    where: str
    kind: Literal["missing", "unknown", "wrong"]
    says: str


def complaint(error: msgspec.ValidationError) -> Complaint:
    """What it says."""
    said = str(error)
    at = _AT.search(said)
    where, says = (at[1], said[: at.start()]) if at else ("", said)
    if found := _MISSING.match(said):
        return Complaint(f"{where}.{found[1]}".lstrip("."), "missing", says)
    if said.startswith("Object contains unknown field"):
        named = _UNKNOWN.match(said)
        where = f"{where}.{named[1]}".lstrip(".") if named else where
        return Complaint(where, "unknown", says)
    return Complaint(where, "wrong", says)


class _Object(msgspec.Struct):
    pass


def of_body(body: bytes, error: Exception) -> Complaint:
    """What is wrong with a body that was refused with this `error`, if it is a JSON
    object at all.

    Raises INVALID_JSON, or VALIDATION_ERROR of the whole body.
    """
    # msgspec reports a bad field before it has parsed the rest, so see first whether it
    # is JSON, and an object. Decoded, for it does not check the UTF-8 that it skips.
    try:
        msgspec.json.decode(body.decode(), type=_Object)
    except msgspec.ValidationError:
        why = "The body must be a JSON object."
        raise ProtocolError("VALIDATION_ERROR", why) from None
    except UNREADABLE:
        raise ProtocolError("INVALID_JSON") from None
    if not isinstance(error, msgspec.ValidationError):
        raise ProtocolError("INVALID_JSON")
    return complaint(error)
