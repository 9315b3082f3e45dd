"""What storage has lost or damaged: told to whoever misses it, and survived.

On a Valkey of the test's own, whose data is edited as a bad disk would.
"""

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cfmessenger.storage import keys
from gateway.api import whereabouts
from tests.gateway.node import (
    Frame,
    Node,
    OwnValkey,
    Socket,
    eventually,
    live,
    new_room,
    own_valkey,
)
from tests.gateway.test_metrics import value


@pytest.fixture
async def storage() -> AsyncIterator[OwnValkey]:
    with own_valkey() as storage:
        await storage.answers()
        yield storage


@pytest.fixture
async def node(storage: OwnValkey) -> AsyncIterator[Node]:
    async with live(storage.url, gateways=2, chat_rate="0") as node:
        yield node


async def talked(node: Node, room: str, count: int) -> Socket:
    talker = await node.enter("user_1", room)
    for n in range(1, count + 1):
        await talker.say(f"number {n}")
    return talker


async def pages(node: Node, room: str, limit: int) -> list[int]:
    """The seqs of the whole history over HTTP, page by page, newest first."""
    token, seqs, before = await node.token("user_1"), [], ""
    async with node.gateways[0].client(token) as http:
        while True:
            path = f"/api/rooms/{room}/messages?limit={limit}{before}"
            answer = (await http.get(path)).json()["data"]
            seqs += [each["seq"] for each in reversed(answer["messages"])]
            if "nextBefore" not in answer:
                return seqs
            before = f"&before={answer['nextBefore']}"


def resumed(socket: Socket) -> tuple[list[int], list[bool]]:
    """What a socket was shown on its way in, and which of it told of a gap."""
    frames = socket.of("history")
    seqs = [m["seq"] for frame in frames for m in frame["messages"]]
    return seqs, [frame["gap"] for frame in frames]


async def damage(node: Node, gateway: int = 0) -> dict[str, float]:
    """What /metrics of a gateway tells of events that storage has lost."""
    async with node.gateways[gateway].client() as http:
        text = (await http.get("/metrics")).text
    names = ("lost", "healed")
    return {each: value(text, f"cfm_events_{each}_total") for each in names}


def told(lost: Frame) -> tuple[int, int, int, int]:
    """What a `lost` tells: its own number, from, to, and the era that it begins."""
    assert lost["type"] == "lost"
    return lost["seq"], lost["from"], lost["to"], lost["era"]


async def test_a_message_that_is_gone_is_a_gap_and_its_number_stays_used(
    node: Node, storage: OwnValkey
) -> None:
    room = new_room()
    talker = await talked(node, room, 7)
    await node.kill(f"room:{room}")
    with storage.admin() as admin:
        log = keys.log(f"room:{room}")
        gone = [entry for entry, _ in admin.xrange(log) if entry.endswith(b"-3")]
        assert admin.xdel(log, *gone) == 1
    # Of which era it was shown something nobody can know, so it is shown the buffer.
    back = await node.enter("user_2", room, since=7)
    assert resumed(back) == ([1, 2, 4, 5, 6, 7, 8], [True])
    lost = back.of("history")[0]["messages"][-1]
    assert told(lost) == (8, 3, 3, 8)
    assert told(await talker.wait("lost")) == (8, 3, 3, 8), "who was there hears it"
    # Whoever has heard of the loss misses what is gone, or nothing.
    for since, shown, gap in [
        (1, [2, 4, 5, 6, 7, 8], True),
        (3, [4, 5, 6, 7, 8], False),
        (8, [], False),
    ]:
        back = await node.enter("user_3", room, since=since, era=8)
        assert resumed(back) == (shown, [gap])
    assert resumed(await node.enter("user_3", room, since=8)) == ([], [False])
    assert await pages(node, room, 2) == [8, 7, 6, 5, 4, 2, 1]
    on = await talker.say("on")
    assert (on["seq"], on["era"]) == (9, 8)


async def test_a_gap_within_a_page_of_the_log_is_told_there(
    node: Node, storage: OwnValkey
) -> None:
    room = new_room()
    await talked(node, room, 150)
    await node.kill(f"room:{room}")
    with storage.admin() as admin:
        log = keys.log(f"room:{room}")
        gone = [entry for entry, _ in admin.xrange(log) if entry.endswith(b"-20")]
        assert admin.xdel(log, *gone) == 1
    assert resumed(await node.enter("user_2", room, since=5)) == (
        [*range(52, 152)],
        [True],
    ), "of another era: the buffer"
    back = await node.enter("user_2", room, since=5, era=151)
    seqs, gaps = resumed(back)
    assert seqs == [*range(6, 20), *range(21, 152)]
    assert gaps[0] and len(gaps) > 1 and not any(gaps[1:])


@pytest.mark.parametrize("event", [b"\xff?", b'{"type":"chat","seq":4}'])
async def test_an_event_that_nobody_can_read_stays_alone(
    node: Node, storage: OwnValkey, event: bytes
) -> None:
    room = "dm_user_1__user_2"
    talker = await talked(node, room, 3)
    await node.kill(f"room:{room}")
    with storage.admin() as admin:
        log = keys.log(f"room:{room}")
        epoch = admin.xrevrange(log, count=1)[0][0].partition(b"-")[0]
        admin.xadd(log, {b"e": event}, id=epoch + b"-4")
    assert (await talker.say("on"))["seq"] == 5
    back = await node.enter("user_2", room, since=1)
    assert resumed(back) == ([2, 3, 5], [True])
    assert await pages(node, room, 2) == [5, 3, 2, 1]
    async with node.gateways[0].client(await node.token("user_2")) as http:
        answer = (await http.get("/api/rooms")).json()["data"]
    assert [each["unreadCount"] for each in answer if each["id"] == room] == [4]


@pytest.mark.parametrize("actors", ["die too", "live on"])
async def test_a_storage_that_begins_anew_gives_no_number_twice(
    node: Node, storage: OwnValkey, actors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest was deleted: it starts empty, under gateways that have seen 5."""
    monkeypatch.setattr(whereabouts, "EVERY_S", 0.0)
    room = new_room()
    near = await talked(node, room, 5)
    assert await damage(node) == {"lost": 0, "healed": 0}
    far = await node.enter("user_2", room, gateway=1)
    storage.kill()
    shutil.rmtree(storage.folder / "appendonlydir")
    storage.start()
    await storage.answers()
    if actors == "die too":
        await node.kill(f"room:{room}")

    async def said() -> Any:
        await near.send("chat", content="on", id="one")
        try:
            return await near.wait("chat", content="on", within=1)
        except TimeoutError:
            return None

    await eventually(said, within=30)
    for each in (near, far):
        assert told(await each.has("lost")) == (6, 1, 5, 6)
        on = await each.has("chat", content="on")
        assert (on["seq"], on["era"]) == (7, 6)
    assert near.said == [1, 2, 3, 4, 5, 7]
    assert (await near.say("and on"))["seq"] == 8
    assert len(near.of("lost")) == len(far.of("lost")) == 1

    async def counted() -> bool:
        return await damage(node, 1) == {"lost": 5, "healed": 0}

    await eventually(counted)  # by any gateway, for all of them


async def test_who_is_silent_in_a_room_that_sleeps_hears_of_a_loss(
    storage: OwnValkey,
) -> None:
    """Nobody speaks: its gateway finds a log that ends before what it has shown."""
    async with live(storage.url, hibernate_after="0.2") as node:
        room = new_room()
        log = keys.log(f"room:{room}")
        talker = await talked(node, room, 2)
        with storage.admin() as admin:
            older = admin.dump(log)
            for n in (3, 4):
                await talker.say(f"number {n}")
            await node.asleep(f"room:{room}")
            admin.delete(keys.mirror(f"room:{room}"))
            admin.restore(log, 0, older, replace=True)
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert told(await talker.wait("lost")) == (5, 3, 4, 5)


async def test_a_valkey_that_is_not_there_is_no_damage(
    node: Node, storage: OwnValkey, caplog: pytest.LogCaptureFixture
) -> None:
    room = new_room()
    talker = await talked(node, room, 3)
    storage.kill()
    storage.start()
    await storage.answers()
    await node.kill(f"room:{room}")

    async def said() -> Any:
        await talker.send("chat", content="on", id="one")
        try:
            return await talker.wait("chat", content="on", within=1)
        except TimeoutError:
            return None

    await eventually(said, within=30)
    assert talker.said[-1] == 4
    assert not [r for r in caplog.records if " lost events " in r.getMessage()]
