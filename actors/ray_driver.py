"""This process as a driver of Ray: the calls that the namespace makes of it.

Ray decides where an object lives and that its name is registered once; it is never
asked to restart anything (`max_restarts=0`: the next event re-creates, as with Durable
Objects) and never carries a message. Its calls block for up to a minute, so each runs
in a thread with a deadline; a driver whose cluster is gone does not come back, so it
says so (`lost`) and is to be replaced.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import ray
from ray._private.state import state
from ray.exceptions import RayError

from actors.object_actor import ObjectActor
from cfmessenger.errors import Unavailable

RAY_NAMESPACE = "cfm"
CALL_TIMEOUT_S = 8.0
PING_EVERY_S = 1.0
# So many looks in a row without an answer in LOST_TIMEOUT_S: on a busy machine one that
# is late does not mean that Ray is lost, and `up` replaces a Ray that is. Ray itself
# would end this process after a minute.
LOST_AFTER = 3
LOST_TIMEOUT_S = 5.0
THREADS = 16

ALONE = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "enable_task_events": False,
}
"""What every actor is made with: it takes no place, and nothing of it is repeated."""

T = TypeVar("T")
Node = dict[str, Any]
"""What Ray knows of a node: `NodeID`, `Labels`, `Resources` and more."""


class Cluster(NamedTuple):
    """The living nodes, the names of the actors that there are, and on which node each
    is that has started."""

    nodes: list[Node]
    names: list[str]
    where: dict[str, str]


class Here(NamedTuple):
    """Where a driver is: its node's id, the socket of its raylet, and the id of the
    cluster, which outlives a head that keeps its state."""

    node: str
    raylet: str
    cluster: str


class _RayWords(io.TextIOBase):
    """Where Ray prints what it thinks of workers that ended: one record a line."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                logging.getLogger("ray").debug("%s", line.strip())
        return len(text)


class RayDriver:
    """Ray's calls as coroutines. Each raises `Unavailable` if Ray does not answer in
    time; what an actor answers, or `RayError`, is in the future of its call."""

    def __init__(self, actor_class: type[ObjectActor] = ObjectActor) -> None:
        self._class: Any = ray.remote(actor_class)
        self._threads = ThreadPoolExecutor(THREADS, "ray")

    @staticmethod
    def connect(
        address: str, node: str | None = None, folder: str | None = None
    ) -> None:
        """Become a driver, on the main thread, of the node with this address and this
        folder (None: of one on this machine that Ray finds; it prefers the head, on
        which no room is to live). Raises `Unavailable`."""
        try:
            ray.init(
                address=address,
                _node_ip_address=node,
                _temp_dir=folder,
                namespace=RAY_NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
            )
            # A sleeping object's process ends by itself, which Ray reports as a crash.
            sys.stdout = sys.stderr = _RayWords()
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise Unavailable(message=f"Ray cannot be reached: {error}") from error

    @staticmethod
    async def here() -> Here:
        """This process's place in the cluster. Raises `Unavailable`."""
        try:
            return await asyncio.to_thread(_here)
        except (RayError, StopIteration) as error:
            raise Unavailable(message="Ray does not answer in time.") from error

    async def lost(self) -> None:
        """Returns once Ray is gone for good."""
        failed = 0
        while failed < LOST_AFTER:
            await asyncio.sleep(PING_EVERY_S)
            try:
                # The control store may well answer while the only node hangs.
                alive = await self.nodes(LOST_TIMEOUT_S)
                failed = 0 if alive else failed + 1
            except Unavailable:
                failed += 1

    async def names(self, timeout_s: float = CALL_TIMEOUT_S) -> list[str]:
        return await self._run(_names, timeout_s)

    async def nodes(self, timeout_s: float = CALL_TIMEOUT_S) -> list[Node]:
        """The living ones."""
        return await self._run(_nodes, timeout_s)

    async def cluster(self) -> Cluster:
        return await self._run(lambda: Cluster(_nodes(), _names(), _where()))

    async def where(self) -> dict[str, str]:
        """On which node each named actor is that has started."""
        return await self._run(_where)

    async def draining(self) -> set[str]:
        """The nodes that Ray is about to end."""
        return await self._run(_draining)

    async def sockets(self) -> tuple[str, str]:
        """Where new workers of this node find the raylet, as a URL, and the object
        store; empty where that is no path."""
        return await self._run(_sockets)

    async def call(
        self, name: str, method: str, actor_id: str | None = None
    ) -> asyncio.Future[bytes] | None:
        """The call of a method; None without such an actor (of that id, if given)."""
        found = await self._run(lambda: _call(name, method, actor_id))
        return None if found is None else future(found)

    async def call_all(self, method: str, *args: Any) -> dict[str, asyncio.Future[Any]]:
        """The call of a method of every named actor, by name."""
        found = await self._run(
            lambda: {name: _call(name, method, None, *args) for name in _names()}
        )
        return {name: future(ref) for name, ref in found.items() if ref is not None}

    async def make(
        self, name: str, where: dict[str, Any], *arguments: Any
    ) -> asyncio.Future[bytes]:
        """Make the actor of a name unless there is one; its `address`."""

        def make() -> Any:
            actor = self._class.options(
                name=name,
                namespace=RAY_NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                **ALONE,
                **where,
            ).remote(*arguments)
            return actor.address.remote()

        return future(await self._run(make))

    async def make_nameless(self, *arguments: Any) -> Any:
        """An actor for no object: nobody finds it, and it leaves no key. Its handle."""
        return await self._run(lambda: self._class.options(**ALONE).remote(*arguments))

    async def end(self, name: str, actor_id: str | None = None) -> bool:
        """End an actor (of that id, if given). False: there is none."""
        return await self._run(lambda: _end(name, actor_id))

    async def end_nameless(self, actor: Any) -> None:
        await self._run(lambda: ray.kill(actor))

    async def _run(self, work: Callable[[], T], timeout_s: float = CALL_TIMEOUT_S) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._threads, work)
        except (TimeoutError, RayError) as error:
            raise Unavailable(message="Ray does not answer in time.") from error


def future(call: Any) -> asyncio.Future[Any]:
    """What an actor will have answered, for this loop."""
    return asyncio.wrap_future(call.future())


async def outcomes(calls: Iterable[asyncio.Future[Any]], timeout_s: float) -> None:
    """Until all have an outcome, or a while; an outcome may well be an error."""
    waiting = tuple(calls)
    if waiting:
        done, _ = await asyncio.wait(waiting, timeout=timeout_s)
        for each in done:
            each.exception()  # else asyncio would report that nobody looked


# Ray's own calls, each to be run in a thread.


def _names() -> list[str]:
    return [str(name) for name in ray.util.list_named_actors()]


def _nodes() -> list[Node]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [each for each in nodes if each["Alive"]]


def _where() -> dict[str, str]:
    names = set(_names())
    table = state.actor_table(None, actor_state_name="ALIVE").values()
    return {
        each["Name"]: each["Address"]["NodeID"]
        for each in table
        if each["Name"] in names
    }


def _draining() -> set[str]:
    return set(state.get_draining_nodes())


def _here() -> Here:
    node = _my_node()
    worker: Any = ray._private.worker.global_worker
    return Here(
        node["NodeID"],
        node["RayletSocketName"],
        worker.gcs_client.cluster_id.hex(),
    )


def _my_node() -> Node:
    mine = ray.get_runtime_context().get_node_id()
    return next(each for each in _nodes() if each["NodeID"] == mine)


def _sockets() -> tuple[str, str]:
    node = _my_node()
    raylet, store = node["RayletSocketName"], node["ObjectStoreSocketName"]
    return (f"unix:{raylet}", store) if raylet.startswith("/") else ("", "")


def _find(name: str, actor_id: str | None) -> Any:
    try:
        actor = ray.get_actor(name, RAY_NAMESPACE)
    except ValueError:
        return None
    return actor if actor_id in (None, actor._actor_id.hex()) else None


def _call(name: str, method: str, actor_id: str | None, *args: Any) -> Any:
    actor = _find(name, actor_id)
    return None if actor is None else getattr(actor, method).remote(*args)


def _end(name: str, actor_id: str | None) -> bool:
    actor = _find(name, actor_id)
    if actor is not None:
        ray.kill(actor)
    return actor is not None
