"""Writing: `type` first, camelCase, absent and never null."""

from typing import get_args

import msgspec
import pytest

from cfmessenger.errors import ProtocolError
from cfmessenger.wire import protocol
from cfmessenger.wire.events import Event, LostMessage, Message
from cfmessenger.wire.protocol import (
    Durable,
    encode,
    error_frame,
    for_gateway,
    history_frame,
)


def test_type_comes_first_and_absent_fields_are_absent() -> None:
    assert encode(protocol.Pong(7)) == b'{"type":"pong","timestamp":7}'
    assert encode(protocol.Pong(7, 5)) == b'{"type":"pong","timestamp":7,"t":5}'


def test_every_server_frame_has_a_tag_of_its_own() -> None:
    kinds = get_args(protocol.ServerFrame | Event)
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)


def test_what_has_a_seq_is_an_event_and_nothing_else() -> None:
    """By it clients and the load harness know one of a type that is new to them."""
    for kind in get_args(protocol.ServerFrame | Event):
        assert ("seq" in kind.__struct_fields__) == issubclass(kind, Message)


def test_a_frame_says_whether_it_is_durable_and_what_it_becomes() -> None:
    durable = {f for f in get_args(protocol.RoomFrame) if issubclass(f, Durable)}
    assert durable == set(get_args(protocol.DurableFrame))
    # What is lost is told by the room itself, and no client can say it.
    assert {frame.becomes for frame in durable} == set(get_args(Event)) - {LostMessage}
    assert all("id" in frame.__struct_fields__ for frame in durable)


def test_an_error_frame_says_it_twice_for_old_clients() -> None:
    error = ProtocolError("RATE_LIMITED", retry_after_ms=250, id="m1")
    assert msgspec.json.decode(error_frame(error)) == {
        "type": "error",
        "code": "RATE_LIMITED",
        "message": "Too many in too short a time.",
        "content": "Too many in too short a time.",
        "retryable": True,
        "retryAfterMs": 250,
        "id": "m1",
    }
    plain = msgspec.json.decode(error_frame(ProtocolError("UNKNOWN_TYPE")))
    assert not {"retryAfterMs", "id"} & set(plain)


def test_history_wraps_events_as_they_are() -> None:
    event = b'{ "as":"logged" }'
    frame = history_frame([event, event], "general", 2, False)
    assert frame == (
        b'{"type":"history","messages":[' + event + b"," + event + b"],"
        b'"roomId":"general","lastSeq":2,"gap":false}'
    )


WISH = protocol.SetPresence("busy", "One", "hi")


@pytest.mark.parametrize(
    ("data", "room", "registry"),
    [
        (b'{"type":"ping"}', protocol.Ping(), protocol.Ping()),
        (b'{"t":3,"type":"ping"}', protocol.Ping(3), protocol.Ping(3)),
        (encode(WISH), WISH, None),
        (encode(WISH).replace(b"pres", b"\\u0070res"), WISH, None),
        (
            b'{"type":"presence_update","status":"busy","y":"ping"}',
            None,
            protocol.UpdatePresence("busy"),
        ),
        # Bad ones are answered by the object.
        (b'{"type":"ping","t":"x"}', None, None),
        (b'{"type":"presence","status":"gone"}', None, None),
        (b'{"type":"presence","status":"busy","displayName":" "}', None, None),
        (b'{"type":"chat","content":"ping"}', None, None),
        (b'{"type": "chat","content":"x","type":"ping"}', None, None),
        (b'{"content":"x","type":"chat","y":"ping"}', None, None),
        (b"{}", None, None),
    ],
)
def test_what_is_the_gateways(data: bytes, room: object, registry: object) -> None:
    assert for_gateway(data, registry=False) == room
    assert for_gateway(data, registry=True) == registry


def test_users_and_rooms_in_the_originals_shapes() -> None:
    user = protocol.User("user_1", "a@example.org", "One", "avatar_1", "online", False)
    assert msgspec.to_builtins(user) == {
        "id": "user_1",
        "email": "a@example.org",
        "displayName": "One",
        "avatarId": "avatar_1",
        "status": "online",
        "isAiBot": False,
    }
    room = protocol.RoomInfo("general", "General", "group", [], 0)
    assert msgspec.to_builtins(room) == {
        "id": "general",
        "name": "General",
        "type": "group",
        "participantIds": [],
        "unreadCount": 0,
    }
