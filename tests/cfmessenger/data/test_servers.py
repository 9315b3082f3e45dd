"""Several servers of one PostgreSQL: which is asked, and what a failover costs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cfmessenger.accounts.users import Directory
from cfmessenger.data.query import read_query
from cfmessenger.data.registry import Item
from cfmessenger.data.servers import (
    CONNECT_S,
    UNACKNOWLEDGED_MS,
    NoServer,
    Servers,
    hosts_of,
)
from cfmessenger.data.store import Store
from cfmessenger.errors import Unavailable
from tests import patience
from tests.patience import Stopwatch
from tests.postgresql import PostgreSQL, own_postgresql

BACK_S = 3.0
SENT = {"items": [Item(name="tea", quantity=1, unit_price=350)], "currency": "EUR"}


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@db/x", []),
        ("postgresql://u:p%40@h1:1,h2/x", [("h1", "1"), ("h2", "")]),
        ("postgres://h1,h2:7,[::1]:9,[fe80::2]/x?port=5",
         [("h1", "5"), ("h2", "7"), ("::1", "9"), ("fe80::2", "5")]),
        ("postgresql://u@/x?host=/a,/b", [("/a", ""), ("/b", "")]),
        ("postgresql:///x?host=a,b&port=1,2&target_session_attrs=read-write",
         [("a", "1"), ("b", "2")]),
    ],
)  # fmt: skip
def test_every_server_of_a_url_is_known(url: str, hosts: list[tuple[str, str]]) -> None:
    assert hosts_of(url) == hosts


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://a,b/x?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://a/x?target_session_attrs=read-only", "target_session_attrs"),
        ("postgresql://a,/x", "hosts"),
        ("postgresql://a,b,c/x?port=1,2", "ports"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_at_once(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Store(url)


@contextmanager
def two() -> Iterator[tuple[PostgreSQL, PostgreSQL, str]]:
    """A primary, its standby, and the URL of both; the standby comes first in it.

    A commit is acknowledged when the standby has it: what a failover loses otherwise is
    PostgreSQL's own affair.
    """
    with own_postgresql() as primary:
        url = primary.database()
        with own_postgresql(primary) as standby:
            primary.set("synchronous_standby_names", "*")
            both = f"{standby.folder},{primary.folder}"
            yield primary, standby, url.replace(str(primary.folder), both)


async def order(store: Store, key: str) -> str:
    """Made by whoever insists, as clients do: again with the same key."""
    while True:
        try:
            made = await store.create(
                store.collections["orders"], "user_1", SENT, 1, key
            )
        except Unavailable:
            continue
        return str(getattr(made.row, "id"))  # noqa: B009


async def test_a_failover_is_a_pause_and_no_order_is_lost_or_doubled() -> None:
    with two() as (primary, standby, url):
        store = Store(url)
        await store.start(Directory.load())
        orders, made, numbers = store.collections["orders"], {}, iter(range(10_000))
        stopped, before = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            while not stopped.is_set():
                key = f"k{next(numbers)}"
                made[key] = await order(store, key)
                if len(made) > 20:
                    before.set()

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(write())
            await before.wait()
            primary.kill()
            await asyncio.to_thread(standby.promote)
            watch = Stopwatch()
            assert await order(store, "after")
            query = read_query(orders, "user_1", [("limit", "1")])
            assert (await store.page(orders, "user_1", query))[0]
            assert watch.seconds < BACK_S
            stopped.set()
        every = text("SELECT id FROM orders")
        done = await store.transactions.read(lambda each: each.execute(every))
        ids = [row[0] for row in done]
        assert sorted(ids) == sorted([*made.values(), await order(store, "after")])
        await store.aclose()


async def test_who_asks_during_a_failover_waits_and_is_answered() -> None:
    """Without an error, as long as the promotion comes in time."""
    with two() as (primary, standby, url):
        store = Store(url)
        await store.start(Directory.load())
        await order(store, "before")
        primary.kill()
        orders = store.collections["orders"]
        asked = asyncio.create_task(store.create(orders, "user_1", SENT, 1, "k"))
        query = read_query(orders, "user_1", [])
        read = asyncio.create_task(store.page(orders, "user_1", query))
        await asyncio.sleep(0)  # both are under way
        await asyncio.to_thread(standby.promote)
        assert (await asked).revision == 1
        assert 1 <= len((await read)[0]) <= 2
        await store.aclose()


async def test_a_server_that_becomes_read_only_is_left_for_the_one_that_is_not() -> (
    None
):
    """A primary that was told to take no writes: its connections still answer."""
    with two() as (primary, standby, url):
        store = Store(url)
        await store.start(Directory.load())
        await order(store, "before")
        primary.set("default_transaction_read_only", "on")
        with pytest.raises(Unavailable):  # there is no other yet
            await store.create(store.collections["orders"], "user_1", SENT, 1, "k")
        standby.promote()
        async with patience.within(BACK_S):
            await order(store, "k")
        await store.aclose()


async def test_a_write_that_a_server_refuses_as_read_only_is_sent_to_another() -> None:
    """It has not said so before the statement: its answer is what tells."""
    with own_postgresql() as server:
        store = Store(server.database())
        await store.start([])
        turns = 0

        async def work(connection: AsyncConnection) -> int:
            nonlocal turns
            turns += 1
            if turns == 1:
                await connection.execute(text("SET TRANSACTION READ ONLY"))
            await connection.execute(text("CREATE TABLE t (a int)"))
            return turns

        assert await store.transactions.write(work) == 2
        await store.aclose()


async def test_a_commit_without_an_answer_is_never_sent_again() -> None:
    with own_postgresql() as server:
        store = Store(server.database())
        await store.start([])
        turns = 0

        async def work(connection: AsyncConnection) -> None:
            nonlocal turns
            turns += 1
            # The commit ends the session: what became of it is not said.
            await connection.execute(
                text(
                    "CREATE FUNCTION e() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "PERFORM pg_terminate_backend(pg_backend_pid()); "
                    "PERFORM pg_sleep(1); RETURN NULL; END $$"
                )
            )
            for each in (
                "CREATE TABLE t (a int)",
                "CREATE CONSTRAINT TRIGGER e AFTER INSERT ON t DEFERRABLE INITIALLY "
                "DEFERRED FOR EACH ROW EXECUTE FUNCTION e()",
                "INSERT INTO t VALUES (1)",
            ):
                await connection.execute(text(each))

        with pytest.raises(Unavailable):
            await store.transactions.write(work)
        assert turns == 1
        await store.aclose()


@asynccontextmanager
async def by_tcp(server: PostgreSQL) -> AsyncIterator[int]:
    """A port that leads to it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while some := await reader.read(65536):
                writer.write(some)
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(server.folder / ".s.PGSQL.5432")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    relay = await asyncio.start_server(lead, "127.0.0.1", 0)
    async with relay:
        yield int(relay.sockets[0].getsockname()[1])


def tcp(url: str, *ports: int) -> str:
    database = url.partition("@/")[2].partition("?")[0]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://cfm@{hosts}/{database}?sslmode=disable"


async def test_one_that_is_silent_uses_up_a_second_and_only_once() -> None:
    """Its machine takes connections and never answers."""
    with own_postgresql() as server, socket.create_server(("127.0.0.1", 0)) as silent:
        async with by_tcp(server) as port:
            url = tcp(server.database(), silent.getsockname()[1], port)
            servers = Servers(url)
            async with patience.within(CONNECT_S + 1.0):
                first = await servers.connect(4.5, 4.5)
            watch = Stopwatch()
            second = await servers.connect(4.5, 4.5)
            assert watch.seconds < CONNECT_S / 2
            for each in (first, second):
                assert await each.fetchval("SELECT 1") == 1
                await each.close()


async def test_what_a_machine_that_is_gone_does_not_acknowledge_ends_the_line() -> None:
    """The kernel sees to it: nobody can be told by a machine that is gone."""
    with own_postgresql() as server:
        async with by_tcp(server) as port:
            made = await Servers(tcp(server.database(), port)).connect(4.5, 4.5)
            line = made._transport.get_extra_info("socket")
            found = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert 0 < found == UNACKNOWLEDGED_MS < BACK_S * 1000
            await made.close()


async def test_nobody_who_takes_writes_is_said_with_each_one_s_reason() -> None:
    url = "postgresql://cfm@127.0.0.1:1,127.0.0.1:2/x"
    with pytest.raises(NoServer, match=r"127.0.0.1: .*failed.*, 127.0.0.1: .*failed"):
        await Servers(url).connect(4.5, 4.5)
