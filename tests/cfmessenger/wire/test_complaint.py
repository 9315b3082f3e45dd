"""What msgspec complains of is said of the right field, whatever a client writes."""

from typing import Annotated, Any

import msgspec
import pytest

from cfmessenger.errors import ProtocolError
from cfmessenger.wire.complaint import Complaint, complaint, of_body


class Item(msgspec.Struct, forbid_unknown_fields=True):
    sku: Annotated[str, msgspec.Meta(max_length=3)]
    kind: str = msgspec.field(name="x-kind", default="")


class Order(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]


def refused(body: bytes) -> Complaint:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=Order)
    return complaint(caught.value)


@pytest.mark.parametrize(
    ("body", "where", "kind"),
    [
        (b"{}", "items", "missing"),
        (b'{"items":[{}]}', "items[0].sku", "missing"),
        (b'{"items":7}', "items", "wrong"),
        (b'{"items":[{"sku":"long"}]}', "items[0].sku", "wrong"),
        (b'{"items":[{"x-kind":1}]}', "items[0].x-kind", "wrong"),
        (b'{"more":1}', "more", "unknown"),
        (b'{"items":[{"more":1}]}', "items[0].more", "unknown"),
        (b"[]", "", "wrong"),
        # Not named, as it cannot be repeated; nor does it name another one.
        ('{"höher":1}'.encode(), "", "unknown"),
        (b'{"Object missing required field `x`":1}', "", "unknown"),
    ],
)
def test_the_field_and_what_is_wrong(body: bytes, where: str, kind: str) -> None:
    assert refused(body)[:2] == (where, kind)


def test_its_words_are_told_without_the_path() -> None:
    assert refused(b'{"items":7}').says == "Expected `array`, got `int`"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[1]", "VALIDATION_ERROR"),
        (b"", "INVALID_JSON"),
        (b'{"items":7', "INVALID_JSON"),
        (b'{"more":"\xff"}', "INVALID_JSON"),
        (b'{"items":[{"sku":"\\ud800"}]}', "INVALID_JSON"),
    ],
)
def test_what_is_no_json_object_is_wrong_as_a_whole(body: bytes, code: str) -> None:
    refusal: Any = None
    try:
        msgspec.json.decode(body.decode(), type=Order)
    except Exception as error:
        refusal = error
    with pytest.raises(ProtocolError) as caught:
        of_body(body, refusal)
    assert (caught.value.code, caught.value.field) == (code, None)
