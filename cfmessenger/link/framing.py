"""Frames on a byte stream: a big-endian length of four bytes, then so many bytes.

How long a frame may be is its protocol's business. Both ends hold to it: who reads does
not wait for what is longer, and who writes is told, for the other end would only see a
broken stream, and with it all else that it carries would be gone.
"""

from __future__ import annotations

import asyncio


class TooLong(Exception):
    """A frame is longer than its protocol allows; the message has both sizes."""


def head(size: int, most: int) -> bytes:
    """What goes before a body of so many bytes. Raises `TooLong`."""
    _check(size, most)
    return size.to_bytes(4, "big")


def size_in(head: bytes, most: int) -> int:
    """How long the body after this head is. Raises `TooLong`."""
    size = int.from_bytes(head, "big")
    _check(size, most)
    return size


def _check(size: int, most: int) -> None:
    if size > most:
        raise TooLong(f"a frame of {size} bytes, where {most} are the most")


def framed(body: bytes, most: int) -> bytes:
    """One frame. Raises `TooLong`."""
    return head(len(body), most) + body


async def read_frame(reader: asyncio.StreamReader, most: int) -> bytes:
    """The next body. Raises EOFError at the end, or when it is too long."""
    try:
        size = size_in(await reader.readexactly(4), most)
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError, TooLong) as error:
        raise EOFError from error
