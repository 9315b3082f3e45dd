"""The fast path and the reader must read the same; the RFC is `test_rfc6455`'s."""

import pytest

from cfmessenger.errors import CloseCode
from gateway.server.frames import BrokenFrame, Frame, FrameReader, plain_text
from tests.gateway.node import masked


def frames(reader: FrameReader) -> list[Frame]:
    found = []
    while (frame := reader.next()) is not None:
        found.append(frame)
    return found


@pytest.mark.parametrize(
    "frame",
    [
        masked(1, b"12345678", fin=False),
        masked(0, b"12345678"),
        masked(2, b"12345678"),
        masked(9, b"12345678"),
        b"\xc1" + masked(1, b"12345678")[1:],  # a reserved bit
        b"\x81\x0812345678",  # not masked
        b"\x81\x7e\x00\x0812345678",
        masked(1, b"x" * 127)[:1] + b"\xff" + bytes(4) + b"x" * 127,  # 64-bit size
        b"\x81\xfe\x00\x08" + masked(1, b"12345678")[2:],  # a longer size than needed
        masked(1, b"12345678")[:-1],
        masked(1, b"12345678") + b"\x81",
        masked(1, b"12345678") * 2,
        masked(1, b"x" * 65_536),
        masked(1, b"12345678\xff"),
        masked(1, b"\xed\xa0\x80" * 3),  # a surrogate
        b"",
        b"\x81",
    ],
)
def test_what_is_not_plain_text_is_left_to_the_reader(frame: bytes) -> None:
    assert plain_text(frame) is None
    assert plain_text(masked(1, b"12345678")) == b"12345678"


@pytest.mark.parametrize("size", [8, 125, 126, 127, 65_535])
def test_what_is_plain_text_the_reader_reads_too(size: int) -> None:
    reader = FrameReader(65_536)
    frame = masked(1, "é".encode() + b"x" * (size - 2), mask=b"\x01\x80\xfe\x37")
    reader.feed(frame)
    assert frames(reader) == [(1, True, plain_text(frame))]


def test_only_between_messages_it_is_idle() -> None:
    reader = FrameReader(100)
    assert reader.idle
    whole, half = masked(1, b"12345678"), masked(1, b"1", fin=False)
    for data, idle in (
        (whole, True),
        (whole[:1], False),
        (whole[1:], True),
        (half, False),
        (masked(9, b""), False),
        (masked(0, b"2", fin=False), False),
        (masked(0, b"3"), True),
        (whole + b"\x81", False),
    ):
        reader.feed(data)
        frames(reader)
        assert reader.idle == idle, data


def test_a_message_has_a_size_however_it_is_cut() -> None:
    for pieces in ([100], [50, 50], [0, 100, 0]):
        reader = FrameReader(100)
        for n, size in enumerate(pieces):
            last = n == len(pieces) - 1
            reader.feed(masked(0 if n else 1, b"x" * size, fin=last))
        assert sum(len(payload) for _, _, payload in frames(reader)) == 100
        reader.feed(masked(1, b"x" * 100))  # and the next one has its own
        assert len(frames(reader)) == 1
    for pieces in ([101], [50, 51], [100, 1]):
        reader = FrameReader(100)
        for n, size in enumerate(pieces):
            reader.feed(masked(0 if n else 1, b"x" * size, fin=False))
        with pytest.raises(BrokenFrame) as caught:
            frames(reader)
        assert caught.value.code == CloseCode.TOO_BIG


def test_a_size_that_is_too_big_is_refused_before_it_has_come() -> None:
    reader = FrameReader(100)
    reader.feed(b"\x81\xff" + (2**40).to_bytes(8, "big"))
    with pytest.raises(BrokenFrame):
        reader.next()
