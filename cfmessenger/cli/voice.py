"""What a child of `up` says to it on a pipe that it inherits: both ends.

Lines: `ready` once it serves, `.` each second while its event loop turns, and `failed
<sentence>` when it knows why it cannot go on, so that the reason is told once, by `up`,
and not by each attempt. Knows nothing of what the child is. Neither end ever blocks.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

VOICE_FD = "CFMX_READY_FD"
BEAT_S = 1.0

MAX_LINE = 4096  # as much as a pipe takes at once, whoever else writes


class Voice:
    """The child's end; mute in a process that nobody supervises."""

    def __init__(self) -> None:
        fd = os.environ.get(VOICE_FD, "")
        self._fd = int(fd) if fd.isdigit() else None
        if self._fd is not None:
            with suppress(OSError):
                os.set_blocking(self._fd, False)
                os.set_inheritable(self._fd, False)

    async def live(self) -> None:
        """Says that it is ready, and from then on that it lives, until cancelled."""
        # In one write: a child that hangs right after the first would never be watched.
        self._say("ready\n.")
        while True:
            await asyncio.sleep(BEAT_S)
            self._say(".")

    def failed(self, why: str) -> bool:
        """Says why it ends; False if there is nobody to hear it."""
        return self._say("failed " + " ".join(why.split()))

    def _say(self, line: str) -> bool:
        if self._fd is None:
            return False
        try:
            os.write(self._fd, line.encode()[: MAX_LINE - 1] + b"\n")
        except OSError:  # nobody reads, or nobody has read for hours
            return False
        return True


class Ear:
    """The supervisor's end, on its event loop, for one life of a child."""

    def __init__(self) -> None:
        self._fd, self.theirs = os.pipe()  # `theirs` is closed once the child has it
        os.set_blocking(self._fd, False)
        self._ready = asyncio.Event()
        self._rest = b""  # a line that is not yet whole
        self._beats = 0  # since `heard` was last asked
        self._speaks = False  # from its first beat on
        self.why = ""  # its last sentence
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    async def ready(self) -> None:
        """Returns when the child has said so; never if it ends without a word."""
        await self._ready.wait()

    def heard(self) -> bool:
        """Whether it lived since this was last asked, as far as it ever says so."""
        beats, self._beats = self._beats, 0
        return beats > 0 or not self._speaks

    def close(self) -> None:
        """Takes in what a child that ended had left to say. May be repeated."""
        if self._fd >= 0:
            self._read()
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            found = os.read(self._fd, 16 * MAX_LINE)
        except OSError:
            return
        if not found:
            asyncio.get_running_loop().remove_reader(self._fd)
        *lines, rest = (self._rest + found).split(b"\n")
        self._rest = rest[:MAX_LINE]
        for line in lines:
            if line == b"ready":
                self._ready.set()
            elif line == b".":
                self._beats += 1
                self._speaks = True
            elif line.startswith(b"failed "):
                self.why = line[len(b"failed ") :].decode(errors="replace")
