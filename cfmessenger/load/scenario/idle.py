"""`idle`: sockets that say nothing. What they cost is measured from outside."""

from __future__ import annotations

from cfmessenger.load.crew import Crew
from cfmessenger.load.ticker import now

from .times import Times


async def run(crew: Crew, times: Times) -> None:
    await times.until(times.measure_at)
    times.measure(crew)
    await times.until(times.end)
    times.stopped_at = now()
