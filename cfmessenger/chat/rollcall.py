"""Roll call: when who is told who is in a room.

Owns wire.md §3's `participants` row: "on join, leave, presence change, coalesced within
50 ms; one entry per user". News goes to everyone; a second tab, which is no news, is
told alone. Must not know why the roster changed.
"""

from ..wire import protocol
from .effects import Broadcast, Effect, Send
from .roster import Roster

COALESCE_MS = 50


class RollCall:
    """The `participants` frame that is due. `alarm_at`: when, None if it is not."""

    def __init__(self, room_id: str, roster: Roster) -> None:
        self.alarm_at: int | None = None  # ms
        self._room_id = room_id
        self._roster = roster
        # Until the alarm: everybody is to be told, or else these connections.
        self._stale = False
        self._untold: list[str] = []

    @property
    def pending(self) -> bool:
        """Whether anybody is still to be told anything."""
        return self._stale or bool(self._untold)

    def everyone_soon(self, now: int) -> None:
        """The roster changed."""
        self._stale = True
        self._arm(now)

    def one_soon(self, now: int, conn: str) -> None:
        """This connection has not seen the roster yet."""
        self._untold.append(conn)
        self._arm(now)

    def _arm(self, now: int) -> None:
        if self.alarm_at is None:
            self.alarm_at = now + COALESCE_MS

    def alarm(self, now: int) -> list[Effect]:
        """Tell, if it is time."""
        if self.alarm_at is None or self.alarm_at > now:
            return []
        roster, stale = self._roster, self._stale
        untold = tuple(conn for conn in self._untold if conn in roster.conns)
        self._stale, self.alarm_at = False, None
        self._untold.clear()
        if not roster.conns or not (stale or untold):
            return []
        people = [person.participant() for person in roster]
        frame = protocol.encode(protocol.Participants(self._room_id, people))
        return [Broadcast(frame)] if stale else [Send(untold, frame)]
