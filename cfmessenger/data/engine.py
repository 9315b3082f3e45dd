"""Async engines for both dialects, and which of their errors mean "away".

SQLite: WAL, foreign keys on, an fsync at every commit, writers wait for each other.
PostgreSQL: asyncpg reads the URL itself, so it means what it means to `libpq`; of
several servers it is the one that takes writes (`servers.py`). Whoever asks is answered
within `TIMEOUT_S`, whatever it had to wait for: `within` is around all of it. Must not
know any table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, NullPool, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cfmessenger.data.servers import Servers, follow, hosts_of
from cfmessenger.errors import Unavailable

TIMEOUT_S = 4.5
"""From a question to its answer: our own queues, a connection, locks, statements; with
the way there and back it is 5 s for whoever asks."""
START_TIMEOUT_S = 300.0
"""The same at start, when another gateway may be busy with a migration."""
POOL = 5

SCHEMES = ("postgresql", "postgres", "sqlite")

# Our own mistakes: a retry would not help, and a 500 should show.
_BUGS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


def default_url(data_dir: Path) -> str:
    """SQLite in the data folder."""
    return str(URL.create("sqlite", database=str(data_dir / "messenger.sqlite3")))


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL, None for PostgreSQL; ValueError for other URLs."""
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"expected one of {', '.join(s + '://' for s in SCHEMES)}")
    if not url.startswith("sqlite:"):
        hosts_of(url)
        return None
    name = make_url(url).database
    if not name or name == ":memory:":
        # Every connection would have one of its own.
        raise ValueError("expected sqlite:///path/to/file")
    return Path(name)


def engine(url: str, *, starting: bool = False) -> AsyncEngine:
    """An engine for `url`; nothing is contacted yet.

    `starting`: patient, and without a pool.
    """
    file, timeout_s = sqlite_file(url), START_TIMEOUT_S if starting else TIMEOUT_S
    options: dict[str, Any] = {
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if starting:
        options["poolclass"] = NullPool
    else:
        options |= {
            "pool_size": POOL,
            "max_overflow": POOL,
            "pool_timeout": TIMEOUT_S,
            "pool_pre_ping": file is None,
        }
    if file is None:
        return _postgresql(url, timeout_s, options)
    return _sqlite(file, timeout_s, options)


def _postgresql(url: str, timeout_s: float, options: dict[str, Any]) -> AsyncEngine:
    servers = Servers(url)
    made = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: servers.connect(TIMEOUT_S, timeout_s),
        **options,
    )
    follow(made)
    return made


def _sqlite(file: Path, timeout_s: float, options: dict[str, Any]) -> AsyncEngine:
    made = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        connect_args={"timeout": timeout_s},
        **options,
    )

    @event.listens_for(made.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to send
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(made.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if "until" in options:
            _wait_until(connection, options["until"])
        # A writer takes the lock at once: one that has read first could not wait for
        # it. A reader sends one statement, which is a transaction by itself.
        if options.get("writes", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def _wait_until(connection: Connection, until: float) -> None:
    """Let SQLite wait for its locks no longer than the whole may take.

    It has to give up by itself: its thread cannot be cancelled. In tenths of a second,
    so that a connection that nobody had to wait for is told only once.
    """
    wait_ms = max(0, int((until - time.monotonic()) * 10)) * 100
    known = connection.connection.info
    if known.get("wait_ms") != wait_ms:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {wait_ms:d}")
        known["wait_ms"] = wait_ms


@asynccontextmanager
async def within(
    made: AsyncEngine, timeout_s: float = TIMEOUT_S, **options: object
) -> AsyncIterator[AsyncEngine]:
    """The engine, for what has to be over so many seconds from now.

    Raises `Unavailable` then, and where `reachable` does. What is awaited inside
    besides the database counts as well.
    """
    until = time.monotonic() + timeout_s
    with reachable():
        async with asyncio.timeout(timeout_s):
            yield made.execution_options(until=until, **options)


@contextmanager
def reachable() -> Iterator[None]:
    """Turns what means that the database is away, or too busy, into `Unavailable`.

    The outcome of a write is then unknown. What is our own mistake passes.
    """
    try:
        yield
    except _BUGS:
        raise
    except (DBAPIError, PoolTimeout, OSError, TimeoutError) as error:
        raise Unavailable() from error
