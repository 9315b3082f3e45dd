"""`cfmessenger backup`: a copy of everything that is kept, while the messenger runs.

Messages and what belongs to them out of Valkey (`storage/copying.py`), people and
orders out of SQL (`data/copying.py`), in one folder (`cli/archive.py`). What it is good
for, and what is not in it, is in docs/backup.md.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from cfmessenger import __version__
from cfmessenger.cli import world
from cfmessenger.cli.archive import Draft, Manifest, drafted
from cfmessenger.cli.embedded_valkey import BACKUP_FILE
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.running import valkey_of
from cfmessenger.cli.runtime import Refused, told
from cfmessenger.data import copying as rows
from cfmessenger.data.engine import default_url
from cfmessenger.environment import SettingsError
from cfmessenger.errors import Unavailable
from cfmessenger.settings import Settings
from cfmessenger.storage import copying
from cfmessenger.storage.resp import Refused as RefusedCommand
from cfmessenger.storage.valkey import TooOld, Valkey

SAY_EVERY_S = 2.0
TIMEOUT_S = 10.0
"""For a connection and what is asked of it; an object's copy has longer."""

MAY_NOT = (
    "its user may not do this; deploy/users.acl has one that may, to be named in "
    "CFM_VALKEY_URL for this command"
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--without-sql", is_flag=True, help="Leave people and orders out.")
@with_settings("data_dir", "cluster", "valkey_url", "database_url")
def backup(settings: Settings, folder: Path, without_sql: bool) -> None:
    """Copy all that is kept into FOLDER, which must not exist yet.

    The messenger may run and be used: every message that was acknowledged before this
    command began is in it. Sessions are not: after a restore everybody logs in again.
    """
    try:
        found = asyncio.run(_backup(settings, folder, without_sql))
    except PROBLEMS as error:
        click.echo(f"cfmessenger: {sentence(error)}", err=True)
        sys.exit(1)
    size = sum(each.bytes for each in found.files.values())
    click.echo(
        f"{folder}: {found.objects} objects and {found.others} other keys, "
        f"database: {found.database}; {mebibytes(size)}"
    )


PROBLEMS = (
    *(Unavailable, Refused, SettingsError, TooOld, OSError, rows.CannotCopy),
    *(copying.Busy, copying.NotReadable),
)


def sentence(error: BaseException) -> str:
    """What to say of one of these `PROBLEMS`."""
    if isinstance(error, RefusedCommand):
        reply = str(error.__cause__)
        return MAY_NOT if reply.startswith("NOPERM") else f"Valkey: {reply}"
    if isinstance(error, Unavailable):
        return f"{error.message} {error.__cause__ or ''}".rstrip()
    return told(error) if isinstance(error, OSError) else str(error)


def database_of(settings: Settings) -> str:
    """The URL of the database that these settings mean."""
    return settings.database_url or default_url(settings.data_dir)


def mebibytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 2**20:,.1f} MiB"


async def _backup(settings: Settings, folder: Path, without_sql: bool) -> Manifest:
    url, database = valkey_of(settings, BACKUP_FILE), database_of(settings)
    kv = Valkey(url, timeout_s=TIMEOUT_S)
    try:
        with drafted(folder) as draft:
            version = await kv.require_version()
            began = _now()
            if not without_sql:
                await rows.copy(database, draft.path / rows.file_name(database))
            click.echo(f"copying Valkey {world.place(url)}", err=True)
            objects, others = await _keys(kv, draft)
            manifest = Manifest(
                version=__version__,
                began=began,
                ended=_now(),
                valkey=version,
                objects=objects,
                others=others,
                left_out=copying.LEFT_OUT,
                database="left out" if without_sql else rows.file_name(database),
            )
            return draft.publish(folder, manifest)
    finally:
        kv.close()


async def _keys(kv: Valkey, draft: Draft) -> tuple[int, int]:
    """Objects and other keys that were copied."""
    whole = await copying.estimate(kv)
    objects = others = size = seen = 0
    said = time.monotonic()
    async for item in copying.copied(kv):
        objects, others = objects + bool(item.name), others + (not item.name)
        seen += len(item.kept)
        size += draft.add(item)
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            click.echo(f"{seen} of about {whole} keys, {mebibytes(size)}", err=True)
    return objects, others


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
