"""Rooms that share actors: killed, frozen, and moved while people talk (design.md §4).

The cluster is dedicated; each test here changes the generation of placement through a
namespace server, as `cfmessenger placement` does, and afterwards it is dedicated again.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.placement import Mode, Placement
from cfmessenger.storage import keys
from tests import patience
from tests.effort import long_only
from tests.gateway.node import Socket, eventually, new_room
from tests.system.cluster.cluster import Cluster, Visit, Watched, gone
from tests.system.cluster.crowd import Crowd
from tests.system.cluster.processes import GatewayProcess, Process
from tests.system.cluster.usurper import gateway_at, usurper

pytestmark = pytest.mark.cluster

Place = Callable[[Mode, int], Awaitable[Placement]]

SILENT = 57
USERS = 12
SOON_S = 20.0
"""A cold actor starts within, and an old one ends, on a machine with much to do."""


@pytest.fixture
async def place(cluster: Cluster) -> AsyncIterator[Place]:
    """Asked for before `visit`, so that at the end its sockets are closed first: else
    each of its rooms would become a process."""
    names = NamespaceClient(cluster.env["CFMX_NAMESPACE"])
    yield names.place
    await names.place("dedicated", 1)
    await names.close()


def rooms_in(actors: int) -> list[str]:
    """A fresh room for each actor of a pool of this size."""
    pool, found = Placement("pooled", actors), dict[str, str]()
    while len(found) < actors:
        room = new_room()
        found[pool.actor_of(f"room:{room}")] = room
    return list(found.values())


async def two_in(visit: Visit, room: str, number: int) -> tuple[Socket, Socket]:
    """Two people in a room, one at each gateway; no login has more than 20 sockets."""
    one, two = (f"user_{number % 6 + 1 + at * 6}" for at in (0, 1))
    return await visit.enter(one, room), await visit.enter(two, room, gateway=1)


async def sleepless(visit: Visit) -> int:
    """The process of a new `rooms:0` whose rooms stay awake."""
    old = (await visit.address(new_room())).pid
    # It keeps pools ready, and would make an ordinary one meanwhile.
    visit.cluster.namespace.signal(signal.SIGSTOP)
    try:
        visit.cluster.signal(old, signal.SIGKILL)
        await eventually(lambda: gone(old))
        async with patience.within(SOON_S):
            while True:
                with contextlib.suppress(Unavailable):  # a slow machine: ask again
                    at = await visit.conjure_actor("rooms:0", hibernate_after=60.0)
                    return at.pid
    finally:
        visit.cluster.namespace.signal(signal.SIGCONT)


def lines(socket: Socket) -> int:
    """How many people were said to have come or left."""
    return len(socket.of("system"))


# A pool dies.


@long_only
async def test_of_a_dead_pool_only_rooms_with_something_to_say_come_back(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    await place("pooled", 1)
    old = await sleepless(visit)
    silent = [new_room() for _ in range(SILENT)]
    seated = {room: await two_in(visit, room, n) for n, room in enumerate(silent)}
    for one, two in seated.values():
        await one.say("before")
        await two.wait("chat")
    crowds = [await Crowd.enter(visit, new_room()) for _ in range(3)]
    talking = {f"room:{crowd.room}" for crowd in crowds}
    ours = talking | {f"room:{room}" for room in silent}
    awake = {n for n, at in (await visit.described()).items() if at.pid == old}
    assert awake >= ours  # a room of an earlier test may be here as well
    cut = silent[-1]
    said_before = append_unshown(cluster, cut)
    told = {room: [lines(each) for each in both] for room, both in seated.items()}
    # On a slow machine the first have slept already while the last came in.
    lives = {room: visit.epoch(room) for room in (*silent, *(c.room for c in crowds))}

    async with contextlib.AsyncExitStack() as stack:
        for crowd in crowds:
            await stack.enter_async_context(crowd.talking(30))
        for crowd in crowds:
            await crowd.until_acked(30)
        cluster.signal(old, signal.SIGKILL)
        for crowd in crowds:
            await crowd.until_acked(60, SOON_S)
        # What was appended and not shown is found by looking, and shown.
        for each in seated[cut]:
            await each.wait("chat", content=said_before)
        # The one that was only looked for may be asleep again by now.
        awake = ours & (await visit.described()).keys()
        assert talking <= awake <= talking | {f"room:{cut}"}
    for crowd in crowds:
        await crowd.insist()
        await crowd.judge()
        assert visit.epoch(crowd.room) == lives[crowd.room] + 1
    assert [visit.epoch(room) - lives[room] for room in silent] == [
        *[0] * (SILENT - 1),
        1,
    ]

    # The silent ones wake when somebody speaks, at either gateway.
    for n, room in enumerate(silent[:10]):
        speaker, other = seated[room] if n % 2 else seated[room][::-1]
        await speaker.say("after")
        await other.wait("chat", content="after")
        assert speaker.said == other.said == [1, 2]
        assert visit.epoch(room) == lives[room] + 1
    for room, both in seated.items():
        assert all(each.open for each in both), room
        assert [lines(each) for each in both] == told[room], "nobody came or left"
    pause = max(crowd.pause for crowd in crowds)
    cluster.measure(
        f"pool of {SILENT + 3} rooms killed, 3 talk: pause max {pause:.2f} s, "
        f"{sum(len(crowd.refused) for crowd in crowds)} refused, 0 lost; woken: the 3, "
        "1 with an event that was not shown, and 10 when somebody spoke"
    )


def append_unshown(cluster: Cluster, room: str) -> str:
    """An event in the log that nobody was shown, as of a pool that died in between."""
    with cluster.admin() as client:
        key = keys.log(f"room:{room}")
        ((_, fields),) = client.xrevrange(key, count=1)
        event = msgspec.json.decode(fields[b"e"])
        event |= {"seq": 2, "id": "unshown", "content": "not shown"}
        client.xadd(key, {"e": msgspec.json.encode(event)}, id="1-2")
    return "not shown"


@long_only
async def test_a_pool_is_killed_again_and_again(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    """Its marker's epoch rises; every room is one line of history."""
    await place("pooled", 1)
    crowds = [await Crowd.enter(visit, new_room(), people=3) for _ in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for crowd in crowds:
            await stack.enter_async_context(crowd.talking(20))
        for _ in range(5):
            for crowd in crowds:
                await crowd.until_acked(10, SOON_S)
            pid = (await visit.address(crowds[0].room)).pid
            cluster.signal(pid, signal.SIGKILL)
        for crowd in crowds:
            await crowd.until_acked(10, SOON_S)
    for crowd in crowds:
        await crowd.insist()
        await crowd.judge()
    pauses = sorted(p for crowd in crowds for p in crowd.pauses[-5:])
    cluster.measure(
        f"pool killed 5 times under 4 rooms: pause p50 {pauses[len(pauses) // 2]:.2f} "
        f"s, max {pauses[-1]:.2f} s, {sum(len(c.refused) for c in crowds)} refused, "
        "0 lost"
    )


# Placement changes.


@long_only
async def test_rooms_move_while_people_talk(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    """Dedicated, and through pools of three sizes, and back."""
    rooms = [*rooms_in(3), new_room()]
    crowds = [await Crowd.enter(visit, room) for room in rooms]
    silent = new_room()
    one, two = await two_in(visit, silent, 5)
    told = [lines(each) for each in (one, two)]
    before = {room: (await visit.address(room)).pid for room in rooms}
    changes: list[tuple[Mode, int]] = [
        ("pooled", 2),
        ("pooled", 3),
        ("pooled", 1),
        ("dedicated", 1),
    ]
    pools: dict[str, set[int]] = {}
    felt: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        for crowd in crowds:
            await stack.enter_async_context(crowd.talking(20))
        for crowd in crowds:
            await crowd.until_acked(20)
        for mode, size in changes:
            made, began = await place(mode, size), time.monotonic()
            for crowd in crowds:
                await crowd.until_acked(40, SOON_S)
            addresses = [await visit.address(room) for room in rooms]
            for room, at in zip(rooms, addresses, strict=True):
                assert at.actor == made.actor_of(f"room:{room}")
                if at.pooled:
                    pools.setdefault(at.actor, set()).add(at.pid)
            # Whoever has no part in it any more ends by itself.
            here = {at.pid for at in addresses}
            old = {*before.values(), *(pid for each in pools.values() for pid in each)}
            left = {p for p in old - here if not_in(made, p, pools, before)}
            await eventually(lambda left=left: all(map(gone, left)), SOON_S)
            felt.append(f"{mode} {size} {longest_since(crowds, began):.2f} s")
    assert set(pools) == {"rooms:0", "rooms:1", "rooms:2"}
    assert f"room:{silent}" not in await visit.described(), "it follows nobody"
    await one.say("still here")
    await two.wait("chat", content="still here")
    assert [lines(each) for each in (one, two)] == told
    refused = sum(len(crowd.refused) for crowd in crowds)
    for crowd in crowds:
        await crowd.insist()
        await crowd.judge()
        assert all(lines(each) <= len(crowd.sockets) + 1 for each in crowd.sockets)
    said = sum(len(crowd.sent) for crowd in crowds)
    cluster.measure(
        f"placement changes under talk, pause max after each: {', '.join(felt)}; "
        f"{refused} of {said} refused, 0 lost"
    )


def not_in(
    made: Placement, pid: int, pools: dict[str, set[int]], rooms: dict[str, int]
) -> bool:
    """Whether this process's actor has no part in a generation."""
    names = [actor for actor, pids in pools.items() if pid in pids]
    names += [f"room:{room}" for room, own in rooms.items() if own == pid]
    return not any(map(made.has, names))


def longest_since(crowds: list[Crowd], began: float) -> float:
    """The longest time from here on for which a room acknowledged nothing."""
    longest = 0.0
    for crowd in crowds:
        crowd.look()
        after = [began, *(at for at in sorted(crowd.acked_at) if at > began)]
        longest = max(longest, *(b - a for a, b in zip(after, after[1:], strict=False)))
    return longest


@long_only
async def test_it_changes_to_and_fro_faster_than_it_spreads(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    """Rooms that are called back before they have left, or arrived."""
    crowds = [await Crowd.enter(visit, room, people=2) for room in rooms_in(2)]
    changes: list[tuple[Mode, int]] = [("pooled", 2), ("pooled", 1), ("dedicated", 1)]
    async with contextlib.AsyncExitStack() as stack:
        for crowd in crowds:
            await stack.enter_async_context(crowd.talking(20))
        for mode, size in changes * 3:
            await place(mode, size)
            await asyncio.sleep(0.15)
        for crowd in crowds:
            await crowd.until_acked(20, SOON_S)
    for crowd in crowds:
        await crowd.insist()
        await crowd.judge()
    cluster.measure(
        f"9 changes in 1.4 s: pause max {max(c.pause for c in crowds):.1f} s, "
        f"{sum(len(c.refused) for c in crowds)} of "
        f"{sum(len(c.sent) for c in crowds)} refused, 0 lost"
    )


@pytest.fixture
def second(cluster: Cluster, visit: Visit) -> Iterator[Process]:
    """Another namespace server, with a gateway of its own (`gateway=2`)."""
    server = cluster.start_namespace("second.sock")
    server.wait_ready()
    gateway: GatewayProcess = cluster.start_gateway("second.sock")
    gateway.wait_ready()
    visit.gateways = [*visit.gateways, gateway]  # type: ignore[list-item]
    yield server
    gateway.stop()
    server.stop()


async def test_a_namespace_server_that_has_not_heard_of_it_soon_has(
    cluster: Cluster, place: Place, visit: Visit, second: Process
) -> None:
    await place("pooled", 2)
    late = NamespaceClient(f"unix:{cluster.folder / 'second.sock'}")
    visit.stack.push_async_callback(late.close)
    old = (await late.placement()).number
    crowds = [
        await Crowd.enter(visit, room, people=3, gateways=3) for room in rooms_in(2)
    ]
    async with contextlib.AsyncExitStack() as stack:
        for crowd in crowds:
            await stack.enter_async_context(crowd.talking(30))
        for crowd in crowds:
            await crowd.until_acked(20)
        second.signal(signal.SIGSTOP)
        made, began = await place("pooled", 1), time.monotonic()
        second.signal(signal.SIGCONT)
        heard = began
        while (number := (await late.placement()).number) < made.number:
            heard = time.monotonic()
            await asyncio.sleep(0.01)
        assert old < number == made.number
        for crowd in crowds:
            await crowd.until_acked(30, SOON_S)
    for crowd in crowds:
        room = f"room:{crowd.room}"
        mine, theirs = await visit.names.resolve(room), await late.resolve(room)
        assert mine == theirs and mine.actor == "rooms:0"
        await crowd.insist()
        await crowd.judge()
    cluster.measure(
        f"a namespace server that had not heard: followed after {heard - began:.2f} s; "
        f"pause max {max(crowd.pause for crowd in crowds):.2f} s"
    )


# A pool that believes to be the one.


async def test_a_frozen_pool_is_replaced_and_shows_nothing(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    """As it happens: gateways notice, the namespace ends it, a new one starts."""
    await place("pooled", 1)
    crowds = [await Crowd.enter(visit, new_room()) for _ in range(2)]
    quiet = await two_in(visit, new_room(), 5)
    old = (await visit.address(crowds[0].room)).pid
    async with crowds[0].talking(30), crowds[1].talking(30):
        for crowd in crowds:
            await crowd.until_acked(20)
        cluster.signal(old, signal.SIGSTOP)
        for crowd in crowds:
            await crowd.until_acked(40, SOON_S)
        # Ray ends it 5 s after it was asked to, unless it continues before that.
        cluster.signal(old, signal.SIGCONT)
        await eventually(lambda: gone(old), SOON_S)
    await quiet[0].say("still there")
    await quiet[1].wait("chat", content="still there")
    refused = sum(len(crowd.refused) for crowd in crowds)
    for crowd in crowds:
        await crowd.insist()
        await crowd.judge()
    cluster.measure(
        f"frozen pool: pause {max(crowd.pause for crowd in crowds):.1f} s, "
        f"{refused} of {sum(len(crowd.sent) for crowd in crowds)} refused, 0 lost"
    )


async def test_a_pool_that_continues_after_it_was_taken_over(
    cluster: Cluster, place: Place, visit: Visit
) -> None:
    """Its marker ends all of it, also rooms that nobody has woken elsewhere."""
    made = await place("pooled", 1)
    old = await sleepless(visit)
    room, untouched = new_room(), new_room()
    crowd = await Crowd.enter(visit, room)
    one, two = await two_in(visit, untouched, 5)
    async with (
        Watched(cluster, room) as watched,
        gateway_at(cluster, await visit.address(room), room, "gWitness") as witness,
    ):
        first = await crowd.say(crowd.sockets[0])
        await crowd.answered()
        await asyncio.sleep(5.5)  # it looks at its marker alone from now on
        cluster.signal(old, signal.SIGSTOP)
        async with usurper(cluster, room, actor="rooms:0", placement=made) as caller:
            caller.chat(f"room:{room}", "gUsurper.1", "mine now")
            await caller.visitor.until_covered()
            said = [await crowd.say(each) for each in crowd.sockets]
            # It has this in its socket for certain, whenever gateways gave it up.
            witness.chat(f"room:{room}", "gWitness.1", "too late")
            cluster.signal(old, signal.SIGCONT)
            continued = time.monotonic()
            await eventually(lambda: gone(old))
            ended = time.monotonic() - continued
            await crowd.answered()
            # The third of its name is the gateways' own; it ends the usurper.
            await caller.until_ended()
        # `reset`: so slow a machine that its gateway was taken for dead before.
        last = caller.visitor.goodbyes[-1].reason
        assert last in ("duplicate_activation", "reset")
    assert set(said) <= crowd.acked.keys()
    assert watched.refused and watched.refused[0][0] == 1, watched.tried
    assert "duplicate_activation" in cluster.log_of(old)
    stored = [event["content"] for _, _, event in visit.stored(room)]
    assert stored[:2] == [first, "mine now"] and sorted(stored[2:]) == sorted(said)
    for socket in crowd.sockets:
        assert socket.said[-5:] == [2, 3, 4, 5, 6]
    await one.say("untouched")
    await two.wait("chat", content="untouched")
    assert one.said == two.said == [1]
    cluster.measure(
        f"pool taken over and continued: append {watched.refused[0]} was refused, "
        f"ended in {ended:.2f} s"
    )
