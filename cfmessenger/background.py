"""Tasks that nobody waits for.

asyncio holds a running task but weakly, and tells of an exception in it when the task
is collected, which may be late. So whoever begins one keeps it here until it is done,
and the loop's exception handler hears at once of what nobody expected. What a task must
expect to fail with it handles itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """The tasks of one owner; its `len` is how many are not done yet."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # each until it is done

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it is done or cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            told = {"message": "A task failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(told)

    def cancel(self) -> None:
        """Cancel all; each is kept until it has ended."""
        for task in tuple(self._tasks):
            task.cancel()

    async def settle(self, within_s: float | None = None) -> None:
        """Wait until none is left, or so long; nothing is cancelled."""
        try:
            async with asyncio.timeout(within_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            pass  # `len` tells
