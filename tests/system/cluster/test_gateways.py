"""Gateways that die or are told to end: whose sockets leave, and when
(design.md §3.11, §11).

They are started for a test, beside the cluster's two; only where no other may be left
do these two go as well.
"""

import asyncio
import signal
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.effort import long_only
from tests.gateway.node import Frame, Refused, Socket, error_of, eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.cluster import Cluster, Visit, gone, online
from tests.system.cluster.crowd import Crowd
from tests.system.cluster.processes import GatewayProcess

pytestmark = pytest.mark.cluster

PROMISED_S = 5.0  # design.md §3.11
THIRD = 2


@pytest.fixture
def third(cluster: Cluster, visit: Visit) -> Iterator[GatewayProcess]:
    """A gateway that a test may end; `gateway=THIRD` leads to it."""
    gateway = cluster.start_gateway()
    gateway.wait_ready()
    visit.gateways = [*visit.gateways, gateway]  # type: ignore[list-item]
    yield gateway
    gateway.stop()


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[None]:
    """Afterwards there are two gateways again."""
    yield
    cluster.replace_gateways()


def left(socket: Socket) -> int:
    return sum(f["content"].endswith("left the room.") for f in socket.of("system"))


def people(frame: Frame) -> set[str]:
    return {who["id"] for who in frame["participants"]}


async def test_the_sockets_of_a_dead_gateway_leave(
    cluster: Cluster, visit: Visit, third: GatewayProcess
) -> None:
    """F4. Who has a socket elsewhere stays."""
    room = new_room()
    here = await visit.enter("user_1", room)
    await visit.enter("user_2", room, gateway=THIRD)
    await visit.enter("user_3", room, gateway=THIRD)
    await visit.enter("user_3", room, gateway=1)
    await visit.enter("user_6", room, gateway=THIRD)
    watchers = [await visit.watch(f"user_{n}", gateway=n % 2) for n in (4, 5)]
    there = {f"user_{n}" for n in range(1, 7)}
    for each in watchers:
        await eventually(lambda each=each: online(each) == there)
    known = len(here.frames)

    third.signal(signal.SIGKILL)
    died = Stopwatch()
    truth = there - {"user_2", "user_6"}
    await eventually(lambda: left(here) == 2, PROMISED_S)
    in_room = died.seconds
    for each in watchers:
        within = PROMISED_S - (died.seconds)
        await eventually(lambda each=each: online(each) == truth, within)
    in_presence = died.seconds
    await here.say("who is here?")
    stay = {"user_1", "user_3"}
    await eventually(lambda: people(here.of("participants")[-1]) == stay, 1.0)
    who = {f["content"] for f in here.frames[known:] if f["type"] == "system"}
    assert len(who) == 2  # two left, nobody came
    cluster.measure(
        f"F4 gateway killed: its users left after {in_room:.1f} s (room), "
        f"{in_presence:.1f} s (presence)"
    )


@long_only
async def test_a_sleeping_room_drops_a_dead_gateway_at_its_wake(
    cluster: Cluster, visit: Visit, third: GatewayProcess
) -> None:
    room = new_room()
    asleep = (await visit.conjure(room, hibernate_after=0.2)).pid
    stays = await visit.enter("user_1", room)
    await visit.enter("user_2", room, gateway=THIRD)
    await stays.wait("participants", lambda f: len(people(f)) == 2)
    await eventually(lambda: gone(asleep))
    third.signal(signal.SIGKILL)
    await asyncio.sleep(PROMISED_S)
    assert left(stays) == 0
    await stays.say("who is here?")
    late = await visit.enter("user_3", room, gateway=1)
    assert people(late.of("participants")[0]) == {"user_1", "user_3"}
    await eventually(lambda: left(stays) == 1, 2.0)


async def test_the_only_gateway_dies_and_is_started_again(
    cluster: Cluster, visit: Visit, whole: None
) -> None:
    """F4 with no survivor: the next gateway buries the dead."""
    awake, sleeping = new_room(), new_room()
    await visit.conjure(awake, hibernate_after=60.0)
    asleep = (await visit.conjure(sleeping, hibernate_after=0.2)).pid
    for n, room in ((1, awake), (2, sleeping)):
        await visit.enter(f"user_{n}", room, gateway=0)
    watcher = await visit.watch("user_3", gateway=1)
    await eventually(lambda: len(online(watcher)) == 3)
    await eventually(lambda: gone(asleep))
    for each in cluster.gateways:
        each.signal(signal.SIGKILL)
        each.popen.wait(10)
    cluster.replace_gateways()  # on this thread: they end with the one that spawns
    began = time.monotonic()
    watcher = await visit.watch("user_4", gateway=0)
    late = await visit.enter("user_5", awake, gateway=0)
    woken = await visit.enter("user_6", sleeping, gateway=0)
    truth = {"user_4", "user_5", "user_6"}
    await eventually(lambda: online(watcher) == truth, PROMISED_S)
    took = time.monotonic() - began
    for each, who in ((late, "user_5"), (woken, "user_6")):
        await eventually(
            lambda each=each, who=who: people(each.of("participants")[-1]) == {who},
            PROMISED_S - (time.monotonic() - began),
        )
    cluster.measure(f"F4 all gateways killed: right {took:.1f} s after a new one began")


async def test_a_gateway_that_is_told_to_end_drains(
    cluster: Cluster, visit: Visit, third: GatewayProcess
) -> None:
    """F5. It says so first, closes with 1012 in batches, and rooms do not notice."""
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    leaving = [
        await visit.enter(f"user_{n}", room, gateway=THIRD) for n in range(5, 17)
    ]
    lives = (await visit.address(room)).pid
    async with crowd.talking(40):
        await crowd.until_acked(20)
        third.signal(signal.SIGTERM)
        began = Stopwatch()
        first = await next_closed(leaving)
        assert first.connection.close_code == 1012
        # Others are still open, and it has said for all to hear that it ends.
        assert [each for each in leaving if each.open]
        assert await ready(third) == 503
        with pytest.raises(Refused) as refused:
            await visit.enter("user_20", room, gateway=THIRD)
        assert error_of(refused.value) == (503, "AT_CAPACITY")
        codes = [await each.closed() for each in leaving]
        spread = began.seconds
        await asyncio.to_thread(third.popen.wait, 10)
        took = began.seconds
        await eventually(lambda: left(crowd.sockets[0]) == len(leaving))
        left_after = began.seconds
        await crowd.until_acked(20)
    assert set(codes) == {1012}
    assert took < 2.0 + 1.0  # CFM_DRAIN_S
    assert (await visit.address(room)).pid == lives
    await crowd.insist()
    await crowd.judge()
    assert not crowd.refused
    cluster.measure(
        f"F5 SIGTERM: {len(codes)} sockets closed within {spread:.1f} s, left after "
        f"{left_after:.1f} s, process gone after {took:.1f} s; longest pause of the "
        f"others {crowd.pause:.2f} s"
    )


async def next_closed(sockets: list[Socket]) -> Socket:
    found: list[Socket] = []

    def one() -> bool:
        found[:] = [each for each in sockets if not each.open]
        return bool(found)

    await eventually(one)
    return found[0]


async def ready(gateway: GatewayProcess) -> int:
    url = f"http://127.0.0.1:{gateway.port}/readyz"
    async with httpx2.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).status_code


@long_only
async def test_a_frozen_gateway_comes_back_under_a_new_name(
    cluster: Cluster, visit: Visit, third: GatewayProcess
) -> None:
    """Given up by the others while it was stopped; its sockets leave and come back."""
    room = new_room()
    here = await visit.enter("user_1", room)
    frozen = await visit.enter("user_2", room, gateway=THIRD)
    third.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        await eventually(lambda: left(here) == 1, PROMISED_S)
        took = time.monotonic() - stopped
        said = await here.say("without you")
    finally:
        third.signal(signal.SIGCONT)
    await here.wait(
        "participants", lambda f: people(f) == {"user_1", "user_2"}, within=5.0
    )
    assert (await frozen.has("chat"))["seq"] == said["seq"]
    await frozen.say("here again")
    assert frozen.said == [1, 2] and frozen.open
    cluster.measure(f"gateway frozen: its users left after {took:.1f} s, and came back")
