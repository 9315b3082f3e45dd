"""A presence socket: who is online, and how long it took to hear of a change.

Presence is best effort (wire.md §3, §4) and changes within 50 ms travel together, so
nothing is owed to it: what it hears is timed and counted, and at the end it is compared
with what was last said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cfmessenger.client.state import PresenceState
from cfmessenger.wire.protocol import (
    ErrorFrame,
    PresenceFullSync,
    PresenceUpdate,
    Status,
)

from .oracle import Room
from .seat import Chair
from .ticker import now

if TYPE_CHECKING:
    from .crew import Crew

Heard = Callable[["PresenceSeat", str, Status], None]


class PresenceSeat(Chair):
    """One person's presence socket; `heard` gets each change: seat, user, status."""

    path = "/api/ws/presence"

    def __init__(self, crew: Crew, number: int, room: Room, user_id: str) -> None:
        super().__init__(crew, number, room, user_id)
        self.state = PresenceState(user_id)
        self.heard: Heard = lambda seat, user_id, status: None

    def say(self, status: Status) -> None:
        """Choose a status; it is said again after a reconnect."""
        self.state.presence(status)
        self._flush()

    def watch(self, user_ids: Iterable[str]) -> None:
        """Hear of these however many are online; said with each connection."""
        self.state.watch(user_ids)
        self._flush()

    def hears_of(self, user_id: str) -> bool:
        """Whether it is told of somebody, as many as are online."""
        state = self.state
        return state.scope == "all" or user_id in {self.user_id, *state.watched}

    def sees(self, user_id: str) -> Status:
        """What it believes about somebody."""
        known = self.state.roster.get(user_id)
        return "offline" if known is None else known.status

    def opened(self, write: Callable[[bytes], None]) -> None:
        super().opened(write)
        self.state.opened()
        self._flush()

    def lost(self) -> None:
        super().lost()
        self.state.lost()

    def receive(self, body: bytes) -> None:
        self.greeted_at = self.greeted_at or now()
        for event in self.state.received(now() * 1000, body):
            match event:
                case PresenceUpdate():
                    self.heard(self, event.user_id, event.status)
                case PresenceFullSync():
                    if event.partial is True:
                        for each in event.participants:
                            self.heard(self, each.id, each.status)
                    self.arrived()
                case ErrorFrame():
                    self.crew.meter.error(event.code)

    def _flush(self) -> None:
        if self.write is not None:
            for frame in self.state.take():
                self.write(frame)
