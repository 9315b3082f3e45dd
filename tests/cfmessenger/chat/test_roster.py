"""People are counted, not tabs."""

from msgspec.structs import replace

from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.roster import Roster, participant


def tab(conn: str, user_id: str, name: str = "One") -> Attachment:
    return Attachment(conn, user_id, name, "online")


def test_a_user_arrives_with_the_first_and_leaves_with_the_last_connection() -> None:
    roster = Roster()
    person, arrived = roster.join(tab("a.1", "user_1"))
    assert arrived
    again, arrived = roster.join(tab("b.1", "user_1", "Other"))
    assert again is person and not arrived
    assert person.display_name == "One"
    assert roster.leave("a.1") == (person, False)
    assert list(roster) == [person]
    assert roster.leave("b.1") == (person, True)
    assert not roster.people and not roster.conns


def test_joining_twice_is_once() -> None:
    roster = Roster()
    roster.join(tab("a.1", "user_1"))
    assert roster.join(tab("a.1", "user_1"))[1] is False
    left = roster.leave("a.1")
    assert left is not None and left[1]


def test_an_unknown_connection_leaves_nobody() -> None:
    assert Roster().leave("a.1") is None


def test_a_gateway_holds_its_own_connections() -> None:
    roster = Roster()
    for conn in ("a.1", "aa.1", "a.2", "a.b.1"):
        roster.join(tab(conn, "user_1"))
    assert roster.held_by("a") == ["a.1", "a.2"]
    assert roster.held_by("a.b") == ["a.b.1"]


def test_all_connections_share_name_and_status() -> None:
    roster = Roster()
    person, _ = roster.join(tab("a.1", "user_1"))
    roster.join(Attachment("a.2", "user_1", "One", "online", watch=False))
    assert not person.learn(Attachment("a.1", "user_1", "Other", "away"))
    assert person.choose("busy", 2) and not person.choose("away", 2)
    assert person.learn(Attachment("a.1", "user_1", "Uno", "away", words_at=1))
    expected = Attachment(
        "a.2", "user_1", "Uno", "busy", watch=False, words_at=1, status_at=2
    )
    assert person.attachment("a.2") == expected
    assert not person.ahead_of(expected)
    assert person.ahead_of(replace(expected, words_at=0))
    assert person.ahead_of(replace(expected, status_at=1))
    assert person.attachment("a.1", typing=True).typing
    assert (participant(person).id, participant(person).status) == ("user_1", "busy")


def test_a_snapshot_restores_order_and_people() -> None:
    roster = Roster()
    for conn, user_id in (("a.1", "user_2"), ("b.1", "user_1"), ("a.2", "user_2")):
        roster.join(tab(conn, user_id))
    twin = Roster()
    twin.restore(roster.snapshot())
    assert twin.people == roster.people
    assert [person.user_id for person in twin] == ["user_2", "user_1"]
    assert twin.held_by("a") == roster.held_by("a") == ["a.1", "a.2"]
