"""Which identifiers are well formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.errors import ProtocolError
from cfmessenger.ids import (
    PRESENCE,
    connection_id,
    direct_room,
    direct_users,
    gateway_of,
    is_message_id,
    is_room,
    parse_room_id,
    room_id_of,
    room_name,
    sane_request_id,
)


@pytest.mark.parametrize("raw", ["general", "0", "a-b_c", "a" * 64, "dm", "dmx_a__b"])
def test_a_group_room_is_its_own_canonical_id(raw: str) -> None:
    room = parse_room_id(raw)
    assert (room.id, room.users, room.direct) == (raw, (), False)


def test_both_orders_are_one_direct_room() -> None:
    one, two = parse_room_id("dm_user_2__user_1"), parse_room_id("dm_user_1__user_2")
    assert one == two
    assert (one.id, one.users) == ("dm_user_1__user_2", ("user_1", "user_2"))
    assert one.direct


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "INVALID_ROOM_ID"),
        ("-a", "INVALID_ROOM_ID"),
        ("_a", "INVALID_ROOM_ID"),
        ("A", "INVALID_ROOM_ID"),
        ("a" * 65, "INVALID_ROOM_ID"),
        ("a/b", "INVALID_ROOM_ID"),
        ("..", "INVALID_ROOM_ID"),
        ("a\n", "INVALID_ROOM_ID"),
        ("a\0", "INVALID_ROOM_ID"),
        ("é", "INVALID_ROOM_ID"),
        ("\ufffd", "INVALID_ROOM_ID"),
        ("system_x", "ROOM_RESERVED"),
        ("admin_", "ROOM_RESERVED"),
        ("dm_", "ROOM_NOT_FOUND"),
        ("dm_a", "ROOM_NOT_FOUND"),
        ("dm_a__a", "ROOM_NOT_FOUND"),
        ("dm_a__", "ROOM_NOT_FOUND"),
        ("dm___b", "ROOM_NOT_FOUND"),
        ("dm_a__b__c", "ROOM_NOT_FOUND"),
    ],
)
def test_other_room_ids_are_refused(raw: str, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_room_id(raw)
    assert caught.value.code == code
    assert not raw or len(raw) < 3 or raw not in caught.value.message


users = st.from_regex(r"[a-z0-9]{1,12}(_[0-9]{1,3})?", fullmatch=True)


@given(users, users)
def test_direct_rooms_round_trip(a: str, b: str) -> None:
    if a != b:
        room = parse_room_id(direct_room(a, b))
        assert room.id == direct_room(b, a)
        assert room.users == direct_users(room.id) == tuple(sorted((a, b)))


def test_a_group_room_has_no_direct_users() -> None:
    assert direct_users("general") == ()


@pytest.mark.parametrize(
    ("raw", "good"),
    [
        ("a", True),
        ("Az09._:-", True),
        ("x" * 64, True),
        ("", False),
        ("x" * 65, False),
        ("a b", False),
        ("a\n", False),
        ("ü", False),
    ],
)
def test_message_ids(raw: str, good: bool) -> None:
    assert is_message_id(raw) is good


def test_a_rooms_object_is_named_after_it() -> None:
    assert room_name("dm_a__b") == "room:dm_a__b"
    assert is_room("room:room:x") and room_id_of("room:room:x") == "room:x"
    for name in (PRESENCE, "rooms:3", "room"):
        assert not is_room(name) and room_id_of(name) == name


def test_a_connection_knows_its_gateway() -> None:
    conn = connection_id("host.1-a", 7)
    assert conn == "host.1-a.7"
    assert gateway_of(conn) == "host.1-a"


@pytest.mark.parametrize(
    ("raw", "echoed"),
    [
        ("req-1.A_b", "req-1.A_b"),
        ("x" * 64, "x" * 64),
        (None, None),
        ("", None),
        ("x" * 65, None),
        ("a b", None),
        ("a\r\nb: c", None),
        ("a:b", None),
    ],
)
def test_only_sane_request_ids_are_echoed(raw: str | None, echoed: str | None) -> None:
    assert sane_request_id(raw) == echoed
