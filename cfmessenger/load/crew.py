"""One worker's seats: who sits where, in which rooms, and what is owed to them.

What they say is `Talk`'s, how they get to the server and come back is `Lines`'. The
scenarios say who speaks and when.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .desk import Person
from .lines import Carrier, Lines
from .meter import Meter
from .oracle import Room, Shown
from .plan import Part, Place, Plan
from .presence_seat import PresenceSeat
from .seat import Chair, DeafSeat, Seat
from .talk import Talk

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


class Crew:
    """One worker's sockets."""

    def __init__(
        self, plan: Plan, part: Part, people: list[Person], carrier: Carrier
    ) -> None:
        self.plan = plan
        self.part = part
        self.people = people
        self.meter = Meter(plan.max_lag_ms / 1000)
        self.random = random.Random(f"{plan.seed}-{part.worker}")
        self.talk = Talk(plan, part, self.meter)
        self.lines = Lines(carrier, self.meter, self.random, self._gone)
        self.rooms: dict[str, Room] = {}
        self.seats: list[Seat] = []
        self.slow: list[Seat] = []
        self.watchers: list[PresenceSeat] = []
        self.on_seen_by_all: Callable[[Shown], None] = lambda shown: None
        self.broken: BaseException | None = None  # the first bug of ours
        hall = Room("presence")  # where nothing is owed to anybody
        for place in part.places:
            self._place(place, hall)

    def _place(self, place: Place, hall: Room) -> None:
        person = self.people[place.user % len(self.people)]
        if place.room is None:
            hall.seats += 1
            watcher = PresenceSeat(self, place.number, hall, person.user_id)
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

    def _gone(self, seat: Chair) -> None:
        """It leaves, or the server does not want it: nothing more is owed to it."""
        if seat.track is not None:
            seat.room.leave(seat.track)
        seat.room.seats -= 1
        self.talk.give_up(seat)

    def settled(self, tops: dict[str, int]) -> bool:
        """Whether every socket has seen everything up to these numbers."""
        rooms = self.rooms.values()
        return all(room.settled(tops.get(room.name, 0)) for room in rooms)

    def seen_by_all(self, shown: Shown) -> None:
        """Every seat of a room has it."""
        self.on_seen_by_all(shown)

    def broke(self, error: BaseException) -> None:
        """A bug of ours: the run is worth nothing."""
        self.broken = self.broken or error
