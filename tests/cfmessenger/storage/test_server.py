"""What follows a primary: whom a command reaches, and what becomes of it meanwhile."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cfmessenger.errors import Unavailable
from cfmessenger.storage import server as module
from cfmessenger.storage.server import Server
from cfmessenger.storage.valkey import (
    Command,
    Multi,
    Refused,
    ReplyError,
    UnknownOutcome,
    Valkey,
    checked,
    pack,
)
from tests.cfmessenger.storage.scripted_server import says, server
from tests.gateway.node import eventually, own_valkey
from tests.patience import Stopwatch
from tests.replicated import SERVICE, Pair, replicated, sentinel
from tests.valkey_proxy import Proxy, proxied


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    async with proxied(valkey_url) as proxy:
        yield proxy


@pytest.fixture
async def kv(proxy: Proxy) -> AsyncIterator[Valkey]:
    client = Valkey(proxy.url)
    yield client
    client.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with replicated() as made:
        yield made


# One server.


async def test_many_share_one_connection(kv: Valkey, proxy: Proxy) -> None:
    await asyncio.gather(*(kv.ask("SET", "cfm:test:kv", n) for n in range(50)))
    assert len(proxy.pipes) == 1


async def test_a_server_without_memory_refuses_writes_and_is_read() -> None:
    with own_valkey() as own:
        await own.answers()
        client = Valkey(own.url)
        await client.ask("SET", "cfm:a", "1")
        with own.admin() as admin:
            admin.config_set("maxmemory", "1")
        for write in (
            client.ask("SET", "cfm:a", "2"),
            client.multi("cfm:a", ("SET", "cfm:a", "3"), ("GET", "cfm:a")),
        ):
            with pytest.raises(Refused) as caught:
                await write
            assert str(caught.value.__cause__).startswith("OOM")
        assert await client.ask("GET", "cfm:a") == b"1"
        client.close()


@pytest.mark.parametrize("why", ["MISCONF", "LOADING", "NOAUTH"])
async def test_a_server_that_is_not_ready_refuses(why: str) -> None:
    async with server(says(b"-%s not now\r\n" % why.encode())) as url:
        client = Valkey(url)
        with pytest.raises(Refused) as caught:
            await client.ask("GET", "cfm:x")
        assert str(caught.value.__cause__) == f"{why} not now"
        client.close()


async def test_a_command_is_never_sent_twice() -> None:
    seen = []

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1000))

    async with server(drop) as url:
        client = Valkey(url)
        for commands in (
            client.ask("GETDEL", "cfm:x"),
            client.multi("k", ("DEL", "k")),
        ):
            with pytest.raises(UnknownOutcome):
                await commands
        client.close()
    assert [len(each.split(b"DEL")) for each in seen] == [2, 2]


async def test_no_reply_in_time_is_an_unknown_outcome_and_the_next_goes_elsewhere(
    proxy: Proxy,
) -> None:
    client = Valkey(proxy.url, timeout_s=0.1)
    await client.ask("SET", "cfm:test:late", "0")
    proxy.stall()
    with pytest.raises(UnknownOutcome, match="in time"):
        await client.ask("SET", "cfm:test:late", "1")
    await proxy.until_kept()
    proxy.flow()
    # Not the reply that comes late.
    assert await client.ask("GET", "cfm:test:late") == b"1", "it was done"
    assert len(proxy.pipes) == 2
    client.close()


async def test_a_server_that_hangs_is_waited_for_no_longer_than_said() -> None:
    with own_valkey() as own:
        await own.answers()
        client = Valkey(own.url, timeout_s=0.2)
        await client.ask("PING")
        own.freeze()
        for kind in (UnknownOutcome, Unavailable):  # the second cannot sign in
            watch = Stopwatch()
            with pytest.raises(Unavailable) as caught:
                await client.ask("SET", "cfm:a", "1")
            assert type(caught.value) is kind
            assert watch.seconds < 2
        own.thaw()
        assert await client.ask("PING") == b"PONG"
        client.close()


async def test_a_server_that_died_is_reached_when_it_is_back() -> None:
    with own_valkey() as own:
        await own.answers()
        client = Valkey(own.url)
        await client.ask("SET", "cfm:a", "1")
        own.kill()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await client.ask("GET", "cfm:a")
        await own.start().answers()
        assert await client.ask("GET", "cfm:a") == b"1"
        client.close()


async def test_a_server_that_is_away_is_not_called_in_a_busy_loop(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    kv = Valkey(proxy.url)
    proxy.refusing = True
    watch = Stopwatch()
    for _ in range(7):
        with pytest.raises(Unavailable) as caught:
            await kv.ask("PING")
        assert type(caught.value) is Unavailable, "it is known: it was not sent"
    assert watch.wall > 0.55, "10 ms, twice as long each time, up to 250 ms"
    assert watch.seconds < 7 * module.REST_MOST_S
    proxy.refusing = False
    assert await kv.ask("PING") == b"PONG"
    kv.close()


async def test_a_client_that_was_closed_opens_a_connection_again(kv: Valkey) -> None:
    flying = asyncio.create_task(kv.ask("GET", "cfm:test:kv"))
    await asyncio.sleep(0)
    kv.close()
    with pytest.raises(Unavailable) as caught:
        await flying
    assert type(caught.value) is Unavailable, "it is known: it was not sent"
    assert await kv.ask("PING") == b"PONG"


# Whoever is the primary now.


async def _served(client: Valkey, command: Command) -> Any:
    """The reply, once there is one; nothing is repeated that might be done."""
    found: list[Any] = []

    async def tried() -> bool:
        try:
            found.append(await client.ask(*command))
        except UnknownOutcome:
            raise
        except Unavailable:
            return False
        return True

    await eventually(tried, within=10)
    return found[0]


async def test_a_replica_that_was_promoted_is_found(pair: Pair) -> None:
    client = Valkey(pair.urls)
    await client.ask("SET", "cfm:a", "1")
    before = client.lineage_of("cfm:a")
    assert before
    pair.fail_over()
    with pytest.raises(Unavailable):
        await client.ask("SET", "cfm:a", "2")
    assert await _served(client, ("SET", "cfm:a", "3")) == b"OK"
    with pair.two.admin() as admin:
        assert admin.get("cfm:a") == b"3"
    assert client.lineage_of("cfm:a") not in ("", before)
    client.close()


async def test_a_connection_again_to_the_same_server_is_the_same_lineage(
    proxy: Proxy, kv: Valkey
) -> None:
    await kv.ask("PING")
    before = kv.lineage_of("cfm:a")
    proxy.cut()
    await eventually(lambda: proxy.pipes[0].gone.is_set())
    await _served(kv, ("PING",))
    assert len(proxy.pipes) == 2
    assert kv.lineage_of("cfm:a") == before != ""


async def test_a_primary_that_became_a_replica_is_left_at_the_first_refusal(
    pair: Pair,
) -> None:
    client = Valkey(pair.urls)
    await client.ask("SET", "cfm:a", "1")
    pair.swap()
    with pytest.raises(Refused) as caught:  # it is known: it was not done
        await client.ask("SET", "cfm:a", "2")
    assert str(caught.value.__cause__).startswith("READONLY")
    assert await client.ask("SET", "cfm:a", "3") == b"OK", "the very next goes there"
    with pair.two.admin() as admin:
        assert admin.get("cfm:a") == b"3"
    client.close()


async def test_who_only_reads_finds_out_too(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)
    client = Valkey(pair.urls)
    assert await client.ask("GET", "cfm:a") is None
    pair.swap()
    with pair.two.admin() as admin:
        admin.set("cfm:b", "new")
    before = client.lineage_of("cfm:a")

    async def moved() -> bool:
        await client.ask("GET", "cfm:b")
        return client.lineage_of("cfm:a") != before

    await eventually(moved)
    assert await client.ask("GET", "cfm:b") == b"new"
    client.close()


async def test_a_url_of_one_replica_leads_to_that_replica(pair: Pair) -> None:
    client = Valkey(pair.two.url)
    for _ in range(3):
        assert (await client.info("replication"))["role"] == "slave"
        client.close()


async def test_a_name_is_resolved_anew_until_it_leads_to_a_primary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with replicated(apart=True) as pair:
        addresses, real = [pair.one.host], socket.getaddrinfo

        def resolved(host: Any, port: Any, *how: Any, **more: Any) -> Any:
            if host != "valkey.test":
                return real(host, port, *how, **more)
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (each, port)) for each in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        client = Valkey(f"valkey://cfm:own@valkey.test:{pair.one.port}")
        await client.ask("SET", "cfm:a", "1")
        pair.swap()
        with pytest.raises(Refused):
            await client.ask("SET", "cfm:a", "2")
        with pytest.raises(Unavailable) as caught:
            await client.ask("SET", "cfm:a", "3")
        assert type(caught.value) is Unavailable, "nobody there is the primary"
        addresses.append(pair.two.host)
        assert await _served(client, ("SET", "cfm:a", "4")) == b"OK"
        with pair.two.admin() as admin:
            assert admin.get("cfm:a") == b"4"
        client.close()


async def test_sentinels_are_asked_for_the_primary(pair: Pair, tmp_path: Path) -> None:
    with sentinel(tmp_path, pair.one) as port:
        # The first of them is not there.
        url = f"valkey-sentinel://cfm:own@127.0.0.1:1,127.0.0.1:{port}/{SERVICE}?db=0"
        client = Valkey(url)
        assert await _served(client, ("SET", "cfm:a", "1")) == b"OK"
        await eventually(lambda: _knows_replica(port), within=20)
        pair.one.kill()
        with pytest.raises(Unavailable):
            await client.ask("SET", "cfm:a", "2")
        assert await _served(client, ("SET", "cfm:a", "3")) == b"OK"
        with pair.two.admin() as admin:
            assert admin.get("cfm:a") == b"3"
        client.close()


async def _knows_replica(port: int) -> bool:
    watching = Valkey(f"valkey://127.0.0.1:{port}")
    try:
        return bool(await watching.ask("SENTINEL", "REPLICAS", SERVICE))
    finally:
        watching.close()


# What replicas have to confirm.


@pytest.fixture
async def durable(pair: Pair) -> AsyncIterator[Server]:
    opened = Server(f"{pair.one.url}?replicas=1", 2.0)
    yield opened
    opened.close()


async def _write(server: Server, value: str, timeout_s: float = 5.0) -> Any:
    command = pack([("SET", "cfm:a", value)])
    (reply,) = await server.send(command, 1, timeout_s, durable=True)
    return checked(reply)


async def test_what_is_durable_is_on_the_replica_when_it_is_answered(
    pair: Pair, durable: Server
) -> None:
    for n in range(20):
        assert await _write(durable, str(n)) == b"OK"
        with pair.two.admin() as admin:
            assert admin.get("cfm:a") == str(n).encode()


async def test_what_no_replica_has_in_time_is_of_unknown_outcome(
    pair: Pair, durable: Server
) -> None:
    assert await _write(durable, "1") == b"OK"
    pair.line.lag_s = 60.0
    watch = Stopwatch()
    with pytest.raises(UnknownOutcome):
        await _write(durable, "2", 0.5)
    assert watch.seconds < 2
    pair.line.lag_s = 0.0
    pair.line.cut()
    await eventually(lambda: pair.two.in_step, within=20)

    async def confirmed() -> bool:
        try:
            return bool(await _write(durable, "3", 1.0) == b"OK")
        except Unavailable:
            return False

    await eventually(confirmed, within=20)


async def test_too_few_replicas_are_counted(pair: Pair) -> None:
    wants_two = Server(f"{pair.one.url}?replicas=2", 2.0)
    with pytest.raises(UnknownOutcome):
        await _write(wants_two, "1", 1.5)
    reply = (await wants_two.send(pack([("GET", "cfm:a")]), 1))[0]
    assert reply == b"1", "it is done, and may be lost"
    wants_two.close()


async def test_of_a_batch_it_is_known_what_was_refused(pair: Pair) -> None:
    client = Valkey(f"{pair.one.url}?replicas=2")
    await client.ask("SET", "cfm:text", "x")
    asked: list[Command | Multi] = [
        ("SADD", "cfm:text", "1"),
        ("SET", "cfm:a", "1"),
        Multi("cfm:b", [("SET", "cfm:b", "1"), ("SET", "cfm:b")]),
        Multi("cfm:b", [("SET", "cfm:b", "1"), ("SET", "cfm:b", "2")]),
    ]
    found = await client.execute(asked, 2.0, durable=True)
    kinds = [ReplyError, UnknownOutcome, ReplyError, UnknownOutcome]
    assert [type(each) for each in found] == kinds
    client.close()


async def test_reads_are_not_behind_a_replica_that_lags(
    pair: Pair, durable: Server
) -> None:
    assert await _write(durable, "1") == b"OK"
    pair.line.lag_s = 60.0
    slow = asyncio.create_task(_write(durable, "2"))
    await eventually(lambda: _reads(durable, b"2"))
    assert not slow.done()
    slow.cancel()


async def _reads(server: Server, value: bytes) -> bool:
    return bool((await server.send(pack([("GET", "cfm:a")]), 1))[0] == value)


async def test_all_that_come_during_a_wait_share_the_next(
    pair: Pair, durable: Server
) -> None:
    assert await _write(durable, "0") == b"OK"
    pair.line.lag_s = 0.3
    watch = Stopwatch()
    first = asyncio.create_task(_write(durable, "first"))
    await eventually(lambda: _reads(durable, b"first"))
    others = [_write(durable, str(n)) for n in range(50)]
    assert await asyncio.gather(first, *others) == [b"OK"] * 51
    assert watch.seconds < 2, "two waits, not fifty"


async def test_what_waited_for_its_turn_in_vain_was_not_sent(
    pair: Pair, durable: Server
) -> None:
    assert await _write(durable, "0") == b"OK"
    pair.line.lag_s = 60.0
    first = asyncio.create_task(_write(durable, "first"))
    await eventually(lambda: _reads(durable, b"first"))
    with pytest.raises(Unavailable) as caught:
        await _write(durable, "second", 0.1)
    assert type(caught.value) is Unavailable
    assert await _reads(durable, b"first")
    first.cancel()


async def test_a_primary_without_replicas_that_refuses_did_nothing() -> None:
    async with replicated("min-replicas-to-write 1", "min-replicas-max-lag 1") as pair:
        client = Valkey(f"{pair.one.url}?replicas=1")
        assert await client.ask("SET", "cfm:a", "1", durable=True) == b"OK"
        pair.two.kill()
        with pair.one.admin() as admin:
            await eventually(
                lambda: admin.info("replication")["min_slaves_good_slaves"] == 0, 10
            )
        with pytest.raises(Refused) as caught:
            await client.ask("SET", "cfm:a", "2", durable=True)
        assert "NOREPLICAS" in str(caught.value.__cause__)
        client.close()


async def test_a_wait_that_a_demotion_ends_is_of_unknown_outcome(
    pair: Pair, durable: Server
) -> None:
    assert await _write(durable, "0") == b"OK"
    pair.line.lag_s = 60.0
    slow = asyncio.create_task(_write(durable, "lost"))
    await eventually(lambda: _reads(durable, b"lost"))
    pair.swap()
    with pytest.raises(UnknownOutcome):
        await slow


async def test_a_batch_of_which_some_were_refused_by_a_replica(pair: Pair) -> None:
    client = Valkey(f"{pair.urls}?replicas=1")
    assert await client.ask("SET", "cfm:a", "1", durable=True) == b"OK"
    pair.swap()
    found = await client.execute([("SET", "cfm:a", "2"), ("PING",)], 5.0, durable=True)
    assert isinstance(found[0], ReplyError), "it is known: it was not done"
    assert isinstance(found[1], UnknownOutcome)
    await eventually(lambda: pair.one.in_step, within=20)
    assert await _served_durably(client) == b"OK"
    client.close()


async def _served_durably(client: Valkey) -> Any:
    found: list[Any] = []

    async def tried() -> bool:
        try:
            found.append(await client.ask("SET", "cfm:a", "3", durable=True))
        except Unavailable:
            return False
        return True

    await eventually(tried, within=20)
    return found[0]
