"""One socket: abuse, size, silence, slowness, catching up; wire.md §6 on real wires.

Every socket of these tests is an accepted one in a real room, after `take_over`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from cfmessenger.errors import Unavailable
from gateway.live import connection as connections
from gateway.live import meter
from tests import patience
from tests.gateway.node import (
    DeafSocket,
    Node,
    Socket,
    eventually,
    exactly,
    live,
    masked,
    new_room,
    upgrade,
)
from tests.wire_rows import wire


@pytest.fixture(scope="module")
async def unlimited(valkey_url: str) -> AsyncIterator[Node]:
    async with live(valkey_url, chat_rate="0") as node:
        yield node


@pytest.fixture
async def free(unlimited: Node) -> AsyncIterator[Node]:
    """One gateway without chat rate."""
    async with unlimited.visit() as node:
        yield node


async def raw(
    node: Node, room: str, *frames: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An accepted room socket by hand, with these bytes sent in one write."""
    port = node.gateways[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(upgrade(f"/api/ws/room/{room}", await node.token("user_1")))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"".join(frames))
    return reader, writer


async def close_code(reader: asyncio.StreamReader, within: float = 3) -> int:
    """The code of the close frame; the frames before it are passed."""
    async with patience.within(within):
        while True:
            opcode, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            payload = await reader.readexactly(size)
            if opcode == 0x88:
                return int.from_bytes(payload[:2], "big")


# What is no message.


@wire("6 1003")
async def test_a_binary_frame_is_1003(node: Node) -> None:
    tab = await node.enter("user_1", new_room())
    await tab.raw(b"\x00")
    assert await tab.closed() == 1003


@wire("6 1002", "6 1007", "6 1009")
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        # RFC 6455 §5.2: a length in more bytes than it needs, or beyond 2**63.
        ([b"\x81\xfe\x00\x02" + bytes(4) + b"{}"], 1002),
        ([b"\x81\xff" + (2).to_bytes(8, "big") + bytes(4) + b"{}"], 1002),
        ([b"\x81\xff" + (65_535).to_bytes(8, "big") + bytes(4)], 1002),
        ([b"\x81\xff" + (2**63).to_bytes(8, "big") + bytes(4)], 1002),
        ([masked(1, b"x" * 200), b"\x81\xfe\x00\x02" + bytes(4) + b"{}"], 1002),
        ([b"\x89\xfe\x00\x02" + bytes(4) + b"{}"], 1002),
        ([b"\x81\x02{}"], 1002),  # not masked
        ([masked(1, b"{}").replace(b"\x81", b"\xc1", 1)], 1002),  # RSV1
        ([masked(3, b"")], 1002),  # no such opcode
        ([masked(0, b"{}")], 1002),  # continues nothing
        ([masked(1, b"{", fin=False), masked(1, b"}")], 1002),  # not continued
        ([masked(9, b"x" * 126)], 1002),  # a long ping
        ([masked(8, (1005).to_bytes(2, "big"))], 1002),  # a code nobody may send
        ([masked(8, b"\x03")], 1002),  # half a code
        ([masked(1, b"\xff")], 1007),
        ([masked(1, b"\xe2\x82", fin=False), masked(0, b"\x28")], 1007),
        ([masked(1, b'{"type":"\xed\xa0\x80"}')], 1007),  # a lone surrogate, raw
        ([masked(1, b"x" * 65_537)], 1009),
        ([b"\x81\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4)], 1009),
        ([masked(1, b"x" * 60_000, fin=False), masked(0, b"x" * 6_000)], 1009),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_what_breaks_the_websocket_protocol(
    node: Node, frames: list[bytes], code: int
) -> None:
    reader, writer = await raw(node, new_room(), *frames)
    assert await close_code(reader) == code
    writer.close()


@wire("6 1009", "2 size", "3 error")
async def test_between_16_and_64_kib_is_an_error(node: Node) -> None:
    tab = await node.enter("user_1", new_room())
    for size in (16 * 1024 + 1, 17 * 1024, 64 * 1024):
        frame = '{"type":"chat","content":"' + "x" * size
        await tab.raw(frame[: size - 2] + '"}')
        error = await tab.wait("error")
        exactly(
            error,
            code="TOO_LARGE",
            message="A frame is at most 16 KiB.",
            content="A frame is at most 16 KiB.",
            retryable=False,
        )
    # 16 KiB exactly is small enough, and what follows is heard.
    small = '{"type":"chat","content":"ok","pad":"'
    await tab.raw(small + "x" * (16 * 1024 - len(small) - 2) + '"}')
    assert (await tab.wait("chat"))["seq"] == 1


@wire("6 4508 frames", "2 faults")
@pytest.mark.parametrize("path", ["room", "presence"])
async def test_the_21st_fault_within_a_minute_is_the_last(
    node: Node, path: str
) -> None:
    faults = ["{", '{"type":"nonsense"}', "[]", "x" * 17_000]
    if path == "room":
        tab = await node.enter("user_1", new_room())
    else:
        tab = await node.watch("user_1")
    for i in range(20):
        await tab.raw(faults[i % 4])
        await tab.wait("error")
    await tab.send("ping")
    await tab.wait("pong")
    await tab.raw(faults[0])
    # It is answered like the others, and then it is over.
    await tab.wait("error", code="INVALID_JSON")
    assert await tab.closed() == 4508
    assert len(tab.of("error")) == 21


@wire("6 4508 frames")
async def test_what_is_too_much_but_no_fault_is_not_abuse(valkey_url: str) -> None:
    async with live(valkey_url, chat_rate="1/10") as node:
        tab = await node.enter("user_1", new_room())
        for i in range(30):
            await tab.send("chat", content=str(i))
        for _ in range(29):
            await tab.wait("error", code="RATE_LIMITED")
        await tab.send("ping")
        await tab.wait("pong")
        assert tab.open


@wire("6 4508 pings")
async def test_more_than_ten_pings_a_second_are_abuse(node: Node) -> None:
    reader, writer = await raw(node, new_room(), masked(9, b"") * 40)
    assert await close_code(reader) == 4508
    writer.close()


async def test_a_bad_frame_with_a_close_behind_it_is_no_error_of_ours(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        bad = masked(2, b"x") + masked(8, (1000).to_bytes(2, "big"))
        reader, writer = await raw(node, new_room(), bad)
        await reader.read()
        writer.close()
    assert not caplog.records, caplog.text


# Silence.


@wire("6 4400")
async def test_a_client_that_answers_pings_is_alive(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.live.connections.PING_EVERY_S", 1)
    monkeypatch.setattr(connections, "SILENCE_S", 1.5)
    tab = await node.enter("user_1", new_room())
    reader, writer = await raw(node, new_room())
    ours = time_of = asyncio.get_running_loop().time
    started = time_of()
    # Pings come, and whoever does not answer them has 1.5 s.
    assert await close_code(reader, 5) == 4400
    assert 1.4 <= ours() - started <= 3.6
    assert (await tab.say("still here"))["seq"] == 1
    assert tab.open
    writer.close()


def test_the_times_are_the_wires() -> None:
    from gateway.live.connections import PING_EVERY_S

    assert PING_EVERY_S == 20
    assert connections.SILENCE_S == 90
    assert (connections.FAULTS, connections.FAULTS_S) == (20, 60)


# Floods.


@wire("6 4508 flood")
async def test_who_floods_is_closed_and_nobody_else_is_refused(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "FLOOD_S", 1.0)
    async with live(valkey_url) as node:
        room = new_room()
        talkers = [await node.enter(f"user_{n}", room) for n in (2, 3)]
        reader, writer = await raw(node, room)
        frames = b"".join(
            masked(1, text)
            for text in (
                b'{"type":"chat","content":"flood"}',
                b'{"type":"typing","isTyping":true}',
                b'{"type":"ack","ackId":"x","status":"read"}',
                b'{"type":"typing","isTyping":false}',
                b'{"type":"ping"}',
            )
        )

        async def flood() -> None:
            with suppress(ConnectionError):
                while True:
                    writer.write(frames * 100)
                    await writer.drain()

        flooding = asyncio.create_task(flood())
        closed = asyncio.create_task(close_code(reader, within=60))
        said = 0
        while not closed.done() and said < 18:
            for talker in talkers:
                await talker.say(f"{said}")
            said += 1
        assert await closed == 4508
        flooding.cancel()
        writer.transport.abort()
        for talker in talkers:
            await talker.say("and on")
            assert talker.of("error") == []


@wire("6 4508 flood")
async def test_a_burst_of_1000_acks_is_no_flood(node: Node) -> None:
    room = new_room()
    talker = await node.enter("user_2", room)
    tab = await node.enter("user_1", room)
    for n in range(1_000):
        await tab.send("ack", ackId=f"m{n}", status="read")
    await tab.say("still here")
    assert (await talker.say("me too"))["seq"] == 2


async def test_what_is_more_than_may_be_on_its_way_is_read_later_in_order(
    free: Node,
) -> None:
    room = new_room()
    texts = [f'{{"type":"chat","content":"{n}"}}'.encode() for n in range(900)]
    reader, writer = await raw(free, room, *(masked(1, text) for text in texts))
    tab = await free.enter("user_2", room)
    last = await tab.has("chat", content="899", within=20)
    assert last["seq"] == 900
    writer.close()


@wire("6 1011")
async def test_a_bug_in_reading_is_1011_for_that_socket_alone(
    free: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = new_room()
    tab = await free.enter("user_1", room)
    other = await free.enter("user_2", room)

    def bug(data: bytes, watches: bool) -> None:
        if b"boom" in data:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(connections.protocol, "for_gateway", bug)
        await tab.send("chat", content="boom")
        assert await tab.closed() == 1011
        assert (await other.say("on"))["seq"] == 1


# Slowness.


@wire("6 1013", "3 messages")
async def test_a_client_that_does_not_read_is_closed_and_slows_nobody(
    free: Node,
) -> None:
    room = new_room()
    talker = await free.enter("user_1", room)
    reader = await free.enter("user_2", room)
    deaf = await DeafSocket.open(free, "user_3", f"/api/ws/room/{room}")
    await reader.wait("system", where=lambda f: f["content"].startswith("Priya joined"))
    said = 0
    content = "漢" * 2048
    for _ in range(30):
        for _ in range(50):
            await talker.send("chat", content=content)
        said += 50
        await reader.has("chat", seq=said)
        if any(f["content"] == "Priya left the room." for f in reader.of("system")):
            break
    else:
        raise AssertionError("a deaf client was never closed")
    await talker.has("chat", seq=said)
    assert reader.said == talker.said == list(range(1, said + 1))
    data = await deaf.drain()
    assert data.endswith(b"\x88\x0f\x03\xf5slow consumer")
    deaf.line.close()


@wire("3 messages")
async def test_two_hundred_sockets_all_get_everything(free: Node) -> None:
    room = new_room()
    talker = await free.enter("user_1", room)

    async def enter(n: int) -> Socket:
        return await free.connect(f"user_{n % 19 + 2}", f"/api/ws/room/{room}")

    crowd: list[Socket] = []
    for start in range(0, 200, 25):
        crowd += await asyncio.gather(*(enter(n) for n in range(start, start + 25)))
    await eventually(lambda: all(each.of("participants") for each in crowd), within=10)
    for i in range(20):
        await talker.send("chat", content=f"{i}")
    for each in (talker, *crowd):
        await each.has("chat", seq=20, within=10)
        assert each.said == list(range(1, 21))
    # A tenth of them vanish without a word, in mid-stream.
    for each in crowd[::10]:
        each.connection.transport.abort()
    for i in range(20):
        await talker.send("chat", content=f"more {i}")
    for i, each in enumerate(crowd):
        if i % 10:
            await each.has("chat", seq=40, within=10)
            assert each.said == list(range(1, 41))
    assert await talker.has("chat", seq=40)


# Catching up.


async def behind(node: Node, room: str) -> Socket:
    """Somebody who said more than the buffer holds."""
    talker = await node.enter("user_1", room)
    for i in range(150):
        await talker.send("chat", content=f"{i}", id=f"c{i}")
    await talker.wait("chat", seq=150)
    return talker


@wire("6 1013", "6 resume")
async def test_storage_away_while_paging_is_1013(
    free: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = new_room()
    await behind(free, room)

    async def away(name: str, seq: int, count: int) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(free.hub().log, "after", away)
        back = await free.connect("user_2", f"/api/ws/room/{room}", since=1)
        assert await back.closed() == 1013
    again = await free.enter("user_2", room, since=1)
    seqs = [m["seq"] for f in again.of("history") for m in f["messages"]]
    assert seqs == list(range(2, 151))


@wire("6 1011")
async def test_a_bug_of_ours_is_1011_for_that_socket_alone(
    free: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = new_room()
    talker = await behind(free, room)

    async def bug(name: str, seq: int, count: int) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(free.hub().log, "after", bug)
        back = await free.connect("user_2", f"/api/ws/room/{room}", since=1)
        assert await back.closed() == 1011
    assert (await talker.say("on"))["seq"] == 151


@pytest.mark.parametrize("recalls", [0, 1])
async def test_leaving_while_paging_leaves_nothing_behind(
    free: Node, monkeypatch: pytest.MonkeyPatch, recalls: int
) -> None:
    room = new_room()
    talker = await behind(free, room)
    log, held = free.hub().log, asyncio.Event()
    asked, answered = [], []
    read = log.after

    async def slow(name: str, seq: int, count: int) -> object:
        asked.append(seq)
        await held.wait()
        answered.append(seq)
        return await read(name, seq, count)

    monkeypatch.setattr(log, "after", slow)
    # Another tab of the talker, which also repeats what has left the buffer.
    back = await free.connect("user_1", f"/api/ws/room/{room}", since=10)
    await eventually(lambda: asked)
    if recalls:
        await back.send("chat", content="0", id="c0")
        await eventually(lambda: len(asked) == 2)
    await back.close()
    await eventually(lambda: len(free.hub().connections.by_id) == 1)
    held.set()
    await talker.close()
    await eventually(lambda: not free.hub().connections.by_id)
    listed = await free.enter("user_3", room)
    assert not answered, "it still reads for somebody who is gone"
    here = listed.of("participants")[-1]["participants"]
    assert [who["id"] for who in here] == ["user_3"]
