"""The measurement of presence at work: what a change of somebody's status costs.

Everybody watches who is online while people change in turn. A change within 50 ms of
another travels with it, so this is done at a pace at which most travel alone.
"""

from __future__ import annotations

import asyncio
import time

from picows import WSMsgType

from tests.bench.loader import (
    DIALLING,
    PRESENCE,
    STEP_S,
    Broken,
    Member,
    Server,
    Tally,
    dial,
    together,
)
from tests.bench.measures import notes, undisturbed, verify
from tests.bench.pacer import Pacer
from tests.bench.steady import at_rest, until_steady, window
from tests.bench.summary import Measured

STATUSES = ("busy", "away", "online")
LOOK_S = 0.02


async def changes(
    server: Server, *, people: int, rate: float, slice_s: float, seconds: float
) -> Measured:
    """`rate` changes of status a second, among `people` who all watch: what they cost
    beyond what the server uses with all of them there and nobody saying anything."""
    assert server.presence is not None, "only who has presence is asked"
    presence = server.presence
    tally = Tally()
    free = asyncio.Semaphore(DIALLING)

    async def come(n: int) -> Member:
        async with free:
            return await dial(presence(n), tally, PRESENCE)

    def say(n: int, due: float) -> None:
        # In each round another status, so that all are changes.
        _choose(members[n % people], STATUSES[n // people % len(STATUSES)])

    with undisturbed():
        members = await together(come(n) for n in range(people))
        try:
            restless = await at_rest(server.meter, slice_s / 2)
            rest = await window(server.meter, time.perf_counter, seconds)
            pacer = Pacer(rate, say, lambda: pacer.sent)
            async with pacer.going():
                unsteady = await until_steady(server.meter, lambda: pacer.sent, slice_s)
                frames = received = 0

                def begin(began: float) -> None:
                    nonlocal frames, received
                    pacer.measure()
                    frames, received = tally.frames, tally.received

                found = await window(server.meter, lambda: pacer.sent, seconds, begin)
                got, frames_got = tally.received - received, tally.frames - frames
            await _heard_by_all(members, tally)
        finally:
            for member in members:
                member.leave()
    verify(tally, [])
    changed = max(found.work, 1.0)
    told = changed * people
    beside = {kind: s / rest.seconds * found.seconds for kind, s in rest.cpu_s.items()}
    each = {
        kind: 1e6 * max(0.0, s - beside.get(kind, 0.0)) / changed
        for kind, s in found.cpu_s.items()
    }
    return Measured(
        {
            "cpu_us_per_change": sum(each.values()),
            "bytes_per_watcher": got / told,
            "frames_per_watcher": frames_got / told,
        },
        {"cpu_us_per_change": each},
        notes(restless, rest.note, unsteady, found.note),
    )


def _choose(member: Member, status: str) -> None:
    text = f'{{"type":"presence_update","status":"{status}"}}'
    member.transport.send(WSMsgType.TEXT, text.encode())


async def _heard_by_all(members: list[Member], tally: Tally) -> None:
    """One more change, once it is quiet: each of them is told. Raises `Broken`."""
    end = time.perf_counter() + STEP_S
    quiet = tally.frames
    await asyncio.sleep(0.5)
    while tally.frames != quiet and time.perf_counter() < end:
        quiet = tally.frames
        await asyncio.sleep(0.5)
    end = time.perf_counter() + STEP_S
    _choose(members[0], "offline")
    while tally.frames < quiet + len(members):
        if time.perf_counter() > end:
            heard = tally.frames - quiet
            raise Broken(f"{heard} of {len(members)} heard of a change")
        await asyncio.sleep(LOOK_S)
