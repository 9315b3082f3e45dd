"""What happens to the database at start: migrations, then the seeded list.

Many gateways may start at once, on an empty database too: one at a time does it, under
PostgreSQL's advisory lock, or a file lock beside SQLite's file (switching to WAL does
not wait by itself). It is one transaction, so a start that dies has done nothing. Who
has waited for long says so, and gives up after `engine.START_TIMEOUT_S` in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cfmessenger.accounts.users import Profile
from cfmessenger.data.engine import (
    START_TIMEOUT_S,
    engine,
    sqlite_file,
    within,
)
from cfmessenger.data.tables import HEAD, users

logger = logging.getLogger("cfmessenger.schema")

SAY_AFTER_S = 5.0
LOOK_EVERY_S = 0.1
ADVISORY_LOCK = 0x63666D  # "cfm"
_OWN = ("display_name", "personal_message", "avatar_id")


async def prepare(url: str, profiles: Iterable[Profile]) -> None:
    """Bring the database to the newest version and the list into it.

    Raises `Unavailable`; whatever else it raises is no reason to try again.
    """
    file, starting = sqlite_file(url), engine(url, starting=True)
    said = asyncio.get_running_loop().call_later(
        SAY_AFTER_S, logger.warning, "still waiting for the database: is it locked?"
    )
    try:
        async with within(starting, START_TIMEOUT_S, writes=True) as patient:
            async with _alone(file):
                if file is not None:
                    async with starting.connect() as connection:
                        await _autocommit(connection, "PRAGMA journal_mode = WAL")
                async with patient.begin() as connection:
                    if file is None:
                        lock = text("SELECT pg_advisory_xact_lock(:key)")
                        await connection.execute(lock, {"key": ADVISORY_LOCK})
                    await connection.run_sync(migrate)
                    await connection.run_sync(seed, list(profiles))
    finally:
        said.cancel()
        await starting.dispose()


async def _autocommit(connection: AsyncConnection, statement: str) -> None:
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None
    async with raw.driver_connection.execute(statement):
        pass


@asynccontextmanager
async def _alone(file: Path | None) -> AsyncIterator[None]:
    """Nobody else who starts on this SQLite file is in here."""
    if file is None:
        yield
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    lock = os.open(f"{file}.lock", flags, 0o600)
    try:
        os.close(os.open(file, flags, 0o600))  # SQLite's own mode is the umask's
        # Not in a thread: that could not be called back when the time is over.
        while not _locked(lock):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def migrate(connection: Connection) -> None:
    """Run the versions that are missing, in the connection's transaction.

    One of a later release is left as it is: for as long as releases run beside each
    other a version only adds to the one before.
    """
    found = _version(connection)
    if found == HEAD:
        return
    if found is not None and found.isdigit() and found > HEAD:
        logger.warning("the database is a later release's: %s, here %s", found, HEAD)
        return
    from alembic import command  # half a second that most starts can save

    command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: Connection) -> Any:
    """Alembic's configuration, which is nothing but this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "cfmessenger.data:migrations")
    config.attributes["connection"] = connection
    return config


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(
        text("SELECT version_num FROM alembic_version")
    )
    return found


def seed(connection: Connection, profiles: list[Profile]) -> None:
    """Make `users` say what the list says, but for what people changed themselves.

    Who is no longer in the list keeps the row, unlisted.
    """
    there = {
        row["id"]: dict(row) for row in connection.execute(select(users)).mappings()
    }
    for profile in profiles:
        wanted = {name: getattr(profile, name) for name in profile.__struct_fields__}
        found = there.pop(profile.id, None)
        if found is None:
            new = wanted | {"own": False, "listed": True, "revision": 1}
            connection.execute(users.insert().values(new))
            continue
        if found["own"]:
            wanted = {k: v for k, v in wanted.items() if k not in _OWN}
        _update(connection, found, wanted | {"listed": True})
    for gone in there.values():
        _update(connection, gone, {"listed": False})


def _update(
    connection: Connection, found: dict[str, Any], wanted: dict[str, Any]
) -> None:
    if wanted.items() <= found.items():
        return
    values = wanted | {"own": found["own"], "revision": found["revision"] + 1}
    connection.execute(users.update().where(users.c.id == found["id"]).values(values))
