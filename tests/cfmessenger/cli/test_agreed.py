"""What all machines of a cluster must have in common."""

from pathlib import Path

import pytest

from cfmessenger.cli.agreed import FIELDS, agreed
from cfmessenger.settings import Settings


def test_settings_that_decide_what_a_room_does_are_compared_by_their_value() -> None:
    found = agreed(Settings.load({"CFM_LOG_LENGTH": "5000", "CFM_AI_MODEL": "small"}))
    assert found["CFM_LOG_LENGTH"] == "5000"
    assert found["CFM_AI_MODEL"] == "small"
    assert found["CFM_USERS"] == "the seeded list"
    assert len(found) == len(FIELDS) + 1
    assert found == agreed(Settings.load({"CFM_LOG_LENGTH": "5000"})) | {
        "CFM_AI_MODEL": "small"
    }


def test_what_each_machine_has_for_itself_and_secrets_are_not_compared() -> None:
    alone = {
        "CFM_PORT": "1",
        "CFM_NODE_ADDRESS": "10.0.0.7",
        "CFM_LOCATION_HINT": "us",
        "CFM_POOL_SIZE": "3",
        "CFM_AI_KEY": "hush",
    }
    assert agreed(Settings.load(alone)) == agreed(Settings.load({}))


def test_people_are_compared_by_what_is_in_the_file(tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json", tmp_path / "three.json"]
    for file, text in zip(files, ("[1]", "[1]", "[2]"), strict=True):
        file.write_text(text)
    one, two, three = (
        agreed(Settings.load({"CFM_USERS": str(file)}))["CFM_USERS"] for file in files
    )
    assert one == two != three
    assert one.startswith("people ")
    with pytest.raises(OSError):
        agreed(Settings.load({"CFM_USERS": str(tmp_path / "none")}))


def test_a_password_is_compared_and_not_told() -> None:
    def told(url: str) -> str:
        env = {"CFM_AI_BASE_URL": url, "CFM_AI_MODEL": "small"}
        return agreed(Settings.load(env))["CFM_AI_BASE_URL"]

    assert told("https://ai.example/v1") == "https://ai.example/v1"
    one = told("https://u:hush@ai.example/v1?key=hush")
    assert one.startswith("https://ai.example/v1 (") and "hush" not in one
    assert one == told("https://u:hush@ai.example/v1?key=hush")
    assert one != told("https://u:other@ai.example/v1?key=hush")
