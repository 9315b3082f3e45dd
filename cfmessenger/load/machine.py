"""The machines behind the figures: the one that makes the load, and what the load costs
the server's processes.

The server is measured from outside: CPU seconds and memory of every process whose
command line matches, so that two servers compare on the same work. Only this machine's
processes can be seen.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from .processes import Seen, seen, spent
from .result import Host, Server

_SHOWN = ("cfmessenger", "picows", "uvloop", "msgspec", "ray")


def this_host() -> Host:
    """The machine that this runs on."""
    return Host(
        name=platform.node(),
        cpus=len(os.sched_getaffinity(0)),
        model=_model(),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Of what matters for the figures."""
    found = {}
    for name in _SHOWN:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _model() -> str:  # psutil does not know it
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor()


class Usage(NamedTuple):
    """CPU seconds by process, and memory of all, at one moment (`time.monotonic`).

    `taken_s` is of all cores and everybody on the machine, out of `offered_s`.
    """

    at: float
    seen: dict[int, Seen]
    memory: int
    taken_s: float
    offered_s: float

    def cpu_since(self, before: Usage) -> float:
        """Seconds since then. A process that ended meanwhile took its last along."""
        return sum(_cpu(s) - _cpu(before.seen.get(p)) for p, s in self.seen.items())

    def machine_since(self, before: Usage) -> float:
        """How much of all cores was taken since then, 0 to 1."""
        offered = self.offered_s - before.offered_s
        return (self.taken_s - before.taken_s) / offered if offered > 0 else 0.0


def _cpu(seen: Seen | None) -> float:
    return 0.0 if seen is None else seen.user_s + seen.system_s


class Watch:
    """Watches the processes whose command line matches `pattern`, but not ourselves.

    A number is a process id: that process and all its descendants.
    """

    def __init__(self, pattern: str) -> None:
        """Raises `re.error`."""
        self._root = int(pattern) if pattern.isdecimal() else None
        self._pattern = re.compile(pattern)
        self._strange: set[int] = set()

    def leave_out(self, pids: set[int]) -> None:
        """These are part of the generator."""
        self._strange |= pids

    def look(self) -> Usage:
        """What they have used by now; memory is PSS where that may be read."""
        me = psutil.Process()
        ours = {me.pid, *(each.pid for each in me.children(recursive=True))}
        ours |= {each.pid for each in me.parents()} | self._strange
        found: dict[int, Seen] = {}
        memory = 0
        for process in self._candidates():
            if process.pid in ours:
                continue
            try:
                times, command = process.cpu_times(), process.cmdline()
                found[process.pid] = seen(
                    process.pid, command, times.user, times.system
                )
                memory += _memory(process)
            except psutil.Error:
                continue
        taken_s, offered_s = _cores()
        return Usage(time.monotonic(), found, memory, taken_s, offered_s)

    def _candidates(self) -> Iterator[psutil.Process]:
        if self._root is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(self._root)
                yield from (root, *root.children(recursive=True))
            return
        for process in psutil.process_iter(["cmdline"]):
            if self._pattern.search(" ".join(process.info["cmdline"] or ())):
                yield process


def _cores() -> tuple[float, float]:
    times = psutil.cpu_times()
    # Guests' time is in their hosts' already.
    parts = (times.user, times.nice, times.system, times.irq, times.softirq)
    taken = sum(parts) + times.steal
    return taken, taken + times.idle + times.iowait


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss)


def cost(
    empty: Usage,
    before: Usage,
    end: Usage,
    after: Usage,
    *,
    sockets: int,
    come_late: bool = False,
    sent: int,
    delivered: int,
) -> Server:
    """The server's part: `empty` without sockets, `before` and `after` the load, `end`
    when no more of it was sent: between `before` and that is what processes did.

    Memory per socket is what connecting the sockets added, whatever else grew included;
    if they `come_late`, after `before`, what all of it added.
    """
    cpu_s = after.cpu_since(before)
    grown = (after if come_late else before).memory - empty.memory
    return Server(
        cpu_s=round(cpu_s, 3),
        cpu_us_per_delivery=round(1e6 * cpu_s / delivered, 2) if delivered else None,
        cpu_us_per_message=round(1e6 * cpu_s / sent, 1) if sent else None,
        kib_per_socket=round(grown / sockets / 1024, 1) if sockets else None,
        memory_bytes=after.memory,
        processes=spent(before.seen, end.seen, max(1e-3, end.at - before.at)),
        machine=round(end.machine_since(before), 3),
    )
