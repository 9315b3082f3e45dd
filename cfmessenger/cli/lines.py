"""Lines typed or piped in, without ever blocking the event loop.

Owns reading standard input and making lines of it: as they are from a pipe or file
(`piped`), edited with prompt_toolkit at a terminal (`typed`). A thread with plain
`os.read` serves a pipe: making the descriptor non-blocking would do so for the shell
and for our output too, and a daemon thread inside a buffered reader can abort the
interpreter's exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import StdoutProxy

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


async def piped(fd: int) -> AsyncGenerator[str, None]:
    """The lines of a pipe or file, as they are."""
    chunks, splitter = Chunks(fd), Splitter()
    while not splitter.ended:
        for line in splitter.feed(await chunks.get()):
            yield line


class _Keyboard(Vt100Input):
    """Stays raw while something is printed, so that a key pressed then is not echoed
    over the screen, nor taken by the terminal for the end of the input."""

    def cooked_mode(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


async def typed(changed: Callable[[str], None]) -> AsyncGenerator[str, None]:
    """The lines of a terminal, until ^D; what is printed meanwhile goes above them.

    `changed` hears what stands in the line each time that it changes.
    """
    # One prompt for all lines: between two, keys would be echoed over the screen.
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    keys = KeyBindings()

    @keys.add("c-c")
    def interrupt(_: KeyPressEvent) -> None:
        signal.raise_signal(signal.SIGINT)  # the same as from outside

    @keys.add("c-z")
    def suspend(_: KeyPressEvent) -> None:
        run_in_terminal(stop)

    def stop() -> None:
        with Vt100Input.cooked_mode(keyboard):
            os.kill(0, signal.SIGTSTP)

    def said(buffer: Buffer) -> bool:
        # What is not UTF-8 arrives as surrogates. A paste may hold several lines.
        text = buffer.text.encode(errors="replace").decode()
        for line in text.split("\n"):
            lines.put_nowait(line)
        changed("")
        # Said lines come back for the arrow keys at once, not with the next repaint:
        # a busy machine puts that off, and finds no line for a key pressed before.
        asyncio.get_running_loop().call_soon(buffer.load_history_if_not_yet_loaded)
        return False  # do not keep it in the line

    keyboard = _Keyboard(sys.stdin)
    session: PromptSession[str] = PromptSession(
        "> ",
        erase_when_done=True,
        input=keyboard,
        key_bindings=keys,
        reserve_space_for_menu=0,
    )
    session.default_buffer.accept_handler = said
    session.default_buffer.on_text_changed += lambda buffer: changed(buffer.text)
    with contextlib.ExitStack() as printing:
        above = printing.enter_context(StdoutProxy(raw=True))
        printing.enter_context(contextlib.redirect_stdout(above))
        if sys.stderr.isatty():
            printing.enter_context(contextlib.redirect_stderr(above))
        prompt = asyncio.create_task(
            session.prompt_async(set_exception_handler=False, handle_sigint=False)
        )
        prompt.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while (line := await lines.get()) is not None:
                yield line
        finally:
            prompt.cancel()
            with contextlib.suppress(EOFError, asyncio.CancelledError):
                await prompt
