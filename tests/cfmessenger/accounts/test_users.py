"""The seeded list is usable as it ships, and another list is checked before use."""

import re
from pathlib import Path

import msgspec
import pytest

from cfmessenger.accounts.users import Directory
from cfmessenger.environment import SettingsError

ROOM_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def entry(user_id: str = "ada", **changes: object) -> dict[str, object]:
    return {
        "id": user_id,
        "email": f"{user_id}@cfm.example",
        "displayName": "Ada",
        "avatarId": "star",
        **changes,
    }


def refusal(path: Path, content: object) -> str:
    raw = content if isinstance(content, bytes) else msgspec.json.encode(content)
    path.write_bytes(raw)
    with pytest.raises(SettingsError) as caught:
        Directory.load(path)
    message = str(caught.value)
    assert message.startswith("CFM_USERS: expected ") and "\n" not in message
    return message


def test_twenty_people_and_at_least_eight_bots_are_seeded() -> None:
    directory = Directory.load()
    assert [each.id for each in directory.people] == [
        f"user_{number}" for number in range(1, 21)
    ]
    assert len(directory.bots) >= 8
    assert len(directory) == len(directory.people) + len(directory.bots)
    assert list(directory) == [*directory.people, *directory.bots]


def test_every_bot_says_how_it_speaks_and_nobody_else_does() -> None:
    directory = Directory.load()
    for bot in directory.bots:
        assert bot.persona and bot.bot_archetype and bot.bot_style
        assert bot.personal_message
    for person in directory.people:
        assert person.bot_archetype is person.bot_style is None
        assert person.persona and person.personal_message
    assert len({bot.bot_archetype for bot in directory.bots}) == len(directory.bots)


def test_any_two_can_have_a_direct_room() -> None:
    ids = sorted(each.id for each in Directory.load())
    for first in ids:
        for second in ids:
            assert ROOM_ID.fullmatch(f"dm_{first}__{second}")


def test_bots_are_found_but_are_not_people() -> None:
    directory = Directory.load()
    bot = directory.bots[0]
    assert directory.get(bot.id) is bot
    assert directory.person(bot.id) is None
    assert directory.person("user_7") is directory.people[6]
    assert directory.get("nobody") is directory.person("nobody") is None


def test_clients_see_what_is_known_and_the_live_status() -> None:
    directory = Directory.load()
    seen = msgspec.json.decode(
        msgspec.json.encode(directory.people[0].with_status("away"))
    )
    assert seen == {
        "id": "user_1",
        "email": "maya@cfm.example",
        "displayName": "Maya ~*stargazer*~",
        "avatarId": "star",
        "status": "away",
        "isAiBot": False,
        "personalMessage": "back in 5, don't nudge me",
        "persona": directory.people[0].persona,
    }
    bot = directory.bots[0].with_status("online")
    assert bot.is_ai_bot and bot.bot_style == directory.bots[0].bot_style


def test_another_list_replaces_the_seeded_one(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_bytes(msgspec.json.encode([entry("ada"), entry("zed", isAiBot=True)]))
    directory = Directory.load(path)
    assert [each.id for each in directory.people] == ["ada"]
    assert [each.id for each in directory.bots] == ["zed"]


def test_a_list_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    assert "list of users" in refusal(path, b"[{")
    assert "list of users" in refusal(path, b"\xff\xfe")
    assert "list of users" in refusal(path, b"[" * 100_000)
    assert "list of users" in refusal(path, {"users": []})
    assert "at least one person" in refusal(path, [])
    assert "at least one person" in refusal(path, [entry(isAiBot=True)])
    assert "every id once" in refusal(path, [entry(), entry(email="b@cfm.example")])
    twice = [entry(), entry("bob", email="ADA@cfm.example")]
    assert "every e-mail address once" in refusal(path, twice)
    assert "unknown field" in refusal(path, [entry(password="x")])
    path.unlink()
    with pytest.raises(SettingsError, match="CFM_USERS: expected a readable file"):
        Directory.load(path)


@pytest.mark.parametrize(
    "bad", ["", "Ada", "a__b", "_a", "a_", "a b", "ada\n", "x" * 30, "é", "a{b"]
)
def test_an_id_that_would_make_room_ids_ambiguous_is_refused(
    bad: str, tmp_path: Path
) -> None:
    assert "$[0].id" in refusal(tmp_path / "users.json", [entry(bad)])


@pytest.mark.parametrize("name", ["", "x" * 51, "a\u202eb", "a\x00b", "a\nb"])
def test_a_display_name_that_could_deceive_is_refused(
    name: str, tmp_path: Path
) -> None:
    said = refusal(tmp_path / "users.json", [entry(displayName=name)])
    assert "$[0].displayName" in said
