"""Effects are values; notifications survive the way between objects."""

import pytest

from cfmessenger.effects import (
    Append,
    Attachment,
    Broadcast,
    DirectMessage,
    Notification,
    StatusChanged,
    decode_notification,
    encode_notification,
)


def test_effects_compare_by_value_and_do_not_change() -> None:
    effect = Broadcast(b"{}", None, 1)
    assert effect == Broadcast(b"{}", seq=1) != Append(1, b"{}")
    with pytest.raises(AttributeError):
        effect.seq = 2


def test_an_attachment_watches_and_does_not_type_unless_told() -> None:
    attachment = Attachment("g.1", "user_1", "One", "online")
    assert (attachment.typing, attachment.watch) == (False, True)


@pytest.mark.parametrize(
    "notification",
    [
        StatusChanged("user_1", "busy", "One"),
        StatusChanged("user_1", "offline"),
        DirectMessage(("user_1", "user_2"), b'{"type":"chat"}'),
    ],
)
def test_notifications_round_trip(notification: Notification) -> None:
    assert decode_notification(encode_notification(notification)) == notification
