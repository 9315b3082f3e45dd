"""The memory this process and its siblings share: the machine's or the container's.

A container's limit is its control group's (version 2, or 1), which is mounted where the
machine's would be.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

__all__ = ["Memory", "memory", "settled"]

CGROUP = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


class Memory(NamedTuple):
    """In bytes. `available`: without swapping, as far as the kernel can tell."""

    total: int
    available: int

    @property
    def share(self) -> float:
        """Of all of it, what is available: 0 to 1."""
        return self.available / self.total


def memory(cgroup: Path = CGROUP) -> Memory:
    """As it is now; of machine and container whichever has less to give."""
    machine = psutil.virtual_memory()
    found = [Memory(machine.total, machine.available)]
    for limit, used, stat, cache in _FILES:
        try:
            total = int((cgroup / limit).read_text())
            taken = int((cgroup / used).read_text())
            lines = (cgroup / stat).read_text().splitlines()
        except (OSError, ValueError):  # there is none, or it says `max`
            continue
        # What was read from files and is not in use would be given up at once.
        for name, _, value in (line.partition(" ") for line in lines):
            if name == cache:
                taken -= int(value)
        if 0 < total < machine.total:
            found.append(Memory(total, max(total - taken, 0)))
    return Memory(min(m.total for m in found), min(m.available for m in found))


# After so many new objects the youngest are looked through, and after so many such
# looks those that are older. Of a crowd that comes in nearly all live on: while 6,000
# sockets came, with Python's 700 and 10, the looks took 43 us a socket, one of them at
# most 7 ms, and everything was looked at three times, at 67 ms. Now it is 27 us, 5 ms,
# and once.
YOUNG, LOOKS = 5_000, 3


def settled() -> None:
    """This process has all that it keeps for good: modules, and what was made of them.

    The collector looks at it no more. It took 55 ms each time, in which everybody
    waited, most often just when many came at once.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, LOOKS)
