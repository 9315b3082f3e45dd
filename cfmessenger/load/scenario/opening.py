"""`open`: many conversations begin at once, each with a socket, a message, its echo.

`first` is from when a conversation was due to the echo of its first message, whatever
had to start for it. `refused` counts handshakes that were answered with a refusal, also
those that were taken when they came again.
"""

from __future__ import annotations

import asyncio

from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.load.crew import Crew
from cfmessenger.load.seat import Seat
from cfmessenger.load.ticker import now

from .times import Times

ANSWER_S = 60.0


async def connect(crew: Crew) -> None:
    """Nobody, before it begins."""


async def run(crew: Crew, times: Times) -> None:
    crew.talk.measure_at = times.start
    times.measure(crew)
    await asyncio.gather(*(_open(crew, times, seat) for seat in crew.seats))
    times.stopped_at = now()


async def _open(crew: Crew, times: Times, seat: Seat) -> None:
    plan = crew.plan
    due = times.start + plan.within_s * seat.number / plan.sockets
    await times.until(due)
    crew.meter.strain.late(max(0.0, now() - due))
    try:
        entered = await crew.lines.dial(seat)
        answer = crew.talk.answer(seat)
        crew.talk.speak(seat, now())
        async with asyncio.timeout(ANSWER_S):
            await answer
            crew.meter.record("first", now() - due)
            await entered
    except (ApiError, Unreachable) as error:
        crew.meter.error(error.code)
        crew.lines.leave(seat)
    except TimeoutError:
        crew.meter.error("NO_ANSWER")
