"""Who is told who is here, and when."""

import msgspec

from cfmessenger.chat.crowd import USUAL
from cfmessenger.chat.effects import Attachment, Broadcast, Send
from cfmessenger.chat.rollcall import RollCall
from cfmessenger.chat.roster import Roster


def called() -> tuple[Roster, RollCall]:
    roster = Roster()
    roster.join(Attachment("a.1", "user_1", "One", "online"))
    roster.join(Attachment("a.2", "user_1", "One", "online"))
    return roster, RollCall("general", roster, USUAL)


def test_all_changes_of_50_ms_are_one_frame_to_everyone() -> None:
    _, roll_call = called()
    roll_call.everyone_soon(100)
    roll_call.everyone_soon(140)
    roll_call.one_soon(145, "a.2")
    assert roll_call.alarm_at == 150
    assert roll_call.alarm(149) == []
    (only,) = roll_call.alarm(150)
    assert isinstance(only, Broadcast)
    assert msgspec.json.decode(only.frame)["participants"] == [
        {"id": "user_1", "displayName": "One", "status": "online"}
    ]
    assert roll_call.alarm_at is None and not roll_call.pending


def test_without_news_only_the_untold_are_told() -> None:
    _, roll_call = called()
    roll_call.one_soon(0, "a.2")
    assert roll_call.pending
    (only,) = roll_call.alarm(50)
    assert isinstance(only, Send) and only.conns == ("a.2",)


def test_nobody_is_told_when_nobody_is_left() -> None:
    roster, roll_call = called()
    roll_call.one_soon(0, "a.2")
    roster.leave("a.2")
    assert roll_call.alarm(50) == []
    roll_call.everyone_soon(100)
    roster.leave("a.1")
    assert roll_call.alarm(150) == []
    assert roll_call.alarm(200) == []


def test_a_room_that_many_are_in_is_told_a_little_later() -> None:
    # Each of 100 gets a list of 100: 200 ms, so that they get five in a second.
    roster, roll_call = called()
    for n in range(2, 101):
        roster.join(Attachment(f"b.{n}", f"user_{n}", "One of them", "online"))
    roll_call.everyone_soon(0)
    assert roll_call.alarm_at == 200
    roll_call.one_soon(10, "b.7")
    assert roll_call.alarm_at == 60  # who waits for the first waits no longer
