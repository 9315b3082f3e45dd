"""What a collection is: a row's struct, its table, and who may do what with it.

Owns the shapes that POST and PATCH take, derived from the row's struct, and the reading
of bodies: whatever the bytes are, a struct or a ProtocolError that names the field. A
field's rule in words is the `description` of its `Meta`. Must not touch a database.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType
from msgspec import inspect as shapes

from cfmessenger.errors import ProtocolError
from cfmessenger.wire.complaint import UNREADABLE, Complaint, of_body

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table


class Row(msgspec.Struct, rename="camel", omit_defaults=True):
    """A row as clients see it: camelCase, an optional field is absent, times are ms."""

    id: str


def as_it_is(before: Any, after: Any) -> Any:
    """The rule of a collection without rules."""
    return after


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One collection under `/api/data/{name}`.

    `table` has a column for every field of `row`, and `revision`, an integer. `owner`
    is the column that names the user a row belongs to: only its owner may change a row,
    and sees it at all unless `public`. `creates` and `changes` are the fields that POST
    and PATCH take; without them (and without `deletes`) the method is FORBIDDEN.
    `initial` is what a new row has besides; `created_at`, `updated_at`, `id` and the
    owner are set by the server if `row` has them. `rule` is given the row before (None:
    there was none) and after, and returns what is to be stored or raises ProtocolError.
    Rows that are not `listed` (a column) are hidden from everybody.
    """

    name: str
    row: type[Row]
    table: Table
    owner: str
    public: bool = False
    creates: tuple[str, ...] = ()
    initial: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    deletes: bool = False
    sort: str = "id"
    rule: Callable[[Any, Any], Any] = as_it_is
    listed: ColumnElement[bool] | None = None
    _hints: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._hints.update(get_type_hints(self.row, include_extras=True))
        taken = {*self.wire_names.values()} & {"cursor", "limit", "sort"}
        assert not taken, f"{self.name}: {taken} mean something else in a query"

    @cached_property
    def wire_names(self) -> dict[str, str]:
        """Field → its name on the wire."""
        fields, encoded = self.row.__struct_fields__, self.row.__struct_encode_fields__
        return dict(zip(fields, encoded, strict=True))

    @cached_property
    def scalars(self) -> dict[str, str]:
        """Name on the wire → field, of all that can be filtered by."""
        return {
            wire: name
            for name, wire in self.wire_names.items()
            if not isinstance(_bare(shapes.type_info(self.hint(name))), _NESTED)
        }

    @cached_property
    def sortable(self) -> dict[str, str]:
        """The scalars that every row has."""
        return {
            wire: name
            for wire, name in self.scalars.items()
            if self._hints[name] == self.hint(name)
        }

    def hint(self, name: str) -> Any:
        """The annotated type of a field, without None: absent, never null."""
        return _without_none(self._hints[name])

    @cached_property
    def new(self) -> type[msgspec.Struct]:
        """What POST takes."""
        defaults = {each.name: each for each in msgspec.structs.fields(self.row)}
        fields: list[Any] = [
            (name, self.hint(name))
            if defaults[name].required
            else (name, self.hint(name) | UnsetType, UNSET)
            for name in self.creates
        ]
        return _struct(f"New{self.row.__name__}", fields)

    @cached_property
    def change(self) -> type[msgspec.Struct]:
        """What PATCH takes: only what is to be changed."""
        fields: list[Any] = [
            (name, self.hint(name) | UnsetType, UNSET) for name in self.changes
        ]
        return _struct(f"{self.row.__name__}Change", fields)

    def read_new(self, body: bytes) -> dict[str, Any]:
        """The fields of a POST; INVALID_JSON or VALIDATION_ERROR."""
        return _read(body, self.new)

    def read_change(self, body: bytes) -> dict[str, Any]:
        """The fields of a PATCH, perhaps none; INVALID_JSON or VALIDATION_ERROR."""
        return _read(body, self.change)


_NESTED = (shapes.StructType, shapes.ListType, shapes.DictType, shapes.UnionType)


def _struct(name: str, fields: list[Any]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        name, fields, kw_only=True, rename="camel", forbid_unknown_fields=True
    )


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    left = [each for each in get_args(hint) if each is not type(None)]
    return left[0] if len(left) == 1 else Union[tuple(left)]  # noqa: UP007


def _read(body: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        # Decoded first: msgspec does not check the UTF-8 of a string that it skips.
        read = msgspec.json.decode(body.decode(), type=kind)
    except UNREADABLE as error:
        raise _refusal(kind, of_body(body, error)) from None
    return {
        name: value
        for name in kind.__struct_fields__
        if (value := getattr(read, name)) is not UNSET
    }


def _refusal(kind: type, found: Complaint) -> ProtocolError:
    if found.kind == "missing":
        rule = "is missing"
    elif found.kind == "unknown":
        rule = "is not a field that can be given here"
    else:
        rule = _rule(kind, found.where)
    return ProtocolError("VALIDATION_ERROR", rule, field=found.where or "body")


def _rule(kind: Any, where: str) -> str:
    """The description of the innermost part of the path that has one."""
    shape, words = shapes.type_info(kind), "is not of the right kind"
    for part in re.findall(r"\w+|\[[\w.]*\]", where):
        shape = _bare(shape)
        if isinstance(shape, shapes.ListType):
            shape = shape.item_type
        elif isinstance(shape, shapes.StructType):
            shape = next(f.type for f in shape.fields if f.encode_name == part)
        words = description(shape) or words
    return words


def description(shape: shapes.Type) -> str | None:
    """The rule in words that a `Meta` carries."""
    if isinstance(shape, shapes.Metadata):
        said = (shape.extra_json_schema or {}).get("description")
        return said if isinstance(said, str) else description(shape.type)
    return None


def _bare(shape: shapes.Type) -> shapes.Type:
    while isinstance(shape, shapes.Metadata):
        shape = shape.type
    return shape
