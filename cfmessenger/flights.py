"""Single flight: many who want the same thing at once share one attempt at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Attempts under way, by what they are for. No outcome is kept."""

    def __init__(self) -> None:
        # From the first who wants it until its outcome.
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def join(
        self, key: Hashable, attempt: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """The outcome of the attempt that is under way for `key`, an exception too;
        where there is none, `attempt` begins it.

        Who is cancelled leaves alone: the attempt goes on, if only for who comes next.
        """
        task = self._under_way.get(key)
        if task is None or task.done():
            task = self._under_way[key] = asyncio.create_task(attempt())
            task.add_done_callback(lambda ended: self._landed(key, ended))
        return await asyncio.shield(task)

    def _landed(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if self._under_way[key] is task:  # else one was begun since it was done
            del self._under_way[key]
        if not task.cancelled():
            task.exception()  # looked at: all who wanted it may have left

    async def cancel(self) -> None:
        """Cancel every attempt under way, and wait until it has ended."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
