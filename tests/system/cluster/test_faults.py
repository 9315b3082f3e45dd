"""Rooms, presence and Valkey killed, frozen, cut off and filled, under load.

One test for a row of design.md §11. Sockets stay open through all of it, what was
acknowledged is kept, and what was refused appears at most once: the `Crowd` judges.
"""

import asyncio
import random
import signal
import time

import psutil
import pytest

from tests.effort import long_only
from tests.gateway.node import DeafSocket, eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.cluster import Cluster, Visit, gone, online
from tests.system.cluster.crowd import Crowd, quantile
from tests.valkey_proxy import proxied

pytestmark = pytest.mark.cluster

SLOWEST_S = 3.0  # a busy machine; what is measured is printed

KILLS = 8
SEED = 11


# F1: a room's process dies.


@long_only
async def test_a_room_is_killed_at_random(cluster: Cluster, visit: Visit) -> None:
    random_s = random.Random(SEED).uniform
    room = new_room()
    crowd = await Crowd.enter(visit, room, people=6)
    async with crowd.talking(100):
        await crowd.until_acked(50)
        for _ in range(KILLS):
            before = visit.epoch(room)
            old = (await visit.address(room)).pid
            cluster.signal(old, signal.SIGKILL)
            # Acknowledgements alone may be those from before, not yet read here: then
            # the next would die before it has an epoch.
            await visit.until_above(room, before, 15)
            await crowd.until_acked(50, 15)
            await asyncio.sleep(random_s(0.0, 0.3))
    await crowd.insist()
    events = await crowd.judge()
    epoch = visit.stored(room)[-1][0]
    assert epoch == KILLS + 1
    p50 = crowd.pauses[-KILLS:][KILLS // 2]
    cluster.measure(
        f"F1 room killed {KILLS} times (seed {SEED}): {len(events)} messages, "
        f"{len(crowd.refused)} refused, 0 lost; pause p50 {p50:.2f} s, "
        f"max {crowd.pause:.2f} s"
    )


@pytest.mark.parametrize("point", ["before_append:7", "after_append:7"])
async def test_a_room_dies_around_an_append(
    cluster: Cluster, visit: Visit, point: str
) -> None:
    """Before it nothing was kept; after it everything, though nobody was told."""
    room = new_room()
    old = (await visit.conjure(room, hibernate_after=60.0, crash_at=point)).pid
    crowd = await Crowd.enter(visit, room)
    while not gone(old):
        for each in crowd.sockets:
            await crowd.say(each)
        await crowd.answered()
    assert not crowd.refused
    kept = [epoch for epoch, _, _ in visit.stored(room)].count(1)
    await crowd.judge()
    cluster.measure(
        f"F1 killed {point}: {kept} events of the first epoch, pause {crowd.pause:.2f}"
    )


@pytest.mark.parametrize("point", ["before_mirror", "after_mirror"])
async def test_a_room_dies_while_it_falls_asleep(
    cluster: Cluster, visit: Visit, point: str
) -> None:
    """It said no goodbye, so it crashed, whatever it had written."""
    room = new_room()
    old = (await visit.conjure(room, hibernate_after=0.2, crash_at=point)).pid
    crowd = await Crowd.enter(visit, room)
    for each in crowd.sockets:
        await crowd.say(each)
    await eventually(lambda: gone(old))
    told = [each.of("system") for each in crowd.sockets]
    for each in crowd.sockets:
        await crowd.say(each)
    await crowd.answered()
    assert not crowd.refused
    events = await crowd.judge()
    assert len(events) == 9
    assert [each.of("system") for each in crowd.sockets] == told  # nobody came or left


# F9: the room cannot reach Valkey, everybody else can.


@long_only
async def test_a_room_that_is_cut_off_from_valkey(
    cluster: Cluster, visit: Visit
) -> None:
    room = new_room()
    async with proxied(cluster.valkey.url) as proxy:
        await visit.conjure(room, hibernate_after=60.0, valkey_url=proxy.url)
        crowd = await Crowd.enter(visit, room)
        one, two = crowd.sockets[:2]
        await crowd.say(one)
        await crowd.answered()
        await one.send("typing", isTyping=True)
        await two.wait("typing", isTyping=True)
        await two.wait("typing", isTyping=False)

        proxy.stall()
        proxy.hold_requests()
        await asyncio.sleep(2.6)  # 2 s, and a look at the log each half second
        before = [len(each.frames) for each in crowd.sockets]
        await one.send("typing", isTyping=True)
        said = [await crowd.say(each) for each in crowd.sockets]
        await one.send("ping")
        await one.wait("pong")
        await crowd.answered(7.0)
        late = [crowd.refused[name] - crowd.sent[name] for name in said]
        assert all(4.0 < each < 6.0 for each in late), late
        for socket, start in zip(crowd.sockets, before, strict=True):
            shown = {frame["type"] for frame in socket.frames[start:]}
            assert shown <= {"error", "pong"}, shown

        proxy.flow()
        healed = time.monotonic()
        await crowd.insist()
        took = time.monotonic() - healed
        events = await crowd.judge()
        assert len(events) == 6
    cluster.measure(
        f"F9 cut off from Valkey: refused after {max(late):.1f} s, nothing shown, "
        f"all there {took:.1f} s after it healed"
    )


# F11, F12, F15: Valkey itself.


async def test_valkey_is_killed_and_started_again(
    cluster: Cluster, visit: Visit
) -> None:
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    async with crowd.talking(60):
        await crowd.until_acked(60)
        cluster.valkey.kill()
        await asyncio.sleep(1.0)
        cluster.valkey.start()
        await cluster.valkey.answers()
        back = time.monotonic()
        await crowd.until_acked(60)
        first = min(at for at in crowd.acked_at if at > back) - back
    await crowd.insist()
    await crowd.judge()
    cluster.measure(
        f"F11 Valkey killed, back after 1 s: pause {crowd.pause:.1f} s, of it "
        f"{first:.1f} s with Valkey there; {len(crowd.refused)} of {len(crowd.sent)} "
        f"refused, 0 lost"
    )


@long_only
async def test_valkey_is_frozen_for_seven_seconds(
    cluster: Cluster, visit: Visit
) -> None:
    """What was appended without an answer may be there, and never twice."""
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    async with crowd.talking(30):
        await crowd.until_acked(30)
        cluster.valkey.freeze()
        try:
            await asyncio.sleep(7.0)
        finally:
            cluster.valkey.thaw()
        await crowd.until_acked(30)
    assert crowd.refused
    waited = max(at - crowd.sent[name] for name, at in crowd.refused.items())
    await crowd.answered()
    # Every client that was refused asks again; some of it is there already.
    there = {event["id"] for _, _, event in visit.stored(room)}
    landed = len(there & crowd.refused.keys())
    await crowd.insist()
    await crowd.judge()
    cluster.measure(
        f"F12 Valkey frozen 7 s: {len(crowd.refused)} of {len(crowd.sent)} refused "
        f"after {waited:.1f} s at most, {landed} of them were kept, 0 doubled"
    )


async def test_the_disk_is_full(cluster: Cluster, visit: Visit) -> None:
    """`always`: Valkey ends rather than say yes. With room again all goes on."""
    if not cluster.small_disk:
        pytest.skip("no tmpfs of a fixed size can be mounted here")
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    ballast = cluster.folder / "valkey" / "ballast"
    async with crowd.talking(60):
        await crowd.until_acked(60)
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(2**16))
            except OSError:
                pass
        await eventually(lambda: cluster.valkey.ended, 15)
        ballast.unlink()
        cluster.valkey.start()
        await cluster.valkey.answers()
        await crowd.until_acked(60)
    await crowd.insist()
    await crowd.judge()
    cluster.measure(
        f"F15 disk full: {len(crowd.refused)} of {len(crowd.sent)} refused, 0 lost, "
        f"pause {crowd.pause:.1f} s"
    )


# F18: clients that do not read.


async def test_slow_clients_cost_the_others_nothing(
    cluster: Cluster, visit: Visit
) -> None:
    room = new_room()
    long = "漢" * 2000
    before, crowd = [await Crowd.enter(visit, r, people=6) for r in (new_room(), room)]
    async with before.talking(100, long):
        await asyncio.sleep(2.0)
    await before.answered()
    deaf = [
        await DeafSocket.open(visit, f"user_{n}", f"/api/ws/room/{room}")
        for n in range(7, 13)
    ]
    one = crowd.sockets[0]

    def left() -> int:
        return sum(f["content"].endswith(" left the room.") for f in one.of("system"))

    gateway = cluster.gateways[0].pid
    peak = start = rss_mib(gateway)
    async with crowd.talking(100, long):
        while left() < len(deaf):
            await asyncio.sleep(0.1)
            peak = max(peak, rss_mib(gateway))
    await crowd.answered()
    assert not crowd.refused
    for each in deaf:
        assert (await each.drain()).endswith(b"\x88\x0f\x03\xf5slow consumer")
        each.line.close()
    await crowd.judge()
    alone, beside = quantile(before.waits, 0.99), quantile(crowd.waits, 0.99)
    grown = (peak - start) / len(deaf)
    assert beside < SLOWEST_S, "a deaf client's megabytes would take far longer"
    assert grown < 6.0
    cluster.measure(
        f"F18 {len(deaf)} deaf among {len(crowd.sockets)}: closed 1013; p99 of the "
        f"others {beside * 1000:.0f} ms (alone {alone * 1000:.0f} ms); "
        f"{grown:.1f} MiB for each deaf one at most"
    )


def rss_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


# F25: the registry dies.


async def test_presence_is_killed(cluster: Cluster, visit: Visit) -> None:
    """Who comes and goes meanwhile is known within 5 s, old watchers and new."""
    watchers = [await visit.watch(f"user_{n}", gateway=n % 2) for n in (1, 2)]
    leaver = await visit.enter("user_3", new_room(), gateway=0)
    await visit.enter("user_4", new_room(), gateway=1)
    for each in watchers:
        await eventually(lambda each=each: len(online(each)) == 4)
    cluster.signal((await visit.presence()).pid, signal.SIGKILL)
    died = Stopwatch()
    await leaver.close()
    entered = asyncio.create_task(visit.enter("user_5", new_room(), gateway=1))
    truth = {"user_1", "user_2", "user_4", "user_5"}
    for each in watchers:
        await eventually(lambda each=each: online(each) == truth)
    took = died.seconds
    await entered
    late = await visit.watch("user_1", gateway=1)
    assert online(late) == truth
    cluster.measure(f"F25 presence killed: everybody right again after {took:.2f} s")
