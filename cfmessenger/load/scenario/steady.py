"""`fanout` and `rooms`: chat at a steady rate, or with a fixed number in flight.

Whoever speaks is the next in turn: over all rooms first, then over the seats of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from cfmessenger.load.crew import Crew
from cfmessenger.load.oracle import Shown
from cfmessenger.load.seat import Seat
from cfmessenger.load.ticker import now

from .times import Times, pace, share_of


async def run(crew: Crew, times: Times) -> None:
    speakers = round_robin(crew.seats)
    limit = share_of(crew, crew.plan.messages)
    if crew.plan.open_loop:
        await pace(
            crew,
            times,
            lambda due: _speak(crew, speakers, due),
            crew.plan.rate,
            limit=limit,
        )
    else:
        await _in_flight(crew, times, speakers, limit)
    times.stopped_at = now()


def round_robin(seats: list[Seat]) -> Iterator[Seat]:
    """For ever: the first seat of each room, the second of each, and so on."""
    rooms: dict[str, list[Seat]] = {}
    for seat in seats:
        rooms.setdefault(seat.room.name, []).append(seat)
    groups = list(rooms.values())
    n = 0
    while True:
        for group in groups:
            yield group[n % len(group)]
        n += 1


def _speak(crew: Crew, speakers: Iterator[Seat], due: float) -> None:
    crew.talk.speak(next(speakers), due)


async def _in_flight(
    crew: Crew, times: Times, speakers: Iterator[Seat], limit: int
) -> None:
    """A closed window: the next is sent when one was seen by all.

    This finds how much the server can do; its latencies say little, because a slow
    answer delays the next question.
    """
    flight: set[str] = set()
    landed = asyncio.Event()

    def seen(shown: Shown) -> None:
        if shown.id in flight:
            flight.discard(shown.id)
            landed.set()

    crew.on_seen_by_all = seen
    window = share_of(crew, crew.plan.window)
    done = 0
    while (at := now()) < times.end and not (limit and done >= limit):
        if at >= times.measure_at:
            times.measure(crew)
            done += 1
        flight.add(crew.talk.speak(next(speakers), at))
        while len(flight) >= window and now() < times.end:
            await _landing(landed, times.end)
    while flight and now() < times.end:
        await _landing(landed, times.end)


async def _landing(landed: asyncio.Event, end: float) -> None:
    landed.clear()
    try:
        async with asyncio.timeout(max(0.001, end - now())):
            await landed.wait()
    except TimeoutError:
        pass
