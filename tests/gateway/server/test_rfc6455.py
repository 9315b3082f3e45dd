"""RFC 6455, section by section, on the real server over real sockets.

What the RFC leaves open and we decided (limits, our own close codes) is tested in
`test_websocket_protocol`, what a room makes of frames in `tests/gateway/live`.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.server import websocket_protocol
from tests import patience
from tests.gateway.edge import Gateway
from tests.gateway.node import eventually, masked, upgrade
from tests.gateway.server.echo import SUBPROTOCOL, Client, echoing, opened

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@pytest.fixture(scope="module")
async def edge(valkey_url: str) -> AsyncIterator[Gateway]:
    async with echoing(valkey_url) as running:
        yield running


async def refused(edge: Gateway, *frames: bytes, code: int = 1002) -> None:
    """The socket ends with this code, and nothing of these frames is heard."""
    client, heard = await opened(edge)
    client.send(*frames)
    assert (await client.closed())[0] == code
    await client.ends()
    assert [event for event in heard.events if event is not None] == [code]


async def echoed(edge: Gateway, text: bytes, *frames: bytes) -> None:
    """These frames are one message, and the socket lives on."""
    client, heard = await opened(edge)
    client.send(*frames, masked(TEXT, b"and on, as ever"))
    while (got := await client.frame())[0] == 0x80 | PONG:
        pass
    assert got == (0x81, text)
    assert await client.text() == b"and on, as ever"
    assert [event for event in heard.events if event is not None][0] == text


def goodbye(code: int, reason: bytes = b"") -> bytes:
    return masked(CLOSE, code.to_bytes(2, "big") + reason)


# §4.2: the server's side of the handshake.


async def test_4_2_2_the_handshake_is_answered_with_the_hash_of_its_key(
    edge: Gateway,
) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    client = await Client.open(edge, offer, "Sec-WebSocket-Protocol: unknown, x")
    status, *lines = client.head.decode().strip().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    assert status == "HTTP/1.1 101 Switching Protocols"
    names = [name.lower() for name, _ in headers]
    assert sorted(names) == ["connection", "date", "sec-websocket-accept", "upgrade"]
    fields = {name.lower(): value for name, value in headers}
    # The example of §1.3.
    assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (fields["upgrade"], fields["connection"]) == ("websocket", "Upgrade")


async def test_4_2_2_a_subprotocol_is_named_if_the_application_chose_it(
    edge: Gateway,
) -> None:
    client = await Client.open(edge, f"Sec-WebSocket-Protocol: a, {SUBPROTOCOL}")
    assert f"\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n" in client.head.decode()


async def test_4_2_1_names_are_read_whatever_their_case(edge: Gateway) -> None:
    request = upgrade("/", "none").replace(b"Upgrade: websocket", b"uPGRADE: WebSocket")
    request = request.replace(b"Connection: Upgrade", b"CONNECTION: x, uPgRaDe")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    async with patience.within(5):
        assert b" 101 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ== AA=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "no base64 at all: äöü$$$$"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13, 13"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"),
    ],
)
async def test_4_2_1_a_handshake_that_lacks_something_is_refused(
    edge: Gateway, line: str, instead: str
) -> None:
    asked = len(edge.app.scopes)
    request = upgrade("/", "none").decode().replace(line, instead)
    answer = await edge.raw(request.encode("latin-1"))
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 426 ")), answer
    assert len(edge.app.scopes) == asked


@pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "130", "x"])
async def test_4_4_another_version_is_told_ours(edge: Gateway, version: str) -> None:
    request = upgrade("/", "none").replace(
        b"Version: 13", f"Version: {version}".encode()
    )
    head = (await edge.raw(request)).partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("HTTP/1.1 426 ")
    assert "\r\nSec-WebSocket-Version: 13" in head
    assert "\r\nUpgrade: websocket" in head


# §5.1, §5.3: masking.


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8hello"])
async def test_5_1_a_frame_that_is_not_masked_is_1002(
    edge: Gateway, opcode: int, payload: bytes
) -> None:
    await refused(edge, bytes([0x80 | opcode, len(payload)]) + payload)


@pytest.mark.parametrize("mask", [bytes(4), b"\xff" * 4, b"\x01\x80\xfe\x37"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 130])
async def test_5_3_any_mask_is_taken_off(edge: Gateway, mask: bytes, size: int) -> None:
    text = bytes(range(32, 127))[: size % 95] + b"x" * (size // 95 * 95)
    await echoed(edge, text, masked(TEXT, text, mask=mask))


# §5.2: heads.


@pytest.mark.parametrize("reserved", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, PING, CLOSE])
async def test_5_2_a_reserved_bit_is_1002(
    edge: Gateway, reserved: int, opcode: int
) -> None:
    frame = masked(opcode, b"")
    await refused(edge, bytes([frame[0] | reserved << 4]) + frame[1:])


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
async def test_5_2_a_reserved_opcode_is_1002(edge: Gateway, opcode: int) -> None:
    await refused(edge, masked(opcode, b"12345678"))


def stretched(opcode: int, size: int, count: int) -> bytes:
    """A frame whose length takes more bytes than it needs."""
    head = bytes([0x80 | opcode, 0xFE if count == 2 else 0xFF])
    return head + size.to_bytes(count, "big") + bytes(4) + b"x" * min(size, 2**16)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 2), (2, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8), (2**63, 8)],
)
async def test_5_2_a_length_that_is_not_minimal_is_1002(
    edge: Gateway, opcode: int, size: int, count: int
) -> None:
    await refused(edge, stretched(opcode, size, count))


async def test_5_2_a_length_is_looked_at_in_every_frame(edge: Gateway) -> None:
    client, _ = await opened(edge)
    client.send(masked(TEXT, b"good one"), masked(TEXT, b"x" * 200))
    client.send(stretched(TEXT, 100, 2))
    assert await client.text() == b"good one"
    assert len(await client.text()) == 200
    assert (await client.closed())[0] == 1002
    await client.ends()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_534, 65_535, 65_536])
async def test_5_2_each_form_of_length_up_to_its_bounds(
    edge: Gateway, size: int
) -> None:
    # The echo's own length is looked at by the client.
    await echoed(edge, b"x" * size, masked(TEXT, b"x" * size))


async def test_5_2_a_frame_may_come_byte_by_byte(edge: Gateway) -> None:
    client, heard = await opened(edge)
    stream = masked(TEXT, b"x" * 130, mask=b"1234") + masked(PING, b"p")
    for at in range(len(stream)):
        heard.wire.data_received(stream[at : at + 1])
    assert await client.text() == b"x" * 130
    assert await client.frame() == (0x80 | PONG, b"p")


# §5.4: fragments.


@pytest.mark.parametrize(
    "pieces",
    [
        [b"one ", b"two"],
        [b"", b"one two"],
        [b"one two", b""],
        [b"", b"", b"one two", b"", b""],
        [b"o", b"n", b"e", b" ", b"t", b"w", b"o"],
    ],
)
@pytest.mark.parametrize("between", [b"", masked(PING, b"?"), masked(PONG, b"")])
async def test_5_4_fragments_are_one_message_whatever_control_is_between(
    edge: Gateway, pieces: list[bytes], between: bytes
) -> None:
    first, *rest = [
        masked(CONT if n else TEXT, piece, fin=n == len(pieces) - 1)
        for n, piece in enumerate(pieces)
    ]
    await echoed(edge, b"one two", first, *(between + piece for piece in rest))


async def test_5_4_a_ping_between_fragments_is_answered_before_the_end(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.send(masked(TEXT, b"one", fin=False), masked(PING, b"now"))
    assert await client.frame() == (0x80 | PONG, b"now")
    assert heard.events == [None]
    client.send(masked(CONT, b" two"))
    assert await client.text() == b"one two"


@pytest.mark.parametrize(
    "frames",
    [
        [masked(CONT, b"12345678")],
        [masked(CONT, b"12345678", fin=False)],
        [masked(TEXT, b"1", fin=False), masked(TEXT, b"2")],
        [masked(TEXT, b"1", fin=False), masked(BINARY, b"2")],
        [masked(TEXT, b"1", fin=False), masked(TEXT, b"12345678", fin=False)],
        [masked(TEXT, b"1", fin=False), masked(CONT, b"", fin=False), masked(1, b"")],
    ],
)
async def test_5_4_what_continues_nothing_or_is_not_continued_is_1002(
    edge: Gateway, frames: list[bytes]
) -> None:
    await refused(edge, *frames)


async def test_5_4_after_a_message_in_fragments_nothing_is_continued(
    edge: Gateway,
) -> None:
    client, _ = await opened(edge)
    client.send(masked(TEXT, b"1", fin=False), masked(CONT, b"2"), masked(CONT, b"3"))
    assert await client.text() == b"12"
    assert (await client.closed())[0] == 1002
    await client.ends()


# §5.5: control frames.


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [126, 127, 65_536])
async def test_5_5_a_control_frame_beyond_125_bytes_is_1002(
    edge: Gateway, opcode: int, size: int
) -> None:
    await refused(edge, masked(opcode, b"\x03\xe8" + b"x" * (size - 2)))


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
async def test_5_5_a_control_frame_in_fragments_is_1002(
    edge: Gateway, opcode: int
) -> None:
    await refused(edge, masked(opcode, b"\x03\xe8", fin=False))


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125)), b"\xff" * 125])
async def test_5_5_2_a_ping_is_answered_with_its_own_payload(
    edge: Gateway, payload: bytes
) -> None:
    client, heard = await opened(edge)
    client.send(masked(PING, payload, mask=b"mask"), masked(PING, b"2"))
    assert await client.frame() == (0x80 | PONG, payload)
    assert await client.frame() == (0x80 | PONG, b"2")
    assert heard.events == [None, None]


async def test_5_5_3_a_pong_that_nobody_asked_for_is_not_answered(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.send(masked(PONG, b"what?"), masked(PONG, b""), masked(TEXT, b"12345678"))
    assert await client.text() == b"12345678"
    assert heard.events == [None, None, b"12345678"]


async def test_5_5_2_our_ping_is_answered_and_noticed(edge: Gateway) -> None:
    client, heard = await opened(edge)
    heard.wire.ping()
    assert await client.frame() == (0x80 | PING, b"")
    client.send(masked(PONG, b""))
    await eventually(lambda: heard.events == [None])


# §5.5.1, §7.4: close frames.


@pytest.mark.parametrize("reason", [b"", b"because", "weil’s so ist".encode()])
@pytest.mark.parametrize(
    "code",
    [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999],
)
async def test_7_4_a_close_is_echoed_whole_and_its_code_told(
    edge: Gateway, code: int, reason: bytes
) -> None:
    client, heard = await opened(edge)
    client.send(goodbye(code, reason))
    assert await client.closed() == (code, reason)
    await client.ends()
    assert heard.events == [code]


async def test_5_5_1_a_close_without_a_code_is_echoed_without_one(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.send(masked(CLOSE, b""))
    assert await client.frame() == (0x88, b"")
    await client.ends()
    assert heard.events == [1005]  # §7.1.5: "no status received"


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
)
async def test_7_4_a_code_that_nobody_may_send_is_1002(
    edge: Gateway, code: int
) -> None:
    await refused(edge, goodbye(code))


async def test_5_5_1_half_a_code_is_1002(edge: Gateway) -> None:
    await refused(edge, masked(CLOSE, b"\x03"))


@pytest.mark.parametrize("reason", [b"\xff", b"because\xe2\x82", b"\xed\xa0\x80"])
async def test_5_5_1_a_reason_that_is_not_utf8_is_1007(
    edge: Gateway, reason: bytes
) -> None:
    await refused(edge, goodbye(1000, reason), code=1007)


async def test_5_5_1_a_close_amid_a_message_is_1002(edge: Gateway) -> None:
    await refused(edge, masked(TEXT, b"half", fin=False), goodbye(1000))


async def test_5_5_1_nothing_behind_a_close_is_heard(edge: Gateway) -> None:
    client, heard = await opened(edge)
    client.send(goodbye(1000), masked(TEXT, b"12345678"), masked(PING, b""))
    assert await client.closed() == (1000, b"")
    await client.ends()
    assert heard.events == [1000]


# §5.6: data frames.


async def test_5_6_text_is_heard_as_text_and_binary_as_binary(edge: Gateway) -> None:
    client, heard = await opened(edge)
    client.send(masked(BINARY, b"\x00\xff"), masked(TEXT, "é漢😀".encode()))
    client.send(masked(BINARY, b"\xff", fin=False), masked(CONT, b"\xfe"))
    client.send(masked(TEXT, b"", fin=False), masked(CONT, b""))
    assert await client.text() == "é漢😀".encode()
    assert await client.text() == b""
    assert heard.events == ["binary", "é漢😀".encode(), "binary", b""]


# §7.1: closing, begun here.


async def test_7_1_2_we_close_and_the_connection_ends_with_the_clients_reply(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    heard.wire.close(1012, "restart", within_s=60)
    assert await client.closed() == (1012, b"restart")
    # Until it has had our close it may go on, and nobody hears it.
    client.send(masked(TEXT, b"12345678"), masked(BINARY, b""), masked(PING, b""))
    client.send(goodbye(1012))
    await client.ends()
    assert heard.events == []


async def test_7_1_1_a_client_that_does_not_reply_is_cut_off(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert websocket_protocol.CLOSE_S == 10
    client, heard = await opened(edge)
    heard.wire.close(1012, "", within_s=0.1)
    assert await client.closed() == (1012, b"")
    await client.ends()


async def test_7_1_3_both_may_close_at_once(edge: Gateway) -> None:
    client, heard = await opened(edge)
    client.send(masked(TEXT, b"12345678"))
    assert await client.text() == b"12345678"
    heard.wire.close(4501, "")
    client.send(goodbye(1001))
    assert await client.closed() == (4501, b"")
    await client.ends()


async def test_7_1_7_after_a_failure_nothing_more_is_read(edge: Gateway) -> None:
    client, heard = await opened(edge)
    client.send(masked(TEXT, b"12345678"), masked(3, b""), masked(TEXT, b"12345678"))
    assert await client.text() == b"12345678"
    assert (await client.closed())[0] == 1002
    await client.ends()
    assert heard.events == [b"12345678", 1002]


async def test_7_1_5_a_client_that_vanishes_is_noticed(edge: Gateway) -> None:
    client, heard = await opened(edge)
    client.writer.transport.abort()
    async with patience.within(5):
        await heard.lost.wait()
    assert heard.events == [1005]


async def test_7_1_6_a_client_that_only_stops_sending_has_gone_too(
    edge: Gateway,
) -> None:
    client, heard = await opened(edge)
    client.writer.write_eof()
    await client.ends()
    assert heard.events == [1005]


# §8.1: UTF-8.

BROKEN = [
    b"\xff",
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xe2\x82",  # cut
    b"\x80",
    b"\xf0\x9f\x98",
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_8_1_text_that_is_not_utf8_is_1007(edge: Gateway, broken: bytes) -> None:
    await refused(edge, masked(TEXT, b"well: " + broken, mask=b"mask"), code=1007)


@pytest.mark.parametrize("broken", BROKEN)
async def test_8_1_nor_may_it_be_broken_over_fragments(
    edge: Gateway, broken: bytes
) -> None:
    pieces = [masked(CONT, bytes([each]), fin=False) for each in broken]
    begin, end = masked(TEXT, b"well: ", fin=False), masked(CONT, b"")
    await refused(edge, begin, *pieces, end, code=1007)


@pytest.mark.parametrize("cut", range(1, 9))
async def test_8_1_a_character_may_be_cut_by_fragments(edge: Gateway, cut: int) -> None:
    text = "é漢😀".encode()
    frames = [masked(TEXT, text[:cut], fin=False), masked(CONT, text[cut:])]
    await echoed(edge, text, *frames)


def test_each_section_has_its_test() -> None:
    sections = "4_2 4_4 5_1 5_2 5_3 5_4 5_5 5_6 7_1 7_4 8_1".split()
    names = [name for name in globals() if name.startswith("test_")]
    for section in sections:
        assert any(name.startswith(f"test_{section}_") for name in names), section
