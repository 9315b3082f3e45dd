"""wire.md §4 over real sockets: who is there, on two gateways.

The registry is one for all, so every test has people of its own.
"""

import httpx2
import pytest

from cfmessenger.chat import mirror
from tests.gateway.edge import data_of
from tests.gateway.node import (
    Node,
    Socket,
    eventually,
    everywhere,
    exactly,
    live,
    new_room,
    person,
)
from tests.wire_rows import wire

pytestmark = everywhere


def statuses(watcher: Socket, user_id: str) -> list[str]:
    """What the watcher was told about somebody, in order, joins as "joined"."""
    told = []
    for frame in watcher.frames:
        if frame.get("userId") == user_id:
            told.append(frame.get("status", "joined"))
        people = frame.get("participants", ())
        told += [who["status"] for who in people if who["id"] == user_id]
    return told


async def list_of(node: Node, path: str, user_id: str | None = None) -> list[dict]:
    token = await node.token(user_id) if user_id else None
    async with node.gateways[0].client(token) as http:
        found: list[dict] = data_of(await http.get(path))
        return found


async def status_of(node: Node, user_id: str) -> str:
    users = await list_of(node, "/api/users")
    return next(user["status"] for user in users if user["id"] == user_id)


@wire("4 greeting", "1 absent not null")
async def test_a_watcher_is_greeted_and_told_who_is_there(node: Node) -> None:
    await node.enter("user_1", new_room())
    watcher = await node.watch("user_2", gateway=1)
    hello = watcher.frames[0]
    exactly(hello, content="Connected to Global Presence", timestamp=...)
    [sync] = watcher.of("presence_full_sync")
    exactly(sync, participants=..., online=len(sync["participants"]), scope="all")
    who = {each["id"]: each for each in sync["participants"]}
    assert {"user_1", "user_2"} <= set(who)
    assert who["user_1"] == person("user_1")


@wire("4 changes", "4 online", "4 offline")
async def test_join_update_and_offline(node: Node) -> None:
    watcher = await node.watch("user_1")
    other = await node.watch("user_5", gateway=1)
    join = await watcher.wait("presence_join", userId="user_5")
    words = {"personalMessage": ..., "avatarId": person("user_5")["avatarId"]}
    exactly(join, userId="user_5", displayName=..., **words)
    await other.send("presence_update", status="busy")
    update = await watcher.wait("presence_update", userId="user_5")
    exactly(update, userId="user_5", displayName=..., status="busy", **words)
    # Shown offline though there; nothing is told twice; back again is a join.
    await other.send("presence_update", status="offline")
    await other.send("presence_update", status="offline")
    await watcher.wait("presence_update", userId="user_5", status="offline")
    await eventually(lambda: _is(node, "user_5", "offline"))
    await other.send("presence_update", status="online")
    await watcher.wait("presence_join", userId="user_5")
    await other.close()
    await watcher.wait("presence_update", userId="user_5", status="offline")
    assert statuses(watcher, "user_5") == [
        "joined",
        "busy",
        "offline",
        "joined",
        "offline",
    ]


async def _is(node: Node, user_id: str, status: str) -> bool:
    return await status_of(node, user_id) == status


@wire("4 online")
async def test_a_user_is_online_while_any_socket_is_open(node: Node) -> None:
    watcher = await node.watch("user_1")
    in_room = await node.enter("user_6", new_room())
    await watcher.wait("presence_join", userId="user_6")
    in_dm = await node.enter("user_6", "dm_user_6__user_7", gateway=1)
    watching = await node.watch("user_6", gateway=1)
    await in_room.close()
    await in_dm.close()
    # What comes next about somebody else shows that nothing came about them.
    marker = await node.enter("user_8", new_room(), gateway=1)
    await watcher.wait("presence_join", userId="user_8")
    assert statuses(watcher, "user_6") == ["joined"]
    await watching.close()
    await watcher.wait("presence_update", userId="user_6", status="offline")
    await marker.close()
    await watcher.wait("presence_update", userId="user_8", status="offline")


@wire("4 online", "1 users", "1 presence", "4 changes")
async def test_presence_by_http_is_told_to_everybody(node: Node) -> None:
    watcher = await node.watch("user_1", gateway=1)
    there = await node.enter("user_9", new_room())
    await watcher.wait("presence_join", userId="user_9")
    async with node.gateways[1].client(there.token) as http:
        for status in ("away", "online"):
            body = {"status": status, "displayName": "Nine"}
            assert data_of(await http.post("/api/presence", json=body)) == body
            await watcher.wait(
                "presence_update", userId="user_9", displayName="Nine", status=status
            )
            await eventually(lambda s=status: _is(node, "user_9", s))


@wire("4 coalescing")
async def test_a_burst_of_changes_is_one_partial_sync(valkey_url: str) -> None:
    async with live(valkey_url, 2) as node:
        watcher = await node.watch("user_1")
        room = new_room()
        for n in range(2, 13):
            await node.enter(f"user_{n}", room, gateway=n % 2)
        people = [await node.watch(f"user_{n}", gateway=n % 2) for n in range(2, 13)]
        # One write each, so all are within one tick or two; a busy machine may spread
        # them over more, and then it is tried again.
        for status in ("away", "busy") * 4:
            before = len(watcher.frames)
            for person in people:
                await person.send("presence_update", status=status)
            for person in people:
                await eventually(
                    lambda p=person, s=status: statuses(watcher, p.user_id)[-1] == s
                )
            news = watcher.frames[before:]
            syncs = [f for f in news if f["type"] == "presence_full_sync"]
            if syncs:
                break
        assert len(syncs) >= 1 and len(news) < len(people)
        for sync in syncs:
            exactly(sync, participants=..., online=..., scope="all", partial=True)
            assert len(sync["participants"]) > 8
            assert {who["status"] for who in sync["participants"]} == {status}
        other = "busy" if status == "away" else "away"
        before = len(watcher.frames)
        await people[0].send("presence_update", status=other)
        await people[1].send("presence_update", status=other)
        await watcher.wait("presence_update", userId="user_3", status=other)
        assert {f["type"] for f in watcher.frames[before:]} == {"presence_update"}
        for person in people:
            await person.send("presence_update", status="online")
        await eventually(lambda: statuses(watcher, "user_12")[-1] == "online")


@wire("4 notification", "1 rooms", "1 Room")
async def test_a_direct_message_is_told_to_every_presence_socket_of_both(
    node: Node,
) -> None:
    a, b, c = "user_10", "user_11", "user_12"
    theirs = [
        await node.watch(user, gateway=gateway) for user in (a, b) for gateway in (0, 1)
    ]
    stranger = await node.watch(c)
    talk = await node.enter(a, f"dm_{a}__{b}", gateway=1)
    elsewhere = await node.enter(a, new_room())
    await elsewhere.say("not for the registry")
    echo = await talk.say("psst", id="p1")
    for watcher in theirs:
        told = await watcher.wait("message_notification")
        exactly(told, message=echo)
    # A repeat is no news.
    await talk.send("chat", content="psst", id="p1")
    await talk.wait("chat")
    await talk.send("nudge")
    for watcher in theirs:
        told = await watcher.wait("message_notification")
        assert told["message"]["type"] == "nudge"
        assert len(watcher.of("message_notification")) == 2
    assert not stranger.of("message_notification")
    assert not talk.of("message_notification")

    async def listed() -> bool:
        rooms = await list_of(node, "/api/rooms", b)
        return {
            "id": f"dm_{a}__{b}",
            "name": next(
                user["displayName"]
                for user in await list_of(node, "/api/users")
                if user["id"] == a
            ),
            "type": "direct",
            "participantIds": [a, b],
            "unreadCount": 2,
        } in rooms

    await eventually(listed)


@wire("1 rooms")
async def test_what_was_read_is_read_in_the_list_long_before_a_mirror(
    node: Node,
) -> None:
    a, b = "user_14", "user_15"
    room = f"dm_{a}__{b}"
    talk, reader = await node.enter(a, room), await node.enter(b, room)
    echoes = [await talk.say(f"line {n}") for n in range(3)]

    async def unread_are(count: int) -> bool:
        listed = await list_of(node, "/api/rooms", b)
        return {r["id"]: r["unreadCount"] for r in listed}.get(room) == count

    await eventually(lambda: unread_are(3))
    for echo in echoes[:2]:
        await reader.send("ack", ackId=echo["id"], status="read")
    await eventually(lambda: unread_are(1))
    await reader.send("ack", ackId=echoes[2]["id"], status="read")
    await talk.wait("delivery_status", ackId=echoes[2]["id"], status="read")
    await eventually(lambda: unread_are(0))
    # Not by the mirror, which comes seconds later and holds receipts alone.
    saved = await node.gateways[0].services.log.mirror(f"room:{room}")
    assert saved is None or not mirror.read_marks(saved)
    await node.kill(f"room:{room}")
    assert await unread_are(0)


@wire("4 client", "2 faults")
async def test_a_presence_socket_takes_two_frames(node: Node) -> None:
    watcher = await node.watch("user_13")
    await watcher.send("ping", t=5)
    exactly(await watcher.wait("pong"), t=5, timestamp=...)
    for kind in ("chat", "typing", "presence", "ack", "nonsense"):
        await watcher.send(kind, content="x", isTyping=True, status="busy")
        error = await watcher.wait("error")
        assert error["code"] == "UNKNOWN_TYPE"
    bad = [{"status": "sleeping"}, {"status": None}, {}, {"status": "busy"}]
    bad[3] |= {"displayName": "evil \u202e"}
    for fields in bad:
        await watcher.send("presence_update", **fields)
        error = await watcher.wait("error", code="VALIDATION_ERROR")
        named = "displayName" if "displayName" in fields else "status"
        assert error["message"].startswith(f"{named}: ")
    await watcher.send("presence_update", status="away")
    await watcher.wait("presence_update", userId="user_13", status="away")
    await watcher.send("presence_update", status="online")
    await watcher.wait("presence_update", userId="user_13", status="online")


@wire("4 online", "3 system")
async def test_the_registry_sleeps_and_nobody_seems_to_leave(valkey_url: str) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        watchers = [await node.watch(f"user_{n}", gateway=n % 2) for n in (1, 2)]
        quiet = await node.enter("user_3", new_room(), gateway=1)
        for watcher in watchers:
            await eventually(lambda w=watcher: statuses(w, "user_3"))
        await node.asleep("presence:global")
        before = [len(each.frames) for each in watchers]
        late = await node.enter("user_14", new_room())
        for watcher in watchers:
            await watcher.wait("presence_join", userId="user_14")
        news = [w.frames[n:] for w, n in zip(watchers, before, strict=True)]
        assert [[f["userId"] for f in each] for each in news] == [["user_14"]] * 2
        assert quiet.open and late.open


@wire("4 online", "6 resume")
async def test_after_a_crash_the_registry_is_rebuilt_from_the_sockets(
    valkey_url: str,
) -> None:
    async with live(valkey_url, 2) as node:
        watchers = [await node.watch(f"user_{n}", gateway=n % 2) for n in (1, 2)]
        there = [await node.enter("user_3", new_room(), gateway=g) for g in (0, 1)]
        await watchers[0].wait("presence_join", userId="user_3")
        await node.kill("presence:global")
        late = await node.enter("user_14", new_room())
        for watcher in watchers:
            await watcher.wait("presence_join", userId="user_14")
            # Nobody seems to have left meanwhile.
            told = [statuses(watcher, f"user_{n}") for n in (1, 2, 3)]
            assert all(set(each) <= {"online", "joined"} for each in told)
        for each in (*there, late):
            await each.close()
        for watcher in watchers:
            await watcher.wait("presence_update", userId="user_3", status="offline")


@wire("4 notification")
@pytest.mark.parametrize(
    "gateway",
    [0, 1],
)
async def test_a_notification_wakes_the_registry(valkey_url: str, gateway: int) -> None:
    async with live(valkey_url, 2, hibernate_after="0.2") as node:
        watcher = await node.watch("user_2", gateway=gateway)
        talk = await node.enter("user_1", "dm_user_1__user_2")
        await node.asleep("presence:global")
        await node.asleep("room:dm_user_1__user_2")
        echo = await talk.say("awake?")
        told = await watcher.wait("message_notification", within=0.5)
        assert told["message"] == echo


async def test_the_list_needs_no_session(node: Node) -> None:
    port = node.gateways[0].port
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/api/users")
    assert len([u for u in data_of(answer) if not u["isAiBot"]]) == 20
