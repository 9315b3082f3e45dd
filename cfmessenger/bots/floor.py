"""The floor: whose turn it is to be answered, room by room.

In each room only so many questions are thought about at a time. Further ones wait in a
line of limited length. Thinking has a deadline, so that an answer which never comes
does not silence its room. All this is in memory alone: a crash forgets whoever waited,
and nobody is answered twice.
"""

from collections import deque

from .talk import Question

THINKING_MS = 40_000
"""The deadline: longer than a replier and its typing take."""

LINE = 16
"""Questions that may wait in one room."""
LINES = 1_000
"""Questions that may wait in all rooms together, and that may be thought about."""

Key = tuple[str, int]
"""A question: its room, and its number there."""


class Floor:
    """Questions that are thought about, and those that wait for it.

    `at_once`: how many are thought about in one room; 0: no limit. Times are Unix ms.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        # From its turn until `leave`: the question, and when it is given up.
        self._thinking: dict[Key, tuple[Question, int]] = {}
        self._lines: dict[str, deque[Question]] = {}  # by room; no empty ones
        self._busy: dict[str, int] = {}  # questions thought about, by room; no zeros
        self._waiting = 0  # questions in all lines

    @property
    def next_end(self) -> int | None:
        """When the next question is given up, in ms; None: nobody thinks."""
        # All may take equally long, so the oldest is the next.
        for _, until in self._thinking.values():
            return until
        return None

    def question(self, room_id: str, seq: int) -> Question | None:
        """The question, if it is being thought about."""
        found = self._thinking.get((room_id, seq))
        return found[0] if found else None

    def knows(self, room_id: str, seq: int) -> bool:
        """Whether this question is thought about, or waits for it."""
        line = self._lines.get(room_id, ())
        return (room_id, seq) in self._thinking or any(q.seq == seq for q in line)

    def free(self, room_id: str) -> bool:
        """Whether another question of this room would be thought about at once."""
        return self._free(room_id) and len(self._thinking) < LINES

    def full(self, room_id: str) -> bool:
        """Whether another question of this room must not `join`: it would have to wait
        and the line is full, or too many are thought about in all."""
        if self._free(room_id):
            return not self.free(room_id)
        line = self._lines.get(room_id, ())
        return len(line) >= LINE or self._waiting >= LINES

    def _free(self, room_id: str) -> bool:
        return not self._at_once or self._busy.get(room_id, 0) < self._at_once

    def join(self, now: int, question: Question) -> bool:
        """True: it is to be thought about now. False: it waits in line.

        Ask `full` first: nothing is refused here.
        """
        if self._free(question.room_id):
            self._think(now, question)
            return True
        self._lines.setdefault(question.room_id, deque()).append(question)
        self._waiting += 1
        return False

    def _think(self, now: int, question: Question) -> None:
        room_id = question.room_id
        self._thinking[room_id, question.seq] = question, now + THINKING_MS
        self._busy[room_id] = self._busy.get(room_id, 0) + 1

    def leave(self, now: int, room_id: str, seq: int) -> Question | None:
        """A question was answered, or given up. Returns the next in its room's line,
        which is to be thought about now; None: nobody waits, or it was not known."""
        if self._thinking.pop((room_id, seq), None) is None:
            return None
        self._busy[room_id] -= 1
        if not self._busy[room_id]:
            del self._busy[room_id]
        line = self._lines.get(room_id)
        if not line:
            return None
        question = line.popleft()
        self._waiting -= 1
        if not line:
            del self._lines[room_id]
        self._think(now, question)
        return question

    def overdue(self, now: int) -> list[Question]:
        """The questions that were thought about for too long; `leave` each."""
        return [each for each, until in self._thinking.values() if until <= now]
