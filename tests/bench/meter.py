"""What a server costs, seen from outside: CPU time and memory of its process tree.

Looks at the processes it was given and all their descendants. Must not be told about
single processes: what a server starts belongs to its price.
"""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from cfmessenger.cli import process


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
        return sum(_cpu_s(pid) for pid in self.family)

    def memory_bytes(self) -> int:
        """The proportional set size: pages that several share are counted once."""
        self.rescan()
        return sum(_pss_bytes(pid) for pid in self.family)


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    # The last two are of children that were waited for.
    return times.user + times.system + times.children_user + times.children_system


def _pss_bytes(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_full_info().pss
    except psutil.Error:
        return 0
