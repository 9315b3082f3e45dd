"""`crowd` and `gather`: many people come within seconds, online or into one room.

`entered` is from when somebody was due to when they were told who is there; `allIn`
from the first who was due to the last who was told. Who comes to a room is said a line
to at the end, which the oracle follows to everybody. `frames` and `bytes` count what
the sockets got.
"""

from __future__ import annotations

import asyncio

from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.load.crew import Crew
from cfmessenger.load.seat import Chair
from cfmessenger.load.ticker import now

from .times import Times

QUIET_S = 0.5


async def connect(crew: Crew) -> None:
    """Nobody, before it begins."""


async def run(crew: Crew, times: Times) -> None:
    crew.talk.measure_at = times.start
    times.measure(crew)
    coming = [*crew.watchers, *crew.seats]
    await asyncio.gather(*(_come(crew, times, seat) for seat in coming))
    crew.meter.record("allIn", now() - times.start)
    await _told(crew)
    if here := [seat for seat in crew.seats if seat.in_room]:
        answer = crew.talk.answer(here[0])
        crew.talk.speak(here[0], now())
        await asyncio.wait([answer], timeout=crew.plan.quiet_s)
    times.stopped_at = now()


async def _come(crew: Crew, times: Times, seat: Chair) -> None:
    due = times.start + crew.plan.within_s * seat.number / crew.plan.sockets
    await times.until(due)
    crew.meter.strain.late(max(0.0, now() - due))
    try:
        await crew.lines.join(seat)
    except (ApiError, Unreachable) as error:
        crew.meter.error(error.code)
        crew.lines.leave(seat)
    else:
        crew.meter.record("entered", now() - due)


async def _told(crew: Crew) -> None:
    """Until nobody has been told anything for a while, or `quiet_s` is over."""
    end = now() + crew.plan.quiet_s
    seen, since = crew.meter.frames, now()
    while (at := now()) < end and at - since < QUIET_S:
        await asyncio.sleep(0.02)
        if crew.meter.frames != seen:
            seen, since = crew.meter.frames, at
