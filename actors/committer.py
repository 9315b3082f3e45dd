"""Group commit: one pipeline for all objects of a process, one append in flight.

Whatever arrives while a pipeline is on its way is the next pipeline. Each object's part
is its own MULTI, so one object's refusal is nobody else's trouble; and where several
servers have the logs each has its own pipeline, so that none waits for another's. An
object whose log moves has one commit in flight all the same: its gate sees to that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from actors.turn import Turn
from cfmessenger.errors import Unavailable
from cfmessenger.storage.log import Commit, Log
from cfmessenger.storage.reserve import Reserve

logger = logging.getLogger("cfmessenger.committer")

Report = Callable[[Commit, Exception | None], None]
Batch = Sequence[tuple[Commit, Report]]


class Committer:
    """Collects commits of many objects and reports each one's outcome."""

    def __init__(self, log: Log, turn: Turn, reserve: Reserve | None = None) -> None:
        self._log = log
        self._turn = turn
        self._reserve = reserve or Reserve()  # it says when nothing is to be appended
        # By lane, what the next pipeline takes; a lane is there while one is due or
        # under way.
        self._waiting: dict[Hashable, list[tuple[Commit, Report]]] = {}

    def add(self, commit: Commit, report: Report) -> None:
        """Commit in this turn, or after what is under way. `report` gets None when it
        is durable, `Fenced`, or another error when it is refused or its outcome is
        unknown (design.md §3.5)."""
        lane = self._log.lane(commit.name)
        waiting = self._waiting.get(lane)
        if waiting is not None:
            waiting.append((commit, report))
            return
        self._waiting[lane] = [(commit, report)]
        self._turn.commit(partial(self._leave, lane))

    def _leave(self, lane: Hashable) -> None:
        """The next pipeline; none, if nothing waits for it."""
        batch = self._waiting[lane]
        if not batch:
            del self._waiting[lane]
            return
        self._waiting[lane] = []
        landed = partial(self._landed, lane, batch)
        try:
            if self._reserve.last:
                raise Unavailable(message="Valkey's memory is full.")
            self._log.begin_commit([commit for commit, _ in batch], landed)
        except Exception as problem:
            # In another turn, for whoever asks again at once would end nowhere.
            self._turn.commit(partial(landed, problem))

    def _landed(
        self,
        lane: Hashable,
        batch: Batch,
        outcomes: Sequence[Exception | None] | Exception,
    ) -> None:
        if isinstance(outcomes, Exception):
            if not isinstance(outcomes, Unavailable):
                logger.error("a commit failed", exc_info=outcomes)  # our bug
            outcomes = [outcomes] * len(batch)
        for (commit, report), outcome in zip(batch, outcomes, strict=True):
            try:
                report(commit, outcome)
            except Exception:
                logger.exception("%s could not go on", commit.name)
        self._leave(lane)
