"""The rules of orders and users, and that every collection is what it says."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.data.collection import Collection
from cfmessenger.data.registry import (
    COLLECTIONS,
    MAX_TOTAL,
    NEXT,
    Item,
    Order,
    UserRow,
    order_rule,
    user_rule,
)
from cfmessenger.errors import ProtocolError

STATUSES = list(NEXT)
replace = msgspec.structs.replace


def order(status: str = "placed", **changes: object) -> Order:
    made = Order(
        id="o",
        owner_id="user_1",
        items=[Item(name="tea", quantity=1, unit_price=1)],
        currency="EUR",
        status=status,  # type: ignore[arg-type]
        created_at=1,
        updated_at=1,
    )
    return replace(made, **changes)


def code_of(before: Order | None, after: Order) -> str | None:
    try:
        assert order_rule(before, after) == after
    except ProtocolError as error:
        return error.code
    return None


@pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=lambda each: each.name)
def test_a_collection_fits_its_table(collection: Collection) -> None:
    columns = collection.table.c
    for name in collection.wire_names:
        optional = name not in collection.sortable.values()
        if name in collection.scalars.values():
            assert columns[name].nullable is optional, name
    assert {"id", "revision", collection.owner} <= set(columns.keys())
    assert {*collection.creates, *collection.changes} <= set(collection.wire_names)
    assert collection.sort.removeprefix("-") in collection.sortable
    assert not {"id", collection.owner} & {*collection.creates, *collection.changes}


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_a_status_takes_legal_steps_only(before: str, after: str) -> None:
    legal = after == before or (before, after) in {
        ("placed", "paid"),
        ("placed", "cancelled"),
        ("paid", "shipped"),
        ("paid", "cancelled"),
    }
    expected = None if legal else "CONFLICT"
    assert code_of(order(before), order(after)) == expected


@given(st.lists(st.sampled_from(STATUSES), max_size=12))
def test_however_it_is_pushed_an_order_is_shipped_only_when_paid(
    wishes: list[str],
) -> None:
    now, path = order(), ["placed"]
    for wish in wishes:
        if code_of(now, order(wish)) is None:
            now = order(wish)
            if wish != path[-1]:
                path.append(wish)
    assert tuple(path) in {
        ("placed",),
        ("placed", "paid"),
        ("placed", "paid", "shipped"),
        ("placed", "paid", "cancelled"),
        ("placed", "cancelled"),
    }


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "change",
    [{"currency": "GBP"}, {"items": [Item(name="tea", quantity=2, unit_price=1)]}],
)
def test_what_is_ordered_is_settled_once_paid(
    status: str, change: dict[str, object]
) -> None:
    expected = None if status == "placed" else "CONFLICT"
    assert code_of(order(status), order(status, **change)) == expected


@pytest.mark.parametrize("currency", ["XYZ", "AAA", "DEM", "ZZZ"])
def test_a_code_that_is_none(currency: str) -> None:
    with pytest.raises(ProtocolError, match="currency: must be an ISO 4217 code"):
        order_rule(None, order(currency=currency))


def test_a_total_is_one_that_javascript_can_count() -> None:
    half = [Item(name="x", quantity=2**11, unit_price=2**39)] * 8
    assert sum(i.quantity * i.unit_price for i in half) == MAX_TOTAL + 1
    with pytest.raises(ProtocolError, match=r"items: must have a total below 2\^53"):
        order_rule(None, order(items=half))
    just = [*half[1:], replace(half[0], quantity=2**11 - 1)]
    left = Item(name="x", quantity=1, unit_price=2**39 - 1)
    assert code_of(None, order(items=[*just, left])) is None


@pytest.mark.parametrize(
    "name", [" ", "\u200b", "a\u202eb", "x" * 51, "\U0001f600" * 26]
)
def test_a_name_that_is_none(name: str) -> None:
    row = UserRow(
        id="u", email="u@x", display_name=name, avatar_id="a", is_ai_bot=False
    )
    with pytest.raises(ProtocolError, match="displayName: must be text of 1-50"):
        user_rule(row, row)


def test_an_empty_message_is_none() -> None:
    row = UserRow(id="u", email="u@x", display_name="U", avatar_id="a", is_ai_bot=False)
    said = replace(row, personal_message="hi")
    assert user_rule(row, said) == said
    assert user_rule(said, replace(said, personal_message="")) == row
    assert b"personalMessage" not in msgspec.json.encode(row)
    assert b'"isAiBot":false' in msgspec.json.encode(row)
