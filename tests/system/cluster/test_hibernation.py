"""F21: messages that arrive between the decision to sleep and the end of the process.

In one process, so that 200 of them can be aimed at that moment; and a few on Ray, whose
processes really end.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from actors.host_settings import HostSettings
from actors.pace import Pace
from cfmessenger.asgi import build
from tests.effort import long_only
from tests.gateway.edge import serving, settings_for
from tests.gateway.node import Node, Refused, Socket, error_of, eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.cluster import Cluster, Visit, gone
from tests.system.cluster.crowd import Crowd, quantile
from tests.system.cluster.dedicated import DedicatedHosts

pytestmark = pytest.mark.cluster

ROOMS, ROUNDS, SEED = 20, 10, 21
ANSWERED_S = 5.0


class Dozing(NamedTuple):
    """Two gateways over dedicated hosts; `points` has who waits for a moment."""

    node: Node
    hosts: DedicatedHosts
    points: dict[tuple[str, str], asyncio.Event]


@pytest.fixture
async def dozing(valkey_url: str, tmp_path: Path) -> AsyncIterator[Dozing]:
    points: dict[tuple[str, str], asyncio.Event] = {}

    def at(name: str, point: str) -> None:
        if (event := points.get((name, point))) is not None:
            event.set()

    rates = {"chat_rate": "0", "open_rooms": "1", "hibernate_after": "0.001"}
    settings = settings_for(valkey_url, data_dir=str(tmp_path), **rates)
    quick = replace(HostSettings.of(settings), pace=Pace(tick_s=0.05))
    hosts = DedicatedHosts(quick, at)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(hosts.close)
        gateways = [
            await stack.enter_async_context(serving(build(settings, hosts), settings))
            for _ in range(2)
        ]
        async with AsyncExitStack() as opened:
            node = Node(valkey_url, hosts, gateways, opened)  # type: ignore[arg-type]
            yield Dozing(node, hosts, points)


async def test_a_message_that_meets_a_room_falling_asleep(
    dozing: Dozing, measure: Callable[[str], None]
) -> None:
    """200 tries at the mirror, before it, after it and around the goodbye."""
    choice = random.Random(SEED)
    waits: list[float] = []
    aimed: list[str] = []

    async def doze(n: int) -> None:
        room = new_room()
        a = await entered(dozing.node, "user_1", room, n % 2)
        b = await entered(dozing.node, "user_2", room, 1 - n % 2)
        for turn in range(ROUNDS):
            point = choice.choice(["before_mirror", "after_mirror"])
            falls = dozing.points[f"room:{room}", point] = asyncio.Event()
            with suppress(TimeoutError):  # it may be asleep already
                await asyncio.wait_for(falls.wait(), 0.5)
                aimed.append(point)
            await asyncio.sleep(choice.choice([0.0, 0.0, 0.001, 0.003, 0.01]))
            sender = choice.choice([a, b])
            said = Stopwatch()
            echo = await sender.say(f"{turn}")
            waits.append(said.seconds)
            assert echo["seq"] == turn + 1
        for each in (a, b):
            await each.has("chat", seq=ROUNDS)
            check(each)

    await asyncio.gather(*map(doze, range(ROOMS)))
    assert len(waits) == ROOMS * ROUNDS and len(aimed) > len(waits) / 2
    assert max(waits) < ANSWERED_S
    assert set(dozing.hosts.reasons) <= {"idle"}
    waits.sort()
    measure(
        f"F21 {len(waits)} messages to rooms falling asleep ({len(aimed)} hit it, seed "
        f"{SEED}): 0 lost, 0 doubled; echo p50 {quantile(waits, 0.5) * 1000:.0f} ms, "
        f"max {waits[-1] * 1000:.0f} ms; {len(dozing.hosts.reasons)} sleeps"
    )


async def entered(node: Node, user_id: str, room: str, gateway: int) -> Socket:
    """In; a handshake that meets the end of the process is answered 503."""
    while True:
        try:
            return await node.enter(user_id, room, gateway=gateway)
        except Refused as refused:
            assert error_of(refused) == (503, "UNAVAILABLE")


def check(socket: Socket) -> None:
    """It saw one line and nobody come or go."""
    assert socket.open
    assert socket.said == list(range(1, ROUNDS + 1))
    assert socket.of("error") == []
    lines = [frame["content"] for frame in socket.of("system")]
    assert len(lines) == len(set(lines)) <= 3, lines


@long_only
async def test_a_message_that_meets_a_process_that_ends(
    cluster: Cluster, visit: Visit
) -> None:
    """The same on Ray: the name means an actor that is leaving, then one that is dead,
    then a new one."""
    choice = random.Random(SEED)
    waits: list[float] = []

    async def doze() -> None:
        room = new_room()
        old = (await visit.conjure(room, hibernate_after=0.2)).pid
        crowd = await Crowd.enter(visit, room, people=2)
        await crowd.say(crowd.sockets[0])
        await crowd.answered()
        if choice.random() < 0.5:
            await eventually(lambda: gone(old))
        else:
            await asyncio.sleep(choice.uniform(0.2, 0.8))
        for each in crowd.sockets:
            await crowd.say(each)
        await crowd.answered()
        assert not crowd.refused
        await crowd.judge()
        waits.append(crowd.waits[-1])

    for _ in range(2):
        await asyncio.gather(*(doze() for _ in range(3)))
    waits.sort()
    cluster.measure(
        f"F21 on Ray, {len(waits)} rooms: first echo p50 {quantile(waits, 0.5):.2f} s, "
        f"max {waits[-1]:.2f} s"
    )
