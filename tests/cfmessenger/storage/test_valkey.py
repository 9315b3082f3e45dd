"""The Valkey client: what becomes of a command however the server or the line fails."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing

import pytest
import valkey

from cfmessenger.errors import Unavailable
from cfmessenger.storage import server as module
from cfmessenger.storage.valkey import (
    Command,
    Multi,
    Refused,
    ReplyError,
    TooOld,
    UnknownOutcome,
    Valkey,
    key_of,
)
from tests import patience
from tests.gateway.node import own_valkey
from tests.patience import Stopwatch
from tests.valkey_proxy import Proxy, proxied

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Something that listens where a Valkey should be, and lets everybody in."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1000)
            writer.write(b"+PONG\r\n")
            await answer(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"valkey://127.0.0.1:{port}"
    finally:
        listener.close()


def says(reply: bytes) -> Answer:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while await reader.read(1000):
            writer.write(reply)

    return answer


def bulk(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    async with proxied(valkey_url) as proxy:
        yield proxy


@pytest.fixture
async def kv(proxy: Proxy) -> AsyncIterator[Valkey]:
    client = Valkey(proxy.url)
    yield client
    client.close()


# What is asked.


async def test_a_command_is_answered_as_the_server_says_it(kv: Valkey) -> None:
    assert await kv.ask("SET", "cfm:test:kv", "1", "EX", 60) == b"OK"
    assert await kv.ask("SET", "cfm:test:kv", "2", "NX") is None
    assert await kv.ask("GET", "cfm:test:kv") == b"1"
    assert int((await kv.require_version()).partition(".")[0]) >= 9
    assert (await kv.info("replication"))["role"] == "master"


async def test_a_pipeline_is_one_write_and_its_replies_are_in_order(
    kv: Valkey, proxy: Proxy
) -> None:
    await kv.ask("SET", "cfm:test:kv", "text")
    before = len(proxy.sent)
    replies = await kv.execute(
        [
            ("GET", "cfm:test:kv"),
            Multi("cfm:test:kv", [("SET", "cfm:test:kv", "b"), ("GET", "cfm:test:kv")]),
            ("SADD", "cfm:test:kv", "1"),
            Multi("cfm:test:kv", [("SADD", "cfm:test:kv", "1")]),
            Multi("cfm:test:kv", [("SET", "cfm:test:kv"), ("GET", "cfm:test:kv")]),
            ("GET", "cfm:test:kv"),
        ]
    )
    assert len(proxy.sent) == before + 1
    assert replies[:2] == [b"text", [b"OK", b"b"]]
    assert isinstance(replies[2], ReplyError)
    assert isinstance(replies[3][0], ReplyError), "what is wrong was found in EXEC"
    assert "wrong number of arguments" in str(replies[4]), "the reason, not EXECABORT"
    assert replies[5] == b"b"
    assert await kv.execute([]) == []


async def test_many_share_one_connection(kv: Valkey, proxy: Proxy) -> None:
    await asyncio.gather(*(kv.ask("SET", "cfm:test:kv", n) for n in range(50)))
    assert len(proxy.pipes) == 1


@pytest.mark.parametrize(
    ("item", "key"),
    [
        (("GET", "k"), "k"),
        (("XINFO", "STREAM", "k"), "k"),
        (("RENAME", "k", "other"), "k"),
        (("PUBLISH", "channel", "text"), "channel"),
        (Multi("k", [("DEL", "a", "b")]), "k"),
        (("TIME",), ""),
    ],
)
def test_one_key_decides_which_server_is_asked(item: Command | Multi, key: str) -> None:
    assert key_of(item) == key


async def test_every_way_to_send_asks_where_its_key_is(valkey_url: str) -> None:
    asked = []

    class Routed(Valkey):
        def server_of(self, key: str) -> module.Server:
            asked.append(key)
            return super().server_of(key)

    a, b, c, d, e = (f"cfm:test:{name}:{uuid.uuid4().hex}" for name in "abcde")
    with closing(Routed(valkey_url)) as client:
        await client.ask("GET", a)
        await client.ask_all(("GET", b), ("GET", c))
        await client.multi(d, ("DEL", d, c))
        async with aclosing(client.listen(e)) as heard:
            await anext(heard)
    assert asked == [a, b, d, e]


# What fails.


async def test_what_is_refused_did_nothing_and_keeps_its_cause(
    kv: Valkey, proxy: Proxy
) -> None:
    await kv.ask("SET", "cfm:test:kv", "text")
    wrong: Command = ("SADD", "cfm:test:kv", "1")
    for refused in (
        kv.ask(*wrong),
        kv.ask_all(("GET", "cfm:test:kv"), wrong),
        kv.multi("cfm:test:kv", ("GET", "cfm:test:kv"), wrong),
    ):
        with pytest.raises(Refused) as caught:
            await refused
        assert "WRONGTYPE" in str(caught.value.__cause__)
        assert "WRONGTYPE" not in caught.value.message
    assert len(proxy.pipes) == 1, "the connection is as good as before"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), "READONLY"),
    ],
)
async def test_a_server_that_takes_no_writes_refuses_them_and_is_read(
    how: tuple[str, ...], why: str
) -> None:
    with own_valkey() as own:
        await own.answers()
        client = Valkey(own.url)
        await client.ask("SET", "cfm:a", "1")
        with own.admin() as admin:
            admin.execute_command(*how)  # type: ignore[no-untyped-call]
        for write in (
            client.ask("SET", "cfm:a", "2"),
            client.multi("cfm:a", ("SET", "cfm:a", "3"), ("GET", "cfm:a")),
        ):
            with pytest.raises(Refused) as caught:
                await write
            assert str(caught.value.__cause__).startswith(why)
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


# Which server.


@pytest.mark.parametrize("url", ["", "host:6379", "http://host", "unix://"])
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValueError):
        Valkey(url)


@pytest.mark.parametrize(
    "info",
    [
        "redis_version:7.2.4\r\nvalkey_version:8.1.3\r\n",
        "redis_version:8.2.1\r\n",
        "redis_version:7.2.4\r\nvalkey_version:\r\n",
    ],
)
async def test_older_and_other_servers_are_refused(info: str) -> None:
    async with server(says(bulk(info))) as url:
        client = Valkey(url)
        with pytest.raises(TooOld, match="Valkey 9 or newer is needed"):
            await client.require_version()
        client.close()


async def test_newer_servers_are_fine() -> None:
    async with server(says(bulk("valkey_version:10.0.1\r\n"))) as url:
        client = Valkey(url)
        assert await client.require_version() == "10.0.1"
        client.close()


# What is published.


async def test_listening_outlasts_silence(valkey_url: str) -> None:
    client = Valkey(valkey_url, timeout_s=1)
    async with aclosing(client.listen("cfm:a", "cfm:b", silence_s=0.05)) as heard:
        assert await anext(heard) is None
        later = asyncio.create_task(anext(heard))
        await asyncio.sleep(0.3)  # several pings long
        assert not later.done()
        await client.ask("PUBLISH", "cfm:b", "word")
        assert await later == ("cfm:b", "word")
    client.close()


async def test_listening_ends_when_nobody_answers(valkey_url: str) -> None:
    async with proxied(valkey_url) as proxy:
        client = Valkey(proxy.url)
        async with aclosing(client.listen("cfm:a", silence_s=0.05)) as heard:
            assert await anext(heard) is None
            proxy.stall()
            with pytest.raises(Unavailable):
                await anext(heard)
        await patience.wait_for(proxy.pipes[0].gone.wait(), 10)


async def test_listening_ends_with_its_connection_and_begins_on_another(
    kv: Valkey, proxy: Proxy
) -> None:
    for times in (1, 2):
        async with aclosing(kv.listen("cfm:a")) as heard:
            assert await anext(heard) is None
            assert len(proxy.pipes) == times
            proxy.cut()
            with pytest.raises(Unavailable):
                await anext(heard)


async def test_a_channel_that_is_not_ours_is_refused(
    kv: Valkey, admin_valkey: valkey.Valkey
) -> None:
    async with aclosing(kv.listen("other")) as heard:
        with pytest.raises(Refused):
            await anext(heard)
    assert admin_valkey.pubsub_channels("other") == []
