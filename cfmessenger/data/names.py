"""Keeps the directory in step with what people call themselves in `users`.

The table is the truth; every gateway has it in memory, so that a socket never waits for
SQL. Who changes a row says so on a Valkey channel, and every gateway looks it up; since
a channel forgets, all is looked up again on each subscription and once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cfmessenger import keys
from cfmessenger.data.engine import TIMEOUT_S, reachable
from cfmessenger.data.store import Store
from cfmessenger.errors import Unavailable
from cfmessenger.storage.valkey_kv import Valkey, ask, listen
from cfmessenger.users import Directory

logger = logging.getLogger("cfmessenger.names")

LOOK_AGAIN_S = 60.0
RETRY_S = 1.0


class Names:
    """One gateway's side of it."""

    def __init__(self, store: Store, kv: Valkey, directory: Directory) -> None:
        self._store = store
        self._kv = kv
        self._directory = directory
        self._turn = asyncio.Lock()  # what was read later is believed later

    async def refresh(self, user_id: str | None = None) -> None:
        """Read the words of one, or of everybody. Raises `Unavailable`, waiting for
        those before it included, as late as the store does."""
        with reachable():
            async with asyncio.timeout(TIMEOUT_S), self._turn:
                self._directory.learn(await self._store.own_words(user_id))

    async def changed(self, user_id: str) -> None:
        """A row was changed here: this gateway knows when it returns, the others soon.

        Never raises `Unavailable`: the change itself is done.
        """
        try:
            await self.refresh(user_id)
            await ask(self._kv, "PUBLISH", keys.USERS_CHANNEL, user_id)
        except Unavailable as problem:
            logger.warning("a changed name is not told yet: %r", problem.__cause__)

    @asynccontextmanager
    async def following(self, now: Callable[[], int]) -> AsyncIterator[None]:
        """While inside, the directory follows; `now` is for what grows old in SQL."""
        await self.refresh()
        tasks = [asyncio.create_task(each) for each in (self._hear(), self._tidy(now))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                async for told in listen(self._kv, keys.USERS_CHANNEL):
                    await self.refresh(None if told is None else told[1])
            await asyncio.sleep(RETRY_S)

    async def _tidy(self, now: Callable[[], int]) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self.refresh()
                await self._store.purge(now())
            await asyncio.sleep(LOOK_AGAIN_S)
