"""Events: each of its type, and those of others' as far as anybody can know them."""

from typing import Any, get_args

import msgspec
import pytest

from cfmessenger.wire.events import (
    ChatMessage,
    Event,
    EventReader,
    Message,
    UnknownEvent,
    WinkMessage,
    read_event,
    shown_event,
    upgraded_event,
    with_status,
)
from cfmessenger.wire.protocol import encode

decode_message = msgspec.json.Decoder(Event).decode

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
    assert decode_message(event) == WINK
    assert read_event(1, event) == (WINK, event)


def test_every_type_has_what_all_have_and_a_status_that_is_not_logged() -> None:
    for kind in get_args(Event):
        assert issubclass(kind, Message)
        common = Message.__struct_fields__
        assert kind.__struct_fields__[: len(common)] == common
        assert kind.__struct_fields__[-2:] == ("status", "era")


def test_an_event_of_a_type_that_is_not_known_can_be_shown() -> None:
    known = UnknownEvent("knock", 2, "k-1", "user_2", 7)
    assert read_event(2, KNOCK) == (known, KNOCK)
    assert shown_event(2, KNOCK) is KNOCK
    bare = b'{"seq":9,"type":"bare"}'
    assert read_event(9, bare) == (UnknownEvent("bare", 9), bare)


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
        read_event(seq, event)
    assert shown_event(seq, event) is None


def test_a_status_goes_to_the_end_of_any_event() -> None:
    shown = decode_message(with_status(CHAT, "read"))
    assert shown.status == "read"
    assert with_status(KNOCK, "read") == KNOCK[:-1] + b',"status":"read"}'


# Versions. A later release's types, for none has had an upgrade so far.


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 2 calls the text by another name."""
    fields["content"] = f"{fields['displayName']}: {fields['content']}"
    return fields


def _languages(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "language": "en"}


class Chat3(Message, frozen=True, gc=False, tag="chat"):
    """What a chat may be one day."""

    rate = "chat"
    upgrades = (_said, _languages)

    language: str
    version: int = 3


LATER = EventReader[Chat3 | WinkMessage](Chat3 | WinkMessage)


def test_a_type_writes_down_the_version_that_its_upgrades_lead_to() -> None:
    for kind in (*get_args(Event), Chat3):
        fields = {each.name: each.default for each in msgspec.structs.fields(kind)}
        assert fields.get("version", 1) == len(kind.upgrades) + 1


def test_an_event_of_today_says_no_version() -> None:
    assert b"version" not in CHAT + encode(WINK)


def test_an_older_event_is_upgraded_step_by_step() -> None:
    found, data = LATER.read(1, CHAT)
    said = ("m1", "general", "user_1", "One", "One: hello", 5, 1, False, False)
    assert found == Chat3(*said, "en")
    assert msgspec.json.decode(data)["version"] == 3
    assert LATER.upgraded(1, CHAT) == LATER.shown(1, CHAT) == data
    assert LATER.read(1, data) == (found, data) == LATER.read(1, encode(found))
    second = msgspec.json.encode({**msgspec.json.decode(CHAT), "version": 2})
    middle, _ = LATER.read(1, second)
    assert isinstance(middle, Chat3)
    assert (middle.content, middle.language) == ("hello", "en")


def test_another_type_and_another_version_of_a_type_need_none() -> None:
    event = encode(WINK)
    assert LATER.read(1, event) == (WINK, event)
    assert upgraded_event(1, event) is event


def test_an_event_of_a_later_version_is_not_known() -> None:
    written, _ = LATER.read(1, CHAT)
    event = encode(written)
    found, data = read_event(1, event)
    assert found == UnknownEvent("chat", 1, "m1", "user_1", 5, 3)
    assert data is event


def test_what_cannot_be_upgraded_is_damaged() -> None:
    with pytest.raises(ValueError, match="event 2"):
        LATER.read(2, b'{"type":"chat","seq":2}')
