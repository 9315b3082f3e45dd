"""A port of this machine that leads to Ray's control store, wherever that is.

Ray's processes are told an address when they start and cannot be told another. With
this one they take a head that has moved for one that has begun again, which they wait
for: rooms notice nothing (design.md §13). Bytes pass as they are; who speaks shows its
token to the control store as ever. It listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib

LOOPBACK = "127.0.0.2"
"""Not .1: that Ray takes for the machine's own address."""
DIAL_S = 2.0
CHUNK = 64 * 1024
MOST = 10_000
"""Connections: each actor's process has some."""


class Relay:
    """`open`, `lead` whenever the head is elsewhere, `close`."""

    def __init__(self) -> None:
        self.address = ""  # what Ray is told; from `open` to the end
        self._head = ""  # as `lead` was told last
        self._server: asyncio.Server | None = None  # from `open` on
        self._passing: set[asyncio.Task[None]] = set()  # open connections

    async def open(self, head: str) -> None:
        """Listen, and lead to the head at this host:port."""
        self._head = head
        self._server = await asyncio.start_server(self._serve, LOOPBACK, limit=CHUNK)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"{LOOPBACK}:{port}"

    def lead(self, head: str) -> None:
        """Another head runs at this host:port, which may be the same. Who is connected
        to the one before is hung up on, and comes again."""
        self._head = head
        self._hang_up()

    def close(self) -> None:
        """Listen no more, and end all connections."""
        if self._server is not None:
            self._server.close()
        self._hang_up()

    def _hang_up(self) -> None:
        for each in self._passing:
            each.cancel()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._passing) < MOST:
                self._passing.add(task)
                await self._pass(reader, writer)
        except OSError:
            pass  # nobody listens there yet: whoever it is comes again
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._passing.discard(task)
            writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until either side ends. Raises OSError."""
        host, _, port = self._head.rpartition(":")
        async with asyncio.timeout(DIAL_S):
            answers, asks = await asyncio.open_connection(
                host.strip("[]"), int(port), limit=CHUNK
            )
        ways = [
            asyncio.create_task(_copy(*each))
            for each in ((reader, asks), (answers, writer))
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            asks.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
