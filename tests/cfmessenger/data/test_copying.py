"""Copies of both kinds of database: whole, of one moment, and put back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from cfmessenger.accounts.users import Directory
from cfmessenger.data import copying
from cfmessenger.data.copying import CannotCopy, without_password
from cfmessenger.data.registry import Item
from cfmessenger.data.store import Store
from tests.postgresql import PostgreSQL

SENT = {"items": [Item(name="tea", quantity=1, unit_price=350)], "currency": "EUR"}


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A database, and another of its kind."""
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        yield server.database(), server.database()
    else:
        yield f"sqlite:///{tmp_path / 'a.sqlite3'}", f"sqlite:///{tmp_path / 'b' / 'b'}"


async def order(store: Store, key: str) -> str:
    made = await store.create(store.collections["orders"], "user_1", SENT, 1, key)
    return str(getattr(made.row, "id"))  # noqa: B009


async def ids(store: Store) -> set[str]:
    every = text("SELECT id FROM orders")
    found = await store.transactions.read(lambda each: each.execute(every))
    return {row[0] for row in found}


async def test_a_copy_is_whole_while_it_is_written_to(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    source, target = urls
    store = Store(source)
    await store.start(Directory.load())
    made = [await order(store, f"k{n}") for n in range(20)]
    stop = asyncio.Event()

    async def buy() -> None:
        number = len(made)
        while not stop.is_set():
            made.append(await order(store, f"k{number}"))
            number += 1

    file = tmp_path / copying.file_name(source)
    async with asyncio.TaskGroup() as group:
        group.create_task(buy())
        before = set(made)
        await copying.copy(source, file)
        stop.set()
    assert await copying.is_empty(target)
    await copying.put_back(target, file)
    assert not await copying.is_empty(target)
    restored = Store(target)
    await restored.start(Directory.load())  # migrations find what they expect
    found = await ids(restored)
    assert before <= found <= set(made)
    # The key is there with its order: a repeat makes no second one.
    assert await order(restored, "k3") == made[3]
    assert await ids(restored) == found
    # And what was written since is gone when it is put back once more.
    later = await order(restored, "later")
    await restored.aclose()
    await copying.put_back(target, file)
    again = Store(target)
    await again.start(Directory.load())
    assert later not in await ids(again)
    assert await ids(again) == found
    await again.aclose()
    await store.aclose()


async def test_what_others_keep_in_the_same_database_is_left_alone(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    url = postgresql.database()
    store = Store(url)
    await store.start(Directory.load())
    file = tmp_path / "copy"
    made = text("CREATE TABLE theirs (a int)")
    await store.transactions.write(lambda each: each.execute(made))
    await copying.copy(url, file)
    row = text("INSERT INTO theirs VALUES (1)")
    await store.transactions.write(lambda each: each.execute(row))
    await store.aclose()
    await copying.put_back(url, file)
    every = text("SELECT a FROM theirs")
    found = await store.transactions.read(lambda each: each.execute(every))
    assert [each[0] for each in found] == [1]
    await store.aclose()


async def test_what_cannot_be_copied_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotCopy, match="there is no database .*--without-sql"):
        await copying.copy(f"sqlite:///{tmp_path / 'none'}", tmp_path / "copy")
    (tmp_path / "junk").write_bytes(b"x" * 5000)
    with pytest.raises(CannotCopy, match="not a database"):
        await copying.copy(f"sqlite:///{tmp_path / 'junk'}", tmp_path / "copy")
    away = "postgresql://cfm:hush@127.0.0.1:1/cfm"
    with pytest.raises(CannotCopy, match="refused") as caught:
        await copying.copy(away, tmp_path / "dump")
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCopy, match="pg_dump is not installed"):
        await copying.copy(away, tmp_path / "dump")


@pytest.mark.parametrize(
    ("url", "plain", "password"),
    [
        ("postgresql://u:p%40w@h:1,i:2/d?sslmode=require",
         "postgresql://u@h:1,i:2/d?sslmode=require", "p@w"),
        ("postgresql://u@/d?host=/a,/b", "postgresql://u@/d?host=/a,/b", None),
        ("postgresql:///d?host=/a&password=x", "postgresql:///d?host=/a", "x"),
        ("postgres://h/d", "postgres://h/d", None),
    ],
)  # fmt: skip
def test_a_password_is_never_an_argument(
    url: str, plain: str, password: str | None
) -> None:
    assert without_password(url) == (plain, password)
