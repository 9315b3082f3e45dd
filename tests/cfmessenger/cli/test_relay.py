"""The way to a head that moves: whole streams both ways, and nobody left waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cfmessenger.cli import relay as module
from cfmessenger.cli.relay import Relay
from tests import patience
from tests.gateway.node import eventually

MUCH = bytes(range(256)) * 40_000  # more than all buffers on the way hold


@asynccontextmanager
async def says(word: str) -> AsyncIterator[str]:
    """A server that says its word and then whatever it is told; its host:port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word.encode())
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Line:
    """A connection to host:port."""

    @classmethod
    async def to(cls, address: str) -> "Line":
        made, (host, _, port) = cls(), address.rpartition(":")
        made.reader, made.writer = await asyncio.open_connection(host, int(port))
        return made

    async def hears(self, data: bytes) -> None:
        """Just that is said next."""
        heard = self.reader.readexactly(len(data))
        assert await patience.wait_for(heard, 30) == data

    async def ends(self) -> None:
        """The other side hangs up, without a further word."""
        assert await patience.wait_for(self.reader.read(), 5) == b""
        self.writer.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    yield made
    made.close()
    await eventually(lambda: not made._passing)


async def test_what_is_said_passes_both_ways_whole_to_whoever_reads_late(
    relay: Relay,
) -> None:
    async with says("hello ") as head:
        await relay.open(head)
        assert relay.address.startswith("127.0.0.2:")
        line = await Line.to(relay.address)
        line.writer.write(MUCH)
        await line.hears(b"hello " + MUCH)
        line.writer.close()


async def test_the_last_words_of_a_side_that_ends_arrive(relay: Relay) -> None:
    async def bye(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MUCH)
        writer.close()

    async with await asyncio.start_server(bye, "127.0.0.1") as server:
        await relay.open(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        line = await Line.to(relay.address)
        await line.hears(MUCH)
        await line.ends()


async def test_who_ends_is_seen_to_end_on_the_other_side(relay: Relay) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1") as server:
        await relay.open(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        line = await Line.to(relay.address)
        await patience.wait_for(begun.wait(), 5)
        line.writer.close()
        await patience.wait_for(ended.wait(), 5)


async def test_where_nobody_listens_yet_who_comes_is_told_at_once_and_may_come_again(
    relay: Relay,
) -> None:
    async with says("gone") as gone:
        pass
    await relay.open(gone)
    await (await Line.to(relay.address)).ends()
    async with says("there") as there:
        relay.lead(there)
        line = await Line.to(relay.address)
        await line.hears(b"there")
        line.writer.close()


async def test_a_silent_head_keeps_nobody_once_there_is_another(relay: Relay) -> None:
    """As a machine that lost its power is: it does not hang up."""
    async with says("one") as one, says("two") as two:
        await relay.open(one)
        waits = await Line.to(relay.address)
        await waits.hears(b"one")
        relay.lead(two)
        await waits.ends()
        line = await Line.to(relay.address)
        await line.hears(b"two")
        line.writer.close()


async def test_there_is_a_most_of_connections(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    async with says("hi") as head:
        await relay.open(head)
        first = await Line.to(relay.address)
        await first.hears(b"hi")
        await (await Line.to(relay.address)).ends()
        first.writer.close()
        await eventually(lambda: not relay._passing)
        line = await Line.to(relay.address)
        await line.hears(b"hi")
        line.writer.close()
