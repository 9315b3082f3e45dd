"""`python -m tests.bench.presence`: what a crowd costs on presence sockets.

Real sockets on loopback to one gateway, which reaches a registry in a process of its
own; Valkey is embedded. All come within `--within` seconds, each watches `--watched`
others; then `--churn` percent of them leave and come back, or change their status, in a
minute. Printed: what a socket was sent until all were there (bytes of frames, headers
included), the CPU time of registry and gateway, and their memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from actors.host import Host
from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.asgi import build
from cfmessenger.errors import Unavailable
from cfmessenger.ids import PRESENCE
from cfmessenger.link.namespace import Address
from tests.gateway.edge import serving, settings_for
from tests.gateway.node import masked, own_valkey, upgrade

CALM_S = 4.0
"""Nothing is sent any more, so long after the last has come."""


def users(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"user_{n}",
            "email": f"user_{n}@bench.example",
            "displayName": f"Somebody {n}",
            "avatarId": "star",
            "personalMessage": "listening to music",
        }
        for n in range(count)
    ]


# The registry's process.


async def registry(valkey_url: str) -> None:
    settings = HostSettings.of(settings_for(valkey_url))
    host = Host(settings)
    await host.start()
    say(msgspec.to_builtins(host.address("1")))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await host.close()


class Apart(LocalNamespace):
    """A namespace whose registry is elsewhere."""

    def __init__(self, settings: HostSettings, far: Address) -> None:
        super().__init__(settings)
        self._far = far

    async def resolve(self, name: str, *how: Any, **more: Any) -> Address:
        if name == PRESENCE:
            return self._far
        return await super().resolve(name, *how, **more)


# The clients' process.


class Client(asyncio.Protocol):
    """One presence socket: counts what it is sent."""

    def __init__(self, token: str, watch: bytes) -> None:
        self.got = 0
        self._hello = upgrade("/api/ws/presence", token)
        self._watch = watch
        self._head = b""
        self._open = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        if self._open:
            self.got += len(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            assert head.startswith(b"HTTP/1.1 101"), head
            self._open, self.got = True, len(rest)
            if self._watch:
                self.transport.write(self._watch)

    def say(self, frame: dict[str, Any]) -> None:
        self.transport.write(masked(1, json.dumps(frame).encode()))


async def clients(port: int, within_s: float, watched: int, churn: float) -> None:
    loop = asyncio.get_running_loop()
    tokens: list[str] = json.loads(await line())
    count = len(tokens)

    async def come(n: int) -> Client:
        near = [f"user_{(n + k) % count}" for k in range(1, watched + 1)]
        frame = json.dumps({"type": "watch", "userIds": near}).encode()
        watch = masked(1, frame) if near else b""
        client = Client(tokens[n], watch)
        await loop.create_connection(lambda: client, "127.0.0.1", port)
        return client

    began, there = loop.time(), list[Client]()
    coming = set[asyncio.Task[None]]()
    for n in range(count):
        await asyncio.sleep(began + within_s * n / count - loop.time())
        there.append(await come(n))
    took = loop.time() - began
    await asyncio.sleep(CALM_S)
    say({"took": took, "bytes": [each.got for each in there]})
    await line()
    before = sum(each.got for each in there)
    changes, left = int(count * churn / 100), 0
    began = loop.time()

    async def back(n: int) -> None:
        await asyncio.sleep(1.0)
        there[n] = await come(n)

    turns = itertools.cycle(("busy", "away", "online"))
    for k in range(changes):
        await asyncio.sleep(began + 60.0 * k / changes - loop.time())
        n = (k * 7919) % count
        if k % 2:
            there[n].say({"type": "presence_update", "status": next(turns)})
        else:
            left += there[n].got
            there[n].transport.close()
            coming.add(asyncio.create_task(back(n)))
    await asyncio.sleep(max(0.0, began + 60.0 - loop.time()))
    say({"bytes": sum(each.got for each in there) + left - before})
    await line()


async def line() -> str:
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# The whole.


async def signed_in(sessions: Sessions, count: int) -> list[str]:
    """A token of each, fifty at a time; a busy disk is asked again."""

    async def one(n: int) -> str:
        while True:
            with contextlib.suppress(Unavailable):
                return (await sessions.create(f"user_{n}", "uk"))[0]

    tokens: list[str] = []
    for start in range(0, count, 50):
        some = range(start, min(start + 50, count))
        tokens += await asyncio.gather(*map(one, some))
    return tokens


class Child:
    """This program in another part."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.of = psutil.Process(process.pid)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, *arguments: str) -> AsyncIterator[Child]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.presence", *arguments),
            stdin=pipe,
            stdout=pipe,
            limit=2**26,
        )
        try:
            yield cls(process)
        finally:
            process.terminate()
            await process.wait()

    def tell(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    async def said(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    def cpu_s(self) -> float:
        times = self.of.cpu_times()
        return float(times.user + times.system)


async def measure(count: int, watched: int, within_s: float, churn: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="cfm-presence-") as folder,
        own_valkey() as v,
    ):
        people = Path(folder, "users.json")
        await asyncio.to_thread(people.write_text, json.dumps(users(count)))
        await v.answers()
        async with Child.start("--registry", v.url) as far:
            address = msgspec.convert(await far.said(), Address)
            unlimited = {"write_rate": "0", "new_room_rate": "0", "login_rate": "0"}
            settings = settings_for(
                v.url, users=str(people), data_dir=folder, **unlimited
            )
            namespace = Apart(HostSettings.of(settings), address)
            async with serving(build(settings, namespace), settings) as gateway:
                tokens = await signed_in(gateway.services.sessions, count)
                parts = ("--clients", str(gateway.port), "--within", str(within_s))
                more = ("--watched", str(watched), "--churn", str(churn))
                async with Child.start(*parts, *more) as crowd:
                    await tell(
                        crowd, far, tokens, f"{count} sockets, {watched} watched"
                    )
            await namespace.close()


async def tell(crowd: Child, far: Child, tokens: list[str], row: str) -> None:
    here = psutil.Process()
    cpu, ours = far.cpu_s(), time.process_time()
    crowd.tell(tokens)
    arrived = await crowd.said()
    sizes = arrived["bytes"]
    first, rest = sizes[:600], sizes[600:] or [0]
    out(f"{row}: all there after {arrived['took']:.1f} s")
    out(
        f"  bytes a socket: mean {statistics.mean(sizes):,.0f}, "
        f"the first 600 {statistics.mean(first):,.0f} (most {max(first):,}), "
        f"the others {statistics.mean(rest):,.0f} (most {max(rest):,})"
    )
    spent, here_s = far.cpu_s() - cpu, time.process_time() - ours
    out(f"  CPU of their coming: registry {spent:.2f} s, gateway {here_s:.2f} s")
    far_mib, mib = (each.memory_info().rss / 2**20 for each in (far.of, here))
    out(f"  memory: registry {far_mib:.0f} MiB, gateway {mib:.0f} MiB")
    cpu, ours = far.cpu_s(), time.process_time()
    crowd.tell("on")
    each = (await crowd.said())["bytes"] / len(sizes)
    spent, here_s = far.cpu_s() - cpu, time.process_time() - ours
    out(f"  a minute of churn: {each:,.1f} bytes a socket;")
    out(f"    CPU registry {spent:.2f} s, gateway {here_s:.2f} s")


def out(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[4000, 10_000])
    parser.add_argument("--watched", type=int, nargs="+", default=[0, 50])
    parser.add_argument("--within", type=float, default=10.0)
    parser.add_argument("--churn", type=float, default=1.0, help="percent a minute")
    parser.add_argument("--registry", help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)
    told = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if told.registry:
        asyncio.run(registry(told.registry))
    elif told.clients:
        asyncio.run(clients(told.clients, told.within, told.watched[0], told.churn))
    else:
        for count in told.people:
            for watched in told.watched:
                asyncio.run(measure(count, watched, told.within, told.churn))


if __name__ == "__main__":
    main()
