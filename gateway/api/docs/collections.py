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
from gateway.api.docs.operation import MAX_15_DIGITS, Endpoint, Operation, Parameter
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
    return [one for each in collections.values() for one in _on_collection(each)]


def _on_collection(each: Collection) -> list[Operation]:
    one, many = each.row.__name__.removesuffix("Row"), each.name.title()
    path, row = f"/api/data/{each.name}", ROWS.get(each.name)
    whose = "" if each.public else " of one's own"
    row_id = _row_id(row)
    base: dict[str, Any] = {"auth": "session", "tag": "Data"}
    of_a_row = base | {
        "path": f"{path}/{{id}}",
        "endpoint": data.row,
        "data": each.row,
        "example": row,
    }
    return [
        Operation(
            **base,
            method="GET",
            path=path,
            endpoint=data.rows,
            name=f"list{many}Rows",
            summary=f"{many}{whose}, a page at a time",
            description=(
                "Filter by any scalar field. `nextCursor` is there when there is more: "
                "pass it as `cursor`, everything else as before."
            ),
            parameters=_query_of(each),
            data=_page_of(many, each.row),
            example={"items": [] if row is None else [row]},
            errors=("VALIDATION_ERROR", "COLLECTION_NOT_FOUND"),
        ),
        Operation(
            **base,
            method="POST",
            path=path,
            endpoint=data.rows,
            name=f"create{one}Row",
            summary=f"A new row of {each.name}",
            description=(
                "With an Idempotency-Key a repeat within 24 h makes no second row: it "
                "is answered with the first."
            ),
            parameters=(IDEMPOTENCY_KEY,),
            request=each.new,
            request_example=_only(row, each, each.creates),
            data=each.row,
            example=row,
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
        if each.creates
        else _never(base, "POST", path, data.rows, f"create{one}Row"),
        Operation(
            **of_a_row,
            method="GET",
            name=f"get{one}Row",
            summary=f"One row of {each.name}",
            parameters=(row_id, IF_MATCH, IF_NONE_MATCH),
            headers=("ETag",),
            errors=("COLLECTION_NOT_FOUND", "PRECONDITION_FAILED"),
        ),
        Operation(
            **of_a_row,
            method="PATCH",
            name=f"change{one}Row",
            summary=f"Change a row of {each.name}",
            description="Only the fields that are given change.",
            parameters=(row_id, IF_MATCH),
            request=each.change,
            request_example=_only(row, each, each.changes),
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
        if each.changes
        else _never(base, "PATCH", f"{path}/{{id}}", data.row, f"change{one}Row"),
        Operation(
            **of_a_row,
            method="DELETE",
            name=f"delete{one}Row",
            summary=f"Delete a row of {each.name}",
            description="Answered with the row that is no more.",
            parameters=(row_id, IF_MATCH),
            errors=(
                "COLLECTION_NOT_FOUND",
                "FORBIDDEN",
                "PRECONDITION_FAILED",
                "RATE_LIMITED",
            ),
        )
        if each.deletes
        else _never(base, "DELETE", f"{path}/{{id}}", data.row, f"delete{one}Row"),
    ]


def _never(
    base: dict[str, Any], method: Any, path: str, endpoint: Endpoint, name: str
) -> Operation:
    parameters: tuple[Parameter, ...] = ()
    if path.endswith("{id}"):
        parameters = (_row_id(None),)
    return Operation(
        **base,
        method=method,
        path=path,
        endpoint=endpoint,
        name=name,
        summary="Never allowed here",
        parameters=parameters,
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
