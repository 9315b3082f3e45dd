"""Workers as processes of this machine, spoken to through their pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from cfmessenger.link.framing import read_frame

from . import desk
from .run import Worker

END_S = 5.0


class LocalWorker:
    """One of them; see `run.Worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    async def send(self, message: desk.ToWorker) -> None:
        """Returns when the pipe has room again; a worker that is gone is found out
        when it is listened to."""
        with contextlib.suppress(ConnectionError):
            self._stdin.write(desk.frame(message))
            await self._stdin.drain()

    async def receive(self) -> desk.FromWorker:
        return desk.from_worker.decode(await read_frame(self._stdout, desk.MAX_FRAME))

    async def end(self) -> None:
        """Its input ends, and so does it; killed if not."""
        self._stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class LocalLauncher:
    """`run.Launcher` for this machine."""

    kind: Literal["local", "ray"] = "local"

    @asynccontextmanager
    async def launch(self, count: int) -> AsyncIterator[Sequence[Worker]]:
        workers: list[LocalWorker] = []
        try:
            for _ in range(count):
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "cfmessenger.load.worker"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=desk.MAX_FRAME,
                    # Ctrl-C is ours: a worker ends when its input does.
                    process_group=0,
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},
                )
                workers.append(LocalWorker(process))
            yield workers
        finally:
            await asyncio.gather(*(worker.end() for worker in workers))
