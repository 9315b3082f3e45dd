"""Starting on a database: empty, by many at once, and with another list than before."""

import asyncio
import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select, text

from cfmessenger.accounts.users import Directory, Profile
from cfmessenger.data import schema
from cfmessenger.data.engine import engine
from cfmessenger.data.query import read_query
from cfmessenger.data.quota import Quota
from cfmessenger.data.registry import Item
from cfmessenger.data.store import Store
from cfmessenger.data.tables import HEAD, metadata, usage, users
from cfmessenger.data.tables import orders as orders_table
from cfmessenger.errors import ProtocolError, Unavailable
from tests import patience

NewDatabase = Callable[[], str]


def person(user_id: str, **changes: Any) -> Profile:
    made = Profile(
        id=user_id,
        email=f"{user_id}@cfm.example",
        display_name=user_id.title(),
        avatar_id="star",
        personal_message="hello",
    )
    return msgspec.structs.replace(made, **changes)


async def on(url: str, work: Callable[[Connection], Any]) -> Any:
    """What `work` makes of a connection in a transaction that may write."""
    made = engine(url, starting=True)
    try:
        async with made.execution_options(writes=True).begin() as connection:
            return await connection.run_sync(work)
    finally:
        await made.dispose()


async def shown(url: str) -> dict[str, tuple[str, str | None]]:
    store = Store(url)
    collection = store.collections["users"]
    rows, _ = await store.page(collection, "ada", read_query(collection, "ada", []))
    await store.aclose()
    return {row.id: (row.display_name, row.personal_message) for row in rows}  # type: ignore[attr-defined]


async def test_processes_that_start_at_once_on_nothing(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    starts = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.cfmessenger.data.starter",
            url,
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        for _ in range(4)
    ]
    said = await asyncio.gather(*(each.communicate(b"go") for each in starts))
    assert [each.returncode for each in starts] == [0] * 4, said
    counted = select(func.count()).select_from(users)
    assert await on(url, lambda c: c.scalar(counted)) == len(Directory.load())


async def test_stores_that_start_at_once_in_one_process(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    stores = [Store(url) for _ in range(5)]
    await asyncio.gather(*(each.start(Directory.load()) for each in stores))
    for each in stores:
        await each.aclose()
    versions = text("SELECT version_num FROM alembic_version")
    assert await on(url, lambda c: c.execute(versions).all()) == [(HEAD,)]


async def test_the_migrations_make_the_tables_that_the_code_uses(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    await schema.prepare(url, [])

    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    assert await on(url, differences) == []
    newest = await on(
        url, lambda c: ScriptDirectory.from_config(schema.alembic_config(c)).get_heads()
    )
    assert newest == [HEAD]


async def test_a_migration_can_be_taken_back(new_database: NewDatabase) -> None:
    url = new_database()
    await schema.prepare(url, [person("ada")])
    await on(url, lambda c: command.downgrade(schema.alembic_config(c), "base"))
    assert await on(url, lambda c: inspect(c).get_table_names()) == ["alembic_version"]
    await schema.prepare(url, [person("ada")])
    assert await shown(url) == {"ada": ("Ada", "hello")}


async def test_what_was_kept_before_it_was_counted_is_counted(
    new_database: NewDatabase,
) -> None:
    """From the first version on: a full owner stays full, and may delete."""
    url = new_database()

    def as_it_was(connection: Connection) -> None:
        command.upgrade(schema.alembic_config(connection), "0001")

    await on(url, as_it_was)
    people = list(Directory.load())

    def fill(connection: Connection) -> None:
        schema.seed(connection, people)
        items = [{"name": "tea", "quantity": 1, "unitPrice": 350}]
        row = {"owner_id": "user_1", "items": items, "currency": "EUR"}
        row |= {"status": "placed", "created_at": 1, "updated_at": 1, "revision": 1}
        for n in range(3):
            connection.execute(orders_table.insert().values({"id": f"o{n}"} | row))

    await on(url, fill)
    store = Store(url, quota=Quota(3, 0))
    await store.start(people)
    orders = store.collections["orders"]
    sent = {"items": [Item(name="tea", quantity=1, unit_price=1)], "currency": "EUR"}
    with pytest.raises(ProtocolError, match="QUOTA_EXCEEDED"):
        await store.create(orders, "user_1", sent, 2)
    for n in range(3):
        await store.delete(orders, "user_1", f"o{n}", lambda revision: True)
    await store.create(orders, "user_1", sent, 2)
    found = await on(url, lambda c: c.execute(select(usage)).all())
    assert [row[:2] for row in found] == [("user_1", 1)] and found[0][2] > 0
    await store.aclose()


async def test_a_database_of_the_release_after_serves_and_stays_as_it_is(
    new_database: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Releases run beside each other, and the later one came first."""
    url = new_database()
    await schema.prepare(url, [person("ada")])

    def later(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE users ADD COLUMN mood VARCHAR(9)"))
        connection.execute(text("UPDATE users SET mood = 'glad'"))

    await on(url, later)
    await schema.prepare(
        url, [person("ada", personal_message="changed"), person("bob")]
    )
    assert "the database is a later release's: 9999" in caplog.text
    assert (await shown(url))["ada"] == ("Ada", "changed")
    moods = await on(url, lambda c: c.scalars(text("SELECT mood FROM users")).all())
    assert sorted(moods, key=str) == [None, "glad"]
    versions = text("SELECT version_num FROM alembic_version")
    assert await on(url, lambda c: c.scalar(versions)) == "9999"


async def test_a_start_that_fails_has_done_nothing(new_database: NewDatabase) -> None:
    url = new_database()
    with pytest.raises(AttributeError):
        await schema.prepare(url, [person("ada"), None])  # type: ignore[list-item]
    assert await on(url, lambda c: inspect(c).get_table_names()) == []


async def test_the_list_speaks_until_people_do_and_the_row_outlives_it(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    await schema.prepare(url, [person("ada"), person("bob"), person("cyn")])
    store = Store(url)
    collection = store.collections["users"]
    change = {"display_name": "Countess"}
    await store.change(collection, "ada", "ada", change, 1, lambda revision: True)
    await schema.prepare(
        url,
        [
            person("ada", display_name="A.", avatar_id="moon"),
            person("bob", display_name="B.", personal_message=None),
            person("dan"),
        ],
    )
    assert await shown(url) == {
        "ada": ("Countess", "hello"),
        "bob": ("B.", None),
        "dan": ("Dan", "hello"),
    }
    ada = await store.get(collection, "bob", "ada")
    assert (ada.row.avatar_id, ada.revision) == ("star", 2)  # type: ignore[attr-defined]
    await schema.prepare(url, [person("cyn")])
    assert await shown(url) == {"cyn": ("Cyn", "hello")}
    await schema.prepare(url, [person("ada")])
    assert await shown(url) == {"ada": ("Countess", "hello")}
    await store.aclose()


async def test_a_start_that_changes_nothing_writes_nothing(
    new_database: NewDatabase,
) -> None:
    url = new_database()
    people = list(Directory.load())
    await schema.prepare(url, people)
    before = await on(url, lambda c: c.execute(select(users)).all())
    await schema.prepare(url, people)
    assert await on(url, lambda c: c.execute(select(users)).all()) == before


async def test_a_start_waits_for_one_that_is_making_the_file(tmp_path: Path) -> None:
    """Whose file is not in WAL yet, and that switch would fail instead of waiting."""
    file = tmp_path / "m.sqlite3"
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    making = sqlite3.connect(file, isolation_level=None)
    making.execute("BEGIN IMMEDIATE")
    start = asyncio.create_task(schema.prepare(f"sqlite:///{file}", []))
    await asyncio.wait({start}, timeout=0.5)
    making.execute("ROLLBACK")
    making.close()
    os.close(lock)
    await start


@pytest.mark.parametrize("held", ["the start's lock", "the file"])
async def test_a_start_does_not_wait_for_ever_and_says_why(
    held: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another start hangs, or a stranger keeps the file to itself."""
    file = tmp_path / "m.sqlite3"
    monkeypatch.setattr(schema, "START_TIMEOUT_S", 1.0)
    monkeypatch.setattr(schema, "SAY_AFTER_S", 0.1)
    stranger = sqlite3.connect(file, isolation_level=None)
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if held == "the file":
        stranger.execute("PRAGMA journal_mode = WAL")
        stranger.execute("BEGIN IMMEDIATE")
    else:
        fcntl.flock(lock, fcntl.LOCK_EX)
    async with patience.within(30):  # not 300 s, and not for ever
        with pytest.raises(Unavailable):
            await schema.prepare(f"sqlite:///{file}", [])
    assert "still waiting for the database" in caplog.text
    stranger.close()
    os.close(lock)
    await schema.prepare(f"sqlite:///{file}", [])


async def test_sqlite_is_set_up_as_promised(tmp_path: Path) -> None:
    file = tmp_path / "data" / "m.sqlite3"
    await schema.prepare(f"sqlite:///{file}", [person("ada")])
    assert file.stat().st_mode & 0o077 == file.parent.stat().st_mode & 0o077 == 0

    def pragmas(connection: Connection) -> list[Any]:
        names = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        return [connection.scalar(text(f"PRAGMA {name}")) for name in names]

    assert (await on(f"sqlite:///{file}", pragmas))[:3] == ["wal", 1, 2]
    store = Store(f"sqlite:///{file}")
    found = await store.transactions.read(lambda each: each.run_sync(pragmas))
    assert 0 < found[3] <= 5000  # what is left of the whole's 5 s, in tenths
    await store.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cfm@127.0.0.1:1/cfm",
        "postgresql://cfm@/cfm?host=/nonexistent",
    ],
)
async def test_a_database_that_is_away(url: str) -> None:
    store = Store(url)
    with pytest.raises(Unavailable):
        await store.start([])
    with pytest.raises(Unavailable):
        await store.ping()
    await store.aclose()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "x"])
def test_a_database_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Store(url)
