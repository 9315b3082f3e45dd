"""What a process does with its time: seen at two moments, told as shares of a core.

Owns reading it off `/proc` (proc_pid_stat(5), and schedstat of the kernel's
sched-stats.rst) and the name that people know a process by. Whose processes are looked
at is `machine`'s.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .result import Process

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SHOWN_THREADS = 5
_LEAST_SHARE = 0.005
"""Of a core: a thread that takes less is not told."""


class Seen(NamedTuple):
    """A process at a moment: seconds since it began, of all its threads.

    `waited_s` is for a core, when it could have run; `threads` is CPU by their names.
    """

    name: str
    user_s: float
    system_s: float
    waited_s: float
    threads: Mapping[str, float]


def seen(pid: int, command: Sequence[str], user_s: float, system_s: float) -> Seen:
    """What there is to see of it by now; what may not be read is 0."""
    threads: Counter[str] = Counter()
    waited_ns = 0
    for task in _tasks(pid):
        try:
            stat = Path(task, "stat").read_text()
            waited_ns += int(Path(task, "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended, or the kernel keeps no count
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        threads[name] += int(fields[11]) + int(fields[12])
    by_name = {name: ticks * _TICK_S for name, ticks in threads.items()}
    return Seen(named(command), user_s, system_s, waited_ns / 1e9, by_name)


def _tasks(pid: int) -> list[str]:
    folder = f"/proc/{pid}/task"
    try:
        return [f"{folder}/{each}" for each in os.listdir(folder)]
    except OSError:
        return []


def named(command: Sequence[str]) -> str:
    """A process as people know it, of its command line."""
    if not command or not command[0]:
        return "?"
    first = command[0].split()[0]
    if first.startswith("ray::"):
        return first
    program = os.path.basename(first.rstrip(":"))
    if not program.startswith("python"):
        return program
    rest = [each for each in command[1:] if not each.startswith("-")]
    if rest and os.path.basename(rest[0]) == "cfmessenger":
        return " ".join(["cfmessenger", *rest[1:2]])
    return f"{program} {os.path.basename(rest[0])}" if rest else program


def spent(
    before: Mapping[int, Seen], after: Mapping[int, Seen], seconds: float
) -> list[Process]:
    """What each did in between, the busiest first; who came since is not in it."""
    found = []
    for pid in before.keys() & after.keys():
        a, b = before[pid], after[pid]
        threads = {
            name: round((s - a.threads.get(name, 0.0)) / seconds, 3)
            for name, s in b.threads.items()
        }
        busiest = sorted(threads, key=lambda name: (-threads[name], name))
        found.append(
            Process(
                pid=pid,
                name=b.name,
                user=round((b.user_s - a.user_s) / seconds, 3),
                system=round((b.system_s - a.system_s) / seconds, 3),
                waited=round((b.waited_s - a.waited_s) / seconds, 3),
                threads={
                    name: threads[name]
                    for name in busiest[:_SHOWN_THREADS]
                    if threads[name] >= _LEAST_SHARE
                },
            )
        )
    return sorted(found, key=lambda each: (-each.share, each.pid))
