"""Operating-system processes as this product needs them (Linux).

Owns spawning a child that dies with its parent, and finding, signalling and waiting
for processes by id without ever hitting a stranger: an id is believed only together
with the process's start time, and signals go through a pidfd. Must not decide who is to
be started, restarted or ended; nothing here matches a process by name.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Loaded at import: between fork and exec nothing may be looked up.
_libc = ctypes.CDLL(None, use_errno=True)


class Entry(NamedTuple):
    """One row of the process table; `pid` and `start` together name a process.

    Not psutil's: it gives the start as wall clock time, which moves when the clock is
    set, and a whole table takes it more than twice as long.
    """

    pid: int
    state: str
    parent: int
    session: int
    start: int  # clock ticks since boot


def entry(pid: int) -> Entry | None:
    """The process's row, or None when there is no such process."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and brackets: what counts is after the last.
    fields = stat.rpartition(")")[2].split()
    return Entry(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def entries() -> list[Entry]:
    """Every process there is, zombies included."""
    return [row for pid in psutil.pids() if (row := entry(pid)) is not None]


def descendants(pid: int) -> list[Entry]:
    """Children, grandchildren and so on, without zombies."""
    table = entries()
    found, family = [], {pid}
    while more := [e for e in table if e.parent in family and e.pid not in family]:
        family.update(e.pid for e in more)
        found += more
    return [e for e in found if e.state != "Z"]


def session_members(session: int) -> list[Entry]:
    """Who is in the session that the process `session` leads or led."""
    return [e for e in entries() if e.session == session and e.state != "Z"]


def environment(pid: int) -> dict[str, str]:
    """What it was started with; {} if it is gone, not ours, or has overwritten that."""
    try:
        return dict(psutil.Process(pid).environ())
    except psutil.Error:
        return {}


def runs_in(pid: int, folder: Path) -> bool:
    """Whether its working folder is this one or below."""
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


def holders(file: os.stat_result) -> list[int]:
    """Ids of the other processes that have this file open, as far as we may look.

    psutil lists open files by path; the same file may have several, or none left.
    """
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir() if pid != os.getpid() else ():
                with suppress(OSError):
                    if os.path.samestat(fd.stat(), file):
                        found.append(pid)
                        break
    return found


def send(target: Entry, number: int) -> None:
    """Signals exactly that process; one that is gone, or not ours, is left alone."""
    try:
        handle = os.pidfd_open(target.pid)
    except OSError:
        return
    try:
        now = entry(target.pid)
        if now is not None and now.start == target.start:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)


def wait_gone(targets: Iterable[Entry], timeout_s: float) -> list[Entry]:
    """Blocks until they have ended; returns those that have not in `timeout_s`."""
    end = time.monotonic() + timeout_s
    left = []
    for target in targets:
        try:
            handle = os.pidfd_open(target.pid)
        except OSError:
            continue
        try:
            now = entry(target.pid)
            if now is None or now.start != target.start:
                continue
            patience = max(0.0, end - time.monotonic())
            if not select.select([handle], [], [], patience)[0]:
                left.append(target)
        finally:
            os.close(handle)
    return left


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes our own child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def spawn(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    death_signal: signal.Signals,
    cwd: Path | None = None,
    inherit: Sequence[int] = (),
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a child in a session of its own; it gets `death_signal` if we die.

    A session of its own, because Ctrl-C in a terminal would else reach every process at
    once and the order of a shutdown would be lost. Only the descriptors in `inherit`
    pass. stdout and stderr go to `output`, or both to our stderr: our stdout is for one
    line only. Call it from the main thread, whose end is what the kernel watches.
    """
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return subprocess.Popen(
        list(command),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=2 if output is None else output,
        stderr=2 if output is None else output,
        pass_fds=tuple(inherit),
        start_new_session=True,
        preexec_fn=in_child,
    )


def how_ended(code: int) -> str:
    """A return code in words: the signal's name, or the exit code."""
    with suppress(ValueError):  # real-time signals have no name
        if code < 0:
            return signal.Signals(-code).name
    return f"exit code {code}"


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
