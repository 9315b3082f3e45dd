"""The operations of `/api/data`, made from the registry of collections.

Every collection is described concretely: its rows, what POST and PATCH take, what can
be filtered and sorted by, and the methods that are never allowed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api import data
from gateway.api.docs.examples import ROWS
from gateway.api.docs.operation import MAX_15_DIGITS, Operation, Parameter
from gateway.api.docs.schema import JSON, schema_of

if TYPE_CHECKING:
    from cfmessenger.data.collection import Collection

# Any text: what cannot be read as entity tags matches nothing.
_TAGS: JSON = {"type": "string"}
IF_MATCH = Parameter(
    "If-Match", "header", "Only if the row still has this ETag; else 412.", _TAGS, '"1"'
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "304 if the row still has this ETag.", _TAGS, '"1"'
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "A name for this creation, the caller's own.",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}(?![\s\S])"},
    "order-2005-11-23-1",
)
LIMIT = Parameter(
    "limit",
    "query",
    "How many rows; what is out of 1-100 is clamped.",
    {
        "type": "integer",
        "minimum": -MAX_15_DIGITS,
        "maximum": MAX_15_DIGITS,
        "default": 50,
    },
    20,
)
CURSOR = Parameter(
    "cursor",
    "query",
    "The `nextCursor` of the page before.",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]+(?![\\s\\S])", "maxLength": 2048},
    None,
)


def on_collections(collections: Mapping[str, Collection]) -> list[Operation]:
    """The operations of each collection; the router knows them by two generic paths."""
    return [one for each in collections.values() for one in _Of(each).operations()]


class _Of:
    """One collection, and an operation for each method at each of its two paths."""

    def __init__(self, each: Collection) -> None:
        self.each = each
        self.one, self.many = each.row.__name__.removesuffix("Row"), each.name.title()
        self.example = ROWS.get(each.name)
        self.row_id = _row_id(self.example)
        path = f"/api/data/{each.name}"
        base: dict[str, Any] = {"auth": "session", "tag": "Data"}
        self.rows = base | {"path": path, "endpoint": data.rows}
        self.row = base | {"path": f"{path}/{{id}}", "endpoint": data.row}
        self.of_a_row = self.row | {"data": each.row, "example": self.example}

    def operations(self) -> list[Operation]:
        each, one = self.each, self.one
        row = self.row | {"parameters": (_row_id(None),)}
        return [
            self._list(),
            self._create()
            if each.creates
            else _never(self.rows, "POST", f"create{one}Row"),
            self._get(),
            self._change() if each.changes else _never(row, "PATCH", f"change{one}Row"),
            self._delete()
            if each.deletes
            else _never(row, "DELETE", f"delete{one}Row"),
        ]

    def _list(self) -> Operation:
        each, row = self.each, self.example
        whose = "" if each.public else " of one's own"
        return Operation(
            **self.rows,
            method="GET",
            name=f"list{self.many}Rows",
            summary=f"{self.many}{whose}, a page at a time",
            description=(
                "Filter by any scalar field. `nextCursor` is there when there is more: "
                "pass it as `cursor`, everything else as before."
            ),
            parameters=_query_of(each),
            data=_page_of(self.many, each.row),
            example={"items": [] if row is None else [row]},
            errors=("VALIDATION_ERROR", "COLLECTION_NOT_FOUND"),
        )

    def _create(self) -> Operation:
        each, one = self.each, self.one
        return Operation(
            **self.rows,
            method="POST",
            name=f"create{one}Row",
            summary=f"A new row of {each.name}",
            description=(
                "With an Idempotency-Key a repeat within 24 h makes no second row: it "
                "is answered with the first."
            ),
            parameters=(IDEMPOTENCY_KEY,),
            request=each.new,
            request_example=_only(self.example, each, each.creates),
            data=each.row,
            example=self.example,
            status=201,
            headers=("ETag", "Location"),
            errors=(
                "COLLECTION_NOT_FOUND",
                "CONFLICT",
                "RATE_LIMITED",
                "QUOTA_EXCEEDED",
            ),
            links=tuple(
                (f"{verb}{one}Row", "id", "/data/id")
                for verb in ("get", "change", "delete")
            ),
        )

    def _get(self) -> Operation:
        return Operation(
            **self.of_a_row,
            method="GET",
            name=f"get{self.one}Row",
            summary=f"One row of {self.each.name}",
            parameters=(self.row_id, IF_MATCH, IF_NONE_MATCH),
            headers=("ETag",),
            errors=("COLLECTION_NOT_FOUND", "PRECONDITION_FAILED"),
        )

    def _change(self) -> Operation:
        each = self.each
        return Operation(
            **self.of_a_row,
            method="PATCH",
            name=f"change{self.one}Row",
            summary=f"Change a row of {each.name}",
            description="Only the fields that are given change.",
            parameters=(self.row_id, IF_MATCH),
            request=each.change,
            request_example=_only(self.example, each, each.changes),
            headers=("ETag",),
            errors=(
                "COLLECTION_NOT_FOUND",
                "FORBIDDEN",
                "CONFLICT",
                "PRECONDITION_FAILED",
                "RATE_LIMITED",
                *(("QUOTA_EXCEEDED",) if each.creates else ()),
            ),
        )

    def _delete(self) -> Operation:
        return Operation(
            **self.of_a_row,
            method="DELETE",
            name=f"delete{self.one}Row",
            summary=f"Delete a row of {self.each.name}",
            description="Answered with the row that is no more.",
            parameters=(self.row_id, IF_MATCH),
            errors=(
                "COLLECTION_NOT_FOUND",
                "FORBIDDEN",
                "PRECONDITION_FAILED",
                "RATE_LIMITED",
            ),
        )


def _never(at: dict[str, Any], method: Any, name: str) -> Operation:
    return Operation(
        **at,
        method=method,
        name=name,
        summary="Never allowed here",
        errors=("FORBIDDEN", "COLLECTION_NOT_FOUND"),
    )


def _row_id(row: JSON | None) -> Parameter:
    example = "user_1" if row is None else row["id"]
    schema: JSON = {"type": "string", "minLength": 1}
    return Parameter("id", "path", "The row's id.", schema, example)


def _query_of(each: Collection) -> tuple[Parameter, ...]:
    names = sorted(each.sortable)
    order: JSON = {
        "type": "string",
        "enum": [*names, *(f"-{name}" for name in names)],
        "default": each.sort,
    }
    filters = (
        Parameter(wire, "query", f"Only rows whose `{wire}` is this.", schema, None)
        for wire, field in each.scalars.items()
        for schema in (schema_of(each.hint(field)),)
    )
    return (
        LIMIT,
        Parameter("sort", "query", "By a field; `-` turns it round.", order, each.sort),
        CURSOR,
        *filters,
    )


def _page_of(name: str, row: type) -> Any:
    fields: list[Any] = [
        ("items", list[row]),  # type: ignore[valid-type]
        ("next_cursor", str | UnsetType, UNSET),
    ]
    return msgspec.defstruct(f"{name}Page", fields, rename="camel")


def _only(row: JSON | None, each: Collection, fields: tuple[str, ...]) -> JSON:
    """What a request holds of the example row."""
    names = [each.wire_names[field] for field in fields]
    return {name: row[name] for name in names if row is not None and name in row}
