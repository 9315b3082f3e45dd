"""`cfmessenger restore`: makes a messenger that does not run what a backup is.

Into a Valkey that is named, or into a data folder, where it is made beside what is
there and moved into place when it is whole. Whoever has seen more than the backup holds
is told so by the era that begins (docs/backup.md). Must not start a messenger.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import click

from cfmessenger.cli import process, world
from cfmessenger.cli.archive import Archive
from cfmessenger.cli.backup import (
    PROBLEMS,
    SAY_EVERY_S,
    TIMEOUT_S,
    database_of,
    sentence,
)
from cfmessenger.cli.embedded_valkey import EmbeddedValkey
from cfmessenger.cli.flags import with_settings
from cfmessenger.cli.runtime import DataFolder, InUse, Refused, RuntimeFolder
from cfmessenger.cli.service import serves
from cfmessenger.data import copying as rows
from cfmessenger.data.engine import sqlite_file
from cfmessenger.settings import Settings
from cfmessenger.storage import copying
from cfmessenger.storage.copying import NotEmpty, Restored
from cfmessenger.storage.valkey import Valkey

READY_S = 30.0
END_S = 30.0
TELL = "--replace puts the backup in its place"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Although something is there: it is replaced."
)
@click.option("--without-sql", is_flag=True, help="Leave people and orders alone.")
@with_settings("data_dir", "valkey_url", "database_url", "fsync")
def restore(settings: Settings, folder: Path, replace: bool, without_sql: bool) -> None:
    """Put the backup in FOLDER back: into CFM_VALKEY_URL and CFM_DATABASE_URL, or into
    the data folder. No messenger may run on them.

    Rooms are as they were when the backup was made; everybody logs in again, and who
    has seen more is told so.
    """
    try:
        done = asyncio.run(_restore(settings, folder, replace, without_sql))
    except NotEmpty:
        click.echo(f"cfmessenger: there is something already: {TELL}", err=True)
        sys.exit(1)
    except (*PROBLEMS, InUse) as error:
        click.echo(f"cfmessenger: {sentence(error)}", err=True)
        sys.exit(1)
    back = f"; {done.clipped} read marks set back" if done.clipped else ""
    click.echo(
        f"restored {done.objects} objects and {done.others} other keys{back}: a new "
        "era begins, and everybody logs in again"
    )


async def _restore(
    settings: Settings, folder: Path, replace: bool, without_sql: bool
) -> Restored:
    archive = Archive(folder)
    click.echo(f"checking {folder} ({archive.manifest.began})", err=True)
    archive.verify()
    database = None if without_sql else database_of(settings)
    if database is not None and rows.file_name(database) not in archive.manifest.files:
        raise Refused(
            f"{folder} has the database as {archive.manifest.database}, which does not "
            "fit CFM_DATABASE_URL: name one of that kind, or --without-sql"
        )
    if settings.valkey_url is None:
        return await _into_folder(settings, archive, database, replace)
    kv = Valkey(settings.valkey_url, timeout_s=TIMEOUT_S)
    try:
        await kv.require_version()
        if database is not None and not replace and not await rows.is_empty(database):
            raise NotEmpty
        click.echo(f"restoring Valkey {world.place(settings.valkey_url)}", err=True)
        return await _into(kv, archive, database, replace)
    finally:
        kv.close()


async def _into(
    kv: Valkey, archive: Archive, database: str | None, replace: bool
) -> Restored:
    restore = copying.Restore(kv)
    await restore.begin(replace)
    if database is not None:
        click.echo(f"restoring database {world.place(database)}", err=True)
        await rows.put_back(database, archive.path / rows.file_name(database))
    whole, done, said = archive.manifest.objects + archive.manifest.others, 0, 0.0
    items = archive.items()
    while some := list(itertools.islice(items, copying.AT_ONCE)):
        await restore.put(some)
        done += len(some)
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            click.echo(f"{done} of {whole}", err=True)
    return await restore.end()


async def _into_folder(
    settings: Settings, archive: Archive, database: str | None, replace: bool
) -> Restored:
    """Beside what is there, and into place at the end."""
    with DataFolder(settings.data_dir) as data:
        file = sqlite_file(database) if database is not None else None
        there = [data.path / "valkey", *([file] if file else [])]
        old = [each for each in there if each.exists()]
        if not replace and (
            old or (database and not file and not await rows.is_empty(database))
        ):
            raise NotEmpty
        staging = data.path / "restoring"
        shutil.rmtree(staging, ignore_errors=True)  # of a restore that did not end
        try:
            async with _served(staging, settings.fsync) as kv:
                made = None
                if file is not None:
                    made = f"sqlite:///{staging / file.name}"
                done = await _into(kv, archive, made or database, replace)
            _aside(data.path, old)
            if file is not None:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.move(staging / file.name, file)
            (staging / "valkey").rename(data.path / "valkey")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return done


def _aside(data: Path, old: list[Path]) -> None:
    if not old:
        return
    kept = data / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}"
    kept.mkdir(mode=0o700)
    for each in old:
        for part in (each, *(each.with_name(each.name + s) for s in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                shutil.move(part, kept / part.name)
    click.echo(
        f"what was there is in {kept}: delete it when it is not missed", err=True
    )


@asynccontextmanager
async def _served(folder: Path, fsync: str) -> AsyncIterator[Valkey]:
    """An embedded Valkey on this folder, which is gone at the end; its files stay."""
    runtime = RuntimeFolder(folder)
    with DataFolder(folder) as data:
        runtime.open()
        embedded = EmbeddedValkey(data, runtime.path, fsync)
        service = embedded.service
        launch = service.launch()
        popen = process.spawn(
            launch.command,
            launch.env,
            death_signal=service.death_signal,
            inherit=launch.handed,
            output=launch.output,
        )
        for fd in launch.handed:
            os.close(fd)
        kv = Valkey(embedded.backup_url, timeout_s=TIMEOUT_S)
        try:
            assert service.probe is not None
            try:
                async with asyncio.timeout(READY_S):
                    await serves(service.probe)
            except TimeoutError:
                raise Refused(f"Valkey does not start: see {data.logs}") from None
            yield kv
        finally:
            kv.close()
            popen.terminate()
            await asyncio.to_thread(popen.wait, END_S)
            runtime.remove()
