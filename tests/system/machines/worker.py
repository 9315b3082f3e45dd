"""A worker of the load harness that also notes how long each room kept people waiting.

A pause is from when somebody's message was due to the next answer that this person got:
messages that were refused meanwhile make it longer, not shorter. The longest of each
room goes to the file that the environment names, when the worker ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from cfmessenger.load import worker
from cfmessenger.load.crew import Crew, Sent
from cfmessenger.load.seat import Seat
from cfmessenger.load.ticker import now

FILE = "MACHINES_PAUSES"


class PausesCrew(Crew):
    """All sockets of the worker, and the longest pause of each room."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        # When the oldest message that was refused since the last answer was due.
        self._refused: dict[Seat, float] = {}
        self._longest: dict[str, float] = {}

    def answered(self, message_id: str) -> None:
        sent = self.sent.get(message_id)
        if sent is not None and sent.measured:
            self._note(sent.seat, self._refused.pop(sent.seat, sent.due), now())
        super().answered(message_id)

    def refused(self, message_id: str, code: str) -> None:
        sent = self.sent.get(message_id)
        if sent is not None and sent.measured:
            self._refused.setdefault(sent.seat, sent.due)
        super().refused(message_id, code)

    def _note(self, seat: Seat, since: float, until: float) -> None:
        room = seat.room.name
        self._longest[room] = max(until - since, self._longest.get(room, 0.0))

    async def aclose(self) -> None:
        await super().aclose()
        # Who got no answer to the end has waited as long as anybody looked.
        for seat, since in (*map(_waits, self.sent.values()), *self._refused.items()):
            if since >= self.measure_at:
                self._note(seat, since, now())
        self._write(Path(os.environ[FILE]))

    def _write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self._longest))


def _waits(sent: Sent) -> tuple[Seat, float]:
    return sent.seat, sent.due


if __name__ == "__main__":
    worker.Crew = PausesCrew  # type: ignore[misc]
    try:
        uvloop.run(worker.main())
    except EOFError:
        sys.exit(1)
