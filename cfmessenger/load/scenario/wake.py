"""`wake`: speak in rooms of one socket, let them fall asleep, speak again.

`first` is from dialling to the first echo in a room that did not run; `wake` from the
message that wakes it to its echo. One room after another: this is about a room, not
about many at once.
"""

from __future__ import annotations

import asyncio

from cfmessenger.client.errors import Unreachable
from cfmessenger.load.crew import Crew
from cfmessenger.load.seat import Seat
from cfmessenger.load.ticker import now

from .times import Times

ANSWER_S = 60.0


async def connect(crew: Crew) -> None:
    """Instead of everybody at once: dial and speak, and time both together."""
    for seat in crew.seats:
        began = now()
        entered = await crew.lines.dial(seat)
        await _speak(crew, seat)  # before the room has said who is there
        crew.meter.record("first", now() - began)
        await entered


async def run(crew: Crew, times: Times) -> None:
    await asyncio.sleep(crew.plan.sleep_s)
    crew.talk.measure_at = now()
    times.measure(crew)
    for seat in crew.seats:
        began = now()
        await _speak(crew, seat)
        crew.meter.record("wake", now() - began)
    times.stopped_at = now()


async def _speak(crew: Crew, seat: Seat) -> None:
    answer = crew.talk.answer(seat)
    crew.talk.speak(seat, now())
    try:
        async with asyncio.timeout(ANSWER_S):
            await answer
    except TimeoutError:
        raise Unreachable(f"{seat.room.name} does not answer") from None
