"""Reading a list's query: filters, sort, limit, and the cursor of the next page; pure.

A page is found by key and not by offset, so it does not shift when rows come or go: a
cursor is the last row's sort value and id, with a mark of the collection, the caller,
the sort and the filters it belongs to. It is no secret and grants nothing: whose rows
are seen is decided beside it, and its parts reach SQL as bound parameters only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect as shapes

from cfmessenger.data.collection import Collection, Row, description
from cfmessenger.errors import ProtocolError

MAX_LIMIT = 100
DEFAULT_LIMIT = 50

_NUMBER = re.compile(r"-?[0-9]{1,15}\Z", re.ASCII)
_LONGEST_CURSOR = 2048
_BIGGEST = 2**63 - 1


class Query(msgspec.Struct, frozen=True):
    """Which rows, in which order. `after` is the (sort value, id) to go on from."""

    filters: dict[str, Any]
    sort: str
    descending: bool
    limit: int
    mark: bytes
    after: tuple[Any, str] | None = None

    def cursor(self, last: Row) -> str:
        """Where the page after the one that ends with `last` begins."""
        parts = (self.mark, getattr(last, self.sort), last.id)
        raw = msgspec.msgpack.encode(parts)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_query(
    collection: Collection, viewer: str, given: Sequence[tuple[str, str]]
) -> Query:
    """What `?field=value&sort=-field&limit=N&cursor=…` asks for.

    `limit` is clamped to 1-100. Raises VALIDATION_ERROR naming the parameter.
    """
    values = dict(given)
    if len(values) < len(given):
        names = [name for name, _ in given]
        twice = next(name for name in names if names.count(name) > 1)
        raise _refusal(twice, "may be given once")
    raw_limit = values.pop("limit", str(DEFAULT_LIMIT))
    if not _NUMBER.match(raw_limit):
        raise _refusal("limit", "must be a number")
    limit = min(max(int(raw_limit), 1), MAX_LIMIT)
    raw_sort = values.pop("sort", collection.sort)
    sort = collection.sortable.get(raw_sort.removeprefix("-"))
    if sort is None:
        names = sorted(collection.sortable)
        raise _refusal("sort", f"must be one of {', '.join(names)}, perhaps after a -")
    raw_cursor = values.pop("cursor", None)
    filters = {}
    for name, text in values.items():
        field = collection.scalars.get(name)
        if field is None:
            raise _refusal(name, "is not a field to filter by")
        filters[field] = _value(collection, name, field, text)
    marked = (collection.name, viewer, raw_sort, sorted(values.items()))
    mark = hashlib.sha256(msgspec.msgpack.encode(marked)).digest()[:8]
    after = None if raw_cursor is None else _after(collection, sort, mark, raw_cursor)
    return Query(filters, sort, raw_sort.startswith("-"), limit, mark, after)


def _refusal(name: str, rule: str) -> ProtocolError:
    # What is no plain name is not repeated.
    shown = name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else "query"
    return ProtocolError("VALIDATION_ERROR", rule, field=shown)


def _value(collection: Collection, name: str, field: str, text: str) -> Any:
    hint = collection.hint(field)
    words = description(shapes.type_info(hint)) or "is not of the right kind"
    kind = _kind(hint)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        if kind is int:
            if not _NUMBER.match(text):
                raise ValueError
            return msgspec.convert(int(text), hint)
        if "\x00" in text:  # which PostgreSQL has no text with
            raise ValueError
        return msgspec.convert(text, hint)
    except (KeyError, ValueError, msgspec.ValidationError):
        raise _refusal(name, words) from None


def _kind(hint: Any) -> type:
    shape = shapes.type_info(hint)
    while isinstance(shape, shapes.Metadata):
        shape = shape.type
    if isinstance(shape, shapes.IntType):
        return int
    return bool if isinstance(shape, shapes.BoolType) else str


def _after(collection: Collection, sort: str, mark: bytes, raw: str) -> tuple[Any, str]:
    try:
        if len(raw) > _LONGEST_CURSOR or not re.fullmatch(r"[A-Za-z0-9_-]+", raw):
            raise ValueError
        packed = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
        kind = _kind(collection.hint(sort))
        shape = tuple[bytes, kind, str]  # type: ignore[valid-type]
        its_mark, value, row_id = msgspec.msgpack.decode(packed, type=shape)
        if its_mark != mark or "\x00" in row_id:
            raise ValueError
        if isinstance(value, str) and "\x00" in value:
            raise ValueError
        if isinstance(value, int) and not -_BIGGEST <= value <= _BIGGEST:
            raise ValueError
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise _refusal("cursor", "is not one that was given for this list") from None
    return value, row_id
