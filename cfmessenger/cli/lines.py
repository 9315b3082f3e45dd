"""Lines typed or piped in, without ever blocking the event loop.

Owns reading standard input. A thread with plain `os.read` serves terminals, pipes and
files alike: making the descriptor non-blocking would do so for the shell and for our
output too, and a daemon thread inside a buffered reader can abort the interpreter's
exit. Bounded: the thread waits while the lines it read are not taken.
"""

from __future__ import annotations

import asyncio
import os
import threading

_WAITING_LINES = 64
#: A longer line is cut here; no message is that long.
_MAX_LINE = 64 * 1024


class Lines:
    """`await lines.get()` is the next line without its newline, None at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(_WAITING_LINES)
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def get(self) -> str | None:
        line = await self._queue.get()
        self._room.release()
        return line

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the terminal hung up
                data = b""
            *lines, rest = (rest + data).split(b"\n")
            if not data and rest:
                lines.append(rest)
            rest = rest[:_MAX_LINE]
            for line in lines:
                text = line[:_MAX_LINE].decode(errors="replace").rstrip("\r")
                if not self._hand_over(text):
                    return
            if not data:
                self._hand_over(None)
                return

    def _hand_over(self, line: str | None) -> bool:
        self._room.acquire()
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line)
        except RuntimeError:  # the loop is closed: nobody reads any more
            return False
        return True
