"""Keeps child processes running, in order, until they are told to stop.

Owns spawning, readiness, the watch over those that run, restarts with capped backoff,
ordered stops and the reaping of whatever those children leave behind. Must not know
what the children are. A child is ready when it says so (on an inherited pipe, or by its
service's own probe); one that cannot get ready during the first start makes that start
fail, later ones are retried for ever. One that lives but does not answer, or whose
sockets were deleted, is replaced. Whatever fails meanwhile (a full disk, no descriptor
left, a bug in a probe), there is never a second process of one child, and no child that
is given up. That is why it is one class, longer than others: what keeps this promise is
read in one place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from subprocess import Popen
from typing import NamedTuple

from cfmessenger.backoff import doubled
from cfmessenger.cli import process
from cfmessenger.cli.flags import EXIT_SETTINGS
from cfmessenger.cli.runtime import CHILD, InUse, Refused, told
from cfmessenger.cli.service import EXIT_LOST, Service, answers, serves
from cfmessenger.cli.voice import VOICE_FD, Ear

log = logging.getLogger("cfmessenger.up")

FIRST_BACKOFF_S = 0.1
# What heals (a disk with space again) shall be noticed soon, and a try costs little.
LAST_BACKOFF_S = 2.0
# Having been ready this long, a child that dies starts again without a penalty.
STEADY_S = 10.0
START_ATTEMPTS = 3

# A child is asked each second and replaced after so many silences in a row. Seconds in
# which we did not get to run ourselves, or in which it waited for the disk, say nothing
# about it.
WATCH_S = 1.0
SILENCES = 15
GRACE_S = 2.0
LATE_S = 1.0


class StartFailed(Exception):
    """A child did not get ready during the first start; the text says which and why.

    `code` is what the start is to exit with: 3 for settings, else 1.
    """

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class _Life(NamedTuple):
    """One run of a child, or an attempt at it, when it is over."""

    why: str
    ready: bool = False
    code: int | None = None  # None: it could not be spawned
    own: bool = False  # `why` is the child's own sentence
    hopeless: bool = False  # and trying again would change nothing


class _Child:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.ready = asyncio.Event()
        self.stopping = False
        self.popen: Popen[bytes] | None = None  # while it runs
        self.exited: asyncio.Future[int] | None = None  # of the run that was last begun
        self.verdict = ""  # why we end this run ourselves
        self.told = ""  # why it last ended, until it is ready again
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """The children of this process. One per process, used on one event loop.

    `start` services, wait for `ready`, and `stop` them in the order you need; `close`
    ends whatever is left. Needs the main thread (signals, parent-death).
    """

    def __init__(self, watch_s: float = WATCH_S) -> None:
        self._watch_s = watch_s
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
            began = loop.time()
            life = await self._live(child)
            if child.stopping:
                return
            steady = life.ready and loop.time() - began > STEADY_S
            failures = 1 if steady else failures + 1
            self._report(child, life)
            if not life.ready and (life.hopeless or failures >= START_ATTEMPTS):
                self._fail(service.name, life, failures)
            if life.code == EXIT_LOST and service.follows is not None:
                other = self._children[service.follows]
                await self._condemn(other, f"it does not answer {service.name}")
            pause_s = doubled(FIRST_BACKOFF_S, LAST_BACKOFF_S, failures - 1)
            await asyncio.sleep(pause_s)

    async def _live(self, child: _Child) -> _Life:
        """One life of the child, over when this returns, whatever happens in it."""
        service = child.service
        assert child.popen is None
        try:
            ear, exited = self._spawn(child)
        except Refused as error:
            return _Life(str(error), hopeless=True)
        except InUse as error:
            return _Life(str(error))
        except (OSError, subprocess.SubprocessError) as error:
            return _Life(told(error) if isinstance(error, OSError) else str(error))
        except Exception as error:
            log.exception("%s cannot be started", service.name)
            return _Life(f"{type(error).__name__}: {error}")
        ready = False
        try:
            ready = await self._got_ready(child, ear, exited)
            if ready:
                await self._watch(child, ear, exited)
        except Exception:  # a probe's bug must not leave a process that nobody awaits
            log.exception("%s cannot be watched", service.name)
            await self._condemn(child, "it cannot be watched")
        finally:
            code = await exited
            ear.close()
        if ear.why:
            return _Life(ear.why, ready, code, True, code == EXIT_SETTINGS)
        why = child.verdict or process.how_ended(code)
        if service.reason is not None and (more := service.reason(code)):
            why = f"{why}: {more}"
        return _Life(why, ready, code)

    async def _got_ready(
        self, child: _Child, ear: Ear, exited: asyncio.Future[int]
    ) -> bool:
        service = child.service
        waiting = asyncio.create_task(
            serves(service.probe) if service.probe else ear.ready()
        )
        try:
            await asyncio.wait(
                (waiting, exited),
                timeout=service.ready_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if exited.done() or child.stopping:
                return False
            if not waiting.done():
                await self._condemn(child, f"not ready within {service.ready_s:g} s")
                return False
            waiting.result()
        finally:
            waiting.cancel()
        child.ready.set()
        child.told = ""
        log.info("%s is ready", service.name)
        return True

    async def _watch(
        self, child: _Child, ear: Ear, exited: asyncio.Future[int]
    ) -> None:
        """Until it has ended or does not answer any more."""
        service, loop = child.service, asyncio.get_running_loop()
        period, silences = self._watch_s, 0
        while not exited.done() and not child.stopping and not child.verdict:
            began = loop.time()
            there = service.alive is None or await answers(service.alive, period)
            rest = began + period - loop.time()
            await asyncio.wait((exited,), timeout=max(0.0, rest))
            on_time = loop.time() - began < period + LATE_S
            if ear.heard() and there:
                silences = 0
            elif on_time and not self._waits_for_disk(child):
                silences += 1
            if exited.done() or child.stopping:
                return
            if service.reached is not None and not service.reached():
                await self._condemn(
                    child, "the files that it is reached by were deleted"
                )
            elif silences >= SILENCES:
                await self._condemn(child, f"no answer for {silences * period:g} s")

    def _waits_for_disk(self, child: _Child) -> bool:
        """Ending it would change nothing then, and what it does may yet succeed."""
        row = process.entry(child.popen.pid) if child.popen else None
        return row is not None and row.state == "D"

    async def _condemn(self, child: _Child, why: str) -> None:
        """Ends this run of a child; the next begins by itself.

        First as when we die, so that it may write what it owes the disk if it can.
        """
        if child.popen is None or child.exited is None or child.stopping:
            return
        child.verdict = why
        os.kill(child.popen.pid, child.service.death_signal)
        await asyncio.wait((child.exited,), timeout=GRACE_S)
        self._kill(child)

    def _spawn(self, child: _Child) -> tuple[Ear, asyncio.Future[int]]:
        service = child.service
        with ExitStack() as ours:
            launch = service.launch()
            for fd in launch.handed:
                ours.callback(os.close, fd)
            if launch.output is not None:
                ours.callback(os.close, launch.output)
            ear = Ear()
            ours.callback(os.close, ear.theirs)
            try:
                popen = process.spawn(
                    launch.command,
                    {**launch.env, VOICE_FD: str(ear.theirs), CHILD: service.name},
                    death_signal=service.death_signal,
                    cwd=launch.cwd,
                    inherit=(*launch.inherit, *launch.handed, ear.theirs),
                    output=launch.output,
                )
            except BaseException:
                ear.close()
                raise
        # From here to the next line there is nothing that could fail.
        child.popen, child.verdict = popen, ""
        self._by_pid[popen.pid] = child
        child.exited = asyncio.get_running_loop().create_future()
        return ear, child.exited

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
        """Kills a session, whose leader has not been collected, with all that is in it.

        Its group first, for which nothing needs to be opened or read.
        """
        try:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)
            for row in process.session_members(session):
                process.send(row, signal.SIGKILL)
        except OSError as error:
            log.error("what is left of process %d: %s", session, told(error))

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
        """It counts as ended first; what else is to be done may fail."""
        assert child.popen is not None and child.exited is not None
        pid, code = child.popen.pid, child.popen.wait()
        child.popen = None
        child.ready.clear()
        child.exited.set_result(code)
        for other in self._children.values():
            if other.service.follows == child.service.name and not other.stopping:
                self._kill(other)
        if child.service.ended is not None:
            try:
                child.service.ended(pid)
            except OSError as error:
                log.warning("after the end of %s: %s", child.service.name, told(error))

    def _report(self, child: _Child, life: _Life) -> None:
        """Why it ended, once as long as that does not change."""
        if life.why != child.told and (self._started or life.ready):
            what = "cannot be started" if life.code is None else "ended"
            log.error("%s %s: %s", child.service.name, what, life.why)
        child.told = life.why

    def _fail(self, name: str, life: _Life, failures: int) -> None:
        assert self._failed is not None
        if self._started or self._failed.done():
            return
        code = EXIT_SETTINGS if life.code == EXIT_SETTINGS else 1
        tried = "" if life.hopeless else f" (tried {failures} times)"
        text = life.why if life.own else f"{name} does not start{tried}: {life.why}"
        self._failed.set_exception(StartFailed(text, code))
