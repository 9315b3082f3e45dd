"""A machine: namespaces of its own around a first process, and what is started in it.

Owns how a machine begins and ends: all of it ends with its first process, which ends
with us. Its /tmp and /dev/shm are its own and end with it; logs are files of the host.
Knows nothing of what the commands are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cfmessenger.cli import process
from tests.patience import Stopwatch
from tests.system.machines.network import Network, call

READY_S = 90.0
BOOTED_APART_S = 1000
"""Machines were not started at the same moment: their monotonic clocks differ by this
much, where the kernel has namespaces of time. The time of day is one for all."""
GONE_S = 15.0

_CLOCKS = Path("/proc/self/ns/time").exists()
_ENTER = ("-n", "-p", "-m", "-u", *(("-T",) if _CLOCKS else ()))

# Its first process collects whoever loses a parent, as an init does: it ignores the end
# of children, and the kernel then keeps none. A raylet that is killed and not collected
# would keep its actors running.
_INIT = (
    "hostname {name} && mount -t tmpfs tmp /tmp && mount -t tmpfs shm /dev/shm && "
    "exec env --ignore-signal=CHLD sleep infinity"
)


async def eventually(
    holds: Callable[[], object], within: float, what: Callable[[], str] = str
) -> None:
    """Look until it holds: other processes cannot set an event of ours."""
    watch = Stopwatch()
    while not holds():
        assert watch.seconds < within, what()
        await asyncio.sleep(0.02)


class Started:
    """A process that was started in a machine, and what it has said."""

    def __init__(
        self, init: int, command: Sequence[str], env: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        # What stands in the log already is of whoever had this role before.
        self._from = log.stat().st_size if log.exists() else 0
        enter = ("nsenter", "-t", str(init), *_ENTER, "env", "-C", "/tmp")
        output = _log(log)
        try:
            self._outside = process.spawn(
                [*enter, *command], env, death_signal=signal.SIGKILL, output=output
            )
        finally:
            os.close(output)
        self._main: process.Entry | None = None  # known once it has begun

    @property
    def main(self) -> process.Entry:
        """The process in the machine; what waits for it outside has no part in it."""
        if self._main is None:
            self._main = next(iter(_children(self._outside.pid)))
        return self._main

    @property
    def ended(self) -> bool:
        return self._outside.poll() is not None

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._outside.poll()

    def said(self, words: str) -> bool:
        """Whether it has said these words."""
        return words.encode() in self.log.read_bytes()[self._from :]

    async def ready(self, words: str, within: float = READY_S) -> None:
        """Until it has said so. Fails when it ends before."""

        def done() -> bool:
            assert not self.ended, self.tail()
            return self.said(words)

        await eventually(done, within, self.tail)

    async def gone(self, within: float = GONE_S) -> None:
        """Until it has ended."""
        await eventually(lambda: self.ended, within, self.tail)

    def signal(self, number: int) -> None:
        if not self.ended:
            process.send(self.main, number)

    def collect(self) -> None:
        """Its machine is gone, and so is what waited for it outside."""
        self._outside.wait(GONE_S)

    def tail(self) -> str:
        """The last that it said."""
        return f"{self.log}:\n{self.log.read_text(errors='replace')[-3000:]}"


def _children(pid: int) -> list[process.Entry]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [row for each in listed if (row := process.entry(int(each))) is not None]


class Machine:
    """`open`, then whatever is started in it, then `kill`; it can be opened again."""

    def __init__(self, name: str, number: int, network: Network, logs: Path) -> None:
        self.name = name
        self.number = number
        self.address = network.address(number)
        self.network = network
        self.started: dict[str, Started] = {}  # by role, the newest of each
        self._all: list[Started] = []
        self._logs = logs
        self._init: process.Entry | None = None  # while it is up

    @property
    def up(self) -> bool:
        return self._init is not None

    @property
    def init(self) -> int:
        """The id of its first process, outside."""
        assert self._init is not None, f"{self.name} is not up"
        return self._init.pid

    async def open(self) -> None:
        spaces: tuple[str, ...]
        spaces = ("--net", "--pid", "--uts", "--mount", "--mount-proc")
        spaces += ("--fork", "--kill-child")
        if _CLOCKS:
            ahead = str(self.number * BOOTED_APART_S)
            spaces += ("--time", "--monotonic", ahead, "--boottime", ahead)
        log = _log(self._logs / f"{self.name}-init.log")
        self._holder = process.spawn(
            ["unshare", *spaces, "sh", "-c", _INIT.format(name=self.name)],
            os.environ,
            death_signal=signal.SIGKILL,
            output=log,
        )
        os.close(log)
        within = self._holder.pid

        def begun() -> bool:
            assert self._holder.poll() is None, f"{self.name} does not begin"
            return any(_command(row.pid).startswith("sleep") for row in _kin(within))

        await eventually(begun, READY_S)
        self._init = _children(within)[0]
        self.network.plug(self.number, self.init)

    def kill(self) -> None:
        """All of it at once, as when the power fails."""
        if self._init is None:
            return
        process.send(self._init, signal.SIGKILL)
        left = process.wait_gone([self._init], GONE_S)
        assert not left, f"{self.name} does not end"
        self._holder.wait(GONE_S)
        self.network.remove(self.number)
        for each in self._all:
            each.collect()
        self._all.clear()
        self._init = None

    def start(
        self, role: str, command: Sequence[str], env: Mapping[str, str]
    ) -> Started:
        """Start something; its log is a file of the host. From the main thread."""
        log = self._logs / f"{self.name}-{role}.log"
        made = self.started[role] = Started(self.init, command, env, log)
        self._all.append(made)
        return made

    def path(self, inside: str) -> Path:
        """A path of the machine's, as it is reached from outside."""
        return Path(f"/proc/{self.init}/root{inside}")

    def processes(self) -> dict[process.Entry, str]:
        """All that run in it, with their command lines or titles."""
        ours = os.readlink(f"/proc/{self.init}/ns/pid")
        found = {}
        for row in process.entries():
            with suppress(OSError):
                if os.readlink(f"/proc/{row.pid}/ns/pid") == ours and row.state != "Z":
                    found[row] = _command(row.pid)
        return found

    def call(self, *command: str) -> str:
        """Run a tool in it to its end; what it printed. Fails with what it said."""
        return call("nsenter", "-t", str(self.init), *_ENTER, *command)

    def keep(self, patterns: Sequence[str]) -> None:
        """Copy these folders of its /tmp beside its logs, for a look afterwards."""
        if self._init is None:
            return
        found = [each for glob in patterns for each in self.path("/tmp").glob(glob)]
        for number, folder in enumerate(found):
            to = self._logs / f"{self.name}-{number}-{folder.name}"
            with suppress(OSError, shutil.Error):  # some of it is being written
                shutil.copytree(folder, to, ignore_dangling_symlinks=True)


def _log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _kin(pid: int) -> list[process.Entry]:
    with suppress(OSError):
        return _children(pid)
    return []


def _command(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace")
