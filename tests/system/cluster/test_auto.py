"""Rooms that find their own place while people talk: pinned, hot, asleep.

The cluster counts a room as hot at 1 % of its process's time; none moves for merely
living.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import NamespaceClient
from cfmessenger.placement import Mode, Placement
from tests import patience
from tests.effort import long_only
from tests.gateway.node import eventually, new_room
from tests.system.cluster.cluster import Cluster, Visit, gone
from tests.system.cluster.crowd import Crowd

pytestmark = pytest.mark.cluster

Place = Callable[[Mode, int], Awaitable[Placement]]

SOON_S = 20.0
"""A cold actor starts within, on a machine with much to do."""


@pytest.fixture
async def auto(cluster: Cluster) -> AsyncIterator[NamespaceClient]:
    """Asked for before `visit`, so that its sockets are closed first."""
    names = NamespaceClient(cluster.env["CFMX_NAMESPACE"])
    await names.place("auto", 2)
    yield names
    await names.place("dedicated", 1)
    await names.close()


async def lives_in(visit: Visit, room: str, actor: str) -> int:
    """Returns its process, once it is awake there."""
    name, found = f"room:{room}", dict[str, int]()

    async def there() -> bool:
        at = None
        with contextlib.suppress(Unavailable):  # of a server that was just replaced
            at = (await visit.described()).get(name)
        if at is not None and at.actor == actor and at.state == "running":
            found["pid"] = at.pid
        return "pid" in found

    await eventually(there, SOON_S)
    return found["pid"]


async def own_of(names: NamespaceClient, room: str) -> str | None:
    """Why it has an actor of its own."""
    return (await names.placement()).why(f"room:{room}")


@long_only
async def test_a_pinned_room_moves_and_comes_back_under_talk(
    cluster: Cluster, auto: NamespaceClient, visit: Visit
) -> None:
    room = new_room()
    name, pool = f"room:{room}", (await auto.placement()).actor_of(f"room:{room}")
    crowd = await Crowd.enter(visit, room)
    other = await Crowd.enter(visit, new_room(), people=2)
    async with crowd.talking(40), other.talking(20):
        await crowd.until_acked(20)
        pooled = await lives_in(visit, room, pool)
        await auto.pin(name)
        own = await lives_in(visit, room, name)
        await crowd.until_acked(20)
        there = crowd.pause
        await auto.unpin(name)
        assert await lives_in(visit, room, pool) == pooled
        await crowd.until_acked(20)
        await eventually(lambda: gone(own), SOON_S)
    assert await own_of(auto, room) is None
    for each in (crowd, other):
        await each.insist()
        await each.judge()
    assert not other.refused, "only the room that moves notices it"
    cluster.measure(
        f"pinned and unpinned under talk: pause {there:.2f} s there, at most "
        f"{crowd.pause:.2f} s; {len(crowd.refused)} of {len(crowd.sent)} refused, "
        "0 lost"
    )


async def test_a_hot_room_gets_its_own_actor_and_gives_it_back_asleep(
    cluster: Cluster, auto: NamespaceClient, visit: Visit
) -> None:
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    async with crowd.talking(150):
        own = await lives_in(visit, room, f"room:{room}")
        assert await own_of(auto, room) == "hot"
        await crowd.until_acked(50)
    await crowd.insist()
    pause = crowd.pause
    await eventually(lambda: gone(own), SOON_S)  # nobody speaks: it sleeps

    async def given_back() -> bool:
        return await own_of(auto, room) is None

    await eventually(given_back, SOON_S)
    await crowd.judge()
    cluster.measure(f"a hot room moved, 150 messages a second: pause {pause:.2f} s")


@long_only
@pytest.mark.parametrize("victim", ["pool", "own", "namespace"])
async def test_whatever_dies_in_the_middle_of_a_move(
    cluster: Cluster, auto: NamespaceClient, visit: Visit, victim: str
) -> None:
    room = new_room()
    name, pool = f"room:{room}", (await auto.placement()).actor_of(f"room:{room}")
    crowd = await Crowd.enter(visit, room)
    async with crowd.talking(40):
        await crowd.until_acked(20)
        pooled = await lives_in(visit, room, pool)
        await auto.pin(name)
        if victim == "pool":
            cluster.signal(pooled, signal.SIGKILL)
        elif victim == "own":
            own = await lives_in(visit, room, name)
            cluster.signal(own, signal.SIGKILL)
        else:
            cluster.replace_namespace()
        await lives_in(visit, room, name)
        await crowd.until_acked(20, SOON_S)
        async with patience.within(SOON_S):
            while await own_of(auto, room) is not None:
                with contextlib.suppress(Unavailable):
                    await auto.unpin(name)
        await lives_in(visit, room, pool)
        await crowd.until_acked(20, SOON_S)
    await crowd.insist()
    await crowd.judge()


async def test_when_all_pools_die_at_once_they_are_there_again(
    cluster: Cluster, auto: NamespaceClient, visit: Visit
) -> None:
    rooms = dict[str, str]()
    placement = await auto.placement()
    while len(rooms) < 2:
        room = new_room()
        rooms[placement.actor_of(f"room:{room}")] = room
    crowds = [await Crowd.enter(visit, room, people=2) for room in rooms.values()]
    old = [(await visit.address(room)).pid for room in rooms.values()]
    await asyncio.gather(*(each.judge() for each in crowds))
    for pid in old:
        cluster.signal(pid, signal.SIGKILL)
    for each in crowds:
        await each.say(each.sockets[0])
        await each.answered(SOON_S)
        await each.insist()
        await each.judge()
