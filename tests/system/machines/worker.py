"""A worker of the load harness that also notes what each room answered, and how late.

A pause is from when somebody's message was due to the next answer that this person got:
messages that were refused meanwhile make it longer, not shorter. Both go to the file
that the environment names, when the worker ends.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from cfmessenger.load import crew, worker
from cfmessenger.load.plan import Plan
from cfmessenger.load.seat import Seat
from cfmessenger.load.talk import Talk
from cfmessenger.load.ticker import now

FILE = "MACHINES_NOTED"


class Noted(msgspec.Struct):
    """Of each room: the longest pause in seconds of each of its sockets, by number; the
    ids that were acknowledged; and the sockets that were lost while it was measured."""

    pauses: dict[str, dict[int, float]] = {}
    acked: dict[str, list[str]] = {}
    lost: dict[str, set[int]] = {}


class NotingTalk(Talk):
    """All that the worker says, and what is noted of it."""

    def __init__(self, plan: Plan, *given: Any) -> None:
        super().__init__(plan, *given)
        self._measured_s = plan.duration_s
        # When the oldest message that was refused since the last answer was due.
        self._refused: dict[Seat, float] = {}
        self._noted = Noted()
        Seat.lost = self._noting(Seat.lost)  # type: ignore[method-assign]
        atexit.register(self._write, Path(os.environ[FILE]))

    def answered(self, message_id: str) -> None:
        sent = self.sent.get(message_id)
        if sent is not None:
            self._noted.acked.setdefault(sent.seat.room.name, []).append(message_id)
            if sent.measured:
                self._note(sent.seat, self._refused.pop(sent.seat, sent.due), now())
        super().answered(message_id)

    def refused(self, message_id: str, code: str) -> None:
        sent = self.sent.get(message_id)
        if sent is not None and sent.measured:
            self._refused.setdefault(sent.seat, sent.due)
        super().refused(message_id, code)

    def _noting(self, lost: Callable[[Seat], None]) -> Callable[[Seat], None]:
        def told(seat: Seat) -> None:
            # Not when it is over, and all of them are closed.
            if 0 <= now() - self.measure_at < self._measured_s:
                self._noted.lost.setdefault(seat.room.name, set()).add(seat.number)
            lost(seat)

        return told

    def _note(self, seat: Seat, since: float, until: float) -> None:
        pauses = self._noted.pauses.setdefault(seat.room.name, {})
        pauses[seat.number] = max(until - since, pauses.get(seat.number, 0.0))

    def _write(self, path: Path) -> None:
        # Who got no answer to the end has waited as long as anybody looked.
        waiting = [(sent.seat, sent.due) for sent in self.unanswered()]
        for seat, since in (*waiting, *self._refused.items()):
            if since >= self.measure_at:
                self._note(seat, since, now())
        path.write_bytes(msgspec.json.encode(self._noted))


if __name__ == "__main__":
    crew.Talk = NotingTalk  # type: ignore[misc]
    try:
        uvloop.run(worker.main())
    except EOFError:
        sys.exit(1)
