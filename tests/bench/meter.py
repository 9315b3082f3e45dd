"""What a server costs, seen from outside: CPU time and memory of its process tree.

Reads /proc (Linux) for the processes it was given and all their descendants. Must not
be told about single processes: what a server starts belongs to its price.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cfmessenger.cli import process

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class Meter:
    """CPU and memory of the trees below `roots` (process ids), roots included."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = tuple(roots)
        #: The processes found by the last scan.
        self.family: tuple[int, ...] = ()
        self.rescan()

    def rescan(self) -> None:
        """Finds the trees' processes anew; takes some 10 ms on a busy machine."""
        below = [row.pid for root in self._roots for row in process.descendants(root)]
        self.family = (*self._roots, *below)

    def cpu_s(self) -> float:
        """CPU seconds so far of what the last scan found, in steps of a clock tick.

        Counts what ended and was waited for, through its parent: no time is lost when
        a process ends between two readings.
        """
        return _TICK_S * sum(_ticks(pid) for pid in self.family)

    def memory_bytes(self) -> int:
        """The proportional set size: pages that several share are counted once."""
        self.rescan()
        return sum(_pss_bytes(pid) for pid in self.family)


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # utime, stime, and both again of children that were waited for.
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))


def _pss_bytes(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, ValueError):
        return 0
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
