"""Effects are values; notifications survive the way between objects."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cfmessenger.chat.effects import (
    Append,
    Attachment,
    Broadcast,
    DirectMessage,
    Notification,
    Says,
    StatusChanged,
    Types,
    decode_notification,
    encode_notification,
    newest,
)


def test_effects_compare_by_value_and_do_not_change() -> None:
    effect = Append(1, b"{}")
    assert effect == Append(1, b"{}", shown=False) != Broadcast(b"{}")
    with pytest.raises(AttributeError):
        effect.seq = 2


def test_an_attachment_watches_and_does_not_type_unless_told() -> None:
    attachment = Attachment("g.1", "user_1", "One", "online")
    assert (attachment.typing, attachment.watch) == (False, True)


def test_of_two_attachments_the_newer_name_and_the_newer_status_count() -> None:
    kept = Attachment("g.1", "user_1", "Old", "away", True, words_at=1, status_at=5)
    told = Attachment(
        "g.2", "user_1", "New", "busy", False, False, "hi", "star", words_at=2
    )
    merged = Attachment("g.1", "user_1", "New", "away", True, True, "hi", "star", 2, 5)
    assert newest(kept, told) == merged
    # The other way round it is the same person, on the other connection.
    assert newest(told, kept) == replace(told, status="away", status_at=5)
    assert newest(kept, kept) == kept


@pytest.mark.parametrize(
    "notification",
    [
        StatusChanged("user_1", "busy"),
        StatusChanged("user_1", "offline"),
        DirectMessage(("user_1", "user_2"), b'{"type":"chat"}'),
        Types("user_9", "Nine", True),
        Says("user_9", "Nine", 7, "hello"),
    ],
)
def test_notifications_round_trip(notification: Notification) -> None:
    assert decode_notification(encode_notification(notification)) == notification


@pytest.mark.parametrize(
    ("notification", "named"),
    [
        (Types("user_9", "Nine", True), {"type": "bot_typing", "is_typing": True}),
        (
            Says("user_9", "Nine", 7, "hello"),
            {"type": "bot_says", "seq": 7, "content": "hello"},
        ),
    ],
)
def test_an_answer_survives_the_way_to_another_release(
    notification: Notification, named: dict[str, Any]
) -> None:
    found = msgspec.msgpack.decode(encode_notification(notification))
    assert found == {"bot_id": "user_9", "display_name": "Nine", **named}
