"""Workers of a load test as tasks of a Ray cluster: `cfmessenger load --ray ADDRESS`,
or `--cluster URL`.

The one place of the harness that imports Ray. A task speaks with its runner through two
queues (actors of Ray): a few small messages a second, which is what Ray's calls are
good for. Workers go to one node after another, and need none of what Ray counts: how
many rooms a node has room for is not theirs to take. Every node needs the package
installed; latencies stay comparable, because each worker times its own messages by its
own clock.
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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cfmessenger.load import desk
from cfmessenger.load.run import Failure, Worker
from cfmessenger.load.worker import work

END_S = 10.0
HEAD = "node:__internal_head__"
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
    """`run.Worker` for a task on this node; its queues are on ours."""

    def __init__(self, node: str) -> None:
        here = _on(ray.get_runtime_context().get_node_id())
        self._orders = Queue(actor_options=here)
        self._reports = Queue(actor_options=here)
        remote: Any = ray.remote(max_retries=0, **_on(node))(_task)
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


def _on(node: str) -> dict[str, Any]:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy}


def _nodes() -> list[str]:
    """Where workers may be: the head has other things to do, if there are others."""
    alive = [each for each in ray.nodes() if each["Alive"]]  # type: ignore[no-untyped-call]
    heads = [each["NodeID"] for each in alive if HEAD in each["Resources"]]
    others = sorted({each["NodeID"] for each in alive} - set(heads))
    return others or heads


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
            nodes = _nodes()
            workers += [RayWorker(nodes[n % len(nodes)]) for n in range(count)]
            yield workers
        finally:
            await asyncio.gather(*(worker.end() for worker in workers))
            for worker in workers:
                worker.forget()
            ray.shutdown()
