"""`hot`: what calm rooms notice of a hot one.

Calm rooms talk from first to last. After a third of the measurement one room with many
sockets begins to talk much; its neighbours' acks count as `calmBefore` until then, and
as `calmBeside` once it had some seconds to find a place of its own.
"""

from __future__ import annotations

import asyncio

from cfmessenger.load.crew import Crew
from cfmessenger.load.seat import Seat
from cfmessenger.load.talk import Sent
from cfmessenger.load.ticker import now

from .steady import round_robin
from .times import Times, pace


async def run(crew: Crew, times: Times) -> None:
    plan, total = crew.plan, crew.plan.sockets
    hot = [seat for seat in crew.seats if seat.room.name == plan.hot_room]
    calm = [seat for seat in crew.seats if seat.room.name != plan.hot_room]
    later = Times(plan, times.start)
    later.start = times.measure_at + plan.hot_at_s
    crew.talk.on_answered = _Listener(crew, later.start).answered
    # `pace` takes a worker's share of all sockets; here there are two kinds of them.
    calm_rate = plan.rate * total / (total - plan.hot_sockets)
    hot_rate = plan.hot_rate * total / plan.hot_sockets
    await asyncio.gather(
        _talk(crew, times, calm, calm_rate * _part(calm, crew)),
        _talk(crew, later, hot, hot_rate * _part(hot, crew)),
    )
    times.stopped_at = now()


def _part(seats: list[Seat], crew: Crew) -> float:
    return len(seats) / len(crew.seats)


async def _talk(crew: Crew, times: Times, seats: list[Seat], rate: float) -> None:
    if not seats:
        await times.until(times.end)
        return
    speakers = round_robin(seats)
    await pace(crew, times, lambda due: crew.talk.speak(next(speakers), due), rate)


class _Listener:
    def __init__(self, crew: Crew, hot_at: float) -> None:
        self._meter = crew.meter
        self._hot_room = crew.plan.hot_room
        self._measure_at = crew.talk.measure_at
        self._hot_at = hot_at
        self._settled_at = hot_at + crew.plan.settle_s

    def answered(self, sent: Sent, took: float) -> None:
        if sent.seat.room.name == self._hot_room:
            return
        if self._measure_at <= sent.due < self._hot_at:
            self._meter.record("calmBefore", took)
        elif sent.due >= self._settled_at:
            self._meter.record("calmBeside", took)
