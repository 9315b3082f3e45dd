"""wire.md §2, §3 and §5 over real sockets, on two gateways."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from cfmessenger.chat.crowd import Crowd
from cfmessenger.placement import Placement
from tests.gateway.node import (
    Frame,
    Node,
    Socket,
    everywhere,
    exactly,
    live,
    new_room,
    person,
)
from tests.patience import Stopwatch
from tests.wire_rows import wire

pytestmark = everywhere

NAMES = {"user_1": "Maya ~*stargazer*~", "user_2": "Tom [brb]"}


@pytest.fixture(scope="module")
async def free(valkey_url: str, placement: Placement | None) -> AsyncIterator[Node]:
    """Rates lifted, and the shortest log there may be."""
    async with live(valkey_url, chat_rate="0", log_length="1000") as node:
        yield node


async def fill(sender: Socket, count: int) -> None:
    """Say `count` things, and wait until the last is confirmed."""
    last = sender.said[-1] if sender.said else 0
    for start in range(0, count, 500):
        part = range(start, min(start + 500, count))
        for i in part:
            await sender.send("chat", content=f"{i}")
        await sender.wait("chat", seq=last + part[-1] + 1, within=20)


# Entering.


@wire("3 system", "3 participants", "1 absent not null")
async def test_an_empty_room_greets_and_has_no_history(node: Node) -> None:
    room = new_room()
    alone = await node.enter("user_1", room)
    hello, joined, here = alone.frames
    exactly(hello, content="Connected to ChatRoom", roomId=room, timestamp=...)
    assert type(hello["timestamp"]) is int
    content = f"{NAMES['user_1']} joined the room."
    exactly(joined, content=content, roomId=room, timestamp=...)
    exactly(here, roomId=room, participants=[person("user_1")])


@wire("3 system", "3 history")
async def test_greeting_history_and_joined_come_in_this_order(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    said = [await first.say(str(i)) for i in range(3)]
    second = await node.enter("user_2", room, gateway=1)
    assert [f["type"] for f in second.frames] == [
        "system",
        "history",
        "system",
        "participants",
    ]
    assert second.frames[0]["content"] == "Connected to ChatRoom"
    exactly(second.frames[1], roomId=room, messages=said, lastSeq=3, gap=False)
    line = f"{NAMES['user_2']} joined the room."
    assert second.frames[2]["content"] == line
    assert (await first.wait("system"))["content"] == line
    here = await first.wait("participants")
    assert [who["id"] for who in here["participants"]] == ["user_1", "user_2"]


@wire("3 system", "3 participants")
async def test_a_user_joins_and_leaves_and_not_a_tab(node: Node) -> None:
    room = new_room()
    watcher = await node.enter("user_1", room)
    tabs = [await node.enter("user_2", room, gateway=g) for g in (0, 1)]
    assert [f["content"] for f in tabs[1].of("system")] == ["Connected to ChatRoom"]
    [two] = [f for f in tabs[1].of("participants")][-1:]
    assert [who["id"] for who in two["participants"]] == ["user_1", "user_2"]
    await tabs[0].close()
    await tabs[1].say("still here")
    await tabs[1].close()
    left = f"{NAMES['user_2']} left the room."
    await watcher.wait("system", content=left)
    here = await watcher.wait("participants")
    assert [who["id"] for who in here["participants"]] == ["user_1"]
    moved = [f["content"] for f in watcher.of("system", "chat")][2:]
    assert moved == [f"{NAMES['user_2']} joined the room.", "still here", left]


@wire("3 system", "1 direct rooms")
async def test_nobody_joins_or_leaves_a_direct_room_aloud(node: Node) -> None:
    first = await node.enter("user_3", "dm_user_3__user_4")
    second = await node.enter("user_4", "dm_user_4__user_3", gateway=1)
    await first.wait("participants", lambda f: len(f["participants"]) == 2)
    echo = await second.say("hi", id="c1")
    assert echo["roomId"] == "dm_user_3__user_4"
    assert await first.wait("chat") == echo
    await second.close()
    await first.wait("participants", lambda f: len(f["participants"]) == 1)
    assert [f["content"] for f in first.of("system")] == ["Connected to ChatRoom"]


@wire("3 participants")
async def test_changes_within_50_ms_are_one_list(node: Node) -> None:
    room = new_room()
    watcher = await node.enter("user_1", room)
    other = await node.enter("user_16", room, gateway=1)
    await watcher.wait("participants", lambda f: len(f["participants"]) == 2)
    before = len(watcher.of("participants"))
    statuses = ["busy", "away"] * 5 + ["online"]
    for status in statuses:
        await other.send("presence", status=status, displayName=f"now {status}")
    await watcher.wait(
        "participants",
        lambda f: f["participants"][1]["displayName"] == "now online",
    )
    assert len(watcher.of("participants")) - before <= 2


@wire("3 crowds", "3 participants", "3 system")
async def test_a_crowd_is_told_who_came_last_and_of_itself_and_of_nobodys_coming(
    valkey_url: str, placement: Placement | None
) -> None:
    crowd = Crowd(above=2, tick_ms=400, vast=4, vast_tick_ms=400)
    async with live(valkey_url, 2, crowd=crowd) as node:
        room = new_room()
        ones = [await node.enter(f"user_{n}", room, gateway=n % 2) for n in (1, 2, 3)]
        first, second, third = ones
        here = third.of("participants")[0]  # at once, and itself the last
        exactly(
            here,
            roomId=room,
            participants=[person("user_2"), person("user_3")],
            total=3,
        )
        told = await first.wait("participants", total=3)
        assert told["participants"] == [person("user_1"), person("user_3")]
        assert (await second.wait("participants", total=3)) == here
        tab = await node.enter("user_1", room, gateway=0)
        assert tab.of("participants")[0] == told
        await first.send("presence", status="busy", displayName="Uno")
        mine = person("user_1", displayName="Uno", status="busy")
        for each in (first, tab):
            await each.wait("participants", lambda f: f["participants"][0] == mine)
        # Back below the bound: everybody is named, and coming and going is told again.
        await third.close()
        small = await first.wait("participants", lambda f: "total" not in f)
        exactly(small, roomId=room, participants=[mine, person("user_2")])
        await second.close()
        line = await first.wait("system")
        lines = [each["content"] for each in first.of("system")]
        assert lines == [
            "Connected to ChatRoom",
            f"{NAMES['user_1']} joined the room.",
            f"{NAMES['user_2']} joined the room.",
            line["content"],
        ]
        assert line["content"] == f"{NAMES['user_2']} left the room."


# Saying.


@wire("2 chat", "3 Message", "3 echo", "3 messages", "3 seq", "2 unknown fields")
async def test_a_chat_is_shown_to_all_and_to_its_sender(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    second = await node.enter("user_2", room, gateway=1)
    await first.send("chat", content="hi\tthere\n", id="c:1", colour="red", more=[{}])
    echo = await first.wait("chat")
    exactly(
        echo,
        id="c:1",
        roomId=room,
        senderId="user_1",
        displayName=NAMES["user_1"],
        content="hi\tthere\n",
        timestamp=...,
        seq=1,
        isNudge=False,
        isWink=False,
    )
    assert type(echo["timestamp"]) is int
    assert await second.wait("chat") == echo


@wire("2 server sets", "1 identity")
async def test_what_a_client_claims_about_itself_is_ignored(node: Node) -> None:
    room = new_room()
    liar = await node.enter(
        "user_2", room, userId="user_1", displayName=NAMES["user_1"]
    )
    claims = {
        "senderId": "user_1",
        "displayName": "Somebody",
        "roomId": "general",
        "timestamp": 1,
        "seq": 99,
        "status": "read",
        "isNudge": True,
        "playAt": 1,
    }
    echo = await liar.say("it is me", id="c1", **claims)
    exactly(
        echo,
        id="c1",
        roomId=room,
        senderId="user_2",
        displayName=NAMES["user_2"],
        content="it is me",
        timestamp=...,
        seq=1,
        isNudge=False,
        isWink=False,
    )
    assert echo["timestamp"] > 1_000_000_000_000


@wire("2 id")
async def test_a_message_without_an_id_is_given_one(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    second = await node.enter("user_1", room, gateway=1)
    tabs = enumerate((first, second, first))
    ids = {(await tab.say(str(i)))["id"] for i, tab in tabs}
    assert len(ids) == 3
    assert all(0 < len(each) <= 64 for each in ids)


@wire("2 repeat", "2 other user")
async def test_an_id_is_one_message(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    tab = await node.enter("user_1", room, gateway=1)
    other = await node.enter("user_2", room)
    echo = await first.say("once", id="x")
    await tab.wait("chat")
    await other.wait("chat")
    # The same socket, another tab on another gateway, after a reconnect.
    for again in (first, tab, await node.enter("user_1", room, gateway=1)):
        await again.send("chat", content="something else", id="x")
        assert await again.wait("chat") == echo
    # Another user's equal id is another message.
    independent = await other.say("mine", id="x")
    assert independent["seq"] == 2
    await first.wait("chat", seq=2)
    await tab.wait("chat", seq=2)
    assert first.said == [1, 1, 2]  # its own repeat, nobody else's
    assert tab.said == [1, 1, 2]
    assert other.said == [1, 2]


@wire("2 repeat", "2 window")
async def test_an_id_that_left_the_buffer_is_still_one_message(
    free: Node,
) -> None:
    async with free.visit() as node:
        sender = await node.enter("user_1", room := new_room())
        echo = await sender.say("once", id="old")
        await fill(sender, 150)
        await sender.send("chat", content="again", id="old")
        assert await sender.wait("chat") == echo
        assert (await sender.say("next"))["seq"] == 152
        assert room == echo["roomId"]


# Rates.


async def refused(sender: Socket, most_ms: int, **fields: object) -> Frame:
    error = await sender.wait("error", code="RATE_LIMITED")
    assert error["retryable"] is True
    assert 0 < error["retryAfterMs"] <= most_ms
    assert error["content"] == error["message"]
    assert fields.items() <= error.items()
    return error


@wire("2 chat rate", "2 wink", "2 repeat", "3 error")
async def test_the_chat_rate_is_per_user_across_tabs_and_gateways(node: Node) -> None:
    room = new_room()
    tabs = [await node.enter("user_1", room, gateway=g) for g in (0, 1, 0)]
    other = await node.enter("user_2", room)
    for i in range(19):
        await tabs[i % 3].say(f"{i}", id=f"c{i}")
    await tabs[0].send("wink", winkId="heart")
    await tabs[0].wait("wink")
    for i, kind in enumerate(({"content": "x"}, {"winkId": "pig"})):
        name = "chat" if "content" in kind else "wink"
        await tabs[1].send(name, id=f"late{i}", **kind)
        await refused(tabs[1], 10_000, id=f"late{i}")
    # A repeat costs nothing, a new tab changes nothing, others have their own rate.
    await tabs[1].send("chat", content="0", id="c0")
    assert (await tabs[1].wait("chat"))["seq"] == 1
    fresh = await node.enter("user_1", room, gateway=1)
    await fresh.send("chat", content="x")
    assert "id" not in await refused(fresh, 10_000)
    assert (await other.say("me?"))["seq"] == 21
    elsewhere = await node.enter("user_1", new_room())
    assert (await elsewhere.say("another room"))["seq"] == 1


@wire("2 nudge", "2 chat rate", "3 Message")
async def test_the_nudge_window_slides_across_sockets(valkey_url: str) -> None:
    async with live(valkey_url, 2, nudge_rate="3/1") as node:
        room = new_room()
        tabs = [await node.enter("user_1", room, gateway=g) for g in (0, 1)]
        nudges = []
        for i in range(3):
            await tabs[i % 2].send("nudge", id=f"n{i}")
            nudges.append(await tabs[i % 2].wait("nudge", id=f"n{i}"))
        exactly(
            nudges[0],
            id="n0",
            roomId=room,
            senderId="user_1",
            displayName=NAMES["user_1"],
            content="sent a nudge.",
            timestamp=...,
            seq=1,
            isNudge=True,
            isWink=False,
        )
        await tabs[1].send("nudge", id="n3")
        error = await refused(tabs[1], 1000, id="n3")
        # Chat is another rate.
        await tabs[1].say("hello")
        await asyncio.sleep(error["retryAfterMs"] / 1000)
        await tabs[1].send("nudge", id="n3")
        again = await tabs[1].wait("nudge", id="n3")
        assert again["timestamp"] - nudges[0]["timestamp"] >= 1000


@wire("2 nudge", "2 chat rate")
async def test_rates_survive_sleep_and_crash(valkey_url: str) -> None:
    async with live(valkey_url, hibernate_after="0.2") as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        for _ in range(3):
            await tab.send("nudge")
            await tab.wait("nudge")
        await node.asleep(f"room:{room}")
        await tab.send("nudge", id="slept")
        await refused(tab, 10_000, id="slept")
        await node.kill(f"room:{room}")
        await tab.send("nudge", id="crashed")
        await refused(tab, 10_000, id="crashed")
        assert (await tab.say("chat is another rate"))["seq"] == 4


# Winks.


@wire("2 wink", "3 playback", "3 Message")
async def test_a_wink_tells_when_and_by_which_key_to_play(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    second = await node.enter("user_2", room, gateway=1)
    await first.send("wink", winkId="dancing-pig_2", id="w1")
    wink = await first.wait("wink")
    at = wink["timestamp"]
    exactly(
        wink,
        id="w1",
        roomId=room,
        senderId="user_1",
        displayName=NAMES["user_1"],
        content="sent a wink.",
        timestamp=at,
        seq=1,
        isNudge=False,
        isWink=True,
        winkId="dancing-pig_2",
        playAt=at + 500,
        playbackKey=hashlib.sha256(f"dancing-pig_2:{at}".encode()).hexdigest()[:16],
    )
    assert await second.wait("wink") == wink


# Typing.


@wire("2 typing", "3 typing")
async def test_typing_stops_by_itself_after_three_seconds(node: Node) -> None:
    room = new_room()
    typist = await node.enter("user_1", room)
    tab = await node.enter("user_1", room, gateway=1)
    other = await node.enter("user_2", room, gateway=1)
    await typist.send("typing", isTyping=True)
    shown = {"roomId": room, "senderId": "user_1", "displayName": NAMES["user_1"]}
    exactly(await other.wait("typing"), isTyping=True, **shown)
    # A repeated one only arms the three seconds again.
    await typist.send("typing", isTyping=True)
    await typist.say("…")
    rearmed = Stopwatch()
    exactly(await other.wait("typing"), isTyping=False, **shown)
    assert rearmed.wall >= 2.8 and rearmed.seconds <= 3.4
    await typist.say("done")
    await tab.wait("chat", content="done")
    assert not typist.of("typing") and not tab.of("typing")
    assert len(other.of("typing")) == 2


@wire("2 typing")
async def test_typing_stops_when_the_socket_closes(node: Node) -> None:
    room = new_room()
    other = await node.enter("user_2", room)
    typist = await node.enter("user_1", room, gateway=1)
    await typist.send("typing", isTyping=True)
    await other.wait("typing", isTyping=True)
    await typist.close()
    await other.wait("typing", isTyping=False, within=1.0)


@wire("2 typing")
async def test_at_most_five_changes_a_second_and_the_last_wins(node: Node) -> None:
    room = new_room()
    other = await node.enter("user_2", room)
    typist = await node.enter("user_1", room, gateway=1)
    for i in range(12):
        await typist.send("typing", isTyping=i % 2 == 0)
    await typist.say("said")
    await other.wait("chat")
    shown = [f["isTyping"] for f in other.of("typing")]
    assert shown == [True, False, True, False, True]
    # The sixth change was held back, and is the last word.
    await other.wait("typing", isTyping=False, within=1.5)


# Presence in a room.


@wire("2 presence", "3 participants", "4 rooms", "4 changes")
async def test_a_status_said_in_a_room_is_shown_there_and_in_presence(
    node: Node,
) -> None:
    room = new_room()
    first = await node.enter("user_17", room)
    second = await node.enter("user_2", room, gateway=1)
    watcher = await node.watch("user_3", gateway=1)
    await first.send("presence", status="busy", displayName="Seventeen")
    shown = person("user_17", displayName="Seventeen", status="busy")
    await second.wait("participants", lambda f: f["participants"][0] == shown)
    del shown["id"]
    new = {"displayName": "Seventeen", "status": "busy"}
    update = await watcher.wait("presence_update", userId="user_17", **new)
    exactly(update, userId="user_17", **shown)
    # A message carries the new name.
    assert (await first.say("hi"))["displayName"] == "Seventeen"
    await first.send("presence", status="online")
    await watcher.wait("presence_update", userId="user_17", status="online")


# Receipts.


@wire("2 ack", "3 delivery_status", "3 history")
async def test_acks_only_upgrade_and_are_shown(node: Node) -> None:
    room = new_room()
    writer = await node.enter("user_1", room)
    reader = await node.enter("user_2", room, gateway=1)
    echo = await writer.say("read me", id="c1")
    # Own, unknown and downgrading ones are ignored in silence.
    await writer.send("ack", ackId="c1", status="read")
    await reader.send("ack", ackId="nothing", status="read")
    for status in ("delivered", "delivered", "read", "delivered", "read"):
        await reader.send("ack", ackId="c1", status=status)
    await reader.say("that was all")
    await writer.wait("chat", content="that was all")
    shown = writer.of("delivery_status")
    assert [f["status"] for f in shown] == ["delivered", "read"]
    exactly(
        shown[0],
        roomId=room,
        ackId="c1",
        status="delivered",
        senderId="user_2",
        timestamp=...,
    )
    assert reader.of("delivery_status") == shown
    assert not writer.of("error") and not reader.of("error")
    later = await node.enter("user_3", room)
    assert later.of("history")[0]["messages"][0] == echo | {"status": "read"}


@wire("2 ack", "2 other user")
async def test_an_ack_means_the_newest_message_of_another(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    second = await node.enter("user_2", room)
    await first.say("one", id="x")
    await second.say("two", id="x")
    await second.send("ack", ackId="x", status="read")
    await first.wait("delivery_status", ackId="x", senderId="user_2")
    later = await node.enter("user_3", room)
    statuses = [m.get("status") for m in later.of("history")[0]["messages"]]
    assert statuses == ["read", None]


@wire("6 acks", "2 ack")
async def test_acks_beyond_a_hundred_a_second_are_dropped(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        writer = await node.enter("user_1", room)
        reader = await node.enter("user_2", room)
        for i in range(120):
            await writer.send("chat", content=f"{i}", id=f"c{i}")
        await reader.wait("chat", seq=120)
        # One burst: all are there before the first is answered.
        for i in range(120):
            await reader.send("ack", ackId=f"c{i}", status="read")
        await reader.say("and on")
        await writer.wait("chat", content="and on")
        assert len(writer.of("delivery_status")) == 100
        assert not reader.of("error")


# Ping.


@wire("2 ping")
async def test_a_ping_is_answered_and_wakes_nobody(valkey_url: str) -> None:
    async with live(valkey_url, hibernate_after="0.2") as node:
        room = new_room()
        tab = await node.enter("user_1", room)
        watcher = await node.watch("user_2")
        await tab.say("then silence")
        await node.asleep(f"room:{room}")
        await node.asleep("presence:global")
        for each in (tab, watcher):
            await each.send("ping", t=1234)
            pong = await each.wait("pong")
            exactly(pong, t=1234, timestamp=...)
            await each.send("ping")
            exactly(await each.wait("pong"), timestamp=...)
        assert await node.described() == {}
        assert abs(pong["timestamp"] - tab.of("chat")[0]["timestamp"]) < 60_000


@wire("2 ping")
async def test_pings_cost_no_rate(node: Node) -> None:
    tab = await node.enter("user_1", new_room())
    for i in range(60):
        await tab.send("ping", t=i)
    await tab.wait("pong", t=59)
    assert (await tab.say("hi"))["seq"] == 1
    assert not tab.of("error")


# Coming back.


@wire("3 since", "6 resume", "3 history")
async def test_since_brings_exactly_what_came_after(node: Node) -> None:
    room = new_room()
    first = await node.enter("user_1", room)
    said = [await first.say(str(i)) for i in range(5)]
    for since in (0, 3, 5):
        back = await node.enter("user_2", room, gateway=1, since=since)
        [history] = back.of("history")
        exactly(history, roomId=room, messages=said[since:], lastSeq=5, gap=False)
        await back.close()
    ahead = await node.enter("user_2", room, since=7)
    [history] = ahead.of("history")
    exactly(history, roomId=room, messages=[], lastSeq=5, gap=True)
    empty = await node.enter("user_2", new_room(), since=0)
    assert empty.of("history")[0]["messages"] == []


@wire("6 resume", "3 since", "3 seq")
async def test_a_client_that_comes_back_misses_nothing(node: Node) -> None:
    room = new_room()
    talker = await node.enter("user_1", room)
    got: list[int] = []
    for life in range(4):
        since = {"since": got[-1]} if got else {}
        back = await node.enter("user_2", room, gateway=life % 2, **since)
        await talker.say(f"live {life}")
        await back.wait("chat")
        await back.close()
        got += [m["seq"] for f in back.of("history") for m in f["messages"]]
        got += back.said
        await talker.say(f"missed {life}")
    assert got == list(range(1, len(got) + 1))


@wire("3 since", "3 seq", "6 resume")
async def test_since_older_than_the_buffer_is_paged_from_the_log(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        talker = await node.enter("user_1", room)
        await fill(talker, 350)
        back = await node.enter("user_2", room, since=30)
        pages = back.of("history")
        assert all(len(page["messages"]) <= 100 for page in pages)
        seqs = [m["seq"] for page in pages for m in page["messages"]]
        assert seqs == list(range(31, 351))
        assert {page["gap"] for page in pages} == {False}
        assert {page["lastSeq"] for page in pages} == {350}
        order = [f["type"] for f in back.frames if f["type"] != "system"]
        assert order == ["history"] * len(pages) + ["participants"]
        assert back.frames[0]["content"] == "Connected to ChatRoom"
        await talker.has("system", content="Tom [brb] joined the room.")
        await talker.say("and live")
        assert (await back.wait("chat"))["seq"] == 351


@wire("3 system")
async def test_a_joiner_sees_its_own_line_after_a_long_history(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        talker = await node.enter("user_1", room)
        await fill(talker, 120)
        back = await node.enter("user_2", room, since=1)
        await talker.say("and live")
        await back.wait("chat")
        line = {"content": "Tom [brb] joined the room."}
        assert [f for f in back.of("system") if line.items() <= f.items()]


@wire("3 since", "6 resume")
async def test_what_is_said_while_paging_comes_once(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        talker = await node.enter("user_1", room)
        await fill(talker, 500)
        entering = asyncio.create_task(node.enter("user_2", room, since=1))
        for i in range(100):
            await talker.say(f"meanwhile {i}")
        back = await entering
        await talker.say("last")
        await back.wait("chat", content="last")
        seqs = [m["seq"] for f in back.of("history") for m in f["messages"]]
        assert seqs + back.said == list(range(2, 602))


@wire("3 gap", "3 since")
async def test_a_gap_is_told_when_the_log_was_trimmed(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        talker = await node.enter("user_1", room)
        await fill(talker, 1300)
        back = await node.enter("user_2", room, since=5)
        pages = back.of("history")
        assert [page["gap"] for page in pages] == [True] + [False] * (len(pages) - 1)
        assert all(len(page["messages"]) <= 100 for page in pages)
        seqs = [m["seq"] for page in pages for m in page["messages"]]
        assert 6 < seqs[0] <= 301
        assert seqs == list(range(seqs[0], 1301))


@wire("3 history")
async def test_without_since_the_latest_hundred_are_shown(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        talker = await node.enter("user_1", room)
        await fill(talker, 130)
        late = await node.enter("user_2", room)
        [history] = late.of("history")
        assert [m["seq"] for m in history["messages"]] == list(range(31, 131))
        assert history["gap"] is False and history["lastSeq"] == 130


# Order.


@wire("3 seq", "3 timestamp", "3 messages")
async def test_everybody_sees_one_order(free: Node) -> None:
    async with free.visit() as node:
        room = new_room()
        people = [await node.enter(f"user_{n}", room) for n in range(1, 6)]
        for i in range(40):
            for person in people:
                await person.send("chat", content=f"{person.user_id} {i}")
        for person in people:
            await person.wait("chat", seq=200, within=10)
        assert people[0].said == list(range(1, 201))
        stories = [person.of("chat") for person in people]
        assert all(story == stories[0] for story in stories)
        times = [f["timestamp"] for f in stories[0]]
        assert times == sorted(times)
        for person in people:
            own = [f["content"] for f in stories[0] if f["senderId"] == person.user_id]
            assert own == [f"{person.user_id} {i}" for i in range(40)]
