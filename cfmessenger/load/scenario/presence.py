"""`presence-storm`: everybody watches who is online while people change their status.

Each watches 50 others, as a contact list would: with more than `CFM_PRESENCE_ALL`
people online it hears of these alone.

`delivery` is from when a change was due to any socket's hearing of it, `ack` to the
socket of the very person. The server gathers changes for 50 ms, and of two of one
person only the later need be seen. What a socket still has wrong at the end is counted
as `stale`.
"""

from __future__ import annotations

import asyncio
import itertools
from itertools import cycle, islice

import msgspec

from cfmessenger.load.crew import Crew
from cfmessenger.load.meter import count_in
from cfmessenger.load.presence_seat import PresenceSeat
from cfmessenger.load.ticker import now
from cfmessenger.wire.protocol import Status

from .times import Times, pace

CHANGES: tuple[Status, ...] = ("busy", "away", "online")
SETTLE_S = 3.0
WATCHED = 50


class _Change(msgspec.Struct):
    seat: PresenceSeat
    status: Status
    due: float
    measured: bool


async def connect(crew: Crew) -> None:
    everybody = [person.user_id for person in crew.people]
    at = {user_id: n for n, user_id in enumerate(everybody)}
    for seat in crew.watchers:
        first = at[seat.user_id] + 1
        seat.watch(islice(cycle(everybody), first, first + WATCHED))
    await crew.lines.connect(crew.watchers)


async def run(crew: Crew, times: Times) -> None:
    storm = _Storm(crew)
    await pace(crew, times, storm.change, crew.plan.rate)
    times.stopped_at = now()
    await storm.settle()


class _Storm:
    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._latest: dict[str, _Change] = {}
        # A person has one voice, so two workers do not contradict each other.
        ours = crew.people[crew.part.worker :: crew.plan.workers]
        voices = {seat.user_id: seat for seat in crew.watchers}
        self._speakers = [
            voices[person.user_id] for person in ours if person.user_id in voices
        ]
        self._turns = itertools.cycle(self._speakers)
        self._statuses = {seat: itertools.cycle(CHANGES) for seat in self._speakers}
        for seat in crew.watchers:
            seat.heard = self._heard

    def change(self, due: float) -> None:
        if not self._speakers:
            return
        seat = next(self._turns)
        status = next(self._statuses[seat])
        measured = due >= self._crew.talk.measure_at
        self._latest[seat.user_id] = _Change(seat, status, due, measured)
        self._crew.meter.counts["sent"] += 1
        seat.say(status)

    def _heard(self, seat: PresenceSeat, user_id: str, status: Status) -> None:
        meter, change = self._crew.meter, self._latest.get(user_id)
        if change is None or change.status != status:
            count_in(meter.foreign, 0.0)
            return
        took = now() - change.due
        count_in(meter.delivery if change.measured else meter.warm_delivery, took)
        if seat is change.seat:
            count_in(meter.ack if change.measured else meter.warm_ack, took)

    async def settle(self) -> None:
        """Until all agree with what was last said, or will not; then be online."""
        end = now() + SETTLE_S
        while self._stale() and now() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._crew.meter.counts["stale"] += self._stale()
        for seat in self._speakers:
            self._latest.pop(seat.user_id, None)
            seat.say("online")

    def _stale(self) -> int:
        return sum(
            seat.sees(user_id) != change.status
            for seat in self._crew.watchers
            if seat.in_room
            for user_id, change in self._latest.items()
            if seat.hears_of(user_id)
        )
