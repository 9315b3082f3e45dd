"""Two processes that both believe to be one room: one line of history, whoever won.

Each test makes the second activation for real, and Valkey's own record shows that both
tried to write (design.md §3, Fencing; design.md §9.1-3).
"""

import signal
import time

import pytest

from cfmessenger.storage.log import ValkeyLog
from tests.effort import long_only
from tests.gateway.node import eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.cluster import Cluster, Visit, Watched, gone
from tests.system.cluster.crowd import Crowd, quantile
from tests.system.cluster.usurper import gateway_at, usurper

pytestmark = pytest.mark.cluster


@long_only
async def test_a_frozen_room_is_replaced_and_shows_nothing(
    cluster: Cluster, visit: Visit
) -> None:
    """F2 as it happens: gateways notice, the namespace ends it, a new one starts."""
    room = new_room()
    crowd = await Crowd.enter(visit, room)
    old = (await visit.address(room)).pid
    async with crowd.talking(60):
        await crowd.until_acked(30)
        cluster.signal(old, signal.SIGSTOP)
        await crowd.until_acked(60, 20)
        # Ray ends it 5 s after it was asked to, unless it continues before that.
        cluster.signal(old, signal.SIGCONT)
        continued = time.monotonic()
        await eventually(lambda: gone(old))
        ended = time.monotonic() - continued
    await crowd.answered()
    refused = len(crowd.refused)
    await crowd.insist()
    await crowd.judge()
    cluster.measure(
        f"F2 frozen room: pause {crowd.pause:.1f} s, "
        f"{refused} of {len(crowd.sent)} refused, 0 lost; continued, it ended in "
        f"{ended:.2f} s"
    )


async def test_a_room_that_continues_after_it_was_taken_over(
    cluster: Cluster, visit: Visit
) -> None:
    """F2 with an overlap: it has inputs in its socket and tries to append them."""
    room = new_room()
    await visit.conjure(room, hibernate_after=60.0)
    crowd = await Crowd.enter(visit, room)
    old = (await visit.address(room)).pid
    async with (
        Watched(cluster, room) as watched,
        gateway_at(cluster, await visit.address(room), room, "gWitness") as witness,
    ):
        first = await crowd.say(crowd.sockets[0])
        await crowd.answered()
        cluster.signal(old, signal.SIGSTOP)
        async with usurper(cluster, room, actor=f"room:{room}") as caller:
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
            # The third activation is the gateways' own; it ends the usurper.
            await caller.until_ended()
        # `reset`: so slow a machine that its gateway was taken for dead before.
        last = caller.visitor.goodbyes[-1].reason
        assert last in ("duplicate_activation", "reset")
    assert set(said) <= crowd.acked.keys()
    assert watched.refused and watched.refused[0][0] == 1, watched.tried
    speakers = {epoch for epoch, seq in watched.tried if seq}
    assert {1, 2} <= speakers and max(speakers) > 2
    assert "duplicate_activation" in cluster.log_of(old)
    stored = [event["content"] for _, _, event in visit.stored(room)]
    assert stored[:2] == [first, "mine now"] and sorted(stored[2:]) == sorted(said)
    for socket in crowd.sockets:
        assert socket.said[-5:] == [2, 3, 4, 5, 6]
    cluster.measure(
        f"F2 taken over and continued: append {watched.refused[0]} was refused, "
        f"ended in {ended:.2f} s"
    )


@long_only
async def test_an_idle_room_that_was_superseded_goes(
    cluster: Cluster, visit: Visit
) -> None:
    """Nothing tells it but its own look at the log, twice a second."""
    log = ValkeyLog(cluster.valkey.url, 10_000)
    took = []
    try:
        for _ in range(3):
            room = new_room()
            await visit.conjure(room, hibernate_after=60.0)
            socket = await visit.enter("user_1", room)
            await socket.say("hello")
            old = (await visit.address(room)).pid
            await log.activate(f"room:{room}")
            began = Stopwatch()
            await eventually(lambda old=old: gone(old))
            took.append(began.seconds)
            # On a busy machine it may be taken for hung first, and be killed.
            of_itself = "duplicate_activation" in cluster.log_of(old)
            assert of_itself or cluster.killed_as_hung(f"room:{room}")
            await socket.say("still there")
            assert socket.said == [1, 2]
    finally:
        log.close()
    assert max(took) < 2.5
    cluster.measure(f"superseded while idle: gone in {max(took):.2f} s at most")


async def test_a_room_whose_loop_is_blocked_is_replaced(
    cluster: Cluster, visit: Visit
) -> None:
    """F3. It is alive and does not answer; the room beside it notices nothing."""
    room, beside = new_room(), new_room()
    old = (await visit.conjure(room, hibernate_after=60.0)).pid
    crowd = await Crowd.enter(visit, room)
    others = await Crowd.enter(visit, beside, people=2)
    async with crowd.talking(40), others.talking(20):
        await crowd.until_acked(20)
        await visit.block(room, 12.0)
        await crowd.until_acked(40, 20)
        assert gone(old)
    await others.judge()
    assert not others.refused
    await crowd.answered()
    refused = len(crowd.refused)
    await crowd.insist()
    await crowd.judge()
    cluster.measure(
        f"F3 loop blocked: pause {crowd.pause:.1f} s, {refused} of {len(crowd.sent)} "
        f"refused; the room beside it: p99 {quantile(others.waits, 0.99):.3f} s"
    )
