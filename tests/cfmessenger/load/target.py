"""Targets for load tests: live gateways, live actors, and a line that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.namespace_server import NamespaceServer
from cfmessenger.chat.crowd import USUAL, Crowd
from cfmessenger.load import desk
from cfmessenger.load.plan import Scenario, plan
from cfmessenger.load.result import Progress, Result
from cfmessenger.load.run import Launcher, Wishes, Worker, run
from cfmessenger.load.worker import work
from tests.gateway.edge import settings_for
from tests.gateway.node import Node, live

LIFTED = {"chat_rate": "0", "nudge_rate": "0", "login_rate": "0"}
SHORT: dict[str, Any] = {
    "duration_s": 0.8,
    "warmup_s": 0.1,
    "quiet_s": 1.0,
    "max_lag_ms": 60_000.0,
}
"""For a busy machine: whether the generator kept up is another test's question."""


@asynccontextmanager
async def gateway(
    valkey_url: str, crowd: Crowd = USUAL, **settings: str
) -> AsyncIterator[str]:
    """The address of a live gateway without limits."""
    async with live(valkey_url, 1, crowd=crowd, **LIFTED | settings) as node:
        yield address(node)


def address(node: Node) -> str:
    return f"http://127.0.0.1:{node.gateways[0].port}"


class Actors(NamedTuple):
    """Where a worker that plays a gateway begins."""

    namespace: str
    key: str


@asynccontextmanager
async def actors(
    valkey_url: str, crowd: Crowd = USUAL, **settings: str
) -> AsyncIterator[Actors]:
    """A namespace server in front of live actors, without a gateway."""
    chosen = settings_for(valkey_url, **LIFTED | settings)
    async with AsyncExitStack() as stack:
        hosts = replace(HostSettings.of(chosen), crowd=crowd)
        namespace = LocalNamespace(hosts)
        stack.push_async_callback(namespace.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cfm-load-"))
        found = Actors(f"unix:{Path(folder, 'namespace.sock')}", "opensesame")
        server = NamespaceServer(namespace, found.namespace, found.key)
        await server.start()
        stack.push_async_callback(server.close)
        yield found


class _Here:
    """A worker on the test's own loop: both ends of its channel."""

    def __init__(self) -> None:
        self._orders: asyncio.Queue[bytes] = asyncio.Queue()
        self._reports: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(work(_End(self._orders, self._reports)))

    async def send(self, message: desk.ToWorker) -> None:
        self._orders.put_nowait(desk.encode(message))

    async def receive(self) -> desk.FromWorker:
        return desk.from_worker.decode(await self._reports.get())

    async def end(self) -> None:
        self._orders.put_nowait(b"")
        with contextlib.suppress(EOFError):
            await self.task


class _End(NamedTuple):
    orders: asyncio.Queue[bytes]
    reports: asyncio.Queue[bytes]

    async def send(self, message: desk.FromWorker) -> None:
        self.reports.put_nowait(desk.encode(message))

    async def receive(self) -> desk.ToWorker:
        data = await self.orders.get()
        if not data:
            raise EOFError
        return desk.to_worker.decode(data)


class HereLauncher:
    """Workers without processes of their own, which take a second to start."""

    kind: Literal["local", "ray"] = "local"

    @asynccontextmanager
    async def launch(self, count: int) -> AsyncIterator[Sequence[Worker]]:
        workers = [_Here() for _ in range(count)]
        try:
            yield workers
        finally:
            for worker in workers:
                await worker.end()


async def load(
    scenario: Scenario,
    url: str,
    *,
    wishes: Wishes | None = None,
    launcher: Launcher | None = None,
    tell: Callable[[str], None] = lambda text: None,
    show: Callable[[Progress], None] = lambda progress: None,
    **flags: Any,
) -> Result:
    """A short load test, its workers on this loop unless a launcher is given."""
    made = plan(scenario, unique(), **SHORT | {"url": url} | flags)
    return await run(
        made, wishes or Wishes(), launcher or HereLauncher(), tell=tell, show=show
    )


_runs = itertools.count()


def unique() -> str:
    """A run that no other test's rooms or ids look like."""
    return f"t{os.getpid():x}{next(_runs)}"


class Command(NamedTuple):
    """What the command line said."""

    code: int
    out: str
    err: str


async def command(*arguments: str, **env: str) -> Command:
    """`cfmessenger load …` as a process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cfmessenger", "load", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | env,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Command(process.returncode, out.decode(), err.decode())


Sabotage = Callable[[list[bytes]], list[bytes]]
"""What becomes of a connection's messages: each call gets all of them so far that were
not passed on, and returns what is passed on now; it may keep the rest."""


class BadLine:
    """A proxy in front of a gateway that does something to one socket's messages."""

    def __init__(self, port: int, victim: int, sabotage: Sabotage) -> None:
        self._port = port
        self._victim = victim
        self._sabotage = sabotage
        self._sockets = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                up_writer.write(head)
                victim = False
                if b"/api/ws/room/" in head:
                    victim = self._sockets == self._victim
                    self._sockets += 1
                down = self._frames if victim else self._pipe
                await asyncio.gather(
                    self._pipe(reader, up_writer), down(up_reader, writer)
                )
        finally:
            up_writer.close()
            writer.close()

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        waiting: list[bytes] = []
        try:
            while True:
                head = await reader.readexactly(2)
                size = head[1]
                if size == 126:
                    head += await reader.readexactly(2)
                    size = int.from_bytes(head[2:], "big")
                frame = head + await reader.readexactly(size)
                if b'{"type":"chat"' in frame[:20]:
                    waiting.append(frame)
                    for each in (passed := self._sabotage(waiting)):
                        writer.write(each)
                    if passed:
                        waiting.clear()
                else:
                    writer.write(frame)
        except asyncio.IncompleteReadError:
            writer.close()
