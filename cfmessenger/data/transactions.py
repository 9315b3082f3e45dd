"""Transactions on the database of a URL, and which of them are done again.

What is known not to be done is: a read, and a write that came to nothing before its
COMMIT was sent. So whoever asks while PostgreSQL fails over waits, for `TIMEOUT_S` in
all, and is answered by the new primary. A COMMIT without an answer is never repeated:
it may be done, and only an Idempotency-Key or an If-Match of the caller's makes another
try safe. Must not know any table.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cfmessenger.backoff import Backoff
from cfmessenger.data.engine import engine, sqlite_file, within

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
"""What is done in a transaction. It may be called again: what it changes besides rows
has to be the same each time."""

PING_S = 2.0
"""Whoever asks whether we are ready does not wait for long."""
REST_FIRST_S, REST_MOST_S = 0.02, 0.25
"""The longest waits before a second attempt, and before any."""


class Transactions:
    """One gateway's. Both methods raise `Unavailable` after `TIMEOUT_S` at the latest;
    ValueError for a URL that cannot be meant. Nothing is contacted before the first."""

    def __init__(self, url: str) -> None:
        self.file = sqlite_file(url)
        self.engine = engine(url)
        # SQLite has one writer at a time and serves them in no order; so the writers
        # of this process wait here, first come first served. Unused with PostgreSQL.
        self._turn = asyncio.Lock()

    async def read(self, work: Work[T]) -> T:
        """What `work` finds; nothing that it changes is kept."""

        async def attempt(soon: AsyncEngine, _: list[AsyncConnection]) -> T:
            async with soon.connect() as connection:
                return await work(connection)

        async with within(self.engine) as soon:
            return await _until_done(soon, attempt)

    async def write(self, work: Work[T]) -> T:
        """What `work` finds, after all that it changes is kept; or nothing is.

        After `Unavailable` nobody knows which.
        """

        async def attempt(soon: AsyncEngine, sent: list[AsyncConnection]) -> T:
            async with soon.connect() as connection:
                transaction = await connection.begin()
                found = await work(connection)
                sent.append(connection)
                await transaction.commit()
                return found

        async with within(self.engine, writes=True) as soon, self._alone():
            return await _until_done(soon, attempt)

    async def ping(self) -> None:
        """Raises `Unavailable` unless the database answers soon."""
        async with within(self.engine, PING_S) as soon, soon.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def aclose(self) -> None:
        """Gives back every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        if self.file is None:
            yield
            return
        async with self._turn:
            yield


async def _until_done(
    soon: AsyncEngine,
    attempt: Callable[[AsyncEngine, list[AsyncConnection]], Awaitable[T]],
) -> T:
    """Attempts until one is over; who is around this says for how long.

    `attempt` puts its connection into the list before it sends COMMIT.
    """
    backoff = Backoff(random.uniform, base_s=REST_FIRST_S, cap_s=REST_MOST_S)
    while True:
        sent: list[AsyncConnection] = []
        try:
            return await attempt(soon, sent)
        except (ConnectionError, DBAPIError) as error:
            if sent or not _lost(error):
                raise
        await asyncio.sleep(backoff.delay())


def _lost(error: ConnectionError | DBAPIError) -> bool:
    """The server, and with it what was not committed."""
    return isinstance(error, ConnectionError) or error.connection_invalidated
