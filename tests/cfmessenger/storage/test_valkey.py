"""The Valkey client: what becomes of a command however the server or the line fails."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, closing

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
    Valkey,
    key_of,
)
from tests import patience
from tests.cfmessenger.storage.scripted_server import bulk, says, server
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
