"""What a `RawSocket` relies on in uvicorn, on the real server and both event loops.

If one of these breaks with a new uvicorn or websockets, `gateway/live/raw_socket.py`
has to change with it, and nothing else.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.asyncio.client import ClientConnection
from websockets.http11 import Request

from cfmessenger.link.messages import text_frame
from gateway.live.raw_socket import HIGH_WATER, RawSocket, ServerTap
from gateway.server import configuration as server
from tests import patience
from tests.gateway.edge import Gateway, serving, settings_for
from tests.gateway.node import dial, eventually, masked, upgrade
from tests.wire_rows import wire

pytestmark = pytest.mark.anyio


@pytest.fixture(
    scope="module",
    params=[False, True],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Taken:
    """A socket that was taken over, and all that it was told."""

    def __init__(self, scope: Scope) -> None:
        self.wire = RawSocket(scope)
        self.events: list[Any] = []
        self.gone = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        return self.wire.take_over(
            on_text=self.events.append,
            on_binary=lambda: self.events.append("binary"),
            on_alive=lambda: self.events.append(None),
            on_slow=lambda: self.events.append("slow"),
            on_lost=self._lost,
        )

    def _lost(self, code: int) -> None:
        self.events.append(code)
        if not self.gone.done():
            self.gone.set_result(code)


class Taker:
    """An ASGI application that accepts and steps around ASGI, as `Sockets` does."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.accepted = asyncio.Event()
        self.problem: Exception | None = None
        self.stays = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await _lifespan(receive, send)
            return
        try:
            await send({"type": "websocket.accept"})
            self.accepted.set()
            await self.hold.wait()
            taken = Taken(scope)
            self.taken.append(taken)
            if not taken.take() or self.stays:
                await taken.gone
        except ClientDisconnected as problem:
            self.problem = problem


async def _lifespan(receive: Receive, send: Send) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


@asynccontextmanager
async def taker(valkey_url: str) -> AsyncIterator[tuple[Taker, Gateway]]:
    app = Taker()
    settings = settings_for(valkey_url)
    async with serving(ServerTap(app), settings) as edge:
        yield app, edge


async def browser(edge: Gateway) -> ClientConnection:
    return await dial(f"ws://127.0.0.1:{edge.port}/")


async def by_hand(edge: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(upgrade("/", "none"))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_frames_are_handed_over_in_the_call_that_parsed_them(
    valkey_url: str,
) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await client.send("one")
        await client.send("two")
        await client.send(["th", "re", "e"])  # in fragments
        await client.send(b"bytes")
        await client.ping()
        await client.pong()
        await eventually(lambda: len(app.taken) == 1 and len(app.taken[0].events) == 6)
        assert app.taken[0].events == [b"one", b"two", b"three", "binary", None, None]
        await client.close(1000)
        assert await app.taken[0].gone == 1000
        assert set(app.taken[0].events[6:]) <= {1000, 1005}


async def test_an_open_socket_keeps_nothing_of_its_handshake(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
        protocol = app.taken[0].wire._protocol
        await eventually(lambda: not protocol.tasks)
        # By the port: what other tests left behind is theirs.
        assert client.request is not None
        host = client.request.headers["Host"]
        everything = [x for x in gc.get_objects() if type(x) is Request]
        requests = [x for x in everything if x.headers.get("Host") == host]
        assert requests == [client.request]
        assert not hasattr(protocol, "scope")
        await client.close()
        await app.taken[0].gone


async def test_an_application_may_stay_all_the_same(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        app.stays = True
        for close in (True, False):
            client = await browser(edge)
            await client.send("still here")
            await eventually(lambda: app.taken and app.taken[0].events)
            taken = app.taken.pop()
            if close:
                taken.wire.close(4501, "")
                await client.wait_closed()
                assert client.close_code == 4501
            else:
                await client.close()
            await taken.gone


async def test_under_another_protocol_of_uvicorns_the_call_must_stay(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GuardedWebSocket", WebSocketsSansIOProtocol)
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await client.send("one")
        await eventually(lambda: app.taken and app.taken[0].events)
        assert app.taken[0].events == [b"one"]
        app.taken[0].wire.write(text_frame(b"two"))
        assert await client.recv() == "two"
        await client.close()
        await app.taken[0].gone


async def test_a_text_is_the_same_however_it_arrives(valkey_url: str) -> None:
    """Whole in one segment it does without the library; cut or in fragments it does
    not, and what is between two pieces must not overtake them."""
    sizes = (0, 1, 2, 119, 125, 126, 127, 300)
    plain = [b"p%03d" % size + b"\xc3\xa9" * size for size in sizes]
    stream = b"".join(
        masked(1, text, mask=b"\x01\x80\xfe\x37") + masked(9, b"") for text in plain
    )
    stream += masked(1, b"fr", fin=False) + masked(9, b"") + masked(0, b"ag")
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        server = taken.wire._protocol
        server.handle_ping = lambda: taken.events.append(None)  # unlimited
        expected = [each for text in plain for each in (text, None)] + [None, b"frag"]
        for cut in range(len(stream) + 1):
            server.data_received(stream[:cut])
            server.data_received(stream[cut:])
            assert taken.events == expected, cut
            taken.events.clear()
        for text in plain:
            server.data_received(masked(1, text, mask=b"\xff\x00\x81\x7e"))
        assert taken.events == plain
        await client.close()
        await taken.gone


async def test_what_came_before_the_take_over_comes_first(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        app.hold.clear()
        reader, writer = await by_hand(edge)
        await app.accepted.wait()
        # Two in one segment: the server stops reading after the first segment.
        writer.write(masked(1, b"a") + masked(1, b"b"))
        await writer.drain()
        writer.write(masked(1, b"c"))
        await writer.drain()
        app.hold.set()
        await eventually(lambda: app.taken and len(app.taken[0].events) == 3)
        writer.write(masked(1, b"d"))
        await eventually(lambda: len(app.taken[0].events) == 4)
        assert app.taken[0].events == [b"a", b"b", b"c", b"d"]
        writer.close()
        await app.taken[0].gone
        del reader


async def test_written_bytes_are_frames_and_the_server_still_answers_pings(
    valkey_url: str,
) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        sizes = (1, 125, 126, 65535, 65536, 300_000)
        for size in sizes:
            taken.wire.write(text_frame(b"x" * size))
        for size in sizes:
            assert len(await client.recv()) == size
        await (await client.ping())
        assert await taken.wire.drained(1.0)
        await client.close()
        await taken.gone


async def test_a_ping_of_ours_is_answered_and_noticed(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        taken.wire.ping()
        await eventually(lambda: taken.events == [None])
        await client.close()
        await taken.gone
        taken.wire.ping()  # to nobody


async def test_closing_sends_the_code_and_the_reason(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        for code in (1003, 1012, 1013, 4400, 4500, 4501, 4508):
            client = await browser(edge)
            await eventually(lambda: app.taken)
            taken = app.taken.pop()
            taken.wire.write(text_frame(b"last words"))
            taken.wire.close(code, "because")
            taken.wire.close(1000, "once is enough")
            assert await client.recv() == "last words"
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (code, "because")
            await patience.wait_for(taken.gone, 2)


async def test_after_our_close_nothing_more_is_heard(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        reader, writer = await by_hand(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        taken.wire.close(4501, "")
        writer.write(masked(1, b"too late") + masked(2, b"too") + masked(8, b""))
        await reader.read()
        await taken.gone
        assert not {b"too late", "binary"} & set(taken.events)
        writer.close()


async def test_a_client_that_vanishes_is_lost_and_may_be_written_to(
    valkey_url: str,
) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        client.transport.abort()
        await taken.gone
        # By the rules nobody writes any more, but closing must never raise.
        taken.wire.close(1012, "")
        taken.wire.ping()
        assert await taken.wire.drained(0.1)


async def test_a_client_that_left_before_the_take_over(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        app.hold.clear()
        _, writer = await by_hand(edge)
        await app.accepted.wait()
        writer.write(masked(1, b"bye") + masked(8, (1000).to_bytes(2, "big")))
        await writer.drain()
        app.hold.set()
        await eventually(lambda: app.taken)
        assert await patience.wait_for(app.taken[0].gone, 2) == 1000
        assert app.taken[0].events[:2] == [b"bye", 1000]
        writer.close()


@wire("6 1013")
async def test_whoever_does_not_read_is_slow(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        reader, writer = await by_hand(edge)
        writer.transport.pause_reading()
        await eventually(lambda: app.taken)
        [taken] = app.taken
        frame = text_frame(b"x" * 60_000)
        written = 0
        while "slow" not in taken.events and written < 64 * HIGH_WATER:
            taken.wire.write(frame)
            written += len(frame)
            await asyncio.sleep(0)
        assert "slow" in taken.events
        assert not await taken.wire.drained(0.01)
        taken.wire.close(1013, "slow consumer")
        writer.transport.resume_reading()
        data = await reader.readexactly(written + 17)
        assert data.endswith(b"\x88\x0f\x03\xf5slow consumer")
        writer.write(masked(8, (1013).to_bytes(2, "big")))
        assert await reader.read() == b""
        writer.close()
        await taken.gone
        # Most of it is ours and shared; the kernel's part is everybody's own.
        assert HIGH_WATER < written < HIGH_WATER + 2**20


async def test_shutdown_closes_with_1012(valkey_url: str) -> None:
    async with taker(valkey_url) as (app, edge):
        client = await browser(edge)
        await eventually(lambda: app.taken)
    await client.wait_closed()
    assert client.close_code == 1012
    assert app.taken[0].events[0] == 1012


async def test_closing_while_the_client_closes_is_no_error(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with taker(valkey_url) as (app, edge):
        reader, writer = await by_hand(edge)
        await eventually(lambda: app.taken)
        [taken] = app.taken
        taken.wire._protocol.queue._on_binary = lambda: taken.wire.close(1003, "")
        with caplog.at_level(logging.ERROR):
            writer.write(masked(2, b"x") + masked(8, (1000).to_bytes(2, "big")))
            await reader.read()
            await taken.gone
        writer.close()
        assert not caplog.records, caplog.text


async def test_another_server_is_refused() -> None:
    with pytest.raises(RuntimeError, match="websockets-sansio"):
        RawSocket({"type": "websocket"})


def test_the_names_that_are_used_inside_uvicorn_exist() -> None:
    names = ("handle_ping", "handle_pong", "pause_writing", "send_receive_event_to_app")
    assert all(hasattr(WebSocketsSansIOProtocol, name) for name in names)
