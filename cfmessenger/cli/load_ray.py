"""Workers of a load test as tasks of a Ray cluster: `cfmessenger load --ray ADDRESS`.

The one place of the harness that imports Ray. A task speaks with its runner through two
queues (actors of Ray): a few small messages a second, which is what Ray's calls are
good for. Every node needs the package installed; latencies stay comparable, because
each worker times its own messages by its own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import ray
import uvloop
from ray.util.queue import Queue

from cfmessenger.load import desk
from cfmessenger.load.run import Failure, Worker
from cfmessenger.load.worker import work

END_S = 10.0
_GONE = b""


class _TaskChannel:
    """`worker.Channel` inside a task."""

    def __init__(self, orders: Queue, reports: Queue) -> None:
        self._orders = orders
        self._reports = reports

    async def send(self, message: desk.FromWorker) -> None:
        await self._reports.put_async(desk.encode(message))

    async def receive(self) -> desk.ToWorker:
        data = await self._orders.get_async()
        if data == _GONE:
            raise EOFError
        return desk.to_worker.decode(data)


def _task(orders: Queue, reports: Queue) -> None:
    async def main() -> None:
        with contextlib.suppress(EOFError):
            await work(_TaskChannel(orders, reports))

    uvloop.run(main())


class RayWorker:
    """`run.Worker` for a task."""

    def __init__(self) -> None:
        options = {"num_cpus": 0}
        self._orders = Queue(actor_options=options)
        self._reports = Queue(actor_options=options)
        remote: Any = ray.remote(num_cpus=1, max_retries=0)(_task)
        self.task: Any = remote.remote(self._orders, self._reports)

    async def send(self, message: desk.ToWorker) -> None:
        await self._orders.put_async(desk.encode(message))

    async def receive(self) -> desk.FromWorker:
        report = asyncio.ensure_future(self._reports.get_async())
        ended = asyncio.ensure_future(_outcome(self.task))
        done, waiting = await asyncio.wait(
            (report, ended), return_when=asyncio.FIRST_COMPLETED
        )
        for each in waiting:
            each.cancel()
        if report not in done:
            raise EOFError
        return desk.from_worker.decode(report.result())

    async def end(self) -> None:
        """Its orders end, and so does it; cancelled if not."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(END_S):
                await self._orders.put_async(_GONE)
                await _outcome(self.task)
                return
        ray.cancel(self.task, force=True)

    def forget(self) -> None:
        """The queues are actors, and would live on."""
        self._orders.shutdown(force=True)
        self._reports.shutdown(force=True)


async def _outcome(task: Any) -> None:
    with contextlib.suppress(Exception):
        await task


class RayLauncher:
    """`run.Launcher` for a Ray cluster (`auto`: the one of this machine)."""

    kind: Literal["local", "ray"] = "ray"

    def __init__(self, address: str) -> None:
        self._address = address

    @asynccontextmanager
    async def launch(self, count: int) -> AsyncIterator[Sequence[Worker]]:
        try:
            ray.init(
                self._address,
                namespace="cfmessenger-load",
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            text = str(error).splitlines()[0]
            raise Failure(f"no Ray at {self._address}: {text}") from None
        workers: list[RayWorker] = []
        try:
            workers += [RayWorker() for _ in range(count)]
            yield workers
        finally:
            await asyncio.gather(*(worker.end() for worker in workers))
            for worker in workers:
                worker.forget()
            ray.shutdown()
