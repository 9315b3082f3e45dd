"""A socket in front of a real Valkey that can stall, swallow, hold back and cut.

What a network does to a client, at the moment a test chooses. It understands nothing of
what passes, but counts: every read of a request is kept, and a client of ours writes a
batch at once.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests import patience

PATIENCE_S = 5.0


class Pipe:
    """One connection through the proxy."""

    def __init__(
        self, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self.client = client
        self.server = server
        self.requests = asyncio.Event()
        self.requests.set()
        self.sent: list[bytes] = []
        self.gone = asyncio.Event()  # the client has dropped it

    def cut(self) -> None:
        """The client loses it now; what is held back may still reach Valkey."""
        self.client.transport.abort()


class Proxy:
    """`url` leads to the Valkey behind, through here."""

    def __init__(self, url: str, path: Path) -> None:
        parts = urlsplit(url)
        self.url = parts._replace(path=str(path)).geturl()
        self.pipes: list[Pipe] = []
        self.refusing = False
        self.lose_replies = False
        self.kept = 0  # replies that came while stalled
        self._target = parts.path
        self._replies = asyncio.Event()
        self._replies.set()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def sent(self) -> list[bytes]:
        """Every request chunk of every connection, sign-in included."""
        return [chunk for pipe in self.pipes for chunk in pipe.sent]

    @property
    def appends(self) -> list[bytes]:
        """The request chunks that append to a log."""
        return [chunk for chunk in self.sent if b"MAXLEN\r\n$1\r\n~" in chunk]

    def stall(self) -> None:
        """From now on replies are kept back; requests go through."""
        self._replies.clear()
        self.kept = 0

    def flow(self) -> None:
        """Everything that was kept back moves on."""
        self._replies.set()
        for pipe in self.pipes:
            pipe.requests.set()

    def hold_requests(self) -> None:
        """What is sent on the connections there are does not reach Valkey."""
        for pipe in self.pipes:
            pipe.requests.clear()

    def cut(self) -> None:
        """All connections break at once."""
        for pipe in self.pipes:
            pipe.cut()

    async def until_sent(self, needle: bytes, times: int = 1) -> None:
        """Wait until this was sent on its way to Valkey."""
        await self._until(lambda: sum(c.count(needle) for c in self.sent) >= times)

    async def until_appends(self, count: int) -> None:
        """Wait until so many pipelines of appends were sent."""
        await self._until(lambda: len(self.appends) >= count)

    async def until_kept(self, count: int = 1) -> None:
        """Wait until Valkey has answered and the answer is kept back (`stall`)."""
        await self._until(lambda: self.kept >= count)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with patience.within(PATIENCE_S):
            while not done():
                self._news.clear()
                await self._news.wait()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            from_valkey, to_valkey = await asyncio.open_unix_connection(self._target)
        except OSError:  # it is dead
            writer.transport.abort()
            return
        pipe = Pipe(writer, to_valkey)
        self.pipes.append(pipe)
        for work in (self._up(reader, pipe), self._down(from_valkey, pipe)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _up(self, reader: asyncio.StreamReader, pipe: Pipe) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**20):
                pipe.sent.append(data)
                self._news.set()
                await pipe.requests.wait()
                pipe.server.write(data)
        pipe.gone.set()
        pipe.server.close()

    async def _down(self, reader: asyncio.StreamReader, pipe: Pipe) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**20):
                if not self._replies.is_set():
                    self.kept += 1
                    self._news.set()
                await self._replies.wait()
                if not self.lose_replies:
                    pipe.client.write(data)
        pipe.client.close()

    async def close(self) -> None:
        for pipe in self.pipes:
            pipe.client.transport.abort()
            pipe.server.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the Valkey at `url` (a Unix socket)."""
    with tempfile.TemporaryDirectory(prefix="cfm-proxy-") as folder:
        path = Path(folder, "valkey.sock")
        proxy = Proxy(url, path)
        listener = await asyncio.start_unix_server(proxy.serve, str(path))
        try:
            yield proxy
        finally:
            listener.close()
            await proxy.close()
