"""Ray as the namespace: named, detached actors, one per object.

This file and `warm_pool` are the only ones that import ray. Ray decides where an object
lives and that its name is registered once; it is never asked to restart anything
(`max_restarts=0`: the next event re-creates, as with Durable Objects), never carries a
message, and is never trusted for mutual exclusion (the epoch is). Ray's calls block for
up to a minute, so each runs in a thread with a deadline.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from actors.host import Host, HostSettings
from cfmessenger.errors import Unavailable
from cfmessenger.log_format import configure
from cfmessenger.namespace import Address, Described

logger = logging.getLogger("cfmessenger.namespace")

RAY_NAMESPACE = "cfm"
DESCRIBE_TIMEOUT_S = 1.0
RESOLVE_DEADLINE_S = 8.0
ATTEMPT_TIMEOUT_S = 5.0
THREADS = 16

T = TypeVar("T")


class ObjectActor:
    """The Ray actor around a host. Its methods are control calls, never messages.

    Undecorated, so that it can be made without Ray; `RayNamespace` wraps it.
    """

    def __init__(self, settings: bytes, log_level: str) -> None:
        configure(log_level, "json")
        self._settings = msgspec.msgpack.decode(settings, type=HostSettings)
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
        """Where to link to, nothing when leaving; starts the host the first time."""
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._host is None:
                self._loop = asyncio.get_running_loop()
                host = Host(self._settings, self._ended)
                await host.start()
                self._host = host
        if self._host.leaving:
            return b""
        actor_id = ray.get_runtime_context().get_actor_id() or ""
        return msgspec.msgpack.encode(self._host.address(actor_id))

    async def describe(self) -> bytes:
        """What lives here now."""
        objects = self._host.objects.values() if self._host else ()
        return msgspec.msgpack.encode(
            [
                Described(
                    name=each.name,
                    placement="dedicated" if self._settings.only else "pooled",
                    pid=os.getpid(),
                    epoch=each.epoch,
                    seq=each.seq,
                    sockets=each.sockets,
                    state=each.state.value,
                )
                for each in objects
            ]
        )

    async def drain(self) -> int:
        """Put what lives here to sleep; a dedicated process then ends by itself."""
        return await self._host.drain() if self._host else 0

    @staticmethod
    def _ended(reason: str) -> None:
        # Not sys.exit: a Ray worker may hang in it, and everything is written already.
        os._exit(0)


class _RayWords(io.TextIOBase):
    """Where Ray prints what it thinks of workers that ended: one record a line."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                logging.getLogger("ray").debug("%s", line.strip())
        return len(text)


class RayNamespace:
    """`Namespace` over a Ray cluster that this process is a driver of."""

    def __init__(self, settings: HostSettings, log_level: str) -> None:
        self._settings = settings
        self._log_level = log_level
        self._threads = ThreadPoolExecutor(THREADS, "ray")
        self._class: Any = ray.remote(ObjectActor)
        self._handles: dict[str, Any] = {}

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
            sys.stderr = _RayWords()
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise Unavailable(message=f"Ray cannot be reached: {error}") from error

    async def resolve(self, name: str, hint: str | None = None) -> Address:
        return await self._run(lambda: self._resolve(name), RESOLVE_DEADLINE_S)

    def _resolve(self, name: str) -> Address:
        """Get or create by name; a name may for a moment mean an actor that is dead."""
        end = time.monotonic() + RESOLVE_DEADLINE_S
        pause = 0.01
        while True:
            try:
                actor = self._get_or_create(name)
                raw = ray.get(actor.address.remote(), timeout=ATTEMPT_TIMEOUT_S)
                if raw:
                    return msgspec.msgpack.decode(raw, type=Address)
            except (RayActorError, ValueError, GetTimeoutError) as error:
                logger.info("%s: %s", name, type(error).__name__)
            if time.monotonic() + pause > end:
                raise Unavailable(message=f"{name} does not start.")
            time.sleep(pause)
            pause = min(pause * 2, 0.2)

    def _get_or_create(self, name: str) -> Any:
        settings = msgspec.structs.replace(self._settings, only=name)
        return self._class.options(
            name=name,
            namespace=RAY_NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            enable_task_events=False,
        ).remote(msgspec.msgpack.encode(settings), self._log_level)

    async def kill(self, name: str, actor_id: str) -> bool:
        return await self._run(lambda: self._kill(name, actor_id), RESOLVE_DEADLINE_S)

    def _kill(self, name: str, actor_id: str) -> bool:
        try:
            actor = ray.get_actor(name, RAY_NAMESPACE)
        except ValueError:
            return False
        if actor._actor_id.hex() != actor_id:
            return False
        try:
            ray.get(actor.describe.remote(), timeout=DESCRIBE_TIMEOUT_S)
        except GetTimeoutError:
            logger.warning("%s is hung: killed", name)
            ray.kill(actor)
            return True
        except RayActorError:
            pass  # dead already
        return False

    async def describe(self) -> list[Described]:
        return await self._run(self._describe, RESOLVE_DEADLINE_S)

    def _describe(self) -> list[Described]:
        calls: dict[str, Any] = {}
        for entry in self._names():
            try:
                actor = ray.get_actor(entry, RAY_NAMESPACE)
                calls[entry] = actor.describe.remote()
            except ValueError:
                continue
        end = time.monotonic() + DESCRIBE_TIMEOUT_S
        found: list[Described] = []
        for name, call in calls.items():
            try:
                raw = ray.get(call, timeout=max(0.0, end - time.monotonic()))
                found += msgspec.msgpack.decode(raw, type=list[Described])
            except GetTimeoutError:
                found.append(Described(name, "dedicated", 0, state="hung"))
            except RayActorError:
                continue
        return sorted(found, key=lambda each: each.name)

    @staticmethod
    def _names() -> list[str]:
        return [
            entry["name"]
            for entry in ray.util.list_named_actors(all_namespaces=True)
            if entry["namespace"] == RAY_NAMESPACE
        ]

    async def ping(self) -> bool:
        """Whether Ray's control store answers."""
        await self._run(self._names, 2.0)
        return True

    async def drain(self, timeout_s: float) -> None:
        """Put every object to sleep, for a shutdown of the whole node."""
        await self._run(lambda: self._drain(timeout_s), timeout_s + 1)

    def _drain(self, timeout_s: float) -> None:
        calls: list[Any] = []
        for name in self._names():
            try:
                actor = ray.get_actor(name, RAY_NAMESPACE)
                calls.append(actor.drain.remote())
            except ValueError:
                continue
        ray.wait(calls, num_returns=len(calls), timeout=timeout_s) if calls else None

    async def _run(self, work: Callable[[], T], timeout_s: float) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s + 1):
                return await loop.run_in_executor(self._threads, work)
        except (TimeoutError, RayError) as error:
            raise Unavailable(message="Ray does not answer in time.") from error
