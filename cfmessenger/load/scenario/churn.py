"""`churn`: connections drop and come back with `since` while the others talk.

Whoever comes back must have missed nothing: the oracle follows a seat over all its
connections, and a message that was on its way is said again.
"""

from __future__ import annotations

import asyncio

from cfmessenger.load.crew import Crew
from cfmessenger.load.ticker import now

from .steady import round_robin
from .times import Times, pace


async def run(crew: Crew, times: Times) -> None:
    speakers, droppers = round_robin(crew.seats), round_robin(crew.seats[::-1])
    await asyncio.gather(
        pace(
            crew,
            times,
            lambda due: crew.talk.speak(next(speakers), due),
            crew.plan.rate,
        ),
        pace(
            crew,
            times,
            lambda due: crew.lines.drop(next(droppers)),
            crew.plan.churn_rate,
        ),
    )
    times.stopped_at = now()
    await crew.lines.everybody_back()
