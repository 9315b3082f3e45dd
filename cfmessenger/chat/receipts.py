"""Receipts: what `ack` frames do.

Owns wire.md §2's `ack` row: whose acks count, how many a second, and who is told; and
how far the users of a direct room have read. The status of a message itself is
`history`'s. Must not know who is here.
"""

from collections.abc import Mapping

from ..wire import protocol
from ..wire.protocol import Ack
from .effects import Broadcast, Effect, Read
from .history import History
from .ratelimit import UserRates
from .room_time import RoomTime

ACKS = 100
ACKS_MS = 1_000


class Receipts:
    """Of one room."""

    def __init__(
        self, room_id: str, direct: bool, history: History, time: RoomTime
    ) -> None:
        self._room_id = room_id
        self._direct = direct
        self._history = history
        self._time = time
        self._acks = UserRates(ACKS, ACKS_MS)
        # Of an old snapshot, which held them; until `old_marks`.
        self._marks: Mapping[str, int] = {}

    def ack(self, now: int, user_id: str, frame: Ack) -> tuple[list[Effect], bool]:
        """A user has a message, or has read it. True: its status has risen."""
        # "Acks beyond 100 a second are dropped in silence."
        if self._acks.check(user_id, now):
            return [], False
        self._acks.record(user_id, now)
        kept = self._history.newest_for(user_id, frame.ack_id)
        if kept is None:
            return [], False
        effects: list[Effect] = []
        if self._direct and frame.status == "read":
            effects.append(Read(user_id, kept.seq))
        if not self._history.upgrade(kept, frame.status):
            return effects, False
        told = protocol.DeliveryStatus(
            self._room_id, frame.ack_id, frame.status, user_id, self._time.at(now)
        )
        return [*effects, Broadcast(protocol.encode(told))], True

    def restore(self, marks: Mapping[str, int]) -> None:
        """How far users had read, of a snapshot from when it held that."""
        self._marks = marks

    def old_marks(self) -> list[Effect]:
        """The same, to be written where it belongs now; once."""
        marks, self._marks = self._marks, {}
        return [Read(user_id, seq) for user_id, seq in marks.items()]
