"""`slow-consumer`: a room in which some sockets stop reading.

The gateway is to close those with 1013 (wire.md §6) and nobody else may notice. At the
end they read what is there for them: the close, or, if the gateway held out, everything
that they are owed.
"""

from __future__ import annotations

from cfmessenger.load.crew import Crew
from cfmessenger.load.ticker import now

from .steady import round_robin
from .times import Times, pace


async def run(crew: Crew, times: Times) -> None:
    speakers = round_robin(crew.seats)
    found = [crew.lines.connection(seat) for seat in crew.slow]
    connections = [each for each in found if each is not None]
    for connection in connections:
        connection.pause()
    await pace(
        crew, times, lambda due: crew.talk.speak(next(speakers), due), crew.plan.rate
    )
    times.stopped_at = now()
    for connection in connections:
        connection.resume()
