"""What is done once in a turn of the loop, in the order in which it builds on itself.

What arrived together goes together: objects flush what they hold, then what they append
leaves as one pipeline, then each link is written once. All of it in one callback, for
each callback that another one asks for costs the loop one more look at its sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Work = Callable[[], None]


class Turn:
    """One for each process. Whoever asks for something to be done asks once in a turn;
    what is asked for while a step before it is done is done in the same turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = False  # from the first that is asked for until it is done
        self._flushes: list[Work] = []  # these three: likewise
        self._commits: list[Work] = []
        self._writes: list[Work] = []

    def flush(self, work: Work) -> None:
        """First: an object lets go what it holds."""
        self._flushes.append(work)
        self._soon()

    def commit(self, work: Work) -> None:
        """Then: appends leave."""
        self._commits.append(work)
        self._soon()

    def write(self, work: Work) -> None:
        """Last: a link is written."""
        self._writes.append(work)
        self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        works, self._flushes = self._flushes, []
        self._do(works)
        works, self._commits = self._commits, []
        self._do(works)
        works, self._writes = self._writes, []
        self._do(works)
        self._due = False
        if self._flushes or self._commits or self._writes:
            self._soon()

    def _do(self, works: list[Work]) -> None:
        for work in works:
            try:
                work()
            except Exception as error:
                # As of any callback: nobody else is to suffer for it.
                told = {"message": "A turn's work failed", "exception": error}
                self._loop.call_exception_handler(told)
