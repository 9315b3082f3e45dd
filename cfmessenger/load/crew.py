"""All the sockets of one worker: who sits where, what was sent, who has to come back.

Owns the ids of messages and what became of each, dialling in and coming back with
`since`. Scenarios say who speaks and when; a `Carrier` is how a seat gets a connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from cfmessenger.background import Background
from cfmessenger.backoff import Backoff
from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.client.reconnect import reconnects

from .desk import Person
from .meter import Meter, count_in
from .oracle import Room, Shown
from .plan import Part, Place, Plan
from .presence_seat import PresenceSeat
from .seat import Chair, DeafSeat, Seat
from .ticker import now

DIALLING = 32
"""Handshakes of one worker at a time."""

ENTER_TIMEOUT_S = 60.0
DIAL_TRIES = 8
_HINTS = {
    "ROOM_NOT_FOUND": "rooms other than the public ones need CFM_OPEN_ROOMS=1 there",
    "AT_CAPACITY": "see CFM_MAX_SOCKETS_PER_SESSION, CFM_MAX_SOCKETS_PER_ADDRESS (0: "
    "no limit) and CFM_MAX_ACTIVE_ROOMS there, or name more --users",
    "RATE_LIMITED": "see CFM_CHAT_RATE=0, CFM_NUDGE_RATE=0, CFM_LOGIN_RATE=0 and "
    "CFM_NEW_ROOM_RATE=0 there",
}


def hint(code: str) -> str:
    """What to do about a refusal, in parentheses, or nothing."""
    return f" ({_HINTS[code]})" if code in _HINTS else ""


class Sent(msgspec.Struct, gc=False):
    """A message of ours that was not answered yet."""

    seat: Seat
    due: float
    measured: bool
    shown: bool = False
    refused: bool = False


class Connection(Protocol):
    """What carries a seat, for as long as it lasts."""

    def close(self) -> None:
        """Leave; `Seat.lost` is called by the time it is gone."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class Carrier(Protocol):
    """How seats get their connections."""

    async def connect(
        self, seat: Chair, since: int | None, lost: Callable[[int], None], slow: bool
    ) -> Connection:
        """Dial; frames go to `seat.receive`, the end with its close code to `lost`.

        Raises `ApiError` (refused) or `Unreachable`. `slow`: with small buffers.
        """

    async def start(self) -> None:
        """Before the first of them. Raises `Unreachable`."""

    async def aclose(self) -> None:
        """After the last."""


class Crew:
    """One worker's sockets. `measure_at` is when what is sent begins to count."""

    def __init__(
        self, plan: Plan, part: Part, people: list[Person], carrier: Carrier
    ) -> None:
        self.plan = plan
        self.part = part
        self.people = people
        self.carrier = carrier
        self.meter = Meter(plan.max_lag_ms / 1000)
        self.measure_at = float("inf")
        self.random = random.Random(f"{plan.seed}-{part.worker}")
        self.sent: dict[str, Sent] = {}
        self.rooms: dict[str, Room] = {}
        self.seats: list[Seat] = []
        self.slow: list[Seat] = []
        self._hall = Room("presence")  # where nothing is owed to anybody
        self.watchers: list[PresenceSeat] = []
        self.prefix = f"{plan.run}-{part.worker}-"
        self.on_seen_by_all: Callable[[Shown], None] = lambda shown: None
        self.on_answered: Callable[[Sent, float], None] = lambda sent, took: None
        self.broken: BaseException | None = None
        self._content = "x" * plan.size
        self._numbers = 0
        self._connections: dict[Chair, Connection] = {}
        self._dialled: dict[Chair, float] = {}
        self._entering: dict[Chair, asyncio.Future[None]] = {}
        self._answers: dict[Seat, asyncio.Future[None]] = {}
        self._dropped: set[Chair] = set()
        self._returning = Background()
        self._leaving: set[Chair] = set()
        self._closing = False
        for place in part.places:
            self._place(place)

    def _place(self, place: Place) -> None:
        person = self.people[place.user % len(self.people)]
        if place.room is None:
            watcher = PresenceSeat(self, place.number, self._hall, person.user_id)
            self._hall.seats += 1
            self.watchers.append(watcher)
            return
        kind, seats = (DeafSeat, self.slow) if place.slow else (Seat, self.seats)
        seats.append(self.seated(place.number, place.room, person.user_id, kind))

    def seated(
        self, number: int, room_name: str, user_id: str, kind: type[Seat] = Seat
    ) -> Seat:
        """A new seat in a room, not connected yet."""
        room = self.rooms.get(room_name)
        if room is None:
            room = self.rooms[room_name] = Room(room_name)
        room.seats += 1
        return kind(self, number, room, user_id)

    # Sent, and what became of it.

    def speak(self, seat: Seat, due: float) -> str:
        """A message that was due at this moment; its id."""
        message_id = self._register(seat, due)
        seat.chat(self._content, message_id)
        return message_id

    def nudge(self, seat: Seat, due: float) -> None:
        """A nudge, likewise."""
        self.meter.counts["nudge"] += 1
        seat.nudge(self._register(seat, due))

    def typing(self, seat: Seat, is_typing: bool) -> None:
        """Somebody starts or stops typing; nobody is owed this."""
        if seat.typing(is_typing):
            self.meter.counts["typing"] += 1

    def _register(self, seat: Seat, due: float) -> str:
        self._numbers += 1
        measured = due >= self.measure_at
        # The others see at once whether it counts.
        message_id = f"{self.prefix}{'m' if measured else 'w'}{self._numbers}"
        self.sent[message_id] = Sent(seat, due, measured)
        self.meter.counts["sent"] += 1  # starts anew when the warm-up is over
        return message_id

    def recognise(self, message_id: str, seq: int, body: bytes) -> tuple[Shown, bool]:
        """A number that is new here; and whether its message had one before."""
        meter, sent = self.meter, self.sent.get(message_id)
        if sent is not None:
            tally = meter.delivery if sent.measured else meter.warm_delivery
            shown = Shown(seq, message_id, body, sent.seat, sent.due, tally)
            repeated, sent.shown = sent.shown, True
            return shown, repeated
        ours = message_id.startswith(f"{self.plan.run}-")
        counts = ours and message_id.rpartition("-")[2].startswith("m")
        tally = meter.foreign if counts else meter.ignored
        shown = Shown(seq, message_id, body, None, now(), tally)
        return shown, message_id.startswith(self.prefix)

    def answered(self, message_id: str) -> None:
        """Its sender has seen the echo."""
        sent = self.sent.pop(message_id, None)
        if sent is None:
            return
        meter = self.meter
        tally = meter.ack if sent.measured else meter.warm_ack
        took = now() - sent.due
        count_in(tally, took)
        self.on_answered(sent, took)
        if (waiting := self._answers.pop(sent.seat, None)) and not waiting.done():
            waiting.set_result(None)

    def refused(self, message_id: str, code: str) -> None:
        """The server will not have it."""
        if code == "STORAGE_UNAVAILABLE":  # "it may still appear, once"
            self.sent[message_id].refused = True
        else:
            self.sent.pop(message_id, None)

    def unanswered(self) -> list[Sent]:
        """What was sent and neither echoed nor refused."""
        return [sent for sent in self.sent.values() if not sent.refused]

    def settled(self, tops: dict[str, int]) -> bool:
        """Whether every socket has seen everything up to these numbers."""
        rooms = self.rooms.values()
        return all(room.settled(tops.get(room.name, 0)) for room in rooms)

    def answer(self, seat: Seat) -> asyncio.Future[None]:
        """Done when the next echo of this seat comes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[seat] = future
        return future

    def seen_by_all(self, shown: Shown) -> None:
        """Every seat of a room has it."""
        self.on_seen_by_all(shown)

    # Connections.

    async def everybody_back(self) -> None:
        """Until nobody is on the way back any more."""
        await self._returning.settle()

    async def connect(self, seats: Sequence[Chair], slow: bool = False) -> None:
        """Dial in, some at a time; returns when all are in their rooms.

        Raises `ApiError` or `Unreachable` when one is not to be had.
        """
        gate = asyncio.Semaphore(DIALLING)

        async def one(seat: Chair) -> None:
            async with gate:
                await self.join(seat, slow=slow)

        await _all(one(seat) for seat in seats)

    async def join(self, seat: Chair, *, slow: bool = False) -> None:
        """Dial and wait until the room has told where it is."""
        entered = await self.dial(seat, slow=slow)
        try:
            async with asyncio.timeout(ENTER_TIMEOUT_S):
                await entered
        except TimeoutError:
            raise Unreachable(f"{seat.room.name} says nothing to who enters") from None

    async def dial(self, seat: Chair, *, slow: bool = False) -> asyncio.Future[None]:
        """Dial; what comes back is done when the room has told where it is."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entering[seat] = entered
        try:
            await self._dial(seat, slow)
        except BaseException:
            self._entering.pop(seat, None)
            raise
        return entered

    async def _dial(self, seat: Chair, slow: bool = False) -> None:
        backoff = Backoff(self.random.uniform, base_s=0.2, cap_s=3.0)
        while True:
            self._dialled[seat] = now()
            try:
                made = await self.carrier.connect(
                    seat, seat.since, lambda code: self._lost(seat, code), slow
                )
            except ApiError as error:
                self.meter.counts["refused"] += 1
                full = error.code == "AT_CAPACITY" and seat in self._entering
                if full or not error.retryable or backoff.attempt >= DIAL_TRIES:
                    raise
                await asyncio.sleep(backoff.delay(error.retry_after_s or 0.0))
            else:
                if seat.write is not None:  # not gone again already
                    self._connections[seat] = made
                return

    def entered(self, seat: Chair) -> None:
        """The room has told a seat where it is."""
        self.meter.sockets += 1
        entering = self._entering.pop(seat, None)
        name = "reconnect" if entering is None else "connect"
        self.meter.record(name, seat.greeted_at - self._dialled[seat])
        if entering is not None:
            self.meter.counts["connected"] += 1
            if not entering.done():
                entering.set_result(None)
        else:
            self.meter.counts["reconnected"] += 1

    def leave(self, seat: Chair) -> None:
        """Close a seat for good: nothing more is owed to it."""
        if seat.track is not None:
            seat.room.leave(seat.track)
        seat.room.seats -= 1
        for message_id in seat.waiting:  # nobody is there to be answered
            self.sent[message_id].refused = True
        self.meter.counts["left"] += 1
        self._leaving.add(seat)
        self._hang_up(seat)

    def drop(self, seat: Chair) -> None:
        """Close a connection; the seat comes back by itself and has missed nothing."""
        if seat in self._connections:
            self._dropped.add(seat)
            self._hang_up(seat)

    def _hang_up(self, seat: Chair) -> None:
        if (found := self._connections.get(seat)) is not None:
            found.close()

    def connection(self, seat: Chair) -> Connection | None:
        """The connection of a seat, if it has one."""
        return self._connections.get(seat)

    def _lost(self, seat: Chair, code: int) -> None:
        self._connections.pop(seat, None)
        self.meter.sockets -= seat.in_room
        seat.lost()
        if self._closing or seat in self._leaving:
            self._leaving.discard(seat)
            return
        if seat in self._dropped:
            self._dropped.discard(seat)
        else:
            self.meter.counts[f"closed.{code}"] += 1
            if seat in self.slow or not reconnects(code):
                self._give_up(seat, f"closed with code {code}")
                return
        self._returning.begin(self._come_back(seat))

    async def _come_back(self, seat: Chair) -> None:
        try:
            await self._dial(seat)
        except (ApiError, Unreachable) as error:
            self.meter.error(error.code)
            self._give_up(seat, str(error))

    def _give_up(self, seat: Chair, why: str) -> None:
        # The server does not want it any more: it is owed nothing after this.
        if seat.track is not None:
            seat.room.leave(seat.track)
        seat.room.seats -= 1
        for message_id in seat.waiting:
            self.sent[message_id].refused = True
        entering = self._entering.pop(seat, None)
        if entering is not None and not entering.done():
            entering.set_exception(Unreachable(f"{seat.room.name}: {why}"))

    def broke(self, error: BaseException) -> None:
        """A bug of ours: the run is worth nothing."""
        self.broken = self.broken or error

    async def aclose(self) -> None:
        """Close every connection."""
        self._closing = True
        self._returning.cancel()
        for each in list(self._connections.values()):
            each.close()
        await self.carrier.aclose()


async def _all(work: Iterable[object]) -> None:
    """All of it, or the first error and none of the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)  # type: ignore[arg-type]
    except* (ApiError, Unreachable) as errors:
        raise errors.exceptions[0] from None
