"""Rooms on two Ray nodes: found from everywhere, and gone with a node that dies.

Ray declares a node dead without knowing that its processes are: whatever of it still
runs must find that out by itself (design.md §9.1, §9.4-6).
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfmessenger.cli import process
from tests.effort import long_only
from tests.gateway.node import eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.cluster import Cluster, Visit, Watched, gone
from tests.system.cluster.crowd import Crowd
from tests.system.cluster.processes import RayNode

pytestmark = pytest.mark.cluster

DETECTION_S = 8.0  # with the cluster's settings: 2 s refusing, 6 s hanging, and slack


@pytest.fixture
def doomed(cluster: Cluster) -> Iterator[RayNode]:
    """The second node, replaced afterwards."""
    node = cluster.nodes[1]
    yield node
    cluster.replace_node(node)


@long_only
async def test_a_room_is_one_actor_whichever_gateway_asks(
    cluster: Cluster, visit: Visit
) -> None:
    rooms = [new_room() for _ in range(6)]

    async def both(room: str) -> int:
        a, b = await asyncio.gather(
            visit.enter("user_1", room, gateway=0),
            visit.enter("user_2", room, gateway=1),
        )
        said = await a.say("hi")
        assert await b.wait("chat") == said
        # At once: on a slow machine it sleeps before the last of them is awake.
        pid = (await visit.address(room)).pid
        # At Ray's own niceness of 15 they would starve beside gateways (trap 13).
        assert os.getpriority(os.PRIO_PROCESS, pid) == 0
        spread.append([node.hosts(pid) for node in cluster.nodes])
        return pid

    spread: list[list[bool]] = []
    pids = await asyncio.gather(*map(both, rooms))
    assert len(set(pids)) == len(rooms)
    assert [sum(hosts) for hosts in spread] == [1] * len(rooms)
    on = [sum(hosts) for hosts in zip(*spread, strict=True)]
    cluster.measure(f"6 rooms asked for by two gateways at once: {on} on two nodes")


async def test_a_room_of_either_node_is_reached_from_both_gateways(
    cluster: Cluster, visit: Visit
) -> None:
    for node in cluster.nodes:
        room = await visit.conjure_on(node)
        crowd = await Crowd.enter(visit, room, people=2)
        await crowd.judge()
        assert node.hosts((await visit.address(room)).pid)


def test_nobody_drives_ray_without_the_token(cluster: Cluster, tmp_path: Path) -> None:
    """What a driver may send is code (trap 14)."""
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    stranger = {
        "RAY_AUTH_TOKEN_PATH": str(wrong),
        "CFMX_NAMESPACE": f"unix:{tmp_path / 'ns.sock'}",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "cfmessenger", "namespace-process"],
        env=cluster.env | stranger,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stderr is not None
        # It would go on trying for 20 s.
        refusal = next(line for line in driver.stderr if "oken" in line)
        driver.kill()
    assert "InvalidAuthToken" in refusal


async def test_a_node_that_dies_loses_nothing(
    cluster: Cluster, visit: Visit, doomed: RayNode
) -> None:
    """F6. Its parent reaps the raylet, so its workers see that it is gone."""
    room = await visit.conjure_on(doomed)
    crowd = await Crowd.enter(visit, room)
    before = (await visit.address(room)).pid
    async with crowd.talking(60):
        await crowd.until_acked(30)
        process.send(doomed.raylet, signal.SIGKILL)
        died = Stopwatch()
        while await visit.nodes_alive() == 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        detected = died.seconds
        await crowd.until_acked(30, 20)
    await crowd.answered()
    refused = len(crowd.refused)
    await crowd.insist()
    await crowd.judge()
    after = (await visit.address(room)).pid
    assert after != before and gone(before)
    assert cluster.nodes[0].hosts(after)
    assert detected < DETECTION_S
    cluster.measure(
        f"F6 raylet killed: node given up after {detected:.1f} s, pause "
        f"{crowd.pause:.1f} s, {refused} of {len(crowd.sent)} refused, 0 lost"
    )


@long_only
async def test_a_room_that_outlives_its_node_cannot_write(
    cluster: Cluster, visit: Visit, doomed: RayNode
) -> None:
    """F6 where nobody reaps the raylet: its workers believe that it lives."""
    room = await visit.conjure_on(doomed)
    crowd = await Crowd.enter(visit, room, people=2, gateways=1)
    old = (await visit.address(room)).pid
    async with Watched(cluster, room) as watched, crowd.talking(60):
        doomed.signal(signal.SIGSTOP)
        process.send(doomed.raylet, signal.SIGKILL)
        while await visit.nodes_alive() == 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        # Those who are linked to it see no difference.
        await crowd.until_acked(30)
        assert not gone(old)
        # Somebody who is not asks for the name, and Ray makes a second actor.
        late = await visit.enter("user_3", room, gateway=1)
        entered = Stopwatch()
        await eventually(lambda: gone(old))
        ended = entered.seconds
        await crowd.until_acked(30)
    await crowd.answered()
    await crowd.insist()
    await crowd.judge()
    assert watched.refused, "the old one did not try: nothing is proved"
    assert "duplicate_activation" in cluster.log_of(old)
    await late.has("chat", seq=crowd.sockets[0].said[-1])
    assert late.said == crowd.sockets[0].said[-len(late.said) :]
    cluster.measure(
        f"F6 unreaped: two actors of one name; the old one's append "
        f"{watched.refused[0]} was refused and it ended in {ended:.1f} s"
    )


@long_only
async def test_a_node_that_was_frozen_wakes_up_to_nothing(
    cluster: Cluster, visit: Visit, doomed: RayNode
) -> None:
    """F10: cut off, with an old actor that reaches Valkey when it continues."""
    room = await visit.conjure_on(doomed)
    crowd = await Crowd.enter(visit, room)
    old, raylet = (await visit.address(room)).pid, doomed.raylet
    async with Watched(cluster, room) as watched:
        async with crowd.talking(60):
            await crowd.until_acked(30)
            process.send(raylet, signal.SIGSTOP)
            cluster.signal(old, signal.SIGSTOP)
            await crowd.until_acked(60, 30)
            assert not gone(old)
            new = (await visit.address(room)).pid
            assert cluster.nodes[0].hosts(new)
            # What gateways had sent before they gave up is still in its socket.
            cluster.signal(old, signal.SIGCONT)
            continued = time.monotonic()
            await eventually(lambda: gone(old))
            ended = time.monotonic() - continued
        await crowd.answered()
        refused = len(crowd.refused)
        await crowd.insist()
        await crowd.judge()
    # Its append ended it, or its own look at the log; or what Ray had been asked to do
    # when it was silent, which comes first on some machines and leaves no word.
    by_itself = "duplicate_activation" in cluster.log_of(old)
    assert watched.refused or by_itself or " gone, " not in cluster.log_of(old)
    process.send(raylet, signal.SIGCONT)
    cluster.measure(
        f"F10 node frozen: pause {crowd.pause:.1f} s, {refused} of {len(crowd.sent)} "
        f"refused; continued, {watched.refused[:1] or 'no'} append of its own was "
        f"refused and it ended in {ended:.2f} s"
    )
