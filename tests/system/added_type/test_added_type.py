"""A new durable type: by protocol and room alone, and harmless to who lacks it.

The copy of this code that has it walks it through everything (`walk`); then this code,
which does not know it, opens the room that the copy left.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.gateway.node import live, new_room
from tests.gateway.web.test_units import node  # noqa: F401 - a fixture
from tests.system.added_type import tree
from tests.system.added_type.walk import logged


@pytest.fixture(scope="module")
def walked(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str
) -> tuple[str, list[str]]:
    """The room that the copy left, and its log."""
    copy, room = tree.grow(tmp_path_factory.mktemp("tree")), new_room()
    ran = tree.run(copy, "-m", "tests.system.added_type.walk", valkey_url, room)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return room, json.loads(ran.stdout.splitlines()[-1])


def test_only_protocol_and_room_are_touched() -> None:
    folders = {Path(path).parent.as_posix() for path in tree.EDITS}
    assert folders == {"cfmessenger/wire", "cfmessenger/chat"}


async def test_who_does_not_know_it_keeps_it_numbers_it_and_passes_it_on(
    walked: tuple[str, list[str]], valkey_url: str
) -> None:
    room, log = walked
    before = [json.loads(event) for event in log]
    assert [each["type"] for each in before] == ["poke", "poke", "poke", "chat"]
    async with live(valkey_url, hibernate_after="0.2") as here:
        maya = await here.connect("user_1", f"/api/ws/room/{room}", since=0)
        history = await maya.wait("history")
        assert history["messages"] == [{**before[0], "status": "read"}, *before[1:]]
        assert (history["lastSeq"], history["gap"]) == (4, False)
        await maya.send("poke", finger="thumb")
        await maya.wait("error", code="UNKNOWN_TYPE")
        assert (await maya.say("hello"))["seq"] == 5
        await here.asleep(f"room:{room}")
        await maya.send("chat", content="again", id="p-1")
        assert (await maya.wait("poke", id="p-1"))["seq"] == 1  # its own echo
        async with here.gateways[0].client(await here.token("user_1")) as http:
            page = (await http.get(f"/api/rooms/{room}/messages")).json()["data"]
        assert page["messages"][:4] == [{**before[0], "status": "read"}, *before[1:]]
        late = await here.connect("user_2", f"/api/ws/room/{room}", since=2)
        history = await late.wait("history")
        assert [each["seq"] for each in history["messages"]] == [3, 4, 5]
    kept = await logged(valkey_url, room)
    assert [event.decode() for event in kept[:4]] == log


def test_the_page_shows_it_and_counts_it(
    walked: tuple[str, list[str]],
    node: str,  # noqa: F811
) -> None:
    room, log = walked
    script = Path(__file__).with_name("page.mjs")
    command = [node, "--no-warnings", "--experimental-vm-modules", str(script), log[0]]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    heard = json.loads(ran.stdout)
    assert heard["messages"] == [json.loads(log[0])]
    assert (heard["since"], heard["state"]) == ("1", "open")
