"""Lines typed or piped in, without ever blocking the event loop.

Owns reading standard input and making lines of it: as they are from a pipe or file
(`Splitter`), edited from a terminal (`Editor`, so that a message coming in does not
destroy the line being typed). A thread with plain `os.read` serves all of them: making
the descriptor non-blocking would do so for the shell and for our output too, and a
daemon thread inside a buffered reader can abort the interpreter's exit.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import termios
import threading
from collections.abc import Iterator

_WAITING_CHUNKS = 16
_CHUNK = 4096
#: A longer line is cut here; no message is that long.
_MAX_LINE = 16 * 1024


class Chunks:
    """`await chunks.get()` is the next input, `b""` at the end and ever after.

    Bounded: the thread waits while what it read is not taken.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._space = threading.Semaphore(_WAITING_CHUNKS)
        self._ended = False
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def get(self) -> bytes:
        if self._ended:
            return b""
        data = await self._queue.get()
        self._space.release()
        self._ended = not data
        return data

    def _read(self) -> None:
        data = b"-"
        while data:
            try:
                data = os.read(self._fd, _CHUNK)
            except OSError:  # the terminal hung up
                data = b""
            self._space.acquire()
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, data)
            except RuntimeError:  # the loop is closed: nobody reads any more
                return


class Splitter:
    """Lines of a pipe. `feed(b"")` is the end: what has no newline is a line too."""

    typed = ""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, rest = (self._rest + data).split(b"\n")
        if not data:
            self.ended = True
            lines, rest = [rest] if rest else [], b""
        self._rest = rest[:_MAX_LINE]
        return [
            line[:_MAX_LINE].decode(errors="replace").rstrip("\r") for line in lines
        ]


# Keys that send an escape sequence (arrows, Home, …) do nothing here.
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|O.|[^\\[O])", re.DOTALL)
_BEGUN_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*|O)?$")


class Editor:
    """Lines of a terminal in character mode: backspace, ^W, ^U, and ^D to leave."""

    def __init__(self) -> None:
        #: The line as typed so far.
        self.typed = ""
        self.ended = False
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = ""  # an escape sequence whose end has not come yet

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` finishes. `feed(b"")` is the end."""
        self.ended = self.ended or not data
        text = _ESCAPES.sub("", self._begun + self._decode(data))
        begun = _BEGUN_ESCAPE.search(text)
        self._begun = begun.group()[:_MAX_LINE] if begun else ""
        lines = []
        for key in text[: begun.start()] if begun else text:
            if key in "\r\n":
                lines.append(self.typed)
                self.typed = ""
            else:
                self._press(key)
        return lines

    def _press(self, key: str) -> None:
        if key in "\x7f\b":
            self.typed = self.typed[:-1]
        elif key == "\x15":  # ^U
            self.typed = ""
        elif key == "\x17":  # ^W
            self.typed = re.sub(r"\S*\s*$", "", self.typed)
        elif key == "\x04":  # ^D
            self.ended = self.ended or not self.typed
        elif key >= " " and len(self.typed) < _MAX_LINE:
            self.typed += key


@contextlib.contextmanager
def character_mode(fd: int) -> Iterator[None]:
    """The terminal hands over keys as they come and echoes none; ^C still signals."""
    before = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
