"""`cfmessenger backup` and `restore` as commands: what they say and what they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey
from click.testing import CliRunner, Result

from cfmessenger.accounts.users import Directory
from cfmessenger.cli.archive import Archive, drafted
from cfmessenger.cli.backup import backup
from cfmessenger.cli.restore import restore
from cfmessenger.cli.runtime import DataFolder, RuntimeFolder
from cfmessenger.data.store import Store
from cfmessenger.storage import keys
from cfmessenger.storage.copying import Item, Kept
from cfmessenger.storage.log import Commit, ValkeyLog
from tests.cfmessenger.cli.test_embedded_valkey import running
from tests.conftest import ADMIN, own_valkey, url_of

ROOM = "room:general"


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    with own_valkey() as socket:
        yield socket


@pytest.fixture(scope="module")
def target() -> Iterator[Path]:
    with own_valkey() as socket:
        yield socket


def admin(socket: Path) -> valkey.Valkey:
    return valkey.Valkey(unix_socket_path=str(socket), username=ADMIN, password="-")


def call(command: Any, *words: object, data: Path, **env: str) -> Result:
    said = {"CFM_DATA_DIR": str(data), **env}
    return CliRunner().invoke(command, [str(each) for each in words], env=said)


@pytest.fixture
def kept(source: Path, target: Path, tmp_path: Path) -> Path:
    """A folder with a backup of a room with one message, and of the seeded people."""
    for each in (source, target):
        with admin(each) as client:
            client.flushall()
    url = f"sqlite:///{tmp_path / 'people.sqlite3'}"

    async def fill() -> None:
        log = ValkeyLog(url_of(source), 1000)
        epoch = (await log.activate(ROOM)).epoch
        assert await log.commit([Commit(ROOM, epoch, [(1, b"hello")])]) == [None]
        log.close()
        store = Store(url)
        await store.start(Directory.load())
        await store.aclose()

    asyncio.run(fill())
    folder = tmp_path / "kept"
    at = {"CFM_VALKEY_URL": url_of(source, "backup"), "CFM_DATABASE_URL": url}
    done = call(backup, folder, data=tmp_path, **at)
    assert done.exit_code == 0, done.output
    assert f"{folder}: 1 objects and 0 other keys, database: " in done.stdout
    return folder


async def page(url: str) -> list[tuple[int, bytes]]:
    log = ValkeyLog(url, 1000)
    try:
        return await log.page(ROOM, None, 10)
    finally:
        log.close()


def test_from_one_valkey_to_another(kept: Path, target: Path, tmp_path: Path) -> None:
    at = {"CFM_VALKEY_URL": url_of(target, "backup")}
    done = call(restore, kept, data=tmp_path / "new", **at)
    assert done.exit_code == 0, done.output
    assert "restored 1 objects and 0 other keys: a new era" in done.stdout
    assert asyncio.run(page(url_of(target))) == [(1, b"hello")]
    assert (tmp_path / "new" / "messenger.sqlite3").stat().st_mode & 0o777 == 0o600
    again = call(restore, kept, data=tmp_path / "new", **at)
    assert again.exit_code == 1
    assert "there is something already: --replace" in again.output
    replaced = call(restore, kept, "--replace", data=tmp_path / "new", **at)
    assert replaced.exit_code == 0, replaced.output
    assert asyncio.run(page(url_of(target))) == [(1, b"hello")]


def test_a_user_who_may_not_is_told_who_may(source: Path, tmp_path: Path) -> None:
    at = {"CFM_VALKEY_URL": url_of(source)}
    done = call(backup, tmp_path / "x", "--without-sql", data=tmp_path, **at)
    assert done.exit_code == 1
    assert "deploy/users.acl has one that may" in done.output
    assert not (tmp_path / "x").exists()
    assert "tests@" not in done.output  # its password


def test_nothing_runs_or_is_known(kept: Path, tmp_path: Path) -> None:
    done = call(backup, tmp_path / "x", data=tmp_path / "none")
    assert done.exit_code == 1 and "No messenger runs on" in done.output
    at = {"CFM_VALKEY_URL": f"unix://{tmp_path}/nobody"}
    done = call(backup, tmp_path / "x", "--without-sql", data=tmp_path, **at)
    assert done.exit_code == 1 and "Valkey cannot be reached" in done.output
    done = call(backup, kept, data=tmp_path, **at)
    assert done.exit_code == 1 and "is there already" in done.output


def test_a_database_of_another_kind_is_not_guessed_at(
    kept: Path, target: Path, tmp_path: Path
) -> None:
    url = {"CFM_DATABASE_URL": "postgresql://cfm@127.0.0.1:1/cfm"}
    at = {"CFM_VALKEY_URL": url_of(target, "backup")}
    done = call(restore, kept, data=tmp_path / "new", **url, **at)
    assert done.exit_code == 1
    assert "has the database as messenger.sqlite3" in done.output
    done = call(restore, kept, "--without-sql", data=tmp_path / "new", **url, **at)
    assert done.exit_code == 0, done.output


async def started(data: Path) -> list[tuple[int, bytes]]:
    """What a messenger on this folder finds."""
    runtime = RuntimeFolder(data)
    runtime.open()
    try:
        async with running(data, runtime.path) as (embedded, _):
            return await page(embedded.url)
    finally:
        runtime.remove()


def test_into_a_data_folder(kept: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = call(restore, kept, data=data)
    assert done.exit_code == 0, done.output
    assert {each.name for each in data.iterdir()} == {
        *("lock", "logs", "valkey", "messenger.sqlite3"),
    }
    assert asyncio.run(started(data)) == [(1, b"hello")]
    assert call(restore, kept, data=data).exit_code == 1
    done = call(restore, kept, "--replace", data=data)
    assert done.exit_code == 0, done.output
    [before] = data.glob("before-restore-*")
    assert {each.name for each in before.iterdir()} == {"valkey", "messenger.sqlite3"}
    assert asyncio.run(started(data)) == [(1, b"hello")]


def test_a_data_folder_that_is_used_is_left_alone(kept: Path, tmp_path: Path) -> None:
    with DataFolder(tmp_path / "data"):
        done = call(restore, kept, "--replace", data=tmp_path / "data")
    assert done.exit_code == 1 and "is in use by process" in done.output


def test_what_valkey_does_not_take_leaves_the_folder_as_it_was(
    kept: Path, tmp_path: Path
) -> None:
    data, bad = tmp_path / "data", tmp_path / "bad"
    assert call(restore, kept, data=data).exit_code == 0
    with drafted(bad) as draft:
        draft.add(Item(ROOM, 1, 1, [Kept(keys.log(ROOM), 0, b"of a newer version")]))
        draft.publish(bad, Archive(kept).manifest)
    done = call(restore, bad, "--replace", "--without-sql", data=data)
    assert done.exit_code == 1 and "DUMP payload version" in done.output
    assert not (data / "restoring").exists()
    assert asyncio.run(started(data)) == [(1, b"hello")]
