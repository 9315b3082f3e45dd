"""What a flood costs: `python -m tests.system.security.flood` prints a table.

Starts a `cfmessenger up` of its own, on loopback, and attacks it in turn with requests
that never end, upgrades that are never finished, clients that read nothing in a busy
room, and strangers who are refused as fast as they ask. Meanwhile a few people talk:
their delays, and the memory and CPU time of the gateway, are what is shown. Bounded in
count and in time (about 90 s); attackers and people share this machine with the server,
so delays show what changes and no more. An experiment, not a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from gateway.server.door import raise_file_limit
from tests.gateway.node import dial, upgrade
from tests.system.cluster.test_up import Messenger

SPARE_FILES = 500
EVERY_S = 0.05
LISTENERS = 5
DEAF = 20
HEAVY = 2000  # characters

UNFINISHED = b"GET /api/config HTTP/1.1\r\nHost: x\r\nX-Slow: "


class Row(NamedTuple):
    """One line of the table. Delays in ms, memory in MiB, CPU in % of a core."""

    what: str
    opened: int
    left: int
    rss: float
    cpu: float
    p50: float
    p99: float
    note: str = ""


HEADINGS = ("", "opened", "left", "RSS MiB", "CPU %", "p50 ms", "p99 ms", "")


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least `q` of all do not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, -(-int(q * 1000) * len(ordered) // 1000) - 1)]


def affordable(wanted: int, files: int) -> int:
    """How many connections a process with so many files can open."""
    return max(0, min(wanted, files - SPARE_FILES))


def table(rows: Sequence[Row]) -> str:
    """Right-aligned but for the first and the last column."""
    cells = [HEADINGS] + [
        (
            row.what,
            f"{row.opened:,}",
            f"{row.left:,}",
            f"{row.rss:.0f}",
            f"{row.cpu:.0f}",
            f"{row.p50:.1f}",
            f"{row.p99:.1f}",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[n]) for line in cells) for n in range(len(HEADINGS))]
    lines = []
    for line in cells:
        first, *middle, last = line
        parts = [first.ljust(widths[0])]
        parts += [
            cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)
        ]
        lines.append("  ".join([*parts, last]).rstrip())
    return "\n".join(lines)


class Crowd:
    """Connections of one kind."""

    def __init__(self) -> None:
        self.lines: list[socket.socket] = []
        self.note = ""

    async def open(self, count: int, port: int, sent: bytes) -> None:
        gate = asyncio.Semaphore(256)
        loop = asyncio.get_running_loop()

        async def one() -> None:
            async with gate:
                line = socket.socket()
                line.setblocking(False)
                try:
                    await loop.sock_connect(line, ("127.0.0.1", port))
                    await loop.sock_sendall(line, sent)
                    self.lines.append(line)
                except OSError:
                    line.close()

        await asyncio.gather(*(one() for _ in range(count)))

    def left(self, server: psutil.Process) -> int:
        """How many the server still has."""
        there = {
            each.raddr.port
            for each in server.net_connections(kind="tcp")
            if each.raddr and each.status == psutil.CONN_ESTABLISHED
        }
        return sum(line.getsockname()[1] in there for line in self.lines)

    def close(self) -> None:
        for line in self.lines:
            line.close()


class Scene:
    """The messenger under attack, and the people who go on talking in it."""

    def __init__(self, url: str, gateway: psutil.Process) -> None:
        self.url = url
        self.port = urlsplit(url).port or 80
        self.gateway = gateway
        self.people: list[ClientConnection] = []
        self.delays: list[float] = []
        self._tokens: dict[str, str] = {}
        self._readers: list[asyncio.Task[None]] = []

    def token(self, user_id: str) -> str:
        """A session of this user, the same each time."""
        if user_id not in self._tokens:
            body = json.dumps({"userId": user_id, "token": "any"}).encode()
            request = urllib.request.Request(
                f"{self.url}/api/auth/login", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                self._tokens[user_id] = json.loads(answer.read())["data"]["sessionId"]
        return self._tokens[user_id]

    async def enter(self, user_id: str, room: str) -> ClientConnection:
        token = await asyncio.to_thread(self.token, user_id)
        url = f"ws://127.0.0.1:{self.port}/api/ws/room/{room}"
        return await dial(url, additional_headers={"Authorization": f"Bearer {token}"})

    async def gather_people(self) -> None:
        for n in range(1 + LISTENERS):
            person = await self.enter(f"user_{n + 1}", "general")
            self.people.append(person)
            self._readers.append(asyncio.create_task(self._listen(person)))

    async def _listen(self, person: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for raw in person:
                frame = json.loads(raw)
                if frame["type"] == "chat":
                    said = float(frame["content"])
                    self.delays.append((time.perf_counter() - said) * 1000)

    async def talk(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            content = str(time.perf_counter())
            await self.people[0].send(json.dumps({"type": "chat", "content": content}))
            await asyncio.sleep(EVERY_S)
        await asyncio.sleep(0.5)

    async def measure(
        self, what: str, seconds: float, attack: AbstractAsyncContextManager[Crowd]
    ) -> Row:
        """People talk for so long while the attack goes on."""
        self.delays.clear()
        highest = 0.0
        used, began = self._cpu(), time.perf_counter()
        talking = asyncio.create_task(self.talk(seconds))
        async with attack as crowd:
            while not talking.done():
                rss = self.gateway.memory_info().rss / 2**20
                highest = max(highest, rss)
                await asyncio.wait([talking], timeout=0.2)
            cpu = 100 * (self._cpu() - used) / (time.perf_counter() - began)
            return Row(
                what,
                len(crowd.lines),
                crowd.left(self.gateway),
                highest,
                cpu,
                quantile(self.delays, 0.5),
                quantile(self.delays, 0.99),
                crowd.note,
            )

    def _cpu(self) -> float:
        times = self.gateway.cpu_times()
        return times.user + times.system

    async def aclose(self) -> None:
        for person in self.people:
            await person.close()
        await asyncio.gather(*self._readers)


@asynccontextmanager
async def nothing() -> AsyncIterator[Crowd]:
    yield Crowd()


@asynccontextmanager
async def slow(scene: Scene, count: int) -> AsyncIterator[Crowd]:
    """Requests that go on for ever: a byte a second on a tenth of them."""
    crowd = Crowd()
    opening = asyncio.create_task(crowd.open(count, scene.port, UNFINISHED))

    async def drip() -> None:
        while True:
            await asyncio.sleep(1)
            for line in crowd.lines[::10]:
                with contextlib.suppress(OSError):
                    line.send(b"x")

    dripping = asyncio.create_task(drip())
    began = time.perf_counter()

    def done(_: object) -> None:
        took = time.perf_counter() - began
        crowd.note = f"of {count:,}, opened in {took:.1f} s"

    opening.add_done_callback(done)
    try:
        yield crowd
    finally:
        dripping.cancel()
        await opening
        crowd.close()


@asynccontextmanager
async def half_open(scene: Scene, count: int) -> AsyncIterator[Crowd]:
    """Upgrades whose last line never comes."""
    crowd = Crowd()
    token = await asyncio.to_thread(scene.token, "user_9")
    sent = upgrade("/api/ws/room/general", token)[:-2]
    opening = asyncio.create_task(crowd.open(count, scene.port, sent))
    try:
        yield crowd
    finally:
        await opening
        crowd.close()


@asynccontextmanager
async def deaf(scene: Scene, count: int) -> AsyncIterator[Crowd]:
    """Clients that read nothing, in the people's room and in one that is very busy.

    Those in the busy one are closed with 1013 once the kernel's buffer (4 MiB) and our
    1 MiB are full, and their connections cut 10 s later: until then they are `left`.
    """
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    for n in range(count):
        token = await asyncio.to_thread(scene.token, f"user_{7 + n % 10}")
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", scene.port))
        room = ("general", "music")[n % 2]
        await loop.sock_sendall(line, upgrade(f"/api/ws/room/{room}", token))
        crowd.lines.append(line)
    talker = await scene.enter("user_17", "music")

    async def listen() -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in talker:
                pass

    async def shout() -> None:
        message, said = json.dumps({"type": "chat", "content": "x" * HEAVY}), 0
        while True:
            await talker.send(message)
            said += 1
            crowd.note = f"half of them sent {said * HEAVY / 2**20:.1f} MiB each"
            await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(listen()), asyncio.create_task(shout())]
    try:
        yield crowd
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await talker.close()
        crowd.close()


@asynccontextmanager
async def strangers(scene: Scene, count: int) -> AsyncIterator[Crowd]:
    """Without a session, as fast as they are refused."""
    crowd, refused = Crowd(), 0
    request = b"GET /api/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    request += b"A" * 43 + b"\r\n\r\n"
    began = time.perf_counter()

    async def ask() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                refused += 1
                took = time.perf_counter() - began
                crowd.note = f"{refused / took:,.0f} refusals a second"

    tasks = [asyncio.create_task(ask()) for _ in range(count)]
    try:
        yield crowd
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(scene: Scene, requests: int, upgrades: int) -> list[Row]:
    await scene.gather_people()
    await scene.talk(2)  # everything is warm
    phases: list[tuple[str, float, Callable[[], AbstractAsyncContextManager[Crowd]]]]
    phases = [
        ("before", 6, nothing),
        ("requests that never end", 16, lambda: slow(scene, requests)),
        ("  after them", 4, nothing),
        ("upgrades left half open", 13, lambda: half_open(scene, upgrades)),
        ("clients that read nothing", 14, lambda: deaf(scene, DEAF)),
        ("strangers", 5, lambda: strangers(scene, 8)),
        ("after", 6, nothing),
    ]
    rows = []
    for what, seconds, attack in phases:
        rows.append(await scene.measure(what, seconds, attack()))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)  # noqa: T201
    await scene.aclose()
    return rows


def main() -> None:
    """Start, attack, print, stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--upgrades", type=int, default=1_000)
    wanted = parser.parse_args()
    raise_file_limit()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    requests = affordable(wanted.requests, files)
    with tempfile.TemporaryDirectory(prefix="cfm-flood-") as folder:
        data = Path(folder, "data")
        up = Messenger(
            data, CFM_CHAT_RATE="0", CFM_LOGIN_RATE="0", CFM_NEW_ROOM_RATE="0"
        )
        try:
            up.wait_ready()
            pid = up.child("cfmessenger gateway").pid
            scene = Scene(up.url, psutil.Process(pid))
            rows = asyncio.run(run(scene, requests, wanted.upgrades))
        finally:
            up.family()
            up.popen.terminate()
            up.popen.wait(20)
            for row in up.seen:
                process.send(row, 9)
            RuntimeFolder(data).remove()
    print(f"{files:,} files a process\n\n{table(rows)}")  # noqa: T201


if __name__ == "__main__":
    main()
