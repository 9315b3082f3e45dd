"""What an append costs on so many shards: CPU of the appender and of the servers.

The appender is what an actor process is to storage: a `Committer` over a `ValkeyLog`,
each room with one append in flight at a time.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from actors.committer import Committer
from actors.turn import Turn
from cfmessenger.storage.log import Commit, ValkeyLog
from tests.bench.meter import Meter
from tests.system.chaos.report import percentile
from tests.valkey_cluster import own_valkey_cluster

SECONDS = 4.0
EVENT = b'{"type":"chat","content":"' + b"x" * 300 + b'"}'


class Cost(NamedTuple):
    """Of one run. CPU in µs an append."""

    rate: float
    appender: float
    servers: float
    p50_ms: float

    @property
    def total(self) -> float:
        return self.appender + self.servers

    def row(self) -> str:
        return (
            f"{self.rate:10.0f}{self.total:24.1f}{self.appender:10.1f}"
            f"{self.servers:9.1f}{self.p50_ms:8.2f}"
        )


async def cost(shards: int, rooms: int, rate: float) -> Cost:
    """`rate`: appends a second of all rooms together; 0: as many as there can be."""
    with own_valkey_cluster(shards) as cluster:
        log = ValkeyLog(cluster.url, 1000)
        names = [f"room:cost-{n}" for n in range(rooms)]
        await asyncio.gather(*(log.activate(name) for name in names))
        pids = [node.process.pid for node in cluster.primaries if node.process]
        made = _Appender(log, names, rate)
        meter = Meter(pids)
        await made.run(1.0)  # until all is warm
        servers, ours, count = meter.cpu_s(), time.process_time(), made.count
        made.waits.clear()
        began = time.monotonic()
        await made.run(SECONDS)
        took = time.monotonic() - began
        count = made.count - count
        log.close()
        return Cost(
            count / took,
            (time.process_time() - ours) / count * 1e6,
            (meter.cpu_s() - servers) / count * 1e6,
            percentile(made.waits, 0.5) * 1000,
        )


class _Appender:
    def __init__(self, log: ValkeyLog, names: list[str], rate: float) -> None:
        self.count = 0
        self.waits: list[float] = []
        self._committer = Committer(log, Turn(asyncio.get_running_loop()))
        self._seqs = dict.fromkeys(names, 0)
        self._pause_s = len(names) / rate if rate else 0.0

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(self._room(name, n, end) for n, name in enumerate(self._seqs))
        )

    async def _room(self, name: str, n: int, end: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + self._pause_s * n / len(self._seqs)
        while time.monotonic() < end:
            if self._pause_s:
                await asyncio.sleep(max(0.0, at - loop.time()))
                at += self._pause_s
            done: asyncio.Future[Exception | None] = loop.create_future()
            self._seqs[name] += 1
            sent = time.monotonic()
            self._committer.add(
                Commit(name, 1, [(self._seqs[name], EVENT)]),
                lambda commit, problem, done=done: done.set_result(problem),  # type: ignore[misc]
            )
            assert await done is None
            self.waits.append(time.monotonic() - sent)
            self.count += 1
