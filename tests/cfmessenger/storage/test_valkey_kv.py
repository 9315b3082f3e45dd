"""The Valkey client: which URLs, no retries, the version floor, published words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
import valkey

from cfmessenger.errors import Unavailable
from cfmessenger.storage.valkey_kv import (
    TooOld,
    ask,
    connect,
    listen,
    open_all,
    reachable,
    require_version,
)

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Something that listens where a Valkey should be."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"valkey://127.0.0.1:{port}"
    finally:
        listener.close()


def says(text: str) -> Answer:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1000)
        writer.write(b"$%d\r\n%s\r\n" % (len(text), text.encode()))
        await writer.drain()

    return answer


async def test_a_unix_socket_is_asked(valkey_url: str) -> None:
    client = connect(valkey_url)
    assert await ask(client, "SET", "cfm:test:kv", "1") is True
    assert await ask(client, "GET", "cfm:test:kv") == b"1"
    assert int((await require_version(client)).partition(".")[0]) >= 9
    await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("unix:///run/valkey.sock?password=x", "UnixDomainSocketConnection"),
        ("valkey://user:pass@host:6380/2", "Connection"),
        ("redis://host", "Connection"),
        ("valkeys://host", "SSLConnection"),
        ("rediss://host:6380", "SSLConnection"),
    ],
)
def test_the_schemes(url: str, kind: str) -> None:
    pool = connect(url).connection_pool
    assert pool.connection_class.__name__ == kind
    if kind == "SSLConnection":
        tls = pool.make_connection()
        assert tls.check_hostname and tls.ssl_context.get().check_hostname


@pytest.mark.parametrize(
    "url",
    ["", "host:6379", "http://host", "unix://", "valkey://host?retry_on_timeout=1"],
)
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


async def test_a_command_is_never_sent_twice() -> None:
    seen = []

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1000))

    async with server(drop) as url:
        client = connect(url)
        with pytest.raises(Unavailable):
            await ask(client, "GETDEL", "cfm:x")
        await client.aclose(close_connection_pool=True)
    assert len(seen) == 1


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(stall) as url:
        client = connect(url, timeout_s=0.1)
        with pytest.raises(Unavailable):
            await ask(client, "PING")
        await client.aclose(close_connection_pool=True)


async def test_nobody_waits_for_ever_for_a_connection(valkey_url: str) -> None:
    client = connect(valkey_url, timeout_s=0.1, connections=1)
    async with client.client() as busy:
        await busy.ping()
        with pytest.raises(Unavailable):
            await ask(client, "PING")
    assert await ask(client, "PING") is True
    await client.aclose(close_connection_pool=True)


async def test_an_error_reply_is_unavailable_and_keeps_its_cause(
    valkey_url: str,
) -> None:
    client = connect(valkey_url)
    await ask(client, "SET", "cfm:test:kv", "text")
    with pytest.raises(Unavailable) as caught:
        await ask(client, "SADD", "cfm:test:kv", "1")
    assert "WRONGTYPE" in str(caught.value.__cause__)
    assert "WRONGTYPE" not in caught.value.message
    await client.aclose(close_connection_pool=True)


def test_reachable_lets_bugs_through() -> None:
    with pytest.raises(KeyError), reachable():
        raise KeyError("ours")


@pytest.mark.parametrize(
    "info",
    [
        "redis_version:7.2.4\r\nvalkey_version:8.1.3\r\n",
        "redis_version:8.2.1\r\n",
        "redis_version:7.2.4\r\nvalkey_version:\r\n",
    ],
)
async def test_older_and_other_servers_are_refused(info: str) -> None:
    async with server(says(info)) as url:
        client = connect(url)
        with pytest.raises(TooOld, match="Valkey 9 or newer is needed"):
            await require_version(client)
        await client.aclose(close_connection_pool=True)


async def test_newer_servers_are_fine() -> None:
    async with server(says("valkey_version:10.0.1\r\n")) as url:
        client = connect(url)
        assert await require_version(client) == "10.0.1"
        await client.aclose(close_connection_pool=True)


async def test_listening_outlasts_silence(valkey_url: str) -> None:
    client = connect(valkey_url, timeout_s=0.05)
    async with aclosing(listen(client, "cfm:a", "cfm:b", silence_s=0.05)) as heard:
        assert await anext(heard) is None
        later = asyncio.create_task(anext(heard))
        await asyncio.sleep(0.3)  # several pings long
        assert not later.done()
        await ask(client, "PUBLISH", "cfm:b", "word")
        assert await later == ("cfm:b", "word")
    await client.aclose(close_connection_pool=True)


async def test_listening_ends_when_nobody_answers() -> None:
    async def subscribed_then_silent(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1000)
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$5\r\ncfm:a\r\n:1\r\n")
        await reader.read(1000)
        await reader.read()

    async with server(subscribed_then_silent) as url:
        client = connect(url)
        async with aclosing(listen(client, "cfm:a", silence_s=0.05)) as heard:
            assert await anext(heard) is None
            with pytest.raises(Unavailable):
                await anext(heard)
        await client.aclose(close_connection_pool=True)


async def test_all_connections_are_made_at_once(
    valkey_url: str, admin_valkey: valkey.Valkey
) -> None:
    client = connect(valkey_url, connections=5)
    before = {each["id"] for each in admin_valkey.client_list()}
    await open_all(client)
    new = {each["id"] for each in admin_valkey.client_list()} - before
    assert len(new) == 5
    await asyncio.gather(*(client.ping() for _ in range(20)))
    assert {each["id"] for each in admin_valkey.client_list()} - before == new
    await client.aclose(close_connection_pool=True)


async def test_a_server_that_is_away_is_unavailable_at_once() -> None:
    client = connect("unix:///nowhere/at-all", connections=2)
    with pytest.raises(Unavailable):
        await open_all(client)
    await client.aclose(close_connection_pool=True)
