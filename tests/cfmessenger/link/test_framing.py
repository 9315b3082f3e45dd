"""Frames: whole or the end, and none that is longer than agreed, at either end."""

import asyncio

import pytest

from cfmessenger.link.framing import TooLong, framed, head, read_frame, size_in

pytestmark = pytest.mark.anyio


async def test_a_frame_is_whole_or_the_end() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(framed(b"ab", 5) + b"\0\0\0\5abc")
    reader.feed_eof()
    assert await read_frame(reader, 5) == b"ab"
    with pytest.raises(EOFError):
        await read_frame(reader, 5)


async def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(head(6, 6))
    with pytest.raises(EOFError):
        await read_frame(reader, 5)


def test_who_writes_one_too_long_is_told() -> None:
    assert framed(b"12345", 5) == b"\0\0\0\x0512345"
    with pytest.raises(TooLong, match="6 bytes, where 5"):
        framed(b"123456", 5)
    with pytest.raises(TooLong):
        size_in(b"\0\0\0\6", 5)
