"""Ray as the namespace: named, detached actors, one per object.

This file and `warm_pool` are the only ones that import ray. Ray decides where an object
lives and that its name is registered once; it is never asked to restart anything
(`max_restarts=0`: the next event re-creates, as with Durable Objects), never carries a
message, and is never trusted for mutual exclusion (the epoch is). Ray's calls block for
up to a minute, so each runs in a thread with a deadline; a driver whose cluster is gone
does not come back, so it says so (`lost`) and is to be replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors.following import Following, Seed
from actors.host import Host
from actors.host_settings import HostSettings
from actors.location import LABEL, Location, Nowhere
from actors.upkeep import Upkeep
from actors.wake_proof import WakeProof, greet
from actors.warm_pool import WarmPool
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.ids import is_room
from cfmessenger.link.namespace import Address, Described, open_stream
from cfmessenger.log_format import configure
from cfmessenger.memory import settled
from cfmessenger.placement import Mode, Placement, is_pool
from cfmessenger.settings import ROOM_BYTES
from cfmessenger.storage.generation import Generation
from cfmessenger.storage.log import ValkeyLog

logger = logging.getLogger("cfmessenger.namespace")

RAY_NAMESPACE = "cfm"
DESCRIBE_TIMEOUT_S = 1.0
RESOLVE_DEADLINE_S = 8.0
ATTEMPT_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 2.0
PING_EVERY_S = 1.0
# So many looks in a row without an answer in LOST_TIMEOUT_S: on a busy machine one that
# is late does not mean that Ray is lost, and `up` replaces a Ray that is. Ray itself
# would end this process after a minute.
LOST_AFTER = 3
LOST_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 1.0
KILL_EVERY_S = 10.0
FILL_S = 3.0
THREADS = 16
MAX_POOL = 1000

ROOMS_PER_CORE = 101
"""Dedicated rooms: beyond some 200 on two cores the next starts too slowly."""

T = TypeVar("T")


class ObjectActor:
    """The Ray actor around a host. Its methods are control calls, never messages.

    Undecorated, so that it can be made without Ray; `RayNamespace` wraps it.
    """

    def __init__(self, settings: bytes, log_level: str) -> None:
        configure(log_level, "json")
        self._settings = msgspec.msgpack.decode(settings, type=HostSettings)
        self._placement = _placement_of(self._settings.actor or "")
        # All three from the first `address` on, on Ray's loop for this actor.
        self._host: Host | None = None
        self._starting: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, number: int, frame: object) -> None:
        """SIGTERM: mirror, goodbye, exit. Before the exit, never in atexit."""
        if self._loop is None or self._host is None:
            os._exit(0)
        asyncio.run_coroutine_threadsafe(self._host.drain(), self._loop)

    async def address(self) -> bytes:
        """Where to link to, as msgpack of an `Address`; empty when it is leaving.

        Starts the host the first time.
        """
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._host is None:
                self._loop = asyncio.get_running_loop()
                # Loopback where Ray is on loopback (`up`), else what gateways of
                # other nodes can reach.
                listen = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
                settings = msgspec.structs.replace(self._settings, listen=listen)
                host = Host(settings, self._ended)
                try:
                    await host.start()
                except BaseException:
                    await host.close()
                    raise
                self._host = host
                settled()
        if self._host.leaving:
            return b""
        actor_id = ray.get_runtime_context().get_actor_id() or ""
        return msgspec.msgpack.encode(self._host.address(actor_id))

    async def prove(self) -> bytes:
        """As `address`, once storage is seen to take what is written from here."""
        log = ValkeyLog(self._settings.valkey_url, 0)
        try:
            await log.writable()
        finally:
            log.close()
        return await self.address()

    async def describe(self) -> bytes:
        """What lives here now, as msgpack of a list of `Described`."""
        found = self._host.describe(self._placement) if self._host else []
        return msgspec.msgpack.encode(found)

    async def place(self, placement: bytes) -> None:
        """Follow a new generation at once; it would be noticed half a second later."""
        if self._host is not None:
            self._host.place(msgspec.msgpack.decode(placement, type=Placement))

    async def drain(self) -> int:
        """Put what lives here to sleep; the process then ends by itself."""
        return await self._host.drain() if self._host else 0

    @staticmethod
    def _ended(reason: str) -> None:
        # Not sys.exit: a Ray worker may hang in it, and everything is written already.
        os._exit(0)


class _Elsewhere(Unavailable):
    """The room does not live in an actor of its own any more."""


class _RayWords(io.TextIOBase):
    """Where Ray prints what it thinks of workers that ended: one record a line."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                logging.getLogger("ray").debug("%s", line.strip())
        return len(text)


class RayNamespace:
    """`Namespace` over a Ray cluster that this process is a driver of.

    `max_rooms` None: as many as the nodes' memory allows; they limit dedicated rooms.
    `location` is the hint for objects that nobody gives one; None: hints mean nothing.
    `seed`: what the generation is made of where there is none; None: dedicated rooms.
    `front` is where gateways reach the server before it; empty: there is none.
    """

    def __init__(
        self,
        settings: HostSettings,
        log_level: str,
        *,
        warm_workers: int = 0,
        max_rooms: int | None = None,
        location: str | None = None,
        strict: bool = False,
        seed: Seed | None = None,
        front: str = "",
    ) -> None:
        self._settings = settings
        self._log_level = log_level
        self._threads = ThreadPoolExecutor(THREADS, "ray")
        self._class: Any = ray.remote(ObjectActor)
        self._warm = WarmPool(warm_workers)
        self._max_rooms = max_rooms
        self._making: set[str] = set()  # actors that are being made from here
        # Actor → loop time: killed in the last KILL_EVERY_S, or being looked at.
        self._killed: dict[str, float] = {}
        self._pings = Flights[list[str]]()  # while one is under way
        self._location: Location | None = None
        self._seed = seed or Seed()
        clock = Clock()
        self._generation = Generation(ValkeyLog(settings.valkey_url, 0, clock))
        self._upkeep = Upkeep(self, self._generation, clock)
        self._following = Following(self._generation, self._seed, self._upkeep.news.set)
        self._flights = Flights[Address]()  # `_resolve`, by actor
        self._front = front
        self._looked = False  # true once the first look has waited for warm workers
        self._proof = WakeProof(self._look, self._wake)
        if location is not None:
            log = ValkeyLog(settings.valkey_url, settings.log_length)
            self._location = Location(log, location, strict)

    @staticmethod
    def connect(address: str) -> None:
        """Become a driver. Raises `Unavailable`."""
        try:
            ray.init(
                address=address,
                namespace=RAY_NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
            )
            # A sleeping object's process ends by itself, which Ray reports as a crash.
            sys.stdout = sys.stderr = _RayWords()
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise Unavailable(message=f"Ray cannot be reached: {error}") from error

    async def lost(self) -> None:
        """Returns once Ray is gone for good; until then keeps the workers warm and
        follows the generation."""
        working = [
            asyncio.create_task(each)
            for each in (self._warm.run(), self._following.run(), self._upkeep.run())
        ]
        failed = 0
        try:
            while failed < LOST_AFTER:
                await asyncio.sleep(PING_EVERY_S)
                try:
                    # The control store may well answer while the only node hangs.
                    alive = await self._run(self._nodes, LOST_TIMEOUT_S)
                    failed = 0 if alive else failed + 1
                except Unavailable:
                    failed += 1
        finally:
            for each in working:
                each.cancel()

    async def placement(self) -> Placement:
        return await self._following.placement()

    async def place(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation and tell every actor at once."""
        if not 1 <= size <= MAX_POOL:
            raise Unavailable("VALIDATION_ERROR", f"size: 1 to {MAX_POOL}.")
        return await self._tell(self._generation.change(mode, size, self._seed.public))

    async def pin(self, name: str) -> Placement:
        return await self._tell(self._generation.pin(_room(name)))

    async def unpin(self, name: str) -> Placement:
        return await self._tell(self._generation.unpin(_room(name)))

    async def _tell(self, change: Awaitable[Placement]) -> Placement:
        made = await self._following.change(change)
        with contextlib.suppress(Unavailable):  # who is not told will look
            calls = await self._call_all("place", msgspec.msgpack.encode(made))
            await _wait(calls.values(), DESCRIBE_TIMEOUT_S)
        return made

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False
    ) -> Address:
        """Get or create by name; one flight an actor, however many live there."""
        placement = await (self._following.newest() if moved else self.placement())
        try:
            return await self._reach(placement.actor_of(name), hint)
        except _Elsewhere:
            placement = await self._following.newest()
            return await self._reach(placement.actor_of(name), hint)

    async def _reach(self, actor: str, hint: str | None = None) -> Address:
        at = await self._flights.join(actor, lambda: self._resolve(actor, hint))
        known = self._following.known or Placement()
        return msgspec.structs.replace(at, generation=known.number)

    async def start(self, actor: str) -> None:
        """Have this actor before anybody asks for it. Raises `Unavailable`."""
        await self._reach(actor)

    async def actors(self) -> set[str]:
        """The names that Ray knows. Raises `Unavailable`."""
        return set(await self._run(self._names))

    async def _resolve(self, name: str, hint: str | None) -> Address:
        """Tries again for `RESOLVE_DEADLINE_S`: for a moment a name may mean an actor
        that is dead."""
        loop = asyncio.get_running_loop()
        end = loop.time() + RESOLVE_DEADLINE_S
        pause = 0.01
        while True:
            try:
                until = min(loop.time() + ATTEMPT_TIMEOUT_S, end)
                async with asyncio.timeout_at(until):
                    raw = await self._find_or_make(name, hint)
                if raw:
                    return msgspec.msgpack.decode(raw, type=Address)
            except (RayActorError, ValueError) as error:
                logger.info("%s: %s", name, type(error).__name__)
            except TimeoutError:
                logger.info("%s: no answer", name)
                await self._give_up_nowhere(name, hint)
            except RayError as error:
                self._proof.failed()
                raise Unavailable(message=f"{name} does not start.") from error
            if loop.time() + pause > end:
                self._proof.failed()
                raise Unavailable(message=f"{name} does not start.")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.2)

    async def _find_or_make(self, name: str, hint: str | None) -> bytes:
        found = await self._run(lambda: self._call(name, "address"))
        if found is not None:
            return await _answer(found)
        nodes, names = await self._run(lambda: (self._nodes(), self._names()))
        self._check_capacity(name, nodes, names)
        if is_room(name) and (await self._following.newest()).actor_of(name) != name:
            raise _Elsewhere  # it gave its actor back, which is not to be made again
        self._making.add(name)
        try:
            where = await self._where(name, hint, nodes)
            with self._warm.creation():
                made = await self._run(lambda: self._make(name, where))
                answer = await _answer(made)
                self._proof.woke()
                return answer
        finally:
            self._making.discard(name)

    def _make_nameless(self) -> Any:
        """An actor for no object: nobody finds it, and it leaves no key."""
        settings = self._settings.for_actor("", self._following.known or Placement())
        return self._class.options(
            num_cpus=0, max_restarts=0, max_task_retries=0, enable_task_events=False
        ).remote(msgspec.msgpack.encode(settings), self._log_level)

    def _make(self, name: str, where: dict[str, Any]) -> Any:
        settings = self._settings.for_actor(name, self._following.known or Placement())
        actor = self._class.options(
            name=name,
            namespace=RAY_NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
            **where,
        ).remote(msgspec.msgpack.encode(settings), self._log_level)
        return actor.address.remote()

    def _check_capacity(
        self, name: str, nodes: list[dict[str, Any]], names: list[str]
    ) -> None:
        """Raises `Unavailable` AT_CAPACITY. Only rooms with actors of their own count,
        and only they are refused (design.md §4, Limits)."""
        known = self._following.known
        if not is_room(name) or (known and known.mode == "auto"):
            return
        limit = self._max_rooms
        if limit is None:
            memory = sum(each["Resources"].get("memory", 0.0) for each in nodes)
            cores = sum(each["Resources"].get("CPU", 0.0) for each in nodes)
            cores = max(int(cores), len(os.sched_getaffinity(0)))
            limit = max(1, min(int(memory / ROOM_BYTES), cores * ROOMS_PER_CORE))
        awake = sum(map(is_room, {*names, *self._making}))
        if awake >= limit:
            logger.warning("%s may not wake: %d rooms are awake", name, awake)
            raise Unavailable("AT_CAPACITY", "Too many rooms are awake right now.")

    async def _where(
        self, name: str, hint: str | None, nodes: list[dict[str, Any]]
    ) -> dict[str, Any]:
        if self._location is None:
            return {}
        regions = [each["Labels"].get(LABEL) for each in nodes]
        return await self._location.options(name, hint, regions)

    async def _give_up_nowhere(self, name: str, hint: str | None) -> None:
        """An actor that waits for a node of its location must not wait in silence."""
        if self._location is None or not self._location.strict:
            return
        try:
            await self._where(name, hint, await self._run(self._nodes))
        except Nowhere:
            await self._run(lambda: self._end(name))
            raise

    async def kill(self, actor: str, actor_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        self._killed = {k: t for k, t in self._killed.items() if now - t < KILL_EVERY_S}
        if actor in self._killed:
            return False
        self._killed[actor] = now
        killed = False
        try:
            if await self._hung(actor, actor_id):
                logger.warning("%s is hung: killed", actor)
                killed = await self._run(lambda: self._end(actor, actor_id))
        finally:
            if not killed:
                self._killed.pop(actor, None)
        return killed

    async def _hung(self, name: str, actor_id: str) -> bool:
        call = await self._run(lambda: self._call(name, "describe", actor_id))
        if call is None:
            return False
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT_S):
                await _answer(call)
        except (TimeoutError, ActorUnavailableError):
            return True  # to Ray it is unavailable once its connection is as silent
        except RayError:
            pass  # dead already
        return False

    async def describe(self) -> list[Described]:
        calls = await self._call_all("describe")
        await _wait(calls.values(), DESCRIBE_TIMEOUT_S)
        found: list[Described] = []
        for name, call in calls.items():
            if not call.done():
                call.cancel()
                state = "starting" if name in self._making else "hung"
                row = Described(name, _placement_of(name), 0, state=state, actor=name)
                found.append(row)
            elif call.exception() is None:
                found += msgspec.msgpack.decode(call.result(), type=list[Described])
        return sorted(found, key=lambda each: each.name)

    async def ping(self) -> bool:
        """Whether Ray's control store answers; one call for all who ask meanwhile."""
        await self._pings.join("ping", lambda: self._run(self._names, PING_TIMEOUT_S))
        return True

    async def wakes(self) -> None:
        """As the port says; and the first look, when what is kept has started."""
        self._proof.check()

    async def _look(self) -> None:
        """Everything that a new process connects to takes new connections."""
        if not self._looked:
            # Clients come as soon as all is said to be ready: by then the start of the
            # workers must not take the machine.
            await self._warm.full(FILL_S)
            self._looked = True
        raylet, store = await self._run(self._sockets)
        for url in filter(None, (self._front, raylet)):
            try:
                async with asyncio.timeout(SOCKET_TIMEOUT_S):
                    (await open_stream(url))[1].close()
            except (OSError, TimeoutError) as error:
                raise Unavailable(message=f"No connection to {url}.") from error
        # To connect would make it log a warning each time.
        if store and not await self._run(Path(store).is_socket):
            raise Unavailable(message=f"There is no socket {store}.")
        storage = ValkeyLog(self._settings.valkey_url, 0)
        try:
            await storage.writable()
        finally:
            storage.close()

    async def _wake(self) -> None:
        """A new process gets as far as to answer a gateway; then it ends."""
        with self._warm.creation():
            actor = await self._run(self._make_nameless)
            try:
                async with asyncio.timeout(RESOLVE_DEADLINE_S):
                    raw = await _answer(actor.prove.remote())
                    await greet(msgspec.msgpack.decode(raw, type=Address))
            except (RayError, TimeoutError) as error:
                await self._run(lambda: ray.kill(actor))
                raise Unavailable(message="A new actor does not start.") from error
            ending = asyncio.wrap_future(actor.drain.remote().future())
            await _wait([ending], DESCRIBE_TIMEOUT_S)  # it may be gone before it says

    async def drain(self, timeout_s: float) -> None:
        """Put every object to sleep, for a shutdown of the whole node."""
        await _wait((await self._call_all("drain")).values(), timeout_s)

    # Ray's own calls, each to be run in a thread.

    @staticmethod
    def _names() -> list[str]:
        return [str(name) for name in ray.util.list_named_actors()]

    @staticmethod
    def _sockets() -> tuple[str, str]:
        """Where new workers of this node find the raylet, as a URL, and the object
        store; empty where that is no path."""
        mine = ray.get_runtime_context().get_node_id()
        node = next(n for n in RayNamespace._nodes() if n["NodeID"] == mine)
        raylet, store = node["RayletSocketName"], node["ObjectStoreSocketName"]
        if not raylet.startswith("/"):
            return "", ""
        return f"unix:{raylet}", store

    @staticmethod
    def _nodes() -> list[dict[str, Any]]:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        return [each for each in nodes if each["Alive"]]

    @staticmethod
    def _call(
        name: str, method: str, actor_id: str | None = None, args: tuple[Any, ...] = ()
    ) -> Any:
        """The call of a method; None without such an actor (of that id, if given)."""
        try:
            actor = ray.get_actor(name, RAY_NAMESPACE)
        except ValueError:
            return None
        if actor_id is not None and actor._actor_id.hex() != actor_id:
            return None
        return getattr(actor, method).remote(*args)

    @staticmethod
    def _end(name: str, actor_id: str | None = None) -> bool:
        try:
            actor = ray.get_actor(name, RAY_NAMESPACE)
        except ValueError:
            return False
        if actor_id is not None and actor._actor_id.hex() != actor_id:
            return False
        ray.kill(actor)
        return True

    async def _call_all(
        self, method: str, *args: Any
    ) -> dict[str, asyncio.Future[Any]]:
        def call() -> dict[str, Any]:
            return {n: self._call(n, method, args=args) for n in self._names()}

        calls = await self._run(call)
        return {
            name: asyncio.wrap_future(ref.future())
            for name, ref in calls.items()
            if ref is not None
        }

    async def _run(
        self, work: Callable[[], T], timeout_s: float = RESOLVE_DEADLINE_S
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._threads, work)
        except (TimeoutError, RayError) as error:
            raise Unavailable(message="Ray does not answer in time.") from error


def _placement_of(actor: str) -> str:
    return "pooled" if is_pool(actor) else "dedicated"


def _room(name: str) -> str:
    if not is_room(name):
        raise Unavailable("VALIDATION_ERROR", "name: a room's, `room:<id>`.")
    return name


async def _answer(call: Any) -> bytes:
    answer: bytes = await asyncio.wrap_future(call.future())
    return answer


async def _wait(calls: Iterable[asyncio.Future[Any]], timeout_s: float) -> None:
    """Until all have an outcome, or a while; an outcome may well be an error."""
    waiting = tuple(calls)
    if waiting:
        done, _ = await asyncio.wait(waiting, timeout=timeout_s)
        for each in done:
            each.exception()  # else asyncio would report that nobody looked
