"""wire.md §4 in a crowd, over real sockets: who hears of whom, on two gateways.

A crowd is more than five people here, until four are left.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from cfmessenger.accounts.users import Directory
from cfmessenger.chat.effects import News
from cfmessenger.link.arrivals import USUAL
from cfmessenger.load.actor_room import payloads
from cfmessenger.wire.protocol import Participant
from gateway.live.watching import Watching
from gateway.metrics import Traffic
from tests.gateway.live.test_stub import Outlet
from tests.gateway.node import Frame, Node, Socket, eventually, exactly, live, new_room
from tests.wire_rows import wire

MOST = 5


@asynccontextmanager
async def crowded(valkey_url: str, **settings: str) -> AsyncIterator[Node]:
    """Six people whom nobody watches, in a room at either gateway."""
    chosen = {"presence_all": str(MOST), "bots_active": "0", **settings}
    async with live(valkey_url, 2, **chosen) as node:
        room = new_room()
        for n in range(10, 16):
            await node.enter(f"user_{n}", room, gateway=n % 2)
        yield node


def names(frame: Frame) -> dict[str, str]:
    assert frame["type"] == "presence_full_sync"
    return {who["id"]: who["status"] for who in frame["participants"]}


def told(watcher: Socket) -> list[tuple[str, str, str]]:
    """What it was told of single people: what, of whom, their status."""
    return [
        (frame["type"], frame["userId"], frame.get("status", "online"))
        for frame in watcher.frames
        if "userId" in frame
    ]


async def last_of(watcher: Socket, user_id: str, status: str) -> None:
    await eventually(
        lambda: [s for _, who, s in told(watcher) if who == user_id][-1:] == [status]
    )


@wire("4 greeting", "4 watch", "4 scope")
async def test_in_a_crowd_a_socket_hears_of_those_alone_whom_it_watches(
    valkey_url: str,
) -> None:
    async with crowded(valkey_url) as node:
        one = await node.watch("user_1")
        two = await node.watch("user_2", gateway=1)
        for watcher in (one, two):
            [sync] = watcher.of("presence_full_sync")
            exactly(sync, participants=..., online=..., scope="watched")
            assert names(sync) == {watcher.user_id: "online"}
            assert sync["online"] > MOST
        await one.send("watch", userIds=["user_10", "user_2", "user_17", "nobody"])
        answer = await one.wait("presence_full_sync")
        exactly(answer, participants=..., online=8, scope="watched", partial=True)
        # Those who are offline too, for a client may have known better before.
        expected = {"user_10": "online", "user_2": "online", "user_17": "offline"}
        assert names(answer) == expected
        # Who was asked for already is answered as well.
        await one.send("watch", userIds=["user_10"])
        assert names(await one.wait("presence_full_sync")) == {"user_10": "online"}
        three = await node.watch("user_17", gateway=1)
        await one.wait("presence_join", userId="user_17")
        await two.send("presence_update", status="busy")
        await one.wait("presence_update", userId="user_2", status="busy")
        await three.send("presence_update", status="away")
        await one.wait("presence_update", userId="user_17", status="away")
        await one.send("unwatch", userIds=["user_17"])
        await three.close()
        await two.send("presence_update", status="online")
        await one.wait("presence_update", userId="user_2", status="online")
        assert [each for each in told(one) if each[1] == "user_17"] == [
            ("presence_join", "user_17", "online"),
            ("presence_update", "user_17", "away"),
        ]
        # The other has watched nobody, and heard of itself alone.
        assert {who for _, who, _ in told(two)} == {"user_2"}


@wire("4 scope")
async def test_the_scope_follows_the_number_of_people_both_ways(
    valkey_url: str,
) -> None:
    chosen = {"presence_all": "4", "bots_active": "0"}
    async with live(valkey_url, 2, **chosen) as node:
        one = await node.watch("user_1")
        two = await node.watch("user_2", gateway=1)
        await one.send("watch", userIds=["user_3"])
        answer = await one.wait("presence_full_sync")
        exactly(answer, participants=..., online=2, scope="all", partial=True)
        assert names(answer) == {"user_3": "offline"}
        rooms = [
            await node.enter(f"user_{n}", new_room(), gateway=n % 2) for n in (3, 4)
        ]
        for watcher in (one, two):
            for n in (3, 4):
                await watcher.wait("presence_join", userId=f"user_{n}")
        # Five are more than four.
        fifth = await node.enter("user_5", new_room())
        sync = await one.wait("presence_full_sync")
        exactly(sync, participants=..., online=5, scope="watched")
        assert names(sync) == {"user_1": "online", "user_3": "online"}
        sync = await two.wait("presence_full_sync")
        assert names(sync) == {"user_2": "online"}
        # Four are not few enough yet; three are.
        await fifth.close()
        await rooms[0].close()
        for watcher in (one, two):
            sync = await watcher.wait("presence_full_sync")
            exactly(sync, participants=..., online=3, scope="all")
            assert set(names(sync)) == {"user_1", "user_2", "user_4"}
        await node.enter("user_6", new_room())
        for watcher in (one, two):
            await watcher.wait("presence_join", userId="user_6")


@wire("4 watch", "2 faults")
async def test_more_than_500_are_refused_and_change_nothing(valkey_url: str) -> None:
    async with crowded(valkey_url) as node:
        one = await node.watch("user_1")
        for start in (0, 250):
            ids = [f"nobody_{n}" for n in range(start, start + 250)]
            await one.send("watch", userIds=ids)
            assert names(await one.wait("presence_full_sync")) == {}
        await one.send("watch", userIds=["nobody_7", "user_10"])
        error = await one.wait("error", code="VALIDATION_ERROR")
        assert error["message"].startswith("userIds: must be at most 500")
        await one.send("unwatch", userIds=["nobody_7"])
        await one.send("watch", userIds=["nobody_8", "user_10"])
        assert names(await one.wait("presence_full_sync")) == {"user_10": "online"}
        bad = [{}, {"userIds": "user_1"}, {"userIds": [1]}, {"userIds": ["NO\n"]}]
        bad.append({"userIds": [f"n{n}" for n in range(501)]})
        for kind in ("watch", "unwatch"):
            for fields in bad:
                await one.send(kind, **fields)
                error = await one.wait("error", code="VALIDATION_ERROR")
                assert error["message"].startswith("userIds")
        room = await node.enter("user_1", new_room())
        await room.send("watch", userIds=["user_10"])
        await room.wait("error", code="UNKNOWN_TYPE")


@wire("4 scope", "4 notification")
async def test_who_has_a_direct_room_with_it_is_told_without_being_watched(
    valkey_url: str,
) -> None:
    async with crowded(valkey_url) as node:
        talk = await node.enter("user_10", "dm_user_1__user_10", gateway=1)
        await talk.say("before")
        # Of what was said before a socket came the index tells; it is written behind.
        await eventually(lambda: _syncs_with(node, "user_10"))
        one = await node.watch("user_1")
        assert set(names(one.of("presence_full_sync")[0])) == {"user_1", "user_10"}
        await one.send("watch", userIds=["user_10"])
        await one.send("unwatch", userIds=["user_10"])
        await talk.send("presence", status="busy")
        await last_of(one, "user_10", "busy")
        # Opened later, and at the other gateway.
        await node.enter("user_1", "dm_user_1__user_11", gateway=1)
        await last_of(one, "user_11", "online")
        assert not [each for each in told(one) if each[1] == "user_12"]
        # Or something is said there by the other one.
        opened = await node.enter("user_12", "dm_user_1__user_12")
        echo = await opened.say("psst")
        note = await one.wait("message_notification")
        assert note["message"] == echo
        await last_of(one, "user_12", "online")


async def _syncs_with(node: Node, user_id: str) -> bool:
    async with AsyncExitStack():
        probe = await node.watch("user_1", gateway=1)
        found = user_id in names(probe.of("presence_full_sync")[0])
        await probe.close()
        return found


@wire("4 scope", "4 online")
async def test_whom_sockets_watch_survives_the_registry(valkey_url: str) -> None:
    async with crowded(valkey_url, hibernate_after="0.2") as node:
        one = await node.watch("user_1")
        two = await node.watch("user_2", gateway=1)
        for watcher in (one, two):
            await watcher.send("watch", userIds=["user_3"])
            await watcher.wait("presence_full_sync", partial=True)
        await node.asleep("presence:global")
        # Asked of one that sleeps.
        await two.send("watch", userIds=["user_11"])
        answer = await two.wait("presence_full_sync", partial=True)
        assert names(answer) == {"user_11": "online"}
        await node.kill("presence:global")
        three = await node.watch("user_3")
        for watcher in (one, two):
            await watcher.wait("presence_join", userId="user_3")
        await three.close()
        for watcher in (one, two):
            await watcher.wait("presence_update", userId="user_3", status="offline")
            # Nobody seemed to leave, and nobody crossed anything.
            assert {who for _, who, _ in told(watcher)} == {"user_3"}
            whole = [f for f in watcher.of("presence_full_sync") if "partial" not in f]
            assert len(whole) == 1


def shown(name: str, many: int) -> list[Participant]:
    return [Participant(f"{name}_{n}", f"{name} {n}", "online") for n in range(many)]


async def test_who_comes_in_a_storm_is_told_of_at_the_end_of_its_round() -> None:
    watching = Watching(Directory.load(), lambda: None, Traffic())
    one = Outlet("a.1")
    watching.enter(one, ())
    wants = watching.leaving()
    assert wants is not None
    here, alone = shown("guest", USUAL.above + 1), shown("other", 1)
    storm = shown("more", USUAL.burst + 1)

    def tell(whole: bool, people: list[Participant]) -> None:
        online, batch = USUAL.above + len(people), wants.batch
        watching.told(News(False, online, batch, whole, people, [], []))

    tell(True, here)
    tell(False, alone)
    assert len(one.got) == 2
    tell(False, storm)
    assert len(one.got) == 2
    await eventually(lambda: len(one.got) == 3)
    blob, _ = one.got[-1]
    [sync] = map(msgspec.json.decode, payloads(blob))
    assert sync["partial"] and len(names(sync)) == len(storm)
    watching.end()
