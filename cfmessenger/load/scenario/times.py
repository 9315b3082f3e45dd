"""When a scenario warms up, measures and ends, and how it keeps to its schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from cfmessenger.load import arrivals
from cfmessenger.load.crew import Crew
from cfmessenger.load.plan import Plan
from cfmessenger.load.ticker import Ticker, now

BURST = 64
"""Late messages that are sent before the loop may read again."""


class Times:
    """Moments on `ticker.now`: `start`, `measure_at` after the warm-up, `end`."""

    def __init__(self, plan: Plan, start: float) -> None:
        self.start = start
        self.measure_at = start + plan.warmup_s
        self.end = self.measure_at + plan.duration_s
        self.stopped_at = self.end

    def measure(self, crew: Crew) -> None:
        """The warm-up is over; asking again changes nothing."""
        if not crew.meter.measuring:
            crew.meter.begin()

    async def until(self, moment: float) -> None:
        """For who has nothing to do before that."""
        await asyncio.sleep(max(0.0, moment - now()))


async def pace(
    crew: Crew,
    times: Times,
    act: Callable[[float], object],
    rate: float,
    *,
    limit: int = 0,
) -> None:
    """Calls `act(due)` at its time, `rate` times a second over all workers.

    The open loop: `due` is when it was to happen, and nothing that the server does
    moves it. `limit`: acts that count, 0: until the end.
    """
    done, late_acts = 0, 0
    meter = crew.meter
    with Ticker(crew.plan.tick_ms / 1000) as ticker:
        for offset in schedule(crew, rate):
            due = times.start + offset
            if due >= times.end or (limit and done >= limit):
                break
            if due > now():
                await ticker.until(due)
                late_acts = 0
            elif (late_acts := late_acts + 1) % BURST == 0:
                await asyncio.sleep(0)
            if due >= times.measure_at:
                times.measure(crew)
                done += 1
            meter.strain.late(max(0.0, now() - due))
            act(due)
    if not (limit and done >= limit):
        await times.until(times.end)


def schedule(crew: Crew, rate: float) -> Iterator[float]:
    """This worker's share of the arrivals."""
    plan, part = crew.plan, crew.part
    if not rate or not part.share:
        return iter(())
    if plan.arrivals == "poisson":
        return arrivals.poisson(rate * part.share, crew.random)
    return arrivals.constant(rate * part.share, part.worker / plan.workers)


def share_of(crew: Crew, total: int) -> int:
    """This worker's part of a number of things, at least one if there are any."""
    return max(1, round(total * crew.part.share)) if total else 0
