"""A copy of the database in one file, taken while it is written to, and putting it
back.

SQLite's own backup makes a whole database of one moment. PostgreSQL's is `pg_dump`'s,
of our tables alone, since others may use the database too: it has to be installed. Its
password never stands in a process's arguments. Must not know where the file is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sqlalchemy import text

from cfmessenger.data.engine import engine, reachable, sqlite_file
from cfmessenger.data.tables import metadata

SQLITE, POSTGRESQL = "messenger.sqlite3", "messenger.pgdump"
_VERSION = "alembic_version"
_SAID_MOST = 500


class CannotCopy(Exception):
    """The text says why, and what to do."""


def file_name(url: str) -> str:
    """What the copy of this database is called; the suffix tells its kind."""
    return POSTGRESQL if sqlite_file(url) is None else SQLITE


async def copy(url: str, to: Path) -> None:
    """Write the whole database into the new file `to`. Raises `CannotCopy`."""
    file = sqlite_file(url)
    if file is None:
        tables = [f"--table={name}" for name in (*metadata.tables, _VERSION)]
        await _run("pg_dump", url, "--format=custom", f"--file={to}", *tables)
        return
    if not file.exists():
        raise CannotCopy(
            f"there is no database {file}: name it in CFM_DATABASE_URL, or leave it "
            "out with --without-sql"
        )
    try:
        await asyncio.to_thread(_backup, file, to)
    except sqlite3.Error as error:
        raise CannotCopy(f"{file}: {error}") from None


def _backup(file: Path, to: Path) -> None:
    with contextlib.ExitStack() as opened:
        found = opened.enter_context(
            contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True))
        )
        made = opened.enter_context(contextlib.closing(sqlite3.connect(to)))
        found.backup(made)  # in one step: writers go on, and it is of one moment
        made.execute("PRAGMA journal_mode = DELETE")  # one file


async def is_empty(url: str) -> bool:
    """Whether no messenger has been on this database. Raises `Unavailable`."""
    file = sqlite_file(url)
    if file is not None:
        return not file.exists()
    made = engine(url, starting=True)
    try:
        with reachable():
            async with made.connect() as connection:
                wanted = text("SELECT to_regclass(:name)")
                found = await connection.scalar(wanted, {"name": _VERSION})
    finally:
        await made.dispose()
    return found is None


async def put_back(url: str, copied: Path) -> None:
    """Make the database what the copy is; what was in our tables is gone. Nobody may be
    using it. Raises `CannotCopy`, and then it is as it was."""
    file = sqlite_file(url)
    if file is None:
        whole = ("--single-transaction", "--exit-on-error", "--no-owner")
        clean = ("--clean", "--if-exists", "--no-privileges")
        await _run("pg_restore", url, *whole, *clean, str(copied))
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        await asyncio.to_thread(shutil.copyfile, copied, draft)
        draft.chmod(0o600)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        for rest in ("-wal", "-shm", "-journal"):
            file.with_name(file.name + rest).unlink(missing_ok=True)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


async def _run(program: str, url: str, *arguments: str) -> None:
    where = shutil.which(program)
    if where is None:
        raise CannotCopy(
            f"{program} is not installed (Debian: postgresql-client): install it, or "
            "leave the database out with --without-sql and copy it with its own tools"
        )
    plain, password = without_password(url)
    env = {**os.environ, "PGTARGETSESSIONATTRS": "read-write", "PGAPPNAME": "cfm-copy"}
    if password is not None:
        env["PGPASSWORD"] = password
    running = await asyncio.create_subprocess_exec(
        *(where, "--no-password", f"--dbname={plain}", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        _, said = await running.communicate()
    finally:
        if running.returncode is None:  # we were interrupted
            running.kill()
    if running.returncode != 0:
        raise CannotCopy(said.decode(errors="replace").strip()[:_SAID_MOST])


def without_password(url: str) -> tuple[str, str | None]:
    """The URL for a process's arguments, and what is for its environment."""
    parts = urlsplit(url)
    who, at, where = parts.netloc.rpartition("@")
    user, colon, secret = who.partition(":")
    password = unquote(secret) if colon else None
    query = parse_qsl(parts.query, keep_blank_values=True)
    password = dict(query).get("password", password)
    kept = urlencode([each for each in query if each[0] != "password"], safe="/,:")
    query_text = f"?{kept}" if kept else ""
    return f"{parts.scheme}://{user}{at}{where}{parts.path}{query_text}", password
