"""`mixed`: people in rooms of very different sizes, doing what people do.

Most arrivals are messages; the others type, nudge, come or go. A larger room has more
of everything, because whoever acts is anybody. Whoever comes is a new socket, which is
owed everything from then on.
"""

from __future__ import annotations

import itertools

from cfmessenger.background import Background
from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.load.crew import Crew
from cfmessenger.load.seat import Seat
from cfmessenger.load.ticker import now

from .times import Times, pace

#: Of a hundred arrivals; what is left is chat.
TYPING, NUDGES, LEAVES = 20, 2, 3


async def run(crew: Crew, times: Times) -> None:
    crowd = _Crowd(crew)
    await pace(crew, times, crowd.act, crew.plan.rate)
    times.stopped_at = now()
    await crowd.settle()


class _Crowd:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._here = list(crew.seats)
        self._numbers = itertools.count(crew.plan.sockets + crew.part.worker * 10**9)
        self._typing: set[Seat] = set()
        self._coming = Background()

    def act(self, due: float) -> None:
        crew, what = self._crew, self._crew.random.randrange(100)
        seat = crew.random.choice(self._here)
        if what < TYPING:
            crew.talk.typing(seat, seat not in self._typing)
            self._typing ^= {seat}
        elif what < TYPING + NUDGES:
            crew.talk.nudge(seat, due)
        elif what < TYPING + NUDGES + LEAVES and len(self._here) > 1:
            self._replace(seat)
        else:
            crew.talk.speak(seat, due)

    def _replace(self, seat: Seat) -> None:
        # One leaves, another comes: the rooms keep their sizes.
        crew = self._crew
        self._here.remove(seat)
        self._typing.discard(seat)
        crew.lines.leave(seat)
        number = next(self._numbers)
        person = crew.people[number % len(crew.people)]
        come = self._come(crew.seated(number, seat.room.name, person.user_id))
        self._coming.begin(come)

    async def _come(self, seat: Seat) -> None:
        try:
            await self._crew.lines.join(seat)
        except (ApiError, Unreachable) as error:
            self._crew.meter.error(error.code)
            return
        self._crew.meter.counts["joined"] += 1
        self._here.append(seat)

    async def settle(self) -> None:
        """Whoever is on the way in gets there."""
        await self._coming.settle(30)
        self._coming.cancel()
