"""Rows in SQL, over both dialects: pages, locks, keys, and whose rows they are."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from cfmessenger.accounts.users import Directory
from cfmessenger.data import engine
from cfmessenger.data.query import read_query
from cfmessenger.data.quota import Quota
from cfmessenger.data.registry import Item, Order
from cfmessenger.data.store import KEY_LIFE_MS, Found, Store
from cfmessenger.data.tables import usage
from cfmessenger.errors import ProtocolError, Unavailable
from tests import patience
from tests.cfmessenger.data.conftest import Pair
from tests.effort import tries
from tests.postgresql import PostgreSQL

SENT = {"items": [Item(name="tea", quantity=1, unit_price=350)], "currency": "EUR"}


def always(revision: int) -> bool:
    return True


async def order(
    store: Store, owner: str = "user_1", now: int = 1, **more: Any
) -> Found:
    sent = SENT | {k: v for k, v in more.items() if k != "key"}
    return await store.create(
        store.collections["orders"], owner, sent, now, more.get("key")
    )


async def change(
    store: Store, row_id: str, now: int = 2, holds: Any = always, **sent: Any
) -> Found:
    orders = store.collections["orders"]
    return await store.change(orders, "user_1", row_id, sent, now, holds)


async def page(
    store: Store, *given: tuple[str, str], owner: str = "user_1"
) -> tuple[list[Any], str | None]:
    orders = store.collections["orders"]
    return await store.page(orders, owner, read_query(orders, owner, given))


async def code_of(call: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        await call
    return caught.value.code


# Pages.

SORTS = ["createdAt", "-createdAt", "currency", "-currency", "id", "-id", "-status"]
_AT = st.integers(0, 3)
_CURRENCY = st.sampled_from(["EUR", "GBP", "JPY"])
_ROWS = st.lists(st.tuples(_AT, _CURRENCY), max_size=9)


@settings(
    max_examples=tries(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=_ROWS,
    meanwhile=st.lists(_ROWS, max_size=4),
    sort=st.sampled_from(SORTS),
    limit=st.integers(1, 4),
    currency=st.none() | _CURRENCY,
    victims=st.lists(st.integers(0, 8), max_size=2),
)
async def test_every_row_comes_once_and_in_order_whatever_is_inserted_meanwhile(
    pair: Pair,
    before: list[tuple[int, str]],
    meanwhile: list[list[tuple[int, str]]],
    sort: str,
    limit: int,
    currency: str | None,
    victims: list[int],
) -> None:
    store, other = pair
    every = store.collections["orders"].table.delete()
    await store.transactions.write(lambda connection: connection.execute(every))
    rows = [(await order(store, now=at, currency=c)).row for at, c in before]
    gone = {rows[n].id for n in victims if n < len(rows)}
    query = [("sort", sort), ("limit", str(limit))]
    query += [("currency", currency)] if currency else []
    found: list[Order] = []
    cursor: str | None = None
    for turn in range(100):
        after = [("cursor", cursor)] if cursor else []
        items, cursor = await page(store, *query, *after)
        assert len(items) <= limit and (cursor is None or len(items) == limit)
        found += items
        for at, c in meanwhile[turn] if turn < len(meanwhile) else []:
            await order(other, now=at, currency=c)
        if turn == 0:
            for row_id in gone:
                await other.delete(
                    other.collections["orders"], "user_1", row_id, always
                )
        if cursor is None:
            break
    assert cursor is None
    ids = [row.id for row in found]
    assert len(set(ids)) == len(ids)
    stayed = {r.id for r in rows if currency in (None, r.currency)} - gone  # type: ignore[attr-defined]
    assert stayed <= set(ids)
    name = {"createdAt": "created_at"}.get(sort.lstrip("-"), sort.lstrip("-"))
    keys = [(getattr(row, name), row.id) for row in found]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


async def test_text_is_in_the_order_of_code_points(store: Store) -> None:
    users = store.collections["users"]
    names = ["\U0001f600", "zed", "Zed", "\u00e9t\u00e9", "ete", "\uffee", "_", "0"]
    for number, name in enumerate(names, 1):
        who = f"user_{number}"
        change = {"display_name": name}
        await store.change(users, who, who, change, 1, always)
    query = [("sort", "displayName"), ("limit", "3"), ("isAiBot", "false")]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        after = [("cursor", cursor)] if cursor else []
        rows, cursor = await store.page(
            users, "user_1", read_query(users, "user_1", query + after)
        )
        found += [row.display_name for row in rows]  # type: ignore[attr-defined]
    assert len(found) == 20 and found == sorted(found)


# Writes.


async def test_a_row_is_kept_as_it_was_made(pair: Pair) -> None:
    items = [
        Item(name="x'; DROP TABLE orders; --", quantity=10**6, unit_price=9 * 10**9),
        Item(name='"%\\_$1?:a \U0001f600', quantity=1, unit_price=0),
    ]
    made = await order(pair[0], items=items, now=2**53 - 1)
    assert (
        await pair[1].get(pair[1].collections["orders"], "user_1", made.row.id) == made
    )


async def test_writers_at_once_lose_nothing(pair: Pair) -> None:
    """Half of them in each gateway, each adding an item to what it finds."""
    made = await order(pair[0])
    orders = pair[0].collections["orders"]

    async def add(store: Store, number: int) -> None:
        while True:
            found = await store.get(orders, "user_1", made.row.id)
            items = [
                *found.row.items,  # type: ignore[attr-defined]
                Item(name=str(number), quantity=1, unit_price=1),
            ]
            try:
                await change(
                    store,
                    made.row.id,
                    items=items,
                    holds=found.revision.__eq__,
                )
                return
            except ProtocolError as error:
                assert error.code == "PRECONDITION_FAILED"

    await asyncio.gather(*(add(pair[n % 2], n) for n in range(8)))
    found = await pair[1].get(orders, "user_1", made.row.id)
    names = [item.name for item in found.row.items]  # type: ignore[attr-defined]
    assert sorted(names[1:]) == [str(n) for n in range(8)] and found.revision == 9


async def test_two_steps_at_once_are_one_after_the_other(pair: Pair) -> None:
    """Of paid and cancelled, sent together, never both from placed."""
    for _ in range(5):
        row_id = (await order(pair[0])).row.id
        steps = [
            change(pair[0], row_id, status="shipped"),
            change(pair[1], row_id, status="paid"),
            change(pair[0], row_id, status="cancelled"),
        ]
        done = await asyncio.gather(*steps, return_exceptions=True)
        for each in done:
            assert isinstance(each, Found) or each.code == "CONFLICT"  # type: ignore[union-attr]
        assert any(isinstance(each, Found) for each in done)


async def test_a_change_that_changes_nothing_is_no_revision(store: Store) -> None:
    made = await order(store, now=5)
    assert await change(store, made.row.id, status="placed", now=9) == made
    changed = await change(store, made.row.id, status="paid", now=3)
    assert changed.revision == 2
    assert (changed.row.created_at, changed.row.updated_at) == (5, 5)  # type: ignore[attr-defined]


async def test_what_belongs_to_another_is_not_there(store: Store) -> None:
    row_id = (await order(store, "user_2")).row.id
    orders = store.collections["orders"]
    for who in ("user_1", "nobody"):
        assert await code_of(store.get(orders, who, row_id)) == "NOT_FOUND"
        assert await code_of(store.delete(orders, who, row_id, always)) == "NOT_FOUND"
        paid = {"status": "paid"}
        call = store.change(orders, who, row_id, paid, 1, always)
        assert await code_of(call) == "NOT_FOUND"
        assert await page(store, owner=who) == ([], None)
        assert await page(store, ("ownerId", "user_2"), owner=who) == ([], None)
        assert await page(store, ("id", row_id), owner=who) == ([], None)
    assert (await store.get(orders, "user_2", row_id)).revision == 1


async def test_an_id_with_a_nul_names_nothing(store: Store) -> None:
    orders = store.collections["orders"]
    assert await code_of(store.get(orders, "user_1", "a\x00b")) == "NOT_FOUND"
    assert await code_of(change(store, "\x00", status="paid")) == "NOT_FOUND"


# Idempotency keys.


async def test_a_retry_is_one_row_whoever_hears_it(pair: Pair) -> None:
    tries = [order(pair[n % 2], now=n, key="k") for n in range(8)]
    made = await asyncio.gather(*tries)
    assert len({each.row.id for each in made}) == 1
    assert all(each == made[0] for each in made)
    assert len((await page(pair[0]))[0]) == 1


async def test_a_retry_is_answered_as_it_was_whatever_became_of_the_row(
    pair: Pair,
) -> None:
    made = await order(pair[0], key="k")
    await change(pair[0], made.row.id, status="paid")
    assert await order(pair[1], key="k") == made
    await pair[0].delete(pair[0].collections["orders"], "user_1", made.row.id, always)
    assert await order(pair[1], key="k") == made
    assert await page(pair[0]) == ([], None)


async def test_a_key_is_for_one_thing_of_one_user(pair: Pair) -> None:
    made = await order(pair[0], key="k")
    assert await code_of(order(pair[1], key="k", currency="GBP")) == "CONFLICT"
    other = await order(pair[1], "user_2", key="k", currency="GBP")
    assert other.row.id != made.row.id
    assert (await order(pair[0])).row.id != (await order(pair[0])).row.id


async def test_a_key_lives_for_a_day(store: Store) -> None:
    made = await order(store, now=1000, key="k")
    late = 1000 + KEY_LIFE_MS
    assert await order(store, now=late - 1, key="k") == made
    assert (await order(store, now=late, key="k")).row.id != made.row.id
    await store.purge(late + KEY_LIFE_MS)
    assert await order(store, now=1, key="k") not in (made,)


async def test_a_refused_row_uses_no_key(store: Store) -> None:
    assert await code_of(order(store, key="k", currency="XYZ")) == "VALIDATION_ERROR"
    assert (await order(store, key="k")).revision == 1


async def test_a_row_that_was_not_made_leaves_no_key(pair: Pair) -> None:
    """The key and the row are one transaction."""
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await order(pair[0], "nobody", key="k")
    every = text("SELECT * FROM idempotency_keys")
    read = pair[1].transactions.read
    assert (await read(lambda connection: connection.execute(every))).all() == []


# The database goes away and comes back.


async def test_postgresql_goes_and_comes_back(postgresql: PostgreSQL) -> None:
    store = Store(postgresql.database())
    await store.start([])
    await store.ping()
    postgresql.stop()
    try:
        with pytest.raises(Unavailable):
            await store.ping()
        with pytest.raises(Unavailable):
            await page(store)
    finally:
        postgresql.run()
    await store.ping()
    assert await page(store) == ([], None)
    await store.aclose()


async def test_postgresql_stands_still(postgresql: PostgreSQL) -> None:
    """A silent server is one that is away; it may come to itself again."""
    store = Store(postgresql.database())
    await store.start([])
    await store.ping()
    postgresql.freeze()
    try:
        with pytest.raises(Unavailable):
            await store.ping()
    finally:
        postgresql.thaw()
    await store.ping()
    await store.aclose()


# Whoever asks is answered in time, however many wait.

CROWD = 25  # more than there are connections
ANSWERED_WITHIN_S = engine.TIMEOUT_S + 3.0  # calm seconds; before: 125 s


async def outcomes(*calls: Awaitable[Any]) -> list[object]:
    """What became of each: the result's type, or the error's."""
    async with patience.within(ANSWERED_WITHIN_S):
        results = await asyncio.gather(*calls, return_exceptions=True)
    return [type(each) for each in results]


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[tuple[Store, sqlite3.Connection]]:
    """A store on SQLite, and a stranger's connection to the same file."""
    store = Store(f"sqlite:///{tmp_path / 'messenger.sqlite3'}")
    await store.start(Directory.load())
    stranger = sqlite3.connect(tmp_path / "messenger.sqlite3", isolation_level=None)
    yield store, stranger
    stranger.close()
    await store.aclose()


async def test_writers_behind_a_held_lock_are_all_answered_in_time(
    alone: tuple[Store, sqlite3.Connection],
) -> None:
    """They queue behind each other, but nobody waits for the sum."""
    store, stranger = alone
    stranger.execute("BEGIN IMMEDIATE")
    found = await outcomes(*(order(store) for _ in range(CROWD)))
    assert found == [Unavailable] * CROWD
    assert await page(store) == ([], None)  # who only reads is not held up
    stranger.execute("ROLLBACK")
    await order(store)
    assert len((await page(store))[0]) == 1


async def test_readers_of_a_locked_file_are_all_answered_in_time(
    alone: tuple[Store, sqlite3.Connection],
) -> None:
    """As somebody's backup may lock it: readers wait for it, and for a connection."""
    store, stranger = alone
    await store.aclose()  # no reader has the file open
    stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
    stranger.execute("BEGIN EXCLUSIVE")
    found = await outcomes(*(page(store) for _ in range(CROWD)), store.own_words())
    assert set(found) == {Unavailable}
    stranger.close()
    assert await page(store) == ([], None)


async def test_callers_of_a_busy_postgresql_are_all_answered_in_time(
    postgresql: PostgreSQL,
) -> None:
    """One row is locked: its writers take every connection, others wait for one."""
    url = postgresql.database()
    store, other = Store(url), Store(url)
    await store.start(Directory.load())
    row = (await order(store)).row.id
    async with (
        other.transactions.engine.begin() as connection
    ):  # for as long as it likes
        table = store.collections["orders"].table
        chosen = table.select().where(table.c.id == row).with_for_update()
        await connection.execute(chosen)
        writers = (change(store, row, currency="GBP") for _ in range(CROWD))
        found = await outcomes(*writers, page(store))
        assert set(found) == {Unavailable}
    assert (await change(store, row, currency="GBP")).revision == 2
    await store.aclose()
    await other.aclose()


async def test_callers_of_a_silent_postgresql_are_all_answered_in_time(
    postgresql: PostgreSQL,
) -> None:
    store = Store(postgresql.database())
    await store.start(Directory.load())
    await order(store)
    postgresql.freeze()
    try:
        found = await outcomes(*(order(store) for _ in range(CROWD)), page(store))
        assert set(found) == {Unavailable}
    finally:
        postgresql.thaw()
    await store.ping()
    await store.aclose()


# What one user may keep.


@pytest.fixture
async def small(new_database: Callable[[], str]) -> AsyncIterator[Pair]:
    """Two gateways with room for three orders, or a thousand characters, a user."""
    url = new_database()
    pair = Store(url, quota=Quota(3, 1000)), Store(url, quota=Quota(3, 1000))
    await pair[0].start(Directory.load())
    yield pair
    for each in pair:
        await each.aclose()


async def kept(store: Store, user_id: str = "user_1") -> list[int]:
    """Rows and characters that are counted."""
    asked = usage.select().where(usage.c.user_id == user_id)
    done = await store.transactions.read(lambda connection: connection.execute(asked))
    found = done.one_or_none()
    return [0, 0] if found is None else list(found)[1:]


async def drop(store: Store, row_id: str, owner: str = "user_1") -> None:
    await store.delete(store.collections["orders"], owner, row_id, always)


async def test_nobody_keeps_more_rows_than_they_may(small: Pair) -> None:
    made = [(await order(small[n % 2])).row.id for n in range(3)]
    assert await code_of(order(small[1])) == "QUOTA_EXCEEDED"
    assert len((await page(small[0]))[0]) == 3
    await order(small[0], "user_2")  # who keeps their own
    await drop(small[0], made[0])
    await order(small[1])
    assert await code_of(order(small[0])) == "QUOTA_EXCEEDED"


async def test_of_many_at_once_no_more_come_through_than_may(small: Pair) -> None:
    found = await asyncio.gather(
        *(order(small[n % 2]) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, Found) for each in found) == 3
    refused = {str(each) for each in found if not isinstance(each, Found)}
    assert len(refused) == 1 and "QUOTA_EXCEEDED" in refused.pop()
    assert len((await page(small[0]))[0]) == 3


async def test_size_counts_too_when_a_row_grows(small: Pair) -> None:
    tea = [Item(name="t" * 150, quantity=1, unit_price=350)]
    row = await order(small[0])
    much = tea * 5
    assert await code_of(order(small[0], items=much)) == "QUOTA_EXCEEDED"
    assert await code_of(change(small[0], row.row.id, items=much)) == "QUOTA_EXCEEDED"
    before = await kept(small[0])
    await change(small[0], row.row.id, items=tea)
    assert (await kept(small[0]))[1] > before[1]
    await change(small[0], row.row.id, items=SENT["items"])
    assert await kept(small[0]) == before
    await drop(small[0], row.row.id)
    assert await kept(small[0]) == [0, 0]


async def test_keys_of_what_was_deleted_are_counted_until_they_are_forgotten(
    small: Pair,
) -> None:
    """Or else who makes and deletes with a new key each time fills the disk."""
    tried = 0
    with pytest.raises(ProtocolError) as caught:
        for tried in range(20):
            made = await order(small[0], key=f"k{tried}")
            await drop(small[0], made.row.id)
    assert caught.value.code == "QUOTA_EXCEEDED" and 2 <= tried <= 5
    assert (await order(small[0], key="k0")).revision == 1  # a repeat keeps nothing
    assert (await kept(small[0]))[0] == 0
    await asyncio.gather(*(each.purge(1 + KEY_LIFE_MS) for each in small))
    assert await kept(small[0]) == [0, 0]
    await order(small[0], key="k0")


async def test_a_refused_row_is_not_counted(small: Pair) -> None:
    for _ in range(5):
        assert await code_of(order(small[0], currency="XXQ")) == "VALIDATION_ERROR"
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await order(small[0], "nobody")
    assert await kept(small[0]) == await kept(small[0], "nobody") == [0, 0]
