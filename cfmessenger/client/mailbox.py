"""The bounded queue between a connection and whoever iterates over it.

Owns one rule: a full mailbox makes the producer wait, and so the socket, and so the
server, which closes a slow consumer; nothing is dropped here, resuming brings it back.
(`asyncio.Queue` can be shut down only from Python 3.13 on.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):
    """Nothing is left and nothing will come."""


class Mailbox(Generic[T]):
    """One producer, any number of consumers, on one loop."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()  # from `put` until `get`
        self._limit = limit
        self._closed = False  # True from `close` on
        self._filled = asyncio.Event()  # cleared by a `get` that has to wait
        self._space = asyncio.Event()  # cleared by a `put` that has to wait

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Waits while full. What is put after `close` is dropped."""
        while len(self._items) >= self._limit and not self._closed:
            self._space.clear()
            await self._space.wait()
        if not self._closed:
            self._items.append(item)
            self._filled.set()

    async def get(self) -> T:
        """The oldest item; raises `MailboxClosed` when closed and empty."""
        while not self._items:
            if self._closed:
                raise MailboxClosed
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._space.set()
        return item

    def close(self) -> None:
        """No more goes in; what is inside can still be had. Wakes all who wait."""
        self._closed = True
        self._filled.set()
        self._space.set()
