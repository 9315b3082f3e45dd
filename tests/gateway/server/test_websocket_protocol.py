"""A `WebSocket` and who takes it over, on the real server and both event loops.

The limits that are ours, what a listener hears and when, and how slow, vanished and
stubborn clients end. The RFC's own rules are `test_rfc6455`'s.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cfmessenger.link.messages import text_frame
from gateway.server import websocket_protocol
from gateway.server.websocket_protocol import HIGH_WATER, socket_of
from tests import patience
from tests.gateway.edge import Gateway
from tests.gateway.node import dial, eventually, masked
from tests.gateway.server.echo import Client, Echo, Heard, echoing, opened
from tests.wire_rows import wire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with echoing(valkey_url) as running:
        yield running


@asynccontextmanager
async def held(edge: Gateway) -> AsyncIterator[tuple[Client, Echo]]:
    """A client that is accepted and not taken over before this ends."""
    app: Echo = edge.app
    app.hold.clear()
    app.accepted.clear()
    try:
        client = await Client.open(edge)
        await app.accepted.wait()
        app.sockets.clear()
        yield client, app
    finally:
        app.hold.set()
    await eventually(lambda: app.sockets)


# What is heard.


async def test_frames_are_handed_over_in_the_call_that_read_them(edge: Gateway) -> None:
    browser = await dial(f"ws://127.0.0.1:{edge.port}/")
    await browser.send("one")
    await browser.send("two")
    await browser.send(["th", "re", "e"])  # in fragments
    await browser.send(b"bytes")
    await browser.ping()
    await browser.pong()
    heard = edge.app.sockets[-1]
    await eventually(lambda: len(heard.events) == 6)
    assert heard.events == [b"one", b"two", b"three", "binary", None, None]
    await browser.close(1000)
    assert heard.events[6:] == [1000]


async def test_a_text_is_the_same_however_it_arrives(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole in one segment it is read by the shorter way; cut or in fragments it is
    not, and what is between two pieces must not overtake them."""
    monkeypatch.setattr(websocket_protocol, "PINGS_PER_S", 10**9)
    sizes = (0, 1, 2, 119, 125, 126, 127, 300)
    plain = [b"p%03d" % size + b"\xc3\xa9" * size for size in sizes]
    stream = b"".join(
        masked(1, text, mask=b"\x01\x80\xfe\x37") + masked(9, b"") for text in plain
    )
    stream += masked(1, b"fr", fin=False) + masked(9, b"") + masked(0, b"ag")
    client, heard = await opened(edge)
    heard.on_text = heard.events.append  # type: ignore[method-assign]
    expected = [each for text in plain for each in (text, None)] + [None, b"frag"]
    for cut in range(len(stream) + 1):
        heard.wire.data_received(stream[:cut])
        heard.wire.data_received(stream[cut:])
        assert heard.events == expected, cut
        heard.events.clear()
    for text in plain:
        heard.wire.data_received(masked(1, text, mask=b"\xff\x00\x81\x7e"))
    assert heard.events == plain


async def test_what_came_before_the_take_over_comes_first(edge: Gateway) -> None:
    async with held(edge) as (client, app):
        # Two in one segment: the server stops reading after the first segment.
        client.send(masked(1, b"a"), masked(1, b"b"))
        wire = socket_of(app.scopes[-1])
        await eventually(lambda: not wire._frames.idle)
        assert not wire.transport.is_reading()
        client.send(masked(1, b"c"))
        await client.writer.drain()
    assert [await client.text() for _ in range(3)] == [b"a", b"b", b"c"]
    client.send(masked(1, b"d"))
    assert await client.text() == b"d"
    assert app.sockets[0].events == [b"a", b"b", b"c", b"d"]


async def test_a_client_that_closed_before_the_take_over(edge: Gateway) -> None:
    async with held(edge) as (client, app):
        client.send(masked(1, b"bye"), masked(8, (1000).to_bytes(2, "big")))
        await eventually(lambda: not socket_of(app.scopes[-1])._frames.idle)
    assert await client.text() == b"bye"
    assert await client.closed() == (1000, b"")
    await client.ends()
    assert app.sockets[0].events == [b"bye", 1000]


async def test_a_client_that_vanished_before_the_take_over(valkey_url: str) -> None:
    async with echoing(valkey_url) as edge:
        async with held(edge) as (client, app):
            client.writer.transport.abort()
            await eventually(lambda: not edge.server.server_state.connections)
        assert app.sockets[0].events == [1005]


async def test_paused_it_hears_what_had_come_and_the_rest_when_it_goes_on(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)

    def once(data: bytes) -> None:
        heard.events.append(data)
        heard.wire.pause()

    heard.on_text = once  # type: ignore[method-assign]
    client.send(masked(1, b"12345678"), masked(1, b"2"))
    await eventually(lambda: len(heard.events) == 2)
    client.send(masked(1, b"x" * 1000) * 100)
    await client.writer.drain()
    client.send(masked(9, b""))
    heard.wire.resume()
    await eventually(lambda: len(heard.events) > 2)
    while heard.events[-1] is not None:
        heard.wire.resume()
        await asyncio.sleep(0)
    assert len(heard.events) == 103


async def test_a_bug_in_a_listener_is_1011_for_its_socket(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    client, heard = await opened(edge)

    def bug() -> None:
        raise ZeroDivisionError

    heard.on_binary = bug  # type: ignore[method-assign]
    client.send(masked(2, b"x"))
    assert (await client.closed())[0] == 1011
    assert heard.events == [1011]
    assert [record.exc_info is not None for record in caplog.records] == [True]


# Limits.


async def test_a_message_of_64_kib_and_one_byte_more(edge: Gateway) -> None:
    url = f"ws://127.0.0.1:{edge.port}/"
    async with connect(url, proxy=None, compression=None) as socket:
        await socket.send("x" * 65_536)
        assert len(await socket.recv()) == 65_536
        await socket.send("x" * 65_537)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1009


async def test_a_message_that_is_much_too_big_is_told_so_while_it_is_sent(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.send(masked(1, b"x" * 100_000))
    assert (await client.closed())[0] == 1009
    await client.ends()
    assert heard.events == [1009]


@pytest.mark.parametrize("first", [b"", b"y"])
async def test_a_message_in_too_many_pieces(edge: Gateway, first: bytes) -> None:
    client, heard = await opened(edge)
    piece = masked(0, first, fin=False)
    client.send(masked(1, first, fin=False), piece * 62, masked(0, b"!"))
    assert await client.text() == first * 63 + b"!"  # 64 of them
    client.send(masked(1, first, fin=False), piece * 63, masked(0, b"!"))
    assert (await client.closed())[0] == 1009
    client.send(masked(8, b""))
    await client.ends()
    assert heard.events[1:] == [1009]


async def test_more_than_ten_pings_a_second_are_abuse(edge: Gateway) -> None:
    url = f"ws://127.0.0.1:{edge.port}/"
    async with connect(url, proxy=None, ping_interval=None) as socket:
        for _ in range(5):
            async with patience.within(1):
                await (await socket.ping())
        with pytest.raises(ConnectionClosed):
            for _ in range(30):
                await socket.ping()
            await socket.recv()
        assert socket.close_code == 4508


async def test_bad_utf8_is_1007_without_a_traceback(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"ws://127.0.0.1:{edge.port}/"
    async with connect(url, proxy=None) as socket:
        await socket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1007
    assert caplog.records == []


# Writing, and clients that do not read.


async def test_written_bytes_are_frames_and_pings_are_still_answered(
    edge: Gateway,
) -> None:
    browser = await dial(f"ws://127.0.0.1:{edge.port}/")
    await eventually(lambda: edge.server.server_state.tasks == set())
    heard = edge.app.sockets[-1]
    sizes = (1, 125, 126, 65535, 65536, 300_000)
    for size in sizes:
        heard.wire.write(text_frame(b"x" * size))
    for size in sizes:
        assert len(await browser.recv()) == size
    await (await browser.ping())
    assert await heard.wire.drained(1.0)
    await browser.close()


async def unread(client: Client, heard: Heard, upto: int) -> int:
    """Write to a client that does not read until so much is unsent; how much it was."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    frame = text_frame(b"x" * 60_000)
    written = 0
    while heard.wire.transport.get_write_buffer_size() <= upto:
        heard.wire.write(frame)
        written += len(frame)
        assert written < 64 * HIGH_WATER
        await asyncio.sleep(0)
    return written


@wire("6 1013")
async def test_whoever_does_not_read_is_slow(edge: Gateway) -> None:
    client, heard = await opened(edge)
    written = await unread(client, heard, HIGH_WATER - 2**17)
    assert heard.events == []
    written += await unread(client, heard, HIGH_WATER)
    assert heard.events == ["slow"]
    assert not await heard.wire.drained(0.01)
    heard.wire.close(1013, "slow consumer")
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    data = await client.reader.readexactly(written + 17)
    assert data.endswith(b"\x88\x0f\x03\xf5slow consumer")
    client.send(masked(8, (1013).to_bytes(2, "big")))
    await client.ends()
    # Most of it is ours and shared; the kernel's part is everybody's own.
    assert HIGH_WATER < written < HIGH_WATER + 2**20


async def test_a_frame_in_pieces_is_written_whole_though_its_beginning_is_too_much(
    edge: Gateway,
) -> None:
    """Else a client that is told to come again would read the close as its middle."""
    client, heard = await opened(edge)
    written = await unread(client, heard, HIGH_WATER - 2**17)

    def end() -> None:
        heard.wire.close(1013, "slow")

    heard.on_slow = end  # type: ignore[method-assign]
    frame = text_frame(b"y" * (HIGH_WATER + 2**17))
    heard.wire.write_all((frame[: HIGH_WATER + 2**16], frame[HIGH_WATER + 2**16 :]))
    heard.wire.write_all((b"\x81\x02", b"zz"))  # it is over, and this is nobody's
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    data = await client.reader.readexactly(written + len(frame) + 8)
    assert data.endswith(b"y\x88\x06\x03\xf5slow")


async def test_pongs_that_nobody_reads_are_dropped(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_protocol, "PINGS_PER_S", 10**9)
    client, heard = await opened(edge)
    await unread(client, heard, websocket_protocol.MAX_UNREAD_PONGS)
    unsent = heard.wire.transport.get_write_buffer_size()
    for _ in range(100):
        heard.wire.data_received(masked(9, b"x" * 125))
    assert heard.events == [None] * 100
    assert heard.wire.transport.get_write_buffer_size() <= unsent
    client.writer.transport.abort()


async def test_whoever_says_goodbye_and_does_not_read_it_is_cut_off(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_protocol, "CLOSE_S", 0.1)
    client, heard = await opened(edge)
    await unread(client, heard, 2**16)
    client.send(masked(8, b""))
    connections = edge.server.server_state.connections
    await eventually(lambda: heard.wire not in connections)
    assert heard.events[-1] == 1005
    client.writer.transport.abort()


# How it ends.


async def test_closing_sends_the_code_and_the_reason(edge: Gateway) -> None:
    for code in (1003, 1012, 1013, 4400, 4500, 4501, 4508):
        client, heard = await opened(edge)
        heard.wire.write(text_frame(b"last words"))
        heard.wire.close(code, "because")
        heard.wire.close(1000, "once is enough")
        heard.wire.fail(1011, "even so")
        assert await client.text() == b"last words"
        assert await client.closed() == (code, b"because")
        client.send(masked(8, code.to_bytes(2, "big")))
        await client.ends()
        assert heard.events == []  # whoever closes knows


async def test_a_paused_socket_hears_the_reply_to_its_close(edge: Gateway) -> None:
    client, heard = await opened(edge)
    heard.wire.pause()
    heard.wire.close(1012, "", within_s=60)
    assert await client.closed() == (1012, b"")
    client.send(masked(8, b""))
    await client.ends()


async def test_failing_is_told_to_the_listener(edge: Gateway) -> None:
    client, heard = await opened(edge)
    heard.wire.fail(4501, "logged out")
    heard.wire.fail(4501, "once is enough")
    assert heard.events == [4501]
    assert await client.closed() == (4501, b"logged out")
    client.send(masked(8, b""))
    await client.ends()


async def test_a_client_that_goes_on_after_our_close_is_not_read_for_ever(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    heard.wire.close(1012, "", within_s=0.1)
    heard.wire.data_received(masked(1, b"x" * 40_000))
    assert heard.wire.transport.is_reading()
    heard.wire.data_received(masked(1, b"x" * 40_000))
    assert not heard.wire.transport.is_reading()
    assert await client.closed() == (1012, b"")
    await client.ends()
    assert heard.events == []


async def test_a_client_that_vanishes_is_lost_and_may_be_spoken_to(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.writer.transport.abort()
    await heard.lost.wait()
    # By the rules nobody writes any more, but closing must never raise.
    heard.wire.close(1012, "")
    heard.wire.ping()
    heard.wire.pause()
    heard.wire.resume()
    assert await heard.wire.drained(0.1)
    assert heard.events == [1005]


async def test_closing_in_the_call_that_reads_the_clients_close_is_no_error(
    edge: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    client, heard = await opened(edge)
    heard.on_binary = lambda: heard.wire.close(1003, "")  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        client.send(masked(2, b"x"), masked(8, (1000).to_bytes(2, "big")))
        assert await client.closed() == (1003, b"")
        await client.ends()
    assert not caplog.records, caplog.text


async def test_stopping_closes_sockets_with_1012(valkey_url: str) -> None:
    async with echoing(valkey_url) as edge:
        client, heard = await opened(edge)
    assert await client.closed() == (1012, b"")
    await client.ends()
    assert heard.events == [1012]


async def test_another_server_is_refused() -> None:
    with pytest.raises(RuntimeError, match="websocket_protocol:WebSocket"):
        socket_of({"type": "websocket", "extensions": {}})
