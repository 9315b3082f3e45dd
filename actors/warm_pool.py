"""Warm workers: idle Ray workers of this node, ready for the next actor.

Ray gives a new actor an idle worker if one was never leased, and never replaces it, so
without this every room but the first few would wait for Python to start. This keeps
some, through the raylet's internal PrestartWorkers call: the one file that uses Ray's
insides. The call is Ray's own generated code with the token in its metadata; it names
no job (any job may take the workers, also the next namespace server's) and an empty
runtime environment (actors of ours have none, and the hash must be equal).

It is an accelerator and no more. A Ray it was not written for, a missing grpcio, a
raylet that does not answer: one line in the log, cold starts, another try later, and
never an exception into whoever makes actors. Each node with a namespace server keeps
its own; a node without one starts cold.

2 cores, 12 rooms one by one, p50/max: pool of 2 full 29/44 ms, none 523/726, exhausted
537/634; two are back 0.6-1.5 s after the last creation; 44 MiB (PSS) an idle worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray

logger = logging.getLogger("cfmessenger.warm_pool")

RAY_VERSIONS = ("2.60",)
"""Whose call is known to do what is said above."""

RPC_TIMEOUT_S = 2.0
LOOK_EVERY_S = 2.0
AFTER_CREATION_S = 0.1  # the room that has just taken a worker goes first
AFTER_ASKING_S = 0.5  # a worker registers by then, on a calm machine
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0

# Ray ends idle workers above its node's logical CPUs after a second; not these, which
# is what lets the pool live on a cluster that somebody else has set up.
KEEP_ALIVE_S = 1800

# Workers that die as they start, or that others take, are not started for ever: a
# burst of this many times the pool, and then one per creation and in so many seconds.
BURST = 3
SPARE_EVERY_S = 30.0


class WarmPool:
    """Keeps `wanted` idle workers on this driver's node, once it runs."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._creating = 0  # actors being made now
        self._allowance = float(BURST * wanted)  # workers that may still be asked for
        self._counted_at = time.monotonic()  # when the allowance last grew
        self._news = asyncio.Event()  # from a creation until the next look
        self._full = asyncio.Event()  # none was missing, and nobody made an actor since
        self._raylet: _Raylet | None = None  # from the first look until an error
        self._thread = ThreadPoolExecutor(1, "warm-pool")

    @contextlib.contextmanager
    def creation(self) -> Iterator[None]:
        """Around the making of an actor, which takes a worker."""
        self._creating += 1
        try:
            yield
        finally:
            self._creating -= 1
            self._allowance += 1
            self._full.clear()
            self._news.set()

    async def full(self, timeout_s: float) -> None:
        """Until all are there, or so long: their start takes the machine meanwhile."""
        if self._wanted:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._full.wait()

    async def run(self) -> None:
        """Keep them. Needs a driver; raises nothing but its own cancellation."""
        if not self._wanted:
            return
        if reason := _unfit():
            logger.warning("no warm workers: %s", reason)
            self._full.set()  # there is nothing to wait for
            return
        retry, told = FIRST_RETRY_S, ""
        while True:
            try:
                await self._pause(await self._ask())
                retry, told = FIRST_RETRY_S, ""
            except Exception as error:  # whatever Ray's insides may come up with
                self._raylet = None
                reason = _line(error)
                if reason != told:
                    logger.warning("no warm workers for now: %s", reason)
                await asyncio.sleep(retry)
                retry, told = min(2 * retry, LAST_RETRY_S), reason

    async def _ask(self) -> int:
        """Ask for what is missing and may be had now; how many that was."""
        most = min(self._wanted, self._allowed())
        # An actor that is being made may need a new worker itself, and goes first.
        if not most or self._creating:
            return 0
        loop = asyncio.get_running_loop()
        missing, asked = await loop.run_in_executor(self._thread, self._top_up, most)
        self._allowance -= asked
        if missing <= 0 and not self._creating:
            self._full.set()
        return asked

    async def _pause(self, asked: int) -> None:
        if asked:
            logger.debug("asked for %d warm workers", asked)
            await asyncio.sleep(AFTER_ASKING_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._news.wait()
                await asyncio.sleep(AFTER_CREATION_S)
        self._news.clear()

    def _top_up(self, most: int) -> tuple[int, int]:
        """How many are not there yet, and for how many of them was asked now."""
        raylet = self._raylet = self._raylet or _Raylet()
        missing = self._wanted - raylet.idle()
        starting = raylet.starting() if missing > 0 else 0
        asked = max(0, min(missing - starting, most))
        if asked:
            raylet.prestart(asked)
        return missing, asked

    def _allowed(self) -> int:
        now = time.monotonic()
        self._allowance += (now - self._counted_at) / SPARE_EVERY_S
        self._allowance = min(self._allowance, BURST * self._wanted)
        self._counted_at = now
        return int(self._allowance)


class _Raylet:
    """This node's raylet, spoken to as Ray's own Python code does."""

    def __init__(self) -> None:
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import common_pb2, node_manager_pb2
        from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub

        if not ray.is_initialized():  # else the next line would start a Ray
            raise RuntimeError("this process is no driver")
        mine = ray.get_runtime_context().get_node_id()
        node = next(each for each in _nodes() if each["NodeID"] == mine)
        address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        channel = init_grpc_channel(address, [("grpc.enable_http_proxy", 0)])
        stub: Any = NodeManagerServiceStub
        self._stub = stub(channel)
        self._requests: Any = node_manager_pb2
        languages: Any = common_pb2
        self._python = languages.Language.PYTHON
        self._name = f"--raylet-name={node['RayletSocketName']}".encode()

    def idle(self) -> int:
        """Registered workers without an actor, by the title Ray gives a process."""
        request = self._requests.GetWorkerPIDsRequest()
        pids = self._stub.GetWorkerPIDs(request, timeout=RPC_TIMEOUT_S).pids
        return sum(_command(pid).startswith(b"ray::IDLE") for pid in pids)

    def starting(self) -> int:
        """Workers that have not registered yet, whoever asked for them."""
        pids = (name for name in os.listdir("/proc") if name.isdigit())
        # As an argument of its own: within one, it is in the raylet's command too.
        return sum(self._name in _command(pid).split(b"\0") for pid in pids)

    def prestart(self, count: int) -> None:
        request = self._requests.PrestartWorkersRequest(
            language=self._python,
            num_workers=count,
            keep_alive_duration_secs=KEEP_ALIVE_S,
        )
        request.runtime_env_info.serialized_runtime_env = "{}"
        self._stub.PrestartWorkers(request, timeout=RPC_TIMEOUT_S)


def _nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-any-return, no-untyped-call]


def _unfit() -> str:
    """Why this cannot work here, or nothing."""
    if ray.__version__.rpartition(".")[0] not in RAY_VERSIONS:
        return f"not known to work with Ray {ray.__version__}"
    if not Path("/proc/self/cmdline").exists():
        return "processes cannot be looked at without /proc"
    try:
        from ray._private import grpc_utils  # noqa: F401 - needs grpcio, we do not
    except ImportError as error:
        return _line(error)
    return ""


# Read here because psutil takes nearly three times as long, and a look may be at
# thousands of processes.
def _command(pid: int | str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _line(error: Exception) -> str:
    """A gRPC error prints as a paragraph; this is its point."""
    details = getattr(error, "details", None)
    text = details() if callable(details) else error
    return f"{type(error).__name__}: {text}".splitlines()[0]
