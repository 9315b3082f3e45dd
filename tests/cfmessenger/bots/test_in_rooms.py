"""Bots as a room and the registry see them: asked, typing, answering, on and off."""

from typing import Any

import msgspec
import pytest

from cfmessenger.bots import DIRECTOR, NAME, inbox
from cfmessenger.bots.asking import ear_for
from cfmessenger.bots.talk import Question, Utterance
from cfmessenger.chat import effects as fx
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.wire.protocol import Participant
from tests.cfmessenger.chat.audience import Audience

DORIS = ("bot_dialup", "Dial-Up Doris")
BOTS = (DORIS, ("bot_mixtape", "DJ Rewind"))
RULES = RoomRules(chat_rate=(0, 1), ears=(ear_for(BOTS),))


def active(bots: tuple[tuple[str, str], ...]) -> fx.Published:
    return fx.Published(NAME, tuple(Participant(*bot, "online") for bot in bots))


def talking(room_id: str = "general", rules: RoomRules = RULES) -> Audience:
    there = Audience(Room(room_id, rules))
    there.enter("a.1", "user_1")
    there.enter("b.1", "user_2")
    there.rest()
    there.forget()
    return there


def questions(there: Audience) -> list[Question]:
    told = [inbox.decode(e.payload) for e in there.notified if e.target == DIRECTOR]
    return [each.question for each in told if isinstance(each, inbox.Asked)]


def test_a_mention_asks_once_it_is_committed_and_brings_what_was_said_before() -> None:
    there = talking()
    for n in range(14):
        there.chat("b.1", f"line {n}")
    effects = there.chat("a.1", "well, @dialup?", "m1")
    kinds = [type(effect) for effect in effects]
    assert kinds == [fx.Append, fx.Notify]
    assert effects[1].target == "bots:director"  # type: ignore[union-attr]
    (asked,) = questions(there)
    assert (asked.room_id, asked.seq, asked.bot_id) == ("general", 15, "bot_dialup")
    assert (asked.asked_by, asked.display_name) == ("user_1", "User 1")
    assert asked.text == "well, @dialup?"
    said = [f"line {n}" for n in range(2, 14)]
    assert [line.text for line in asked.history] == said
    assert asked.history[0] == Utterance("user_2", "User 2", "line 2")


def test_a_bot_is_shown_what_it_may_understand() -> None:
    room = Room("general", RULES)
    knock = (
        b'{"type":"knock","id":"k-1","roomId":"general","senderId":"user_1",'
        b'"displayName":"User 1","content":"knocks.","timestamp":1000000,"seq":1}'
    )
    room.replay(1_000_000, 1, 1, knock)
    there = Audience(room)
    there.enter("a.1", "user_1", since=1)
    there.chat("a.1", "hello")
    there.chat("a.1", "@dialup hello")
    (asked,) = questions(there)
    assert [line.text for line in asked.history] == ["hello"]


def test_a_repeated_message_is_one_question() -> None:
    there = talking()
    there.chat("a.1", "@dialup", "m1")
    there.chat("a.1", "@dialup", "m1")
    assert len(questions(there)) == 1


def test_a_direct_room_needs_no_mention_and_hears_no_other_bot() -> None:
    there = talking("dm_bot_mixtape__user_1")
    there.chat("a.1", "hello, @dialup")
    assert [each.bot_id for each in questions(there)] == ["bot_mixtape"]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "nudge"},
        {"type": "wink", "winkId": "dialup"},
        {"type": "chat", "content": "dialup"},
        {"type": "typing", "isTyping": True},
    ],
)
def test_nothing_else_asks(frame: dict[str, Any]) -> None:
    there = talking()
    there.say("a.1", frame)
    assert questions(there) == []


def test_without_bots_nobody_is_asked() -> None:
    there = talking(rules=RoomRules())
    there.chat("a.1", "@dialup")
    assert questions(there) == []


def test_a_bot_types_and_answers_and_its_answer_asks_nobody() -> None:
    there = talking()
    there.chat("a.1", "@dialup", "m1")
    there.forget()
    there.notify(fx.Types(*DORIS, True))
    says = fx.Says("bot_dialup", "Dial-Up Doris", 1, "Is it on? @mixtape knows.")
    there.notify(says)
    for conn in ("a.1", "b.1"):
        on, off, said = there.take(conn)
        assert (on["type"], on["senderId"], on["isTyping"]) == (
            "typing",
            DORIS[0],
            True,
        )
        assert off["type"] == "typing"
        assert (said["type"], said["id"], said["seq"]) == ("chat", "re.1", 2)
        assert (said["senderId"], said["displayName"]) == DORIS
        assert said["content"] == says.content
    assert len(questions(there)) == 1
    assert [append.seq for append in there.appended] == [1, 2]


def test_an_answer_that_comes_twice_is_said_once() -> None:
    there = talking()
    there.chat("a.1", "@dialup")
    for _ in range(2):
        there.notify(fx.Says("bot_dialup", "Dial-Up Doris", 1, "yes"))
    assert [append.seq for append in there.appended] == [1, 2]
    # Also to a room that slept, and to one that died.
    room = there.machine
    assert isinstance(room, Room)
    slept = Room.restore("general", RULES, room.snapshot(), clean=True)
    died = Room("general", RULES)
    for append in there.appended:
        died.replay(there.now, 1, append.seq, append.event)
    again = fx.encode_notification(fx.Says("bot_dialup", "Doris", 1, "no"))
    assert slept.notify(there.now, again) == died.notify(there.now, again) == []


def test_typing_of_a_bot_ends_by_itself() -> None:
    there = talking()
    there.notify(fx.Types(*DORIS, True))
    there.wait(3_000)
    on, off = there.take("a.1")
    assert (on["isTyping"], off["isTyping"]) == (True, False)


def test_a_room_passes_over_what_is_not_for_it() -> None:
    there = talking()
    assert there.notify(fx.StatusChanged("user_1", "busy")) == []
    room = there.machine
    assert room.notify(there.now, b"\xc1") == []


# The registry.


def test_bots_in_rotation_come_and_go_like_people() -> None:
    there = Audience(Presence())
    there.enter("a.1", "user_1")
    there.rest()
    there.forget()
    there.notify(active(BOTS))
    there.rest()
    assert [(f["type"], f["userId"]) for f in there.take("a.1")] == [
        ("presence_join", "bot_dialup"),
        ("presence_join", "bot_mixtape"),
    ]
    there.enter("a.2", "user_2")
    there.rest()
    sync = there.take("a.2")[-1]
    assert {(who["id"], who["status"]) for who in sync["participants"]} >= {
        ("bot_dialup", "online"),
        ("bot_mixtape", "online"),
    }
    there.forget()
    there.notify(active(BOTS))  # every gateway says so
    there.notify(active(BOTS[1:]))
    there.rest()
    (gone,) = there.take("a.1")
    assert (gone["type"], gone["userId"], gone["status"]) == (
        "presence_update",
        "bot_dialup",
        "offline",
    )
    assert there.records == [("user_1", "online"), ("user_2", "online")]


@pytest.mark.parametrize("clean", [True, False])
def test_the_registry_knows_them_after_a_sleep_and_after_a_crash(clean: bool) -> None:
    there = Audience(Presence())
    there.notify(active(BOTS))
    there.rest()
    presence = there.machine
    assert isinstance(presence, Presence)
    again = Audience(Presence.restore(presence.snapshot(), clean, [NAME]))
    again.enter("a.1", "user_1")
    again.rest()
    sync = again.take("a.1")[-1]
    assert {who["id"] for who in sync["participants"]} == {
        "bot_dialup",
        "bot_mixtape",
        "user_1",
    }


@pytest.mark.parametrize("clean", [True, False])
def test_guests_that_are_no_more_leave_at_once(clean: bool) -> None:
    there = Audience(Presence())
    there.notify(active(BOTS))
    there.notify(fx.Published("others", (Participant("user_9", "Nine", "online"),)))
    there.rest()
    again = Presence.restore(there.machine.snapshot(), clean, ["others"])
    again.alarm(there.now)
    again = Presence.restore(again.snapshot(), clean, [NAME, "others"])
    awake = Audience(again, there.now)
    awake.enter("a.1", "user_1")
    awake.rest()
    sync = awake.take("a.1")[-1]
    assert {who["id"] for who in sync["participants"]} == {"user_1", "user_9"}


def test_of_a_snapshot_that_knew_no_guests_nobody_stays_whom_none_will_send_away() -> (
    None
):
    there = Audience(Presence())
    there.notify(active(BOTS))
    there.rest()
    old = msgspec.msgpack.decode(there.machine.snapshot())
    old["bots"] = old.pop("published")[NAME]
    again = Presence.restore(msgspec.msgpack.encode(old), True, [NAME])
    assert isinstance(again, Presence) and again.alarm_at == 0
    again.want(there.now, "a", fx.Wants(1, True, ["user_1"], []))
    (told,) = again.alarm(there.now)
    assert isinstance(told, fx.Tell) and told.news.people == []
