"""Each row: what becomes of a Valkey Cluster, and what people may notice of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog
from tests.gateway.node import eventually
from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import Scene, scene
from tests.system.chaos.messenger import Messenger
from tests.system.chaos.report import waits
from tests.system.shards.cost import SECONDS, Cost, cost
from tests.valkey_cluster import Node, ValkeyCluster, own_valkey_cluster

PEOPLE = 25
ROOMS, SEATS, RATE = 12, 3, 150.0
WARM_S, BETWEEN_S, AFTER_S = 4.0, 3.0, 8.0
PAUSE_S = 3.0
"""The longest that anybody may wait."""
WITHIN = 0.10
"""So much more CPU an append may take on three shards than on one."""
EVEN = 0.05
NAMES = 30_000


KIND: type[Messenger] = Messenger
"""Which is started; `--here` changes it."""


class Ground(NamedTuple):
    scene: Scene
    cluster: ValkeyCluster

    def longest(self, begin: float, end: float, rooms: list[str]) -> float:
        """Of all that was said in these rooms between, the longest that one waited for
        the echo, however often it was refused before."""
        found = [
            at - each.t
            for each, at, _ in waits(self.scene.history)
            if begin <= each.t < end and each.room in rooms
        ]
        return max(found, default=0.0)

    async def judged(self) -> None:
        """Once all is quiet, what everybody saw is compared with the log."""
        self.scene.expect(await self.scene.settled(30.0), "not everything was answered")
        await self.scene.read_logs()
        self.scene.expect(not self.scene.verdict(), "the checker's verdict")


@asynccontextmanager
async def ground(seed: int, replicas: int) -> AsyncIterator[Ground]:
    """Three shards, a messenger on them, and people who talk."""
    with own_valkey_cluster(replicas=replicas) as cluster:
        env = {
            "CFM_VALKEY_URL": cluster.url,
            "CFM_BOTS_ACTIVE": "0",
            "CFM_PLACEMENT": "pooled",
        }
        async with scene(PEOPLE, seed, None, KIND, **env) as made:
            made.say(f"ready after {made.messenger.start_s:.1f} s")
            for room in range(ROOMS):
                for seat in range(SEATS):
                    n = (room + seat) % PEOPLE
                    await made.chatter(f"r{room}-{seat}", n, f"r{room}")
            await made.connected()
            talk = made.talk(made.chatters, RATE)
            await asyncio.sleep(WARM_S)
            yield Ground(made, cluster)
            talk.cancel()


def _log(room: str) -> str:
    return keys.log(f"room:{room}")


async def slot_moved(seed: int) -> bool:
    """Slots of rooms that talk go to another shard, key by key and at once."""
    async with ground(seed, 0) as g:
        s, paused = g.scene, []
        ways: list[tuple[str, Callable[[str], None]]] = [
            ("key by key", g.cluster.move),
            ("at once", g.cluster.move_at_once),
        ]
        for n in range(6):
            room, (how, move) = f"r{n}", ways[n % 2]
            began = time.monotonic()
            await asyncio.to_thread(move, _log(room))
            took = time.monotonic() - began
            s.history.add(h.Fault(began, time.monotonic(), "slot-moved", room, []))
            await asyncio.sleep(BETWEEN_S)
            longest = g.longest(began - 0.5, began + took + BETWEEN_S, [room])
            paused.append(longest)
            s.say(f"{room} moved {how} in {took:.2f} s: longest wait {longest:.2f} s")
        await asyncio.sleep(AFTER_S)
        s.expect(max(paused) <= PAUSE_S, f"somebody waited for more than {PAUSE_S:g} s")
        await _quiet(g)
        return not s.failed


async def primary_killed(seed: int) -> bool:
    """A primary dies, and its replica takes over."""
    async with ground(seed, 1) as g:
        s = g.scene
        rooms = [f"r{n}" for n in range(ROOMS)]
        dead = g.cluster.owner(_log("r0"))
        theirs = [room for room in rooms if g.cluster.owner(_log(room)) is dead]
        others = [room for room in rooms if room not in theirs]
        began = time.monotonic()
        dead.kill()
        await eventually(lambda: _elsewhere(g.cluster, dead), within=20)
        took = time.monotonic() - began
        s.history.add(h.Fault(began, time.monotonic(), "primary-killed", "", []))
        await asyncio.sleep(AFTER_S)
        end = time.monotonic()
        await _quiet(g)
        longest = g.longest(began - 0.5, end, theirs)
        s.say(
            f"another took over after {took:.2f} s; the longest wait was {longest:.2f} "
            f"s in the {len(theirs)} rooms of its slots, "
            f"{g.longest(began - 0.5, end, others):.2f} s in the {len(others)} others"
        )
        s.expect(longest <= PAUSE_S, f"somebody waited for more than {PAUSE_S:g} s")
        return not s.failed


async def _elsewhere(cluster: ValkeyCluster, dead: Node) -> bool:
    return await asyncio.to_thread(cluster.living_owner, _log("r0")) not in (dead, None)


async def _quiet(g: Ground) -> None:
    for task in g.scene._tasks:
        task.cancel()
    await g.judged()


async def appends(seed: int) -> bool:
    """What an append costs, on one shard and on three: CPU of all processes."""
    Scene.say(
        f"{'':22}{'appends/s':>10}{'CPU µs an append: all':>24}{'appender':>10}"
        f"{'servers':>9}{'p50 ms':>8}"
    )
    good = True
    for what, rooms, rate in (("paced", 300, 2000.0), ("as fast as it goes", 300, 0.0)):
        found: dict[int, list[Cost]] = {1: [], 3: []}
        for _ in range(3):  # turn and turn about, for a machine that is not quiet
            for shards in found:
                found[shards].append(await cost(shards, rooms, rate))
        one, three = (sorted(found[n], key=lambda c: c.total)[1] for n in (1, 3))
        for shards, each in ((1, one), (3, three)):
            Scene.say(f"{what}, {shards} shard(s)".ljust(22) + each.row())
        more = three.total / one.total - 1
        Scene.say(f"CPU an append on three shards: {more:+.0%}")
        if rate == 0.0:
            good &= more <= WITHIN
    for shards in (1, 3):
        alone = await cost(shards, 1, 0.0)
        Scene.say(f"one room, {shards} shard(s)".ljust(22) + alone.row())
    Scene.say(f"medians of 3 runs of {SECONDS:g} s")
    return good


async def spread(seed: int) -> bool:
    """Rooms are spread over shards as evenly as slots are."""
    with own_valkey_cluster() as cluster:
        log = ValkeyLog(cluster.url, 1000)
        await log.ask("EXISTS", "cfm:x")
        names = (_log(f"{seed}-{n}") for n in range(NAMES))
        counts = Counter(map(log.server_of, names))
        log.close()
    found = sorted(counts.values())
    Scene.say(f"{NAMES} rooms on three shards: {', '.join(map(str, found))}")
    return len(found) == 3 and found[-1] - found[0] <= EVEN * NAMES / 3


ROWS: dict[str, Callable[[int], Coroutine[Any, Any, bool]]] = {
    row.__name__: row for row in (slot_moved, primary_killed, appends, spread)
}
