"""A node gives up its actors: their objects go to sleep, and wake on other nodes.

Each actor is asked at its *door*, a Unix socket beside its raylet's, so that it mirrors
what it has and says goodbye: not by Ray, whose control store may be away, nor by a
signal, of which Ray has the handler. Whoever is left then is ended by signals, without
a mirror, as in a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from actors.raylet import Raylet

AT_ONCE = 20
"""Actors that end together: their successors start elsewhere."""
ASLEEP_SHARE = 0.8
"""Of the time that there is, for objects to go to sleep in order."""
ASLEEP_S = 1.0
"""For a batch of them; who needs longer still goes on."""
GONE_S = 1.0
"""By then an actor's process has ended whose objects sleep."""


class Door:
    """Where this actor's process is told to leave, by whoever may write in the folder
    of the raylet that listens on `raylet`: to connect is to ask."""

    def __init__(self, raylet: str, leave: Callable[[], Awaitable[object]]) -> None:
        self._path = _door(Path(raylet), os.getpid())
        self._leave = leave
        self._server: asyncio.Server | None = None  # from `open` on

    async def open(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)  # of a process before, that had this id
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._asked, sock=listener)
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        """Nobody finds it any more; who has asked goes on waiting."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _asked(
        self, _: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._leave()
        finally:
            writer.close()


async def leave(raylet: Raylet, timeout_s: float) -> int:
    """Have no actor on this raylet's node; how many are left."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s * ASLEEP_SHARE):
            await _put_to_sleep(raylet)
    while (left := raylet.actors()) and loop.time() < end:
        await asyncio.to_thread(_end, left[:AT_ONCE], end - loop.time())
    return len(left)


async def _put_to_sleep(raylet: Raylet) -> None:
    leaving = raylet.actors()
    for at in range(0, len(leaving), AT_ONCE):
        batch = leaving[at : at + AT_ONCE]
        asked = [asyncio.create_task(_ask(_door(raylet.socket, p.pid))) for p in batch]
        try:
            await asyncio.wait(asked, timeout=ASLEEP_S)
        finally:
            for each in asked:
                each.cancel()
    await asyncio.to_thread(psutil.wait_procs, leaving, GONE_S)


async def _ask(door: Path) -> None:
    """Until its objects sleep, or its process has ended."""
    with contextlib.suppress(OSError):  # no object was ever here
        reader, writer = await asyncio.open_unix_connection(str(door))
        try:
            await reader.read()
        finally:
            writer.close()


def _door(raylet: Path, actor: int) -> Path:
    """Short: a socket's path has 107 bytes at most, and Ray uses most of them."""
    return raylet.with_name(f"at-{actor}")


def _end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.terminate()
    psutil.wait_procs(processes, timeout=max(timeout_s, 0.1))
