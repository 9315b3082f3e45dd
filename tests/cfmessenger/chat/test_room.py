"""The room, row by row of wire.md §2 and §3, as its sockets see it."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cfmessenger.chat import effects as fx
from cfmessenger.chat import mirror
from cfmessenger.chat.room import Earlier, Room, RoomRules
from cfmessenger.wire.events import ChatMessage
from cfmessenger.wire.events import Event as DurableEvent

from .audience import Audience, Frame

decode_message = msgspec.json.Decoder(DurableEvent).decode

DIRECT = "dm_user_1__user_2"


def audience(room_id: str = "general", rules: RoomRules | None = None) -> Audience:
    return Audience(Room(room_id, rules or RoomRules()))


def talking(room_id: str = "general", rules: RoomRules | None = None) -> Audience:
    """User 1 and user 2 on one gateway each, and everything told."""
    there = audience(room_id, rules)
    there.enter("a.1", "user_1")
    there.enter("b.1", "user_2")
    there.rest()
    there.forget()
    return there


def frame(there: Audience, conn: str) -> dict[str, Any]:
    (only,) = there.take(conn)
    return only


# Entering.


def test_the_first_to_come_is_greeted_subscribed_and_told_of() -> None:
    there = audience()
    effects = there.enter("a.1", "user_1")
    assert [type(effect) for effect in effects] == [
        fx.Send,
        fx.Subscribe,
        fx.Broadcast,
    ]
    greeting, joined = there.take("a.1")
    assert greeting == {
        "type": "system",
        "content": "Connected to ChatRoom",
        "roomId": "general",
        "timestamp": 1_000_000,
    }
    assert joined["content"] == "User 1 joined the room."
    there.wait(49)
    assert there.take("a.1") == []
    there.wait(1)
    assert frame(there, "a.1") == {
        "type": "participants",
        "roomId": "general",
        "participants": [{"id": "user_1", "displayName": "User 1", "status": "online"}],
    }


def test_a_joiner_sees_greeting_history_and_then_the_news_of_itself() -> None:
    there = talking()
    there.chat("a.1")
    there.forget()
    there.enter("b.2", "user_3")
    assert there.take_types("b.2") == ["system", "history", "system"]
    assert frame(there, "a.1")["content"] == "User 3 joined the room."


def test_joins_within_50_ms_travel_as_one_participants_frame() -> None:
    there = audience()
    for n in range(1, 20):
        there.enter(f"a.{n}", f"user_{n}")
        there.wait(2)
    there.forget()
    there.rest()
    assert len(frame(there, "a.1")["participants"]) == 19


def test_a_second_tab_is_told_who_is_here_and_nobody_is_told_of_it() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.rest()
    assert there.take_types("b.2") == ["system", "participants"]
    assert there.take("a.1") == there.take("b.1") == []
    there.leave("a.1")
    there.rest()
    assert there.take("b.1") == []
    there.leave("b.2")
    there.rest()
    left, participants = there.take("b.1")
    assert left["content"] == "User 1 left the room."
    assert [p["id"] for p in participants["participants"]] == ["user_2"]


def test_a_tab_that_closed_before_it_was_told_is_not_told() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.leave("b.2")
    there.rest()
    assert there.take_types("b.2") == ["system"]


def test_the_last_to_leave_is_told_to_nobody() -> None:
    there = audience()
    there.enter("a.1", "user_1")
    there.leave("a.1")
    assert there.wait(50) == []
    assert there.machine.alarm_at is None


NEW = {"display_name": "Uno", "words_at": 2, "status": "busy", "status_at": 3}


def test_a_second_tab_takes_over_the_name_and_status_its_user_has() -> None:
    there = talking()
    there.change("a.1", **NEW)
    there.enter("b.2", "user_1")
    second = there.attachments["b.2"]
    assert (second.display_name, second.status) == ("Uno", "busy")


def test_a_tab_that_knows_better_tells_everybody() -> None:
    there = talking()
    there.rest()
    there.forget()
    told = replace(there.attachments["a.1"], conn="b.2", **NEW)
    there.attachments["b.2"] = told
    there.machine.connect(there.now, told, None, False)
    there.rest()
    (here,) = [f for f in there.take("b.1") if f["type"] == "participants"]
    assert here["participants"][0]["displayName"] == "Uno"


def test_direct_rooms_have_participants_but_no_lines_about_them() -> None:
    there = audience(DIRECT)
    there.enter("a.1", "user_1")
    there.enter("b.1", "user_2")
    there.rest()
    assert there.take_types("a.1") == ["system", "participants"]
    there.leave("b.1")
    there.rest()
    assert there.take_types("a.1") == ["participants"]


# History.


def spoken(count: int) -> Audience:
    there = talking(rules=RoomRules(chat_rate=(0, 1)))
    for n in range(count):
        there.chat("a.1", f"message {n + 1}")
    there.forget()
    return there


def test_without_since_the_latest_hundred_are_shown_if_there_are_any() -> None:
    there = spoken(120)
    there.enter("b.2", "user_3")
    history = there.take("b.2")[1]
    assert [m["seq"] for m in history["messages"]] == list(range(21, 121))
    assert (history["lastSeq"], history["gap"]) == (120, False)
    assert history["roomId"] == "general"


@pytest.mark.parametrize(
    ("since", "seqs", "gap"),
    [(20, list(range(21, 121)), False), (119, [120], False), (120, [], False)]
    + [(121, [], True), (10**9, [], True)],
)
def test_with_since_history_is_exactly_what_came_after(
    since: int, seqs: list[int], gap: bool
) -> None:
    there = spoken(120)
    there.enter("b.2", "user_3", since=since)
    greeting, history = there.take("b.2")[:2]
    assert greeting["type"] == "system"
    assert [m["seq"] for m in history["messages"]] == seqs
    assert (history["lastSeq"], history["gap"]) == (120, gap)


def test_with_since_an_empty_room_says_so() -> None:
    there = audience()
    there.enter("a.1", "user_1", since=0)
    assert there.take_types("a.1") == ["system", "history", "system"]


def test_who_is_further_behind_than_the_buffer_catches_up_first() -> None:
    there = spoken(120)
    effects = there.enter("b.2", "user_3", since=19)
    assert effects[1] == fx.Behind("b.2", 19, 120)
    assert there.take_types("b.2") == ["system"]
    # It is in and may speak, but nothing newer is told to it before what is older.
    there.chat("b.2", "hello")
    there.chat("a.1", "meanwhile")
    assert there.take("b.2") == []
    there.enter("b.2", "user_3", since=120, greeted=True)
    assert there.take_types("b.2") == ["history", "system"]  # its own line, late


def test_who_has_caught_up_with_everything_needs_no_empty_history() -> None:
    there = spoken(120)
    there.enter("b.2", "user_3", since=0)
    there.take("b.2")
    effects = there.enter("b.2", "user_3", since=120, greeted=True)
    assert effects[0] == fx.Subscribe(("b.2",))
    assert there.take_types("b.2") == ["system"]  # its own line, late


def test_who_is_overtaken_while_catching_up_catches_up_again() -> None:
    there = spoken(220)
    effects = there.enter("b.2", "user_3", since=100, greeted=True)
    assert effects[0] == fx.Behind("b.2", 100, 220)


def test_the_gap_of_a_reattached_gateway() -> None:
    there = spoken(120)
    room = there.machine
    assert isinstance(room, Room)
    events = room.events_after(118)
    assert events is not None
    assert [decode_message(event).seq for event in events] == [119, 120]
    assert room.events_after(19) is None


# Saying.


def test_a_chat_is_appended_and_shown_by_one_effect() -> None:
    there = talking()
    (append,) = there.chat("a.1", "hello", "m1")
    assert isinstance(append, fx.Append)
    assert (append.seq, append.shown) == (1, True)
    expected = {
        "type": "chat",
        "id": "m1",
        "roomId": "general",
        "senderId": "user_1",
        "displayName": "User 1",
        "content": "hello",
        "timestamp": there.now,
        "seq": 1,
        "isNudge": False,
        "isWink": False,
    }
    assert frame(there, "a.1") == expected == frame(there, "b.1")


def test_the_server_sets_who_where_when_and_which() -> None:
    there = talking()
    forged = {
        "type": "chat",
        "content": "hello",
        "senderId": "user_2",
        "displayName": "User 2",
        "roomId": "music",
        "timestamp": 1,
        "seq": 99,
        "status": "read",
        "isNudge": True,
    }
    there.say("a.1", forged)
    shown = frame(there, "b.1")
    assert (shown["senderId"], shown["displayName"]) == ("user_1", "User 1")
    assert (shown["roomId"], shown["timestamp"], shown["seq"]) == (
        "general",
        there.now,
        1,
    )
    assert "status" not in shown and shown["isNudge"] is False


def test_without_an_id_the_fresh_one_is_taken() -> None:
    there = talking()
    there.chat("a.1")
    assert frame(there, "a.1")["id"] == "fresh-1"


def test_a_nudge_and_a_wink() -> None:
    there = talking()
    there.say("a.1", {"type": "nudge", "id": "n1"})
    there.say("a.1", {"type": "wink", "id": "w1", "winkId": "heart"})
    nudge, wink = there.take("b.1")
    assert (nudge["content"], nudge["isNudge"], nudge["isWink"]) == (
        "sent a nudge.",
        True,
        False,
    )
    assert (wink["content"], wink["winkId"]) == ("sent a wink.", "heart")
    assert wink["playAt"] == wink["timestamp"] + 500
    assert len(wink["playbackKey"]) == 16


def test_timestamps_never_go_back_even_if_the_clock_does() -> None:
    there = talking()
    there.chat("a.1")
    there.now -= 5_000
    there.chat("a.1")
    first, second = there.take("b.1")
    assert first["timestamp"] == second["timestamp"]


def test_who_is_unknown_is_not_heard() -> None:
    there = talking()
    assert there.chat("z.9") == []
    assert there.machine.close(there.now, "z.9") == []


# The same id again.


def test_a_repeat_is_answered_to_its_socket_alone_with_the_original() -> None:
    there = talking()
    there.chat("a.1", "hello", "m1")
    original = frame(there, "b.1")
    there.wait(100)
    there.enter("b.2", "user_1")
    there.rest()
    there.forget()
    (repeat,) = there.chat("b.2", "hello", "m1")
    event = there.appended[0].event
    assert repeat == fx.Repeat("b.2", 1, event)
    assert there.take("b.2") == [original]
    assert there.take("a.1") == there.take("b.1") == []


def test_a_repeat_costs_no_rate_and_is_answered_beyond_it() -> None:
    there = talking(rules=RoomRules(chat_rate=(1, 10)))
    there.chat("a.1", id="m1")
    for _ in range(5):
        there.chat("a.1", id="m1")
    assert there.take_types("a.1") == ["chat"] * 6
    there.chat("a.1", id="m2")
    assert frame(there, "a.1")["code"] == "RATE_LIMITED"
    there.wait(10_000)
    there.chat("a.1", id="m2")
    assert frame(there, "a.1")["seq"] == 2


def test_a_repeated_id_is_one_message_whatever_its_type() -> None:
    there = talking()
    there.chat("a.1", id="m1")
    there.say("a.1", {"type": "nudge", "id": "m1"})
    assert there.take_types("b.1") == ["chat"]


OTHER_WORDS = [
    {"type": "chat", "content": "something else"},
    {"type": "chat", "content": "hello "},
    {"type": "chat", "content": "heart"},
    {"type": "chat", "content": ":heart"},
    {"type": "nudge"},
    {"type": "wink", "winkId": "hello"},
    {"type": "wink", "winkId": "kiss"},
]
SAID = [
    {"type": "chat", "content": "hello"},
    {"type": "nudge"},
    {"type": "wink", "winkId": "heart"},
]


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("other", OTHER_WORDS)
def test_an_id_with_other_words_is_echoed_and_said_so_to_its_socket_alone(
    said: Frame, other: Frame
) -> None:
    if said == other:
        return
    there = talking()
    there.say("a.1", said | {"id": "m1"})
    original = frame(there, "b.1")
    there.forget()
    told, repeat = there.say("a.1", other | {"id": "m1"})
    assert isinstance(repeat, fx.Repeat) and isinstance(told, fx.Send)
    assert not told.fault
    error, echo = there.take("a.1")
    assert echo == original
    assert (error["type"], error["code"]) == ("error", "ID_REUSED")
    assert (error["id"], error["retryable"]) == ("m1", False)
    assert there.take("b.1") == []


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("life", ["same", "mirror", "log"])
def test_a_retry_of_the_same_words_is_never_taken_for_others(
    said: Frame, life: str
) -> None:
    there = talking(rules=RoomRules(chat_rate=(0, 1), nudge_rate=(0, 1)))
    there.say("a.1", said | {"id": "m1"})
    for _ in range(100):
        there.chat("a.1")
    twice: dict[str, Frame] = {}
    room = there.machine
    assert isinstance(room, Room)
    if life == "mirror":
        room = Room.restore("general", RoomRules(), room.snapshot(), clean=True)
    elif life == "log":
        room = Room("general", RoomRules())
        for append in there.appended:
            room.replay(there.now, 0, append.seq, append.event)
    then = Audience(room, there.now)
    then.enter("a.1", "user_1")
    for name, words in (("same", said), ("other", {"type": "chat", "content": "no"})):
        then.forget()
        then.say("a.1", words | {"id": "m1"})
        twice[name] = then.take("a.1")[0]
    assert twice["same"]["type"] == "from the log"
    assert (twice["other"]["code"], twice["other"]["id"]) == ("ID_REUSED", "m1")


def test_a_fresh_id_sent_again_after_a_crash_is_one_message_too() -> None:
    room = Room("general", RoomRules())
    room.connect(0, fx.Attachment("a.1", "user_1", "One", "online"), None)
    data = b'{"type":"chat","content":"hello"}'
    assert isinstance(room.message(1, "a.1", data, "a.7")[0], fx.Append)
    assert isinstance(room.message(2, "a.1", data, "a.7")[0], fx.Repeat)


def test_another_users_equal_id_is_independent() -> None:
    there = talking()
    there.chat("a.1", id="m1")
    there.chat("b.1", id="m1")
    assert [append.seq for append in there.appended] == [1, 2]


def test_a_repeat_of_what_left_the_buffer_points_into_the_log() -> None:
    there = talking(rules=RoomRules(chat_rate=(0, 1)))
    assert isinstance(there.machine, Room)
    for n in range(101):
        there.chat("a.1", id=f"m{n}")
    assert there.chat("a.1", id="m0") == [fx.Repeat("a.1", 1, None)]


def test_an_id_is_new_again_after_60_s_and_1000_messages() -> None:
    there = talking(rules=RoomRules(chat_rate=(0, 1)))
    there.chat("a.1", id="m")
    for _ in range(1_000):
        there.chat("b.1")
    there.wait(60_000)
    assert isinstance(there.chat("a.1", id="m")[0], fx.Repeat)
    there.wait(1)
    assert isinstance(there.chat("a.1", id="m")[0], fx.Append)


# Rates.


def test_the_nudge_rate_is_exact_at_its_edges() -> None:
    there = talking()
    start = there.now
    for at in (0, 5_000, 9_999):
        there.wait(start + at - there.now)
        there.say("a.1", {"type": "nudge"})
    assert there.take_types("a.1") == ["nudge"] * 3
    there.say("a.1", {"type": "nudge", "id": "n4"})
    assert frame(there, "a.1") == {
        "type": "error",
        "code": "RATE_LIMITED",
        "message": "Too many in too short a time.",
        "content": "Too many in too short a time.",
        "retryable": True,
        "retryAfterMs": 1,
        "id": "n4",
    }
    there.wait(1)
    there.say("a.1", {"type": "nudge", "id": "n4"})
    assert there.take_types("a.1") == ["nudge"]


def test_a_refused_message_changes_nothing_and_is_no_fault() -> None:
    there = talking(rules=RoomRules(chat_rate=(1, 10)))
    there.chat("a.1")
    (refused,) = there.chat("a.1")
    assert isinstance(refused, fx.Send)
    assert (refused.conns, refused.fault) == (("a.1",), False)
    assert "id" not in there.take("a.1")[-1]
    there.chat("b.1")
    assert [append.seq for append in there.appended] == [1, 2]


def test_winks_count_against_the_chat_rate_and_nudges_do_not() -> None:
    there = talking(rules=RoomRules(chat_rate=(2, 10), nudge_rate=(1, 10)))
    there.chat("a.1")
    there.say("a.1", {"type": "wink", "winkId": "heart"})
    there.say("a.1", {"type": "nudge"})
    there.chat("a.1")
    there.say("a.1", {"type": "wink", "winkId": "heart"})
    assert there.take_types("a.1") == ["chat", "wink", "nudge", "error", "error"]


def test_rates_are_per_user_across_tabs_gateways_and_reconnects() -> None:
    there = talking(rules=RoomRules(chat_rate=(1, 10)))
    there.chat("a.1")
    there.enter("b.2", "user_1")
    there.leave("a.1")
    there.leave("b.2")
    there.enter("c.1", "user_1")
    there.forget()
    there.chat("c.1")
    assert frame(there, "c.1")["code"] == "RATE_LIMITED"
    there.chat("b.1")
    assert there.take_types("b.1") == ["chat"]


def test_a_count_of_zero_is_no_limit() -> None:
    there = talking(rules=RoomRules(chat_rate=(0, 1), nudge_rate=(0, 1)))
    for _ in range(200):
        there.chat("a.1")
        there.say("a.1", {"type": "nudge"})
    assert len(there.appended) == 400


# Faults.


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{", "INVALID_JSON"),
        (b"[" * 10_000, "INVALID_JSON"),
        (b'{"type":"chat","content":"\xff"}', "INVALID_JSON"),
        (b'{"type":"chat","content":"\\ud800"}', "VALIDATION_ERROR"),
        (b"[]", "VALIDATION_ERROR"),
        (b'{"type":"chat","content":""}', "VALIDATION_ERROR"),
        (b'{"type":"chat","type":"chat","content":"x"}', "VALIDATION_ERROR"),
        (b'{"type":"ping","t":' + b"9" * 400 + b"}", "VALIDATION_ERROR"),
        (b'{"type":"shout"}', "UNKNOWN_TYPE"),
        (b'{"x":"' + b"x" * 16_384 + b'"}', "TOO_LARGE"),
    ],
)
def test_a_fault_is_answered_to_its_socket_alone_and_counted(
    data: bytes, code: str
) -> None:
    there = talking()
    (answer,) = there.say("a.1", data)
    assert isinstance(answer, fx.Send)
    assert (answer.conns, answer.fault) == (("a.1",), True)
    error = frame(there, "a.1")
    assert (error["type"], error["code"]) == ("error", code)
    assert error["content"] == error["message"]
    assert error["retryable"] is False
    assert there.take("b.1") == [] and there.appended == []


def test_a_fault_echoes_the_id_if_it_is_valid() -> None:
    there = talking()
    there.say("a.1", {"type": "chat", "content": 5, "id": "m1"})
    there.say("a.1", {"type": "chat", "content": 5, "id": "m 1"})
    first, second = there.take("a.1")
    assert first["id"] == "m1"
    assert "id" not in second


def test_a_ping_that_gets_here_is_answered() -> None:
    there = talking()
    there.say("a.1", {"type": "ping", "t": 5})
    assert frame(there, "a.1") == {"type": "pong", "timestamp": there.now, "t": 5}


# Typing.


def typing(there: Audience, conn: str, on: bool = True) -> list[fx.Effect]:
    return there.say(conn, {"type": "typing", "isTyping": on})


def test_typing_stops_by_itself_after_three_seconds() -> None:
    there = talking()
    typing(there, "a.1")
    assert frame(there, "b.1") == {
        "type": "typing",
        "roomId": "general",
        "senderId": "user_1",
        "displayName": "User 1",
        "isTyping": True,
    }
    there.wait(2_999)
    assert there.take("b.1") == []
    there.wait(1)
    assert frame(there, "b.1")["isTyping"] is False
    assert there.take("a.1") == []
    assert there.machine.alarm_at is None


def test_typing_is_kept_from_all_of_the_typists_own_sockets() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.rest()
    there.forget()
    typing(there, "a.1")
    assert there.take("a.1") == there.take("b.2") == []
    assert there.take_types("b.1") == ["typing"]


def test_closing_the_socket_that_typed_stops_it_at_once() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.rest()
    there.forget()
    typing(there, "a.1")
    there.leave("b.2")
    assert [f["isTyping"] for f in there.take("b.1")] == [True]
    there.leave("a.1")
    stopped, left = there.take("b.1")
    assert (stopped["isTyping"], left["type"]) == (False, "system")


def test_the_attachment_says_who_is_shown_as_typing() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    typing(there, "a.1")
    assert there.attachments["a.1"].typing
    typing(there, "b.2")
    assert not there.attachments["a.1"].typing
    assert there.attachments["b.2"].typing
    typing(there, "a.1", False)
    assert not there.attachments["b.2"].typing


def test_typing_on_after_the_tab_that_typed_closed_in_a_held_back_moment() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.rest()
    for n in range(5):
        typing(there, "a.1", n % 2 == 0)
    there.forget()
    there.leave("a.1")  # the sixth change within a second has to wait
    assert there.take("b.1") == []
    typing(there, "b.2")
    assert there.attachments["b.2"].typing
    there.wait(2_999)
    assert there.take("b.1") == []
    there.wait(1)
    assert frame(there, "b.1")["isTyping"] is False


def test_at_most_five_changes_a_second_travel_and_the_last_wins() -> None:
    there = talking()
    for n in range(200):
        typing(there, "a.1", n % 2 == 0)
        there.wait(5)
    there.rest()
    states = [f["isTyping"] for f in there.take("b.1")]
    assert len(states) <= 10
    assert states[-1] is False


# Presence.


def test_news_of_somebody_are_told_to_the_room_within_50_ms() -> None:
    there = talking()
    there.enter("b.2", "user_1")
    there.rest()
    there.forget()
    words = {"personal_message": "hi", "avatar_id": "star"}
    there.change("a.1", **NEW, **words)
    assert there.take("b.1") == []
    there.wait(50)
    assert frame(there, "b.1")["participants"][0] == {
        "id": "user_1",
        "displayName": "Uno",
        "status": "busy",
        "personalMessage": "hi",
        "avatarId": "star",
    }
    there.chat("b.2")
    assert there.take("b.1")[-1]["displayName"] == "Uno"


def test_what_is_older_or_known_is_no_news() -> None:
    there = talking()
    there.rest()
    there.change("a.1", **NEW)
    there.rest()
    there.forget()
    there.change("a.1")
    there.change("a.1", display_name="Old", words_at=1, status="away", status_at=2)
    assert there.machine.alarm_at is None
    room, gone = there.machine, fx.Attachment("z.9", "user_1", "Z", "away")
    assert room.change(there.now, replace(gone, words_at=9)) == []
    there.chat("a.1")
    assert there.take("b.1")[-1]["displayName"] == "Uno"


def test_name_and_status_are_independent() -> None:
    there = talking()
    there.change("a.1", display_name="Uno", words_at=2)
    there.change("a.1", status="busy", status_at=1, display_name="x", words_at=1)
    there.rest()
    (here,) = [f for f in there.take("b.1") if f["type"] == "participants"][-1:]
    one = here["participants"][0]
    assert (one["displayName"], one["status"]) == ("Uno", "busy")


def test_a_room_that_slept_learns_at_the_attach() -> None:
    there = restored(talking())
    there.attachments["a.1"] = replace(there.attachments["a.1"], **NEW)
    there.reattach("b")
    there.reattach("a")
    there.rest()
    (here,) = there.take("b.1")
    assert here["participants"][0]["displayName"] == "Uno"


def test_what_one_socket_brings_the_others_of_its_user_are_told() -> None:
    # The registry may have died before it told their gateway.
    there = talking()
    there.enter("b.2", "user_1")
    typing(there, "b.2")
    there.change("a.1", **NEW)
    second = there.attachments["b.2"]
    assert (second.display_name, second.status, second.typing) == ("Uno", "busy", True)
    there.attachments["a.1"] = replace(second, conn="a.1", status="away", status_at=4)
    there.reattach("a")
    assert there.attachments["b.2"].status == "away"
    latest = replace(second, conn="c.1", status="online", status_at=5)
    there.attachments["c.1"] = latest
    there._see(there.machine.connect(there.now, latest, None, False))
    assert {there.attachments[c].status for c in ("a.1", "b.2")} == {"online"}
    assert there.attachments["b.1"].status_at == 0


def test_a_gateway_that_comes_back_with_what_is_older_is_told() -> None:
    there = talking()
    typing(there, "a.1")
    older = there.attachments["a.1"]
    there.change("a.1", **NEW)
    for twin in (there, restored(there)):
        twin.attachments["a.1"] = older
        twin.reattach("a")
        known = twin.attachments["a.1"]
        assert (known.display_name, known.status) == ("Uno", "busy")
        assert known.typing == (twin is there)
        assert not any(type(e) is fx.KeepAttachment for e in twin.reattach("a"))


def test_a_presence_frame_is_the_gateways() -> None:
    there = talking()
    assert there.say("a.1", {"type": "presence", "status": "busy"}) == []


def test_news_keep_the_typing_mark() -> None:
    there = talking()
    typing(there, "a.1")
    there.change("a.1", **NEW)
    there.chat("a.1")
    assert there.attachments["a.1"].typing


# Receipts.


def ack(
    there: Audience, conn: str, id_: str, status: str = "delivered"
) -> list[fx.Effect]:
    return there.say(conn, {"type": "ack", "ackId": id_, "status": status})


def test_an_upgrade_is_told_to_everyone() -> None:
    there = talking()
    there.chat("a.1", id="m1")
    there.forget()
    ack(there, "b.1", "m1")
    expected = {
        "type": "delivery_status",
        "roomId": "general",
        "ackId": "m1",
        "status": "delivered",
        "senderId": "user_2",
        "timestamp": there.now,
    }
    assert frame(there, "a.1") == expected == frame(there, "b.1")
    assert isinstance(there.machine, Room) and there.machine.receipts_changed


def test_only_upgrades_count() -> None:
    there = talking()
    there.chat("a.1", id="m1")
    for status in ("read", "delivered", "read"):
        ack(there, "b.1", "m1", status)
    assert there.take_types("a.1") == ["chat", "delivery_status"]


def test_unknown_and_own_messages_are_ignored_in_silence() -> None:
    there = talking()
    there.chat("a.1", id="m1")
    assert ack(there, "b.1", "m2") == []
    assert ack(there, "a.1", "m1") == []


def test_the_newest_message_with_that_id_of_someone_else_is_meant() -> None:
    there = talking()
    there.chat("a.1", id="same")
    there.chat("b.1", id="same")
    ack(there, "b.1", "same", "read")
    there.enter("c.1", "user_3")
    first, second = there.take("c.1")[1]["messages"]
    assert (first.get("status"), second.get("status")) == ("read", None)
    ack(there, "c.1", "same")
    there.enter("c.2", "user_3")
    first, second = there.take("c.2")[1]["messages"]
    assert (first.get("status"), second.get("status")) == ("read", "delivered")


def test_acks_beyond_a_hundred_a_second_are_dropped() -> None:
    there = talking(rules=RoomRules(chat_rate=(0, 1)))
    for n in range(102):
        there.chat("a.1", id=f"m{n}")
    there.forget()
    for n in range(101):
        ack(there, "b.1", f"m{n}")
    assert len(there.take("a.1")) == 100
    there.wait(1_000)
    ack(there, "b.1", "m101")
    assert len(there.take("a.1")) == 1


# Direct rooms.


def test_a_direct_message_is_told_to_the_registry_and_touches_both() -> None:
    there = talking(DIRECT)
    append, touch, read, notify = there.chat("a.1")
    assert isinstance(append, fx.Append)
    assert touch == fx.Touch(("user_1", "user_2"), there.now)
    assert read == fx.Read("user_1", 1)
    assert isinstance(notify, fx.Notify) and notify.target == "presence:global"
    (told,) = there.notified
    message = fx.DirectMessage(("user_1", "user_2"), append.event)
    assert fx.decode_notification(told.payload) == message


def reads(effects: list[fx.Effect]) -> list[tuple[str, int]]:
    return [(e.user_id, e.seq) for e in effects if isinstance(e, fx.Read)]


def test_read_marks_follow_read_receipts_and_own_messages() -> None:
    there = talking(DIRECT)
    assert reads(there.chat("a.1", id="m1")) == [("user_1", 1)]
    assert reads(there.chat("a.1", id="m2")) == [("user_1", 2)]
    assert reads(ack(there, "b.1", "m1")) == []
    assert reads(ack(there, "b.1", "m1", "read")) == [("user_2", 1)]
    assert reads(ack(there, "b.1", "m2", "read")) == [("user_2", 2)]
    assert reads(ack(there, "b.1", "nothing", "read")) == []
    assert reads(there.chat("b.1")) == [("user_2", 3)]


def test_what_was_read_by_another_of_ones_sockets_is_read_again() -> None:
    there = talking(DIRECT)
    there.chat("a.1", id="m1")
    ack(there, "b.1", "m1", "read")
    # The receipt is known; whether the mark was saved is the storage's affair.
    assert reads(ack(there, "b.1", "m1", "read")) == [("user_2", 1)]


def test_group_rooms_have_no_read_marks() -> None:
    there = talking()
    assert reads(there.chat("a.1", id="m1")) == []
    assert reads(ack(there, "b.1", "m1", "read")) == []


def test_marks_of_a_mirror_that_still_held_them_are_handed_on_once() -> None:
    there = talking(DIRECT)
    there.chat("a.1", id="m1")
    assert isinstance(there.machine, Room)
    now = mirror.decode(there.machine.snapshot())
    assert now is not None and now.read_marks == {}
    old = msgspec.structs.replace(now, read_marks={"user_1": 1, "user_2": 1})
    room = Room.restore(DIRECT, RoomRules(), mirror.encode(old), clean=True)
    then = Audience(room, there.now)
    then.attachments = there.attachments
    assert reads(then.reattach("a")) == [("user_1", 1), ("user_2", 1)]
    assert reads(then.reattach("b")) == []


# Gateways.


def restored(there: Audience, clean: bool = True) -> Audience:
    """A new activation with the same sockets, before anyone has attached."""
    assert isinstance(there.machine, Room)
    data = there.machine.snapshot()
    twin = Audience(
        Room.restore(there.machine._id, RoomRules(), data, clean=clean), there.now
    )
    twin.attachments = dict(there.attachments)
    return twin


def test_a_room_knows_its_gateways() -> None:
    there = talking()
    room = there.machine
    assert isinstance(room, Room)
    assert (room.gateways, room.sockets) == ({"a", "b"}, 2)
    there.detach("a")
    assert (room.gateways, room.sockets) == ({"b"}, 1)
    there.reattach("c")
    assert room.gateways == {"b", "c"}


def test_after_sleep_reattaching_is_only_subscribing() -> None:
    there = restored(talking())
    assert there.reattach("a") == [fx.Subscribe(("a.1",))]
    assert there.reattach("b") == [fx.Subscribe(("b.1",))]
    assert there.machine.alarm_at is None


def test_after_sleep_only_the_difference_is_announced() -> None:
    there = restored(talking())
    del there.attachments["a.1"]
    there.attachments["a.2"] = fx.Attachment("a.2", "user_3", "User 3", "online")
    there.reattach("b")
    there.reattach("a")
    assert [f["content"] for f in there.take("b.1")] == [
        "User 3 joined the room.",
        "User 1 left the room.",
    ]
    there.rest()
    assert [p["id"] for p in frame(there, "b.1")["participants"]] == [
        "user_2",
        "user_3",
    ]


def test_after_sleep_an_unknown_gateways_users_join() -> None:
    there = restored(talking())
    there.reattach("b")
    there.attachments["c.1"] = fx.Attachment("c.1", "user_3", "User 3", "online")
    there.reattach("c")
    assert frame(there, "b.1")["content"] == "User 3 joined the room."


def test_a_new_tab_for_an_old_one_is_no_difference() -> None:
    there = restored(talking())
    del there.attachments["a.1"]
    there.attachments["a.2"] = fx.Attachment("a.2", "user_1", "User 1", "online")
    there.reattach("b")
    there.reattach("a")
    there.rest()
    assert there.take("b.1") == []
    assert there.take_types("a.2") == ["participants"]


def test_after_a_crash_participants_alone_is_sent() -> None:
    there = restored(talking(), clean=False)
    assert there.machine.gateways == set()
    there.reattach("a")
    there.reattach("b")
    there.rest()
    assert there.take_types("a.1") == ["participants"]
    assert there.take_types("b.1") == ["participants"]
    # From here on the roster is known.
    there.leave("a.1")
    assert there.take_types("b.1") == ["system"]


def test_after_a_crash_who_was_typing_no_longer_is() -> None:
    there = talking()
    there.enter("a.2", "user_1")
    there.rest()
    typing(there, "a.1")
    there.attachments["a.2"] = msgspec.structs.replace(
        there.attachments["a.2"], typing=True
    )
    twin = restored(there, clean=False)
    twin.reattach("b")
    twin.reattach("a")
    assert [f["isTyping"] for f in twin.take("b.1")] == [False]
    assert not twin.attachments["a.1"].typing and not twin.attachments["a.2"].typing


def test_a_link_that_broke_stops_nobody_from_typing() -> None:
    there = talking()
    typing(there, "a.1")
    there.forget()
    there.reattach("a")
    assert there.take("b.1") == []
    assert there.attachments["a.1"].typing


def test_a_stale_typing_mark_of_another_tab_is_cleared() -> None:
    there = talking()
    there.enter("a.2", "user_1")
    typing(there, "a.2")
    there.attachments["a.1"] = msgspec.structs.replace(
        there.attachments["a.1"], typing=True
    )
    there.forget()
    there.reattach("a")
    assert there.take("b.1") == []
    assert not there.attachments["a.1"].typing
    assert there.attachments["a.2"].typing


def test_after_a_broken_link_the_gateway_is_told_again_who_is_here() -> None:
    there = talking()
    there.reattach("a")
    there.rest()
    assert there.take_types("a.1") == ["participants"]
    assert there.take("b.1") == []


def test_a_dead_gateways_users_leave_unless_they_are_elsewhere_too() -> None:
    there = talking()
    there.enter("a.2", "user_2")
    there.enter("a.3", "user_3")
    there.rest()
    typing(there, "a.3")
    there.forget()
    there.detach("a")
    there.rest()
    assert [f.get("content", f["type"]) for f in there.take("b.1")] == [
        "User 1 left the room.",
        "typing",
        "User 3 left the room.",
        "participants",
    ]


def test_an_untold_change_survives_the_snapshot() -> None:
    there = talking()
    there.enter("b.2", "user_3")
    twin = restored(there)
    twin.reattach("a")
    twin.reattach("b")
    twin.rest()
    assert len(frame(twin, "a.1")["participants"]) == 3


def test_a_snapshot_of_another_version_remembers_nothing() -> None:
    room = Room.restore("general", RoomRules(), b"\xc0", clean=True)
    assert (room.seq, room.gateways, room.sockets) == (0, set(), 0)


def test_nobody_tells_a_room_anything() -> None:
    assert talking().notify(fx.StatusChanged("user_1", "busy")) == []


def test_an_early_alarm_does_nothing() -> None:
    there = audience()
    there.enter("a.1", "user_1")
    typing(there, "a.1")
    assert there.machine.alarm(there.now) == []


# What a later release has said.

KNOCK = (
    b'{"type":"knock","id":"k-1","roomId":"general","senderId":"user_1",'
    b'"displayName":"User 1","content":"knocks.","timestamp":1000000,"seq":1}'
)


def test_an_unknown_event_is_numbered_shown_acknowledged_and_costs_no_rate() -> None:
    room = Room("general", RoomRules(chat_rate=(1, 10), nudge_rate=(1, 10)))
    room.replay(1_000_000, 1, 1, KNOCK)
    room = Room.restore("general", RoomRules(chat_rate=(1, 10)), room.snapshot(), True)
    there = Audience(room)
    there.enter("a.1", "user_1")
    there.enter("b.1", "user_2", since=0)
    knock = msgspec.json.decode(KNOCK)
    assert there.take("b.1")[1]["messages"] == [knock]
    there.forget()
    there.chat("a.1", "hello", "m-2")
    assert [frame["seq"] for frame in there.take("b.1")] == [2]
    there.say("b.1", {"type": "ack", "ackId": "k-1", "status": "read"})
    assert there.take_types("a.1")[-1] == "delivery_status"
    there.enter("c.1", "user_3")
    (first, _) = there.take("c.1")[1]["messages"]
    assert first == {**knock, "status": "read"}


def test_an_id_of_an_unknown_event_is_not_used_again() -> None:
    room = Room("general", RoomRules())
    room.replay(1_000_000, 1, 1, KNOCK)
    there = Audience(room)
    there.enter("a.1", "user_1", since=1)
    there.forget()
    there.chat("a.1", "hello", "k-1")
    assert there.take("a.1") == [msgspec.json.decode(KNOCK)]
    assert room.seq == 1


# Guests: what rooms tell them, and what they tell rooms.


def test_an_ear_hears_each_chat_message_once_with_what_came_before_it() -> None:
    heard: list[tuple[str, list[int]]] = []

    def ear(message: ChatMessage, earlier: Earlier) -> fx.Notify | None:
        heard.append((message.content, [seq for seq, _ in earlier.latest(2)]))
        return fx.Notify("a:guest", b"") if message.content == "hey" else None

    there = talking(rules=RoomRules(chat_rate=(0, 1), ears=(ear, ear)))
    for n in range(3):
        there.chat("a.1", f"line {n}")
    for _ in range(2):
        effects = there.chat("b.1", "hey", "m1")
    there.say("a.1", {"type": "nudge"})
    there.notify(fx.Says("user_9", "Nine", 4, "hey"))
    assert heard[::2] == [
        ("line 0", []),
        ("line 1", [1]),
        ("line 2", [1, 2]),
        ("hey", [2, 3]),
    ]
    assert heard[::2] == heard[1::2], "both ears hear the same"
    assert there.notified == [fx.Notify("a:guest", b"")] * 2
    assert [type(effect) for effect in effects] == [fx.Repeat]


def test_what_an_ear_wants_told_waits_for_the_commit() -> None:
    told = fx.Notify("a:guest", b"")
    there = talking(rules=RoomRules(ears=(lambda message, earlier: told,)))
    append, notify = there.chat("a.1", "hello")
    assert isinstance(append, fx.Append) and notify == told


def test_somebody_without_a_socket_types_and_says_a_thing_once() -> None:
    there = talking()
    nine = ("user_9", "Nine")
    there.notify(fx.Types(*nine, True))
    for _ in range(2):
        there.notify(fx.Says(*nine, 7, "hello"))
    on, off, said = there.take("a.1")
    assert (on["type"], on["senderId"], on["isTyping"]) == ("typing", "user_9", True)
    assert (off["type"], off["isTyping"]) == ("typing", False)
    assert (said["senderId"], said["displayName"]) == nine
    assert (said["id"], said["content"]) == ("re.7", "hello")
