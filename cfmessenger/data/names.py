"""Names: what people call themselves, say of themselves and look like.

A row of `users` is the truth, and whoever changes one does it here, by whatever way it
was said. Every gateway has the rows in memory, so that a socket never waits for SQL.
Who changes a row says so on a Valkey channel, and every gateway looks it up; since a
channel forgets, all is looked up again on each subscription and once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from cfmessenger.accounts.users import Directory
from cfmessenger.data.engine import TIMEOUT_S, reachable
from cfmessenger.data.store import Found, Holds, Store
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Rate
from cfmessenger.storage import keys
from cfmessenger.storage.shared_rate import UserRate
from cfmessenger.storage.valkey import Valkey

logger = logging.getLogger("cfmessenger.names")

LOOK_AGAIN_S = 60.0
RETRY_S = 1.0
CHANGES = Rate(5, 60)
"""How often one person's row may change, whatever way it is said."""


class Names:
    """One gateway's side of it. `heard` is called with the ids of changed rows."""

    def __init__(self, store: Store, kv: Valkey, directory: Directory) -> None:
        # Set by the gateway's sockets when they start.
        self.heard: Callable[[Collection[str]], None] = lambda user_ids: None
        self._store = store
        self._kv = kv
        self._directory = directory
        self._rate = UserRate(kv, CHANGES, keys.words)
        self._turn = asyncio.Lock()  # so that what is read later is learnt later

    async def refresh(self, user_id: str | None = None) -> None:
        """Read the words of one user, or (None) of everybody.

        Raises `Unavailable`, after `engine.TIMEOUT_S` at the latest, its turn included.
        """
        with reachable():
            async with asyncio.timeout(TIMEOUT_S), self._turn:
                found = self._directory.learn(await self._store.own_words(user_id))
                if found:
                    self.heard(found)

    async def change(
        self,
        user_id: str,
        sent: Mapping[str, Any],
        now: int,
        holds: Holds = lambda revision: True,
    ) -> Found:
        """The user's row with these fields changed (wire.md §1).

        On return this gateway knows it, if the database and Valkey did not fail after
        the change; the others hear of it. Errors as `Store.change`, and RATE_LIMITED;
        what changes nothing costs nothing.
        """
        news = self.differs(user_id, sent)
        if news:
            await self._rate.spend(user_id)
        users = self._store.collections["users"]
        found = await self._store.change(users, user_id, user_id, sent, now, holds)
        if news:
            await self._tell(user_id)
        return found

    def differs(self, user_id: str, sent: Mapping[str, Any]) -> bool:
        """Whether this is not what the person is called already."""
        known = self._directory.get(user_id)
        return any(getattr(known, name) != (sent[name] or None) for name in sent)

    async def _tell(self, user_id: str) -> None:
        """Have this gateway and the others know. Raises nothing when storage is away,
        for the change is done; all is looked up again within a minute."""
        try:
            await self.refresh(user_id)
            await self._kv.ask("PUBLISH", keys.USERS_CHANNEL, user_id)
        except Unavailable as problem:
            logger.warning("a changed name is not told yet: %r", problem.__cause__)

    @asynccontextmanager
    async def following(self, now: Callable[[], int]) -> AsyncIterator[None]:
        """While inside, the directory follows the rows. Raises `Unavailable` on entry.

        `now` gives Unix ms, for idempotency keys that grow old in SQL.
        """
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
                async for told in self._kv.listen(keys.USERS_CHANNEL):
                    await self.refresh(None if told is None else told[1])
            await asyncio.sleep(RETRY_S)

    async def _tidy(self, now: Callable[[], int]) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await self.refresh()
                await self._store.purge(now())
            await asyncio.sleep(LOOK_AGAIN_S)
