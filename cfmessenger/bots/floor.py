"""The floor: whose turn it is to be answered, room by room.

At most so many answers are thought about in one room at a time; who asks meanwhile
waits in line, and the line has an end. What is thought about has a deadline, so that an
answer which never comes does not silence its room. Kept in memory alone: a crash
forgets whoever waited, and nobody is answered twice.
"""

from collections import deque

from .talk import Question

THINKING_MS = 40_000
"""More than a replier and its typing may take."""

LINE = 16
LINES = 1_000
"""Questions that may wait in one room; that may wait, and that may be thought about, in
all."""

Key = tuple[str, int]


class Floor:
    """Questions that are thought about, and those that wait for it."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._thinking: dict[Key, tuple[Question, int]] = {}
        self._lines: dict[str, deque[Question]] = {}
        self._busy: dict[str, int] = {}
        self._waiting = 0

    @property
    def next_end(self) -> int | None:
        """When the first answer that is thought about is given up, in ms."""
        # All have the same time, so the first is the next.
        for _, until in self._thinking.values():
            return until
        return None

    def question(self, room_id: str, seq: int) -> Question | None:
        """The question, if it is being thought about."""
        found = self._thinking.get((room_id, seq))
        return found[0] if found else None

    def knows(self, room_id: str, seq: int) -> bool:
        """It is thought about, or waits for it."""
        line = self._lines.get(room_id, ())
        return (room_id, seq) in self._thinking or any(q.seq == seq for q in line)

    def free(self, room_id: str) -> bool:
        """A question of this room would be thought about at once."""
        return self._free(room_id) and len(self._thinking) < LINES

    def full(self, room_id: str) -> bool:
        """Nobody may join the line of this room."""
        if self._free(room_id):
            return not self.free(room_id)
        line = self._lines.get(room_id, ())
        return len(line) >= LINE or self._waiting >= LINES

    def _free(self, room_id: str) -> bool:
        return not self._at_once or self._busy.get(room_id, 0) < self._at_once

    def join(self, now: int, question: Question) -> bool:
        """True if it may be thought about now; else it waits in line."""
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
        """An answer was given, or not: whose turn is it in this room?"""
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
        """What was thought about for too long."""
        return [each for each, until in self._thinking.values() if until <= now]
