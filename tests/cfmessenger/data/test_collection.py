"""Bodies of POST and PATCH: a struct, or a refusal that names the field alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.data.collection import Collection
from cfmessenger.data.registry import COLLECTIONS, Item
from cfmessenger.errors import ProtocolError

ORDERS, USERS = COLLECTIONS["orders"], COLLECTIONS["users"]
ITEM = {"name": "tea", "quantity": 2, "unitPrice": 350}
LONG = "x" * 201


def order(**changes: object) -> bytes:
    return msgspec.json.encode({"items": [ITEM], "currency": "EUR", **changes})


def item(**changes: object) -> bytes:
    return order(items=[ITEM | changes])


def refusal(collection: Collection, body: bytes, method: str = "POST") -> ProtocolError:
    read = collection.read_new if method == "POST" else collection.read_change
    with pytest.raises(ProtocolError) as caught:
        read(body)
    return caught.value


def test_what_a_client_sends_is_read() -> None:
    read = ORDERS.read_new(order())
    assert read == {
        "items": [Item(name="tea", quantity=2, unit_price=350)],
        "currency": "EUR",
    }
    assert ORDERS.read_change(b'{"status":"paid"}') == {"status": "paid"}
    assert USERS.read_change(b"{}") == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "items: is missing"),
        (order().replace(b'"currency"', b'"items"'), "items: must be a list of 1-100"),
        (order().replace(b',"currency":"EUR"', b""), "currency: is missing"),
        (order(items=[]), "items: must be a list of 1-100 items"),
        (order(items=[ITEM] * 101), "items: must be a list of 1-100 items"),
        (order(items=None), "items: must be a list of 1-100 items"),
        (order(items={"0": ITEM}), "items: must be a list of 1-100 items"),
        (order(items=[ITEM, 3]), "items[1]: must be a list of 1-100 items"),
        (order(items=[{"name": "x"}]), "items[0].quantity: is missing"),
        (item(name=""), "items[0].name: must be text of 1-200 characters"),
        (item(name=LONG), "items[0].name: must be text of 1-200 characters"),
        (item(name="a\x00b"), "items[0].name: must be text of 1-200 characters"),
        (item(name="\u3164 "), "items[0].name: must be text of 1-200 characters"),
        (item(name="a\n"), "items[0].name: must be text of 1-200 characters"),
        (item(name="\x9b"), "items[0].name: must be text of 1-200 characters"),
        (item(name=None), "items[0].name: must be text of 1-200 characters"),
        (item(quantity=0), "items[0].quantity: must be an integer from 1 to"),
        (item(quantity=10**6 + 1), "items[0].quantity: must be an integer from 1 to"),
        (item(quantity=1.0), "items[0].quantity: must be an integer from 1 to"),
        (item(quantity=1.5), "items[0].quantity: must be an integer from 1 to"),
        (item(quantity="1"), "items[0].quantity: must be an integer from 1 to"),
        (item(quantity=True), "items[0].quantity: must be an integer from 1 to"),
        (item(unitPrice=-1), "items[0].unitPrice: must be an integer from 0 to"),
        (item(unitPrice=10**12 + 1), "items[0].unitPrice: must be an integer from 0"),
        (
            order().replace(b"350", b"9" * 400),
            "items[0].unitPrice: must be an integer from 0 to",
        ),
        (
            order().replace(b"350", b"1e400"),
            "items[0].unitPrice: must be an integer from 0 to",
        ),
        (item(colour="red"), "items[0].colour: is not a field that can be given"),
        (order(currency="eur"), "currency: must be an ISO 4217 code"),
        (order(currency="EUR\n"), "currency: must be an ISO 4217 code"),
        (order(currency=None), "currency: must be an ISO 4217 code"),
        (order(ownerId="user_2"), "ownerId: is not a field that can be given here"),
        (order(id="x"), "id: is not a field that can be given here"),
        (order(status="paid"), "status: is not a field that can be given here"),
        (order(createdAt=1), "createdAt: is not a field that can be given here"),
        (order(unit_price=1), "unit_price: is not a field that can be given here"),
        (order(**{"<b>\u202e": 1}), "body: is not a field that can be given here"),
        (order(**{"a b": 1}), "body: is not a field that can be given here"),
        (b"[]", "The body must be a JSON object."),
        (b"null", "The body must be a JSON object."),
        (b'"items"', "The body must be a JSON object."),
        (b"3", "The body must be a JSON object."),
    ],
)
def test_the_field_is_named(body: bytes, message: str) -> None:
    error = refusal(ORDERS, body)
    assert error.code == "VALIDATION_ERROR"
    assert error.message.startswith(message), error.message


@pytest.mark.parametrize(
    ("collection", "body", "message"),
    [
        (ORDERS, b'{"status":"lost"}', "status: must be placed, paid, shipped or"),
        (ORDERS, b'{"status":null}', "status: must be placed, paid, shipped or"),
        (ORDERS, b'{"status":["paid"]}', "status: must be placed, paid, shipped or"),
        (ORDERS, b'{"updatedAt":1}', "updatedAt: is not a field that can be given"),
        (USERS, b'{"displayName":""}', "displayName: must be text of 1-50"),
        (USERS, b'{"displayName":null}', "displayName: must be text of 1-50"),
        (USERS, b'{"displayName":7}', "displayName: must be text of 1-50"),
        (USERS, b'{"personalMessage":null}', "personalMessage: must be text of 0-200"),
        (USERS, b'{"personalMessage":"a\\nb"}', "personalMessage: must be text of"),
        (USERS, b'{"personalMessage":"\\u0000"}', "personalMessage: must be text of"),
        (USERS, b'{"email":"x@y.example"}', "email: is not a field that can be given"),
        (USERS, b'{"own":false}', "own: is not a field that can be given here"),
        (USERS, b'{"revision":1}', "revision: is not a field that can be given here"),
    ],
)
def test_the_field_of_a_change_is_named(
    collection: Collection, body: bytes, message: str
) -> None:
    error = refusal(collection, body, "PATCH")
    assert error.code == "VALIDATION_ERROR"
    assert error.message.startswith(message), error.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        order() + b" x",
        b"\xef\xbb\xbf{}",
        b"{'items':[]}",
        b'{"currency":"\xff","items":[]}',
        b'{"currency":"\\ud800","items":[]}',
        b'{"x":"\xff"}',
        b'{"x":"\\ud800"}',
        b'{"currency":NaN}',
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"items":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_json(body: bytes) -> None:
    assert refusal(ORDERS, body).code == "INVALID_JSON"
    assert refusal(ORDERS, body, "PATCH").code == "INVALID_JSON"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_NAMES = st.sampled_from("items currency status name quantity unitPrice".split())


@given(
    st.binary()
    | st.builds(msgspec.json.encode, _JSON)
    | st.builds(
        msgspec.json.encode,
        st.dictionaries(_NAMES, _JSON | st.lists(st.dictionaries(_NAMES, _JSON))),
    )
)
def test_whatever_comes_is_read_or_refused_in_fixed_words(body: bytes) -> None:
    for read in (ORDERS.read_new, ORDERS.read_change, USERS.read_change):
        try:
            read(body)
        except ProtocolError as error:
            assert error.code in ("INVALID_JSON", "VALIDATION_ERROR")
            assert error.message.isascii() and error.message.isprintable()
