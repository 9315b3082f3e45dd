"""Events: each of its type, and those of others' as far as anybody can know them."""

from typing import get_args

import pytest

from cfmessenger.wire.events import (
    ChatMessage,
    Event,
    Message,
    UnknownEvent,
    WinkMessage,
    decode_event,
    decode_message,
    is_readable,
    with_status,
)
from cfmessenger.wire.protocol import encode

WHERE = ("m1", "general", "user_1", "One")
WINK = WinkMessage(*WHERE, "sent a wink.", 5, 1, False, True, "w", 505, "key")
CHAT = encode(ChatMessage(*WHERE, "hello", 5, 1, False, False))
KNOCK = (
    b'{"type":"knock","id":"k-1","roomId":"general","senderId":"user_2",'
    b'"displayName":"Two","content":"knocks.","timestamp":7,"seq":2,"door":{"n":1}}'
)


def test_an_event_round_trips() -> None:
    event = encode(WINK)
    assert event.startswith(b'{"type":"wink","id":"m1","roomId":"general",')
    assert decode_message(event) == decode_event(1, event) == WINK


def test_every_type_has_what_all_have_and_a_status_that_is_not_logged() -> None:
    for kind in get_args(Event):
        assert issubclass(kind, Message)
        common = Message.__struct_fields__
        assert kind.__struct_fields__[: len(common)] == common
        assert kind.__struct_fields__[-1] == "status"


def test_an_event_of_a_type_that_is_not_known_can_be_shown() -> None:
    known = decode_event(2, KNOCK)
    assert known == UnknownEvent("knock", 2, "k-1", "user_2", 7)
    assert is_readable(2, KNOCK)
    assert decode_event(9, b'{"seq":9,"type":"bare"}') == UnknownEvent("bare", 9)


@pytest.mark.parametrize(
    ("seq", "event"),
    [
        (3, KNOCK),  # says that it is another one
        (2, KNOCK[:-1]),
        (2, KNOCK.replace(b"knock", b"chat\xff", 1)),
        (1, CHAT.replace(b'"content":"hello",', b"")),
        (2, b'{"type":"knock"}'),
        (2, b'{"seq":2}'),
        (2, b"[2]"),
        (2, b""),
    ],
)
def test_what_is_damaged_is_not_shown(seq: int, event: bytes) -> None:
    with pytest.raises(ValueError, match=f"event {seq}"):
        decode_event(seq, event)
    assert not is_readable(seq, event)


def test_a_status_goes_to_the_end_of_any_event() -> None:
    shown = decode_message(with_status(CHAT, "read"))
    assert shown.status == "read"
    assert with_status(KNOCK, "read") == KNOCK[:-1] + b',"status":"read"}'
