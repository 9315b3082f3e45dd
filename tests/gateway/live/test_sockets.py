"""Rooms that sleep, die and lose their storage under open sockets; and who gets in.

wire.md §5 and design.md §3.7-9: whatever happens behind a gateway, its sockets stay
open and what was acknowledged comes once, in order.
"""

import asyncio
import contextlib
import json
from typing import Any

import pytest
import valkey.asyncio

from cfmessenger.errors import Unavailable
from cfmessenger.link.uncovered import FRAME_COST, SOCKET_BUDGET
from cfmessenger.storage import keys
from tests.gateway.edge import data_of
from tests.gateway.node import (
    Node,
    Refused,
    dial,
    error_of,
    eventually,
    everywhere,
    live,
    new_room,
    own_valkey,
)
from tests.patience import Stopwatch
from tests.wire_rows import wire

pytestmark = everywhere


async def logged(url: str, room: str) -> list[dict[str, Any]]:
    """The room's log, read past everything of ours."""
    async with valkey.asyncio.Valkey.from_url(url) as client:
        entries = await client.xrange(keys.log(f"room:{room}"))
    return [json.loads(fields[b"e"]) for _, fields in entries]


# The output gate.


@wire("5 gate", "3 echo", "5 kept")
async def test_an_echo_is_in_the_log_before_it_is_seen(node: Node) -> None:
    room = new_room()
    sender = await node.enter("user_1", room)
    reader = await node.enter("user_2", room, gateway=1)
    for i in range(15):
        await sender.send("chat", content=str(i))
        seen = await (sender, reader)[i % 2].wait("chat", content=str(i))
        assert seen == (await logged(node.valkey_url, room))[-1]


@wire("5 gate", "5 STORAGE_UNAVAILABLE", "2 repeat", "3 error", "2 ping")
async def test_nothing_is_shown_while_valkey_is_frozen() -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with live(storage.url, 2, alone=True) as node:
            room = new_room()
            sender = await node.enter("user_1", room)
            reader = await node.enter("user_2", room, gateway=1)
            await sender.say("before", id="c0")
            await reader.wait("chat", id="c0")
            storage.freeze()
            sent = Stopwatch()
            await sender.send("chat", content="lost?", id="c1")
            await sender.send("ping", t=1)
            await sender.wait("pong", within=0.5)
            error = await sender.wait("error", within=5.5)
            took = sent.seconds
            assert error["code"] == "STORAGE_UNAVAILABLE" and error["id"] == "c1"
            assert error["retryable"] is True
            assert took <= 5.4, took  # found out once in a quarter of a second
            assert sender.said == reader.said == [1]
            storage.thaw()
            # A retry is one message, whether or not the first one landed after all.
            await sender.send("chat", content="lost?", id="c1")
            echo = await sender.wait("chat", id="c1", within=10)
            assert (await sender.say("after", id="c2"))["seq"] == 3
            await reader.wait("chat", id="c2")
            assert reader.said == [1, 2, 3]
            assert set(sender.said) == {1, 2, 3}
            ids = [entry["id"] for entry in await logged(storage.url, room)]
            assert ids == ["c0", "c1", "c2"] and echo["seq"] == 2
            assert sender.open and reader.open


@wire("5 STORAGE_UNAVAILABLE")
async def test_whoever_says_more_than_is_read_is_answered_as_soon() -> None:
    """Beyond the budget of a socket it is not read: that waits in TCP's buffers."""
    enough = SOCKET_BUDGET // FRAME_COST
    with own_valkey() as storage:
        await storage.answers()
        async with live(storage.url, 1, alone=True) as node:
            sender = await node.enter("user_1", new_room())
            await sender.say("before")
            storage.freeze()
            for n in range(enough):
                await sender.send("chat", content="x", id=f"c{n}")
            [connection] = node.hub().connections.by_id.values()
            await eventually(lambda: connection.full)
            for n in range(enough, 2 * enough):
                await sender.send("chat", content="x", id=f"c{n}")
            refused = "STORAGE_UNAVAILABLE"
            for n in range(enough):
                await sender.has("error", within=10, code=refused, id=f"c{n}")
            then = Stopwatch()
            for n in range(enough, 2 * enough):
                await sender.has("error", within=10, code=refused, id=f"c{n}")
            assert then.wall < 3.5, "not 4.4 s again"
            storage.thaw()
            assert sender.open


@wire("5 kept", "3 seq", "5 STORAGE_UNAVAILABLE")
async def test_valkey_is_killed_and_comes_back() -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with live(storage.url, 2, alone=True) as node:
            room = new_room()
            sender = await node.enter("user_1", room)
            reader = await node.enter("user_2", room, gateway=1)
            for i in range(5):
                await sender.say(str(i))
            storage.kill()
            # Not confirmed, and brought again until it is.
            await sender.send("chat", content="5", id="c5")
            storage.start()
            await storage.answers()
            assert (await sender.wait("chat", id="c5", within=10))["seq"] == 6
            await sender.say("6")
            await reader.wait("chat", content="6")
            assert reader.said == sender.said == list(range(1, 8))
            late = await node.enter("user_3", room)
            history = late.of("history")[0]["messages"]
            assert [m["content"] for m in history] == [str(i) for i in range(7)]


# Sleep.


@wire("3 seq", "3 system", "5 kept", "6 resume")
async def test_a_room_sleeps_under_its_sockets(valkey_url: str) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        room = new_room()
        first = await node.enter("user_1", room)
        second = await node.enter("user_2", room, gateway=1)
        await first.say("one")
        for turn in range(3):
            await node.asleep(f"room:{room}")
            talker = (second, first)[turn % 2]
            await talker.say(f"turn {turn}")
            for each in (first, second):
                await each.has("chat", seq=turn + 2)
        assert first.said == second.said == [1, 2, 3, 4]
        # Nobody came or went, and nobody was told the list anew.
        lines = [f["content"] for f in first.of("system")]
        assert len(lines) == 3 and lines[2].endswith("Tom [brb] joined the room.")
        assert len(second.of("participants")) == 1
        await node.asleep(f"room:{room}")
        third = await node.enter("user_3", room)
        here = third.of("participants")[-1]["participants"]
        assert [who["id"] for who in here] == ["user_1", "user_2", "user_3"]
        assert [m["seq"] for m in third.of("history")[0]["messages"]] == [1, 2, 3, 4]
        here = await second.wait("participants")
        assert len(here["participants"]) == 3


@wire("3 system", "3 participants")
async def test_who_leaves_while_the_room_sleeps_has_left(valkey_url: str) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        room = new_room()
        first = await node.enter("user_1", room)
        second = await node.enter("user_2", room, gateway=1)
        await node.asleep(f"room:{room}")
        await second.close()
        await first.wait("participants", lambda f: len(f["participants"]) == 1)
        assert (await first.say("alone"))["seq"] == 1


@pytest.mark.parametrize("gateway", [0, 1])
@wire("3 system")
async def test_who_joins_a_sleeping_room_is_told_to_everyone(
    valkey_url: str, gateway: int
) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        room = new_room()
        watcher = await node.enter("user_1", room, gateway=gateway)
        await node.asleep(f"room:{room}")
        await node.enter("user_2", room)
        await watcher.wait("system", content="Tom [brb] joined the room.", within=0.5)


@pytest.mark.parametrize("gateway", [0, 1])
@wire("3 delivery_status")
async def test_a_receipt_that_wakes_the_room_is_told_to_everyone(
    valkey_url: str, gateway: int
) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        room = new_room()
        writer = await node.enter("user_1", room, gateway=gateway)
        reader = await node.enter("user_2", room)
        await writer.say("read me", id="c1")
        await node.asleep(f"room:{room}")
        await reader.send("ack", ackId="c1", status="read")
        await reader.wait("delivery_status", ackId="c1")
        await writer.wait("delivery_status", ackId="c1", within=0.5)


@wire("1 messages", "2 ping")
async def test_reading_history_by_http_wakes_nobody(valkey_url: str) -> None:
    async with live(valkey_url, hibernate_after="0.2") as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        echo = await tab.say("hi")
        await node.asleep(f"room:{room}")
        async with node.gateways[0].client(tab.token) as http:
            page = data_of(await http.get(f"/api/rooms/{room}/messages"))
            data_of(await http.get("/api/rooms"))
        assert page == {"messages": [echo]}
        assert f"room:{room}" not in await node.described()


# Death.


@wire("5 kept", "3 seq", "6 resume", "3 system")
async def test_the_host_is_killed_in_mid_conversation(valkey_url: str) -> None:
    async with live(valkey_url, 2, chat_rate="0") as node:
        room = new_room()
        people = [await node.enter(f"user_{n}", room, gateway=n % 2) for n in (1, 2, 3)]
        for person in people[:2]:
            await person.wait("participants", lambda f: len(f["participants"]) == 3)
        lines = [len(person.of("system")) for person in people]
        for life in range(4):
            for i in range(30):
                for person in people:
                    await person.send("chat", content="x", id=f"{life}.{i}")
                if i == 15:
                    await node.kill(f"room:{room}")
            for person in people:
                await person.wait(
                    "chat", id=f"{life}.29", senderId=person.user_id, within=10
                )
        for person in people:
            await person.has("chat", seq=360, within=10)
        # Once each, in one order, each user's own in the order they were sent.
        stories = [person.of("chat") for person in people]
        assert people[0].said == people[1].said == people[2].said
        assert people[0].said == list(range(1, 361))
        assert stories[0] == stories[1] == stories[2]
        order = [f"{life}.{i}" for life in range(4) for i in range(30)]
        for person in people:
            own = [f["id"] for f in stories[0] if f["senderId"] == person.user_id]
            assert own == order
        # Nobody has left or joined; the list was told again.
        assert [len(person.of("system")) for person in people] == lines
        assert all(person.open for person in people)
        assert [e["seq"] for e in await logged(node.valkey_url, room)] == people[0].said


async def test_hosts_that_die_while_they_connect_leave_no_connection() -> None:
    with own_valkey() as storage:
        await storage.answers()
        async with live(storage.url, 2, alone=True) as node:
            room = new_room()
            tab = await node.enter("user_1", room)
            for i in range(20):
                await node.kill(f"room:{room}")
                await asyncio.sleep(i * 0.001)
            assert (await tab.say("alive"))["seq"] == 1
        await eventually(lambda: storage.clients() == 1)  # who asks


@wire("2 typing", "3 typing")
async def test_who_typed_before_a_crash_is_shown_to_stop(valkey_url: str) -> None:
    # On one gateway: after a crash nobody knows who else is to be told.
    async with live(valkey_url) as node:
        room = new_room()
        typist = await node.enter("user_1", room)
        other = await node.enter("user_2", room)
        await typist.send("typing", isTyping=True)
        await other.wait("typing", isTyping=True)
        await node.kill(f"room:{room}")
        await other.wait("typing", isTyping=False)


@wire("2 repeat")
async def test_a_repeat_after_a_crash_is_still_one_message(valkey_url: str) -> None:
    async with live(valkey_url) as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        echo = await tab.say("once", id="c1")
        await node.kill(f"room:{room}")
        await tab.send("chat", content="once", id="c1")
        assert await tab.wait("chat", id="c1") == echo
        assert (await tab.say("twice"))["seq"] == 2


@wire("2 repeat", "3 error")
async def test_other_words_under_an_id_are_refused_after_a_crash_too(
    valkey_url: str,
) -> None:
    async with live(valkey_url) as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        other = await node.enter("user_2", room)
        echo = await tab.say("these words", id="c1")
        await node.kill(f"room:{room}")
        await tab.send("chat", content="other words", id="c1")
        error = await tab.wait("error", id="c1")
        assert (error["code"], error["retryable"]) == ("ID_REUSED", False)
        assert await tab.wait("chat", id="c1") == echo
        await tab.send("chat", content="these words", id="c1")
        assert await tab.wait("chat", id="c1") == echo
        assert (await tab.say("more"))["seq"] == 2
        await other.wait("chat", seq=2)
        assert not other.of("error") and len(other.of("chat")) == 2


# Gateways come and go.


@wire("6 1012", "3 system", "6 resume")
async def test_a_gateway_that_goes_closes_its_sockets_with_1012(
    valkey_url: str,
) -> None:
    async with live(valkey_url, 2) as node:
        room = new_room()
        stays = await node.enter("user_1", room)
        goes = [await node.enter("user_2", room, gateway=1) for _ in range(3)]
        await stays.wait("participants", lambda f: len(f["participants"]) == 2)
        watching = await node.watch("user_2", gateway=1)
        await goes[0].say("still here")
        hub = node.hub(1)
        hub.refuse_new()
        assert hub.ready().parts["accepting"] is False
        with pytest.raises(Refused) as caught:
            await node.enter("user_3", room, gateway=1)
        assert error_of(caught.value) == (503, "AT_CAPACITY")
        await hub.close_sockets(0.1)
        for each in (*goes, watching):
            assert await each.closed() == 1012
        await stays.wait("system", content="Tom [brb] left the room.")
        back = await node.enter("user_2", room, since=0)
        assert [m["seq"] for m in back.of("history")[0]["messages"]] == [1]


# Who gets in.


@wire("1 capacity")
@pytest.mark.parametrize(
    "limit", ["max_sockets_per_session", "max_sockets_per_address"]
)
async def test_there_is_room_for_so_many_sockets(valkey_url: str, limit: str) -> None:
    async with live(valkey_url, **{limit: "2"}) as node:
        room = new_room()
        tabs = [await node.enter("user_1", room) for _ in range(2)]
        with pytest.raises(Refused) as caught:
            await node.watch("user_1")
        assert error_of(caught.value) == (503, "AT_CAPACITY")
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        await tabs[0].close()

        async def again() -> bool:
            with contextlib.suppress(Refused):
                return bool(await node.enter("user_1", room))
            return False

        await eventually(again)


@wire("1 no actor", "1 room ids", "1 direct rooms", "1 other rooms", "1 sockets")
@pytest.mark.parametrize(
    ("room", "answer"),
    [
        ("system_bots", (403, "ROOM_RESERVED")),
        ("admin_x", (403, "ROOM_RESERVED")),
        ("nowhere", (404, "ROOM_NOT_FOUND")),
        ("Lobby", (400, "INVALID_ROOM_ID")),
        ("_x", (400, "INVALID_ROOM_ID")),
        ("a" * 65, (400, "INVALID_ROOM_ID")),
        ("a%2fb", (400, "INVALID_ROOM_ID")),
        ("a/b", (400, "INVALID_ROOM_ID")),
        ("..", (400, "INVALID_ROOM_ID")),
        ("%2e%2e", (400, "INVALID_ROOM_ID")),
        ("a%00", (400, "INVALID_ROOM_ID")),
        ("a%0d%0ab", (400, "INVALID_ROOM_ID")),
        ("a%0a", (400, "INVALID_ROOM_ID")),
        ("%ff%fe", (400, "INVALID_ROOM_ID")),
        ("caf%C3%A9", (400, "INVALID_ROOM_ID")),
        ("", (400, "INVALID_ROOM_ID")),
        ("dm_user_1__user_1", (404, "ROOM_NOT_FOUND")),
        ("dm_user_1__nobody", (404, "ROOM_NOT_FOUND")),
        ("dm_user_1__user_2__user_3", (404, "ROOM_NOT_FOUND")),
        ("dm_", (404, "ROOM_NOT_FOUND")),
        ("dm_user_2__user_3", (403, "NOT_A_PARTICIPANT")),
        ("dm_user_3__user_2", (403, "NOT_A_PARTICIPANT")),
    ],
)
async def test_a_room_one_may_not_enter_is_not_made(
    closed: Node, room: str, answer: tuple[int, str]
) -> None:
    before = await closed.described()
    with pytest.raises(Refused) as caught:
        await closed.connect("user_1", f"/api/ws/room/{room}")
    assert error_of(caught.value) == answer
    # Nor by reading what was said there.
    async with closed.gateways[0].client(await closed.token("user_1")) as http:
        assert (await http.get(f"/api/rooms/{room}/messages")).status_code >= 400
    assert await closed.described() == before == {}


@wire("1 no actor", "1 AUTH", "1 sockets", "1 origin")
async def test_a_stranger_makes_no_room(closed: Node) -> None:
    base = f"ws://127.0.0.1:{closed.gateways[0].port}/api/ws"
    token = await closed.token("user_1")
    bearer = {"Authorization": f"Bearer {token}"}
    tries: list[tuple[dict[str, str], tuple[int, str]]] = [
        ({}, (401, "AUTH_REQUIRED")),
        ({"Authorization": "Bearer nonsense"}, (401, "AUTH_EXPIRED")),
        (bearer | {"Origin": "https://evil.example"}, (403, "ORIGIN_NOT_ALLOWED")),
        ({"Origin": "null"}, (403, "ORIGIN_NOT_ALLOWED")),
    ]
    for path in ("/room/general", "/presence", "/room/dm_user_1__user_2"):
        for headers, answer in tries:
            with pytest.raises(Refused) as caught:
                await dial(base + path, additional_headers=headers)
            assert error_of(caught.value) == answer
    assert await closed.described() == {}


@pytest.fixture(scope="module")
async def shut(valkey_url: str) -> Any:
    async with live(valkey_url, open_rooms="0") as node:
        yield node


@pytest.fixture
async def closed(shut: Node) -> Any:
    """A gateway with the public rooms alone, and nobody in."""
    async with shut.visit() as node:
        yield node


@wire("1 other rooms")
async def test_public_rooms_exist(valkey_url: str) -> None:
    async with live(valkey_url, open_rooms="0") as node:
        for room in ("general", "music"):
            tab = await node.enter("user_1", room)
            assert tab.frames[0]["roomId"] == room


@wire("1 sockets", "1 everywhere")
async def test_storage_that_goes_away_in_mid_handshake_is_a_503(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(user_id: str) -> str:
        raise Unavailable

    monkeypatch.setattr(node.hub().people, "status_of", away)
    with pytest.raises(Refused) as caught:
        await node.enter("user_1", new_room())
    assert error_of(caught.value) == (503, "UNAVAILABLE")


@wire("1 sockets", "1 everywhere")
async def test_a_room_that_cannot_be_reached_is_a_503(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nowhere(name: str, *more: object) -> None:
        raise Unavailable

    room = new_room()
    monkeypatch.setattr(node.namespace, "resolve", nowhere)
    # Else a pool that is linked is not asked for.
    node.hub().links.moved(f"room:{room}")
    with pytest.raises(Refused) as caught:
        await node.enter("user_1", room)
    assert error_of(caught.value) == (503, "UNAVAILABLE")
    assert int(caught.value.response.headers["Retry-After"]) >= 1
