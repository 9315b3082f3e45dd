"""What a server costs, seen from outside: CPU time and memory of its process tree.

Looks at the processes it was given and all their descendants. Must not be told about
single processes: what a server starts belongs to its price. A `kind` is what a process
is to a reader, read off its command line, so that a row that gets worse says where.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil

from cfmessenger.cli import process

KINDS = ("gateway", "actors", "valkey", "rest")
"""Of our processes; a peer's own is its `server`."""

KindOf = Callable[[str], str]


def our_kind(line: str) -> str:
    """What one of our processes is. Ray's idle workers are `rest` until they have an
    object."""
    if "cfmessenger gateway" in line:
        return "gateway"
    if line.startswith("ray::ObjectActor"):
        return "actors"
    return "valkey" if "valkey-server" in line else "rest"


def peer_kind(line: str) -> str:
    """What one of a peer's processes is."""
    return "valkey" if "valkey-server" in line else "server"


class Reading(NamedTuple):
    """What each process of a tree had used at one moment, in CPU seconds.

    With what its ended children had used, as far as they were waited for: no time is
    lost when a process ends between two readings.
    """

    cpu_s: dict[int, float]
    kinds: dict[int, str]
    parents: dict[int, int] = {}

    @property
    def family(self) -> frozenset[int]:
        """Who was there."""
        return frozenset(self.cpu_s)

    def spent_s(self, before: Reading) -> dict[str, float]:
        """CPU seconds since then by kind; what a process is now it was all the time."""
        spent: defaultdict[str, float] = defaultdict(float)
        for pid, used in self.cpu_s.items():
            spent[self.kinds[pid]] += used - before.cpu_s.get(pid, 0.0)
        for pid in before.cpu_s.keys() - self.cpu_s.keys():
            # It ended, and is in its parent's figure, with what it had used by then.
            heir = before.parents.get(pid, 0)
            spent[self.kinds.get(heir, before.kinds[pid])] -= before.cpu_s[pid]
        return dict(spent)


class Meter:
    """CPU and memory of the trees below `roots` (process ids), roots included."""

    def __init__(self, roots: Sequence[int], kind_of: KindOf = peer_kind) -> None:
        self._roots = tuple(roots)
        self._kind_of = kind_of
        #: The processes found by the last scan.
        self.family: tuple[int, ...] = ()
        self._parents: dict[int, int] = {}  # of those, but for the roots
        self.rescan()

    def rescan(self) -> None:
        """Finds the trees' processes anew; takes some 10 ms on a busy machine."""
        below = {
            row.pid: row.parent
            for root in self._roots
            for row in process.descendants(root)
        }
        self._parents = below
        self.family = tuple(dict.fromkeys((*self._roots, *below)))

    def cpu_s(self) -> float:
        """CPU seconds so far of what the last scan found, in steps of a clock tick."""
        return sum(_cpu_s(pid) for pid in self.family)

    def read(self) -> Reading:
        """What each process has used by now, after a scan."""
        self.rescan()
        kinds = {pid: self._kind_of(_command(pid)) for pid in self.family}
        used = {pid: _cpu_s(pid) for pid in self.family}
        return Reading(used, kinds, self._parents)

    def memory_bytes(self) -> int:
        """The proportional set size: pages that several share are counted once."""
        self.rescan()
        return sum(_pss_bytes(pid) for pid in self.family)

    def private_kib(self, kind: str) -> float:
        """What the processes of a kind alone hold (USS)."""
        self.rescan()
        mine = [p for p in self.family if self._kind_of(_command(p)) == kind]
        return sum(_uss_bytes(pid) for pid in mine) / 1024


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    # The last two are of children that were waited for.
    return times.user + times.system + times.children_user + times.children_system


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _pss_bytes(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_full_info().pss
    except psutil.Error:
        return 0


def _uss_bytes(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_full_info().uss
    except psutil.Error:
        return 0
