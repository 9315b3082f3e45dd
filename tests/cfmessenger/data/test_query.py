"""A list's query: what is taken, what is refused by name, and the cursor."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.data.query import Query, read_query
from cfmessenger.data.registry import COLLECTIONS, Item, Order
from cfmessenger.errors import ProtocolError

ORDERS, USERS = COLLECTIONS["orders"], COLLECTIONS["users"]


def read(*given: tuple[str, str], viewer: str = "user_1") -> Query:
    return read_query(ORDERS, viewer, given)


def refused(*given: tuple[str, str], collection: str = "orders") -> str:
    with pytest.raises(ProtocolError) as caught:
        read_query(COLLECTIONS[collection], "user_1", given)
    assert caught.value.code == "VALIDATION_ERROR"
    return caught.value.message


def last(created_at: int = 5, row_id: str = "o1") -> Order:
    item = Item(name="x", quantity=1, unit_price=1)
    return Order(
        id=row_id,
        owner_id="user_1",
        items=[item],
        currency="EUR",
        status="placed",
        created_at=created_at,
        updated_at=created_at,
    )


def test_what_is_not_said_is_usual() -> None:
    query = read()
    assert (query.filters, query.after) == ({}, None)
    assert (query.sort, query.descending, query.limit) == ("created_at", True, 50)


@pytest.mark.parametrize(
    ("said", "limit"), [("1", 1), ("0", 1), ("-5", 1), ("100", 100), ("99999", 100)]
)
def test_a_limit_is_clamped(said: str, limit: int) -> None:
    assert read(("limit", said)).limit == limit


def test_values_have_the_type_of_their_field() -> None:
    given = [("status", "paid"), ("createdAt", "12"), ("currency", "EUR")]
    assert read(*given).filters == {
        "status": "paid",
        "created_at": 12,
        "currency": "EUR",
    }
    people = read_query(USERS, "user_1", [("isAiBot", "false"), ("sort", "-email")])
    assert people.filters == {"is_ai_bot": False}
    assert (people.sort, people.descending) == ("email", True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("limit", "ten")], "limit: must be a number"),
        ([("limit", "1e2")], "limit: must be a number"),
        ([("limit", "\u0661")], "limit: must be a number"),
        ([("limit", "1"), ("limit", "2")], "limit: may be given once"),
        ([("status", "paid"), ("status", "paid")], "status: may be given once"),
        ([("sort", "items")], "sort: must be one of createdAt, currency, id, "),
        ([("sort", "created_at")], "sort: must be one of"),
        ([("sort", "--createdAt")], "sort: must be one of"),
        ([("sort", "createdAt; DROP TABLE orders")], "sort: must be one of"),
        ([("sort", "")], "sort: must be one of"),
        ([("items", "x")], "items: is not a field to filter by"),
        ([("revision", "1")], "revision: is not a field to filter by"),
        ([("owner_id", "user_1")], "owner_id: is not a field to filter by"),
        ([("1=1 --", "")], "query: is not a field to filter by"),
        ([("status", "")], "status: must be placed, paid, shipped or cancelled"),
        ([("status", "PAID")], "status: must be placed, paid, shipped or cancelled"),
        ([("currency", "eur")], "currency: must be an ISO 4217 code"),
        ([("createdAt", "1.0")], "createdAt: is not of the right kind"),
        ([("createdAt", "9" * 16)], "createdAt: is not of the right kind"),
        ([("createdAt", "-1")], "createdAt: is not of the right kind"),
        ([("id", "a\x00")], "id: is not of the right kind"),
    ],
)
def test_the_parameter_is_named(given: list[tuple[str, str]], message: str) -> None:
    assert refused(*given).startswith(message)


def test_what_some_lack_cannot_be_sorted_by() -> None:
    assert "personalMessage" not in refused(
        ("sort", "personalMessage"), collection="users"
    )
    assert read_query(USERS, "u", [("personalMessage", "hi")]).filters


@given(st.integers(0, 2**53 - 1), st.text().filter(lambda text: "\x00" not in text))
def test_a_cursor_says_where_to_go_on(created_at: int, row_id: str) -> None:
    query = read(("limit", "7"), ("status", "paid"))
    cursor = query.cursor(last(created_at, row_id))
    again = read(("limit", "9"), ("status", "paid"), ("cursor", cursor))
    assert again.after == (created_at, row_id)


CURSOR = read().cursor(last())


@pytest.mark.parametrize(
    "given",
    [
        [("sort", "createdAt")],
        [("sort", "-updatedAt")],
        [("status", "paid")],
        [("currency", "EUR")],
    ],
)
def test_a_cursor_of_another_list(given: list[tuple[str, str]]) -> None:
    rule = "cursor: is not one that was given for this list"
    assert refused(*given, ("cursor", CURSOR)) == rule
    assert refused(("cursor", CURSOR), collection="users") == rule
    with pytest.raises(ProtocolError, match=rule):
        read(("cursor", CURSOR), viewer="user_2")


def packed(*parts: object) -> str:
    raw = msgspec.msgpack.encode(parts)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        CURSOR[:-1],
        CURSOR[1:],
        CURSOR + "A",
        CURSOR + "==",
        CURSOR + "\n",
        CURSOR.lower(),
        "' OR 1=1 --",
        "A" * 3000,
        packed(read().mark, "5", "o1"),
        packed(read().mark, 5.0, "o1"),
        packed(read().mark, None, "o1"),
        packed(read().mark, 2**64 - 1, "o1"),
        packed(read().mark, 5, "o\x00"),
        packed(read().mark, 5, 1),
        packed(read().mark, 5),
        packed(b"12345678", 5, "o1"),
    ],
)
def test_a_garbled_cursor(cursor: str) -> None:
    assert refused(("cursor", cursor)).startswith("cursor: ")


@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    refused(("cursor", text))
