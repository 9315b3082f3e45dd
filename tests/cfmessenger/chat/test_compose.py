"""What chats, nudges and winks become."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from cfmessenger.chat.compose import compose
from cfmessenger.wire.events import ChatMessage, WinkMessage
from cfmessenger.wire.protocol import Chat, Nudge, Wink

WHERE = ("m1", "general", "user_1", "One")


def test_a_chat() -> None:
    message = compose(Chat("hello"), *WHERE, 5, 1)
    assert (message.type, message.content) == ("chat", "hello")
    assert (message.id, message.room_id) == ("m1", "general")
    assert (message.sender_id, message.display_name) == ("user_1", "One")
    assert (message.timestamp, message.seq) == (5, 1)
    assert (message.is_nudge, message.is_wink) == (False, False)
    assert isinstance(message, ChatMessage) and message.status is UNSET


def test_a_nudge() -> None:
    message = compose(Nudge(), *WHERE, 5, 1)
    assert (message.type, message.content) == ("nudge", "sent a nudge.")
    assert (message.is_nudge, message.is_wink) == (True, False)


@given(st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**53))
def test_a_wink_plays_at_one_moment_under_one_key(wink_id: str, at: int) -> None:
    message = compose(Wink(wink_id), *WHERE, at, 1)
    assert (message.type, message.content) == ("wink", "sent a wink.")
    assert (message.is_nudge, message.is_wink) == (False, True)
    assert isinstance(message, WinkMessage)
    assert (message.wink_id, message.play_at) == (wink_id, at + 500)
    digest = hashlib.sha256(wink_id.encode() + b":" + str(at).encode()).hexdigest()
    assert message.playback_key == digest[:16]
