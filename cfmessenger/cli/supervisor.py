"""Keeps child processes running, in order, until they are told to stop.

Owns spawning, readiness, restarts with capped backoff, ordered stops and the reaping
of whatever those children leave behind. Must not know what the children are. A child
is ready when it says so (a line on an inherited pipe, or its service's own probe); one
that cannot get ready during the first start makes that start fail, later ones are
retried for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import msgspec

from cfmessenger.cli import process
from cfmessenger.cli.runtime import ChildRecords

log = logging.getLogger("cfmessenger.up")

READY_FD = "CFMX_READY_FD"

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
# Having been ready this long, a child that dies starts again without a penalty.
STEADY_S = 10.0
START_ATTEMPTS = 3
PROBE_S = 0.02


class StartFailed(Exception):
    """A child did not get ready during the first start; the text says which and why."""


class Launch(msgspec.Struct, frozen=True):
    """How to run a child once; asked for anew before each run."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    inherit: Sequence[int] = ()
    output: int | None = None  # a descriptor, closed after the spawn; None: our stderr


class Service(msgspec.Struct, frozen=True):
    """A child to keep running.

    `probe` says whether the child serves and is asked until it does; without one the
    child is expected to write a line to the descriptor in CFMX_READY_FD. It is spawned
    when all of `needs` are ready, and ended when `follows` ends, because it could not
    go on without it. `ended` is called with the id of each process that has ended.
    """

    name: str
    launch: Callable[[], Launch]
    probe: Callable[[], Awaitable[bool]] | None = None
    needs: tuple[str, ...] = ()
    follows: str | None = None
    ended: Callable[[int], None] | None = None
    ready_s: float = 30.0
    death_signal: signal.Signals = signal.SIGKILL


class _Child:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.ready = asyncio.Event()
        self.stopping = False
        self.popen: Popen[bytes] | None = None  # while it runs
        self.exited: asyncio.Future[int] | None = None
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """The children of this process. One per process, used on one event loop.

    `start` services, wait for `ready`, and `stop` them in the order you need; `close`
    ends whatever is left. Needs the main thread (signals, parent-death).
    """

    def __init__(self, records: ChildRecords) -> None:
        self._records = records
        self._children: dict[str, _Child] = {}
        self._by_pid: dict[int, _Child] = {}
        self._failed: asyncio.Future[None] | None = None
        self._started = False

    def open(self) -> None:
        """Takes over SIGCHLD and becomes the parent of its children's orphans."""
        process.adopt_orphans()
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, service: Service) -> None:
        """Begins to keep `service` running."""
        child = self._children[service.name] = _Child(service)
        child.task = asyncio.create_task(self._keep(child), name=service.name)

    async def ready(self) -> None:
        """Returns when every service is ready.

        Raises `StartFailed`, the first time only: from then on everything is retried.
        """
        assert self._failed is not None
        waits = [asyncio.ensure_future(c.ready.wait()) for c in self._children.values()]
        everyone = asyncio.gather(*waits)
        try:
            await asyncio.wait(
                (everyone, self._failed), return_when=asyncio.FIRST_COMPLETED
            )
            if self._failed.done():
                self._failed.result()
        finally:
            everyone.cancel()
            with suppress(asyncio.CancelledError):
                await everyone
        self._started = True

    async def stop(self, names: Sequence[str], deadline: float) -> None:
        """Ends these together: SIGTERM, and SIGKILL at `deadline` (loop time).

        Returns when they and everything they started are gone. Unknown names are fine.
        """
        children = [c for name in names if (c := self._children.get(name))]
        for child in children:
            self._end(child, signal.SIGTERM)
        tasks = [c.task for c in children if c.task is not None]
        if not tasks:
            return
        patience = max(0.0, deadline - asyncio.get_running_loop().time())
        _, late = await asyncio.wait(tasks, timeout=patience)
        for child in children:
            if child.task in late:
                log.warning("%s did not stop in time, killing it", child.service.name)
                self._kill(child)
        # Bounded, because nothing ends a process that hangs in the kernel.
        await asyncio.wait(tasks, timeout=1.0)

    async def close(self) -> None:
        """Kills every descendant that is left. Nothing of ours runs afterwards."""
        now = asyncio.get_running_loop().time()
        await self.stop(list(self._children), now)
        for _ in range(100):
            left = process.descendants(os.getpid())
            self._reap()
            if not left:
                return
            for row in left:
                process.send(row, signal.SIGKILL)
            await asyncio.sleep(0.02)
        log.error("still running: %s", ", ".join(str(row.pid) for row in left))

    def kill_all(self) -> None:
        """Ends every child at once and for good, for somebody who will not wait."""
        for child in self._children.values():
            self._end(child, signal.SIGKILL)

    def pid(self, name: str) -> int | None:
        """The child's process id, None while it is not running."""
        child = self._children.get(name)
        return child.popen.pid if child and child.popen else None

    async def _keep(self, child: _Child) -> None:
        service, loop = child.service, asyncio.get_running_loop()
        failures = 0
        while True:
            for need in service.needs:
                await self._children[need].ready.wait()
            began, was_ready = loop.time(), False
            try:
                was_ready = await self._run(child)
            except OSError as error:
                log.error("%s cannot be started: %s", service.name, error)
            if child.stopping:
                return
            steady = was_ready and loop.time() - began > STEADY_S
            failures = 1 if steady else failures + 1
            if not was_ready and failures >= START_ATTEMPTS:
                self._fail(f"{service.name} does not start (tried {failures} times)")
            pause = min(FIRST_BACKOFF_S * 2 ** (failures - 1), LAST_BACKOFF_S)
            await asyncio.sleep(pause)

    async def _run(self, child: _Child) -> bool:
        """One life of the child; returns whether it was ready."""
        service = child.service
        exited, pipe = self._spawn(child)
        try:
            waiting = asyncio.create_task(
                _serves(service.probe) if service.probe else _said_ready(pipe)
            )
            try:
                await asyncio.wait(
                    (waiting, exited),
                    timeout=service.ready_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if waiting.done() and not exited.done() and not child.stopping:
                    waiting.result()
                    child.ready.set()
                    log.info("%s is ready", service.name)
                elif not exited.done() and not child.stopping:
                    log.error("%s is not ready in time, killing it", service.name)
                    self._kill(child)
            finally:
                waiting.cancel()
            was_ready = child.ready.is_set()
            code = await exited
            if not child.stopping:
                log.error("%s ended (%s)", service.name, _reason(code))
            return was_ready
        finally:
            os.close(pipe)

    def _spawn(self, child: _Child) -> tuple[asyncio.Future[int], int]:
        service = child.service
        launch = service.launch()
        ours, theirs = os.pipe()
        try:
            popen = process.spawn(
                launch.command,
                {**launch.env, READY_FD: str(theirs)},
                death_signal=service.death_signal,
                cwd=launch.cwd,
                inherit=(*launch.inherit, theirs),
                output=launch.output,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            if launch.output is not None:
                os.close(launch.output)
        child.popen = popen
        child.exited = asyncio.get_running_loop().create_future()
        self._by_pid[popen.pid] = child
        self._records.add(service.name, popen.pid)
        return child.exited, ours

    def _end(self, child: _Child, number: signal.Signals) -> None:
        child.stopping = True
        if child.popen is not None:
            # Not Popen.send_signal: it may collect the child, which is `_reap`'s alone.
            os.kill(child.popen.pid, number)
        elif child.task is not None:
            child.task.cancel()  # it waits for a need or for its backoff

    def _kill(self, child: _Child) -> None:
        if child.popen is not None:
            self._sweep(child.popen.pid)

    def _sweep(self, session: int) -> None:
        for row in process.session_members(session):
            process.send(row, signal.SIGKILL)

    def _reap(self) -> None:
        """Collects every child that ended: ours, and orphans that became ours."""
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            child = self._by_pid.pop(info.si_pid, None)
            if child is None:
                os.waitpid(info.si_pid, 0)
                continue
            # Before its id is free again, end what it left in its session (Ray's
            # agents survive their parents by a minute).
            self._sweep(info.si_pid)
            self._ended(child)

    def _ended(self, child: _Child) -> None:
        assert child.popen is not None and child.exited is not None
        pid, code = child.popen.pid, child.popen.wait()
        child.popen = None
        child.ready.clear()
        self._records.remove(child.service.name)
        child.exited.set_result(code)
        if child.service.ended is not None:
            child.service.ended(pid)
        for other in self._children.values():
            if other.service.follows == child.service.name and not other.stopping:
                self._kill(other)

    def _fail(self, reason: str) -> None:
        assert self._failed is not None
        if not self._started and not self._failed.done():
            self._failed.set_exception(StartFailed(reason))


async def _serves(probe: Callable[[], Awaitable[bool]]) -> None:
    # Another process cannot set an event of ours.
    while not await probe():  # noqa: ASYNC110
        await asyncio.sleep(PROBE_S)


async def _said_ready(pipe: int) -> None:
    """Waits for anything on the pipe; its end without a word never is readiness."""
    loop = asyncio.get_running_loop()
    said = loop.create_future()

    def readable() -> None:
        loop.remove_reader(pipe)
        if os.read(pipe, 64) and not said.done():
            said.set_result(None)

    loop.add_reader(pipe, readable)
    try:
        await said
    finally:
        loop.remove_reader(pipe)


def _reason(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
