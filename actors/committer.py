"""Group commit: one pipeline for all objects of a process, one append in flight.

Whatever arrives while a pipeline is on its way is the next pipeline. Each object's part
is its own MULTI, so one object's refusal is nobody else's trouble; and where several
servers have the logs each has its own pipeline, so that none waits for another's. An
object whose log moves has one commit in flight all the same: its gate sees to that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable

from cfmessenger.errors import Unavailable
from cfmessenger.storage.log import Commit, Log
from cfmessenger.storage.reserve import Reserve

logger = logging.getLogger("cfmessenger.committer")

Report = Callable[[Commit, Exception | None], None]


class Committer:
    """Collects commits of many objects and reports each one's outcome."""

    def __init__(self, log: Log, reserve: Reserve | None = None) -> None:
        self._log = log
        self._reserve = reserve or Reserve()  # it says when nothing is to be appended
        # By lane, until the next pipeline; a lane is there while one is under way.
        self._waiting: dict[Hashable, list[tuple[Commit, Report]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # each of a lane, likewise

    def add(self, commit: Commit, report: Report) -> None:
        """Commit soon. `report` gets None when it is durable, `Fenced`, or another
        error when it is refused or its outcome is unknown (design.md §3.5)."""
        lane = self._log.lane(commit.name)
        waiting = self._waiting.get(lane)
        if waiting is not None:
            waiting.append((commit, report))
            return
        self._waiting[lane] = [(commit, report)]
        task = asyncio.create_task(self._run(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: Hashable) -> None:
        while batch := self._waiting[lane]:
            self._waiting[lane] = []
            outcomes: list[Exception | None]
            try:
                if self._reserve.last:
                    raise Unavailable(message="Valkey's memory is full.")
                outcomes = await self._log.commit([commit for commit, _ in batch])
            except Unavailable as error:
                outcomes = [error] * len(batch)
            except Exception as error:
                # Our bug; but everybody would wait for ever if it ended this task.
                logger.exception("a commit failed")
                outcomes = [error] * len(batch)
            for (commit, report), outcome in zip(batch, outcomes, strict=True):
                try:
                    report(commit, outcome)
                except Exception:
                    logger.exception("%s could not go on", commit.name)
        del self._waiting[lane]
