"""The folders of a running messenger: what lasts, what does not, and who holds them.

Owns the lock of the data folder, the folder for Unix sockets, files of secrets and the
record of child processes, by which a start cleans up after a predecessor that was
killed. Must not start or supervise anything. A second `up` on the same data folder is
refused and told who has it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cfmessenger.cli import process

MARKER = "CFMX_RUNTIME_DIR"


class InUse(Exception):
    """Another process holds the data folder; the text names it."""


class Refused(Exception):
    """A folder or file is not safely ours to use; the text says which and why."""


class Recorded(msgspec.Struct, frozen=True):
    """A child as it was when spawned; it led a session of its own."""

    name: str
    pid: int
    start: int


class _Records(msgspec.Struct):
    boot: str
    children: list[Recorded] = []


def private_folder(path: Path) -> Path:
    """Creates `path` for us alone (0700), or checks that it is ours and private."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused(f"{path} is not a folder of ours")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replaces `path` at once by a file only we can read (0600)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def open_log(path: Path) -> int:
    """A descriptor for appending to a fresh log; the last run's is kept as `.1`."""
    if path.exists():
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class DataFolder:
    """`CFM_DATA_DIR` while we hold it: a context manager around its lock.

    Entering raises `InUse` when another process has it and `Refused` when it cannot be
    used. The lock is the kernel's (flock), so it ends with the process however that
    dies; the file's text only says who has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Refused(f"cannot use {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode().strip() or "unknown"
            os.close(self._lock)
            raise InUse(f"{self.path} is in use by process {holder}") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def secret(self, name: str) -> Path:
        """A 0600 file with 256 random bits as hex, made the first time it is asked for.

        Raises `Refused` when somebody else could have written or can read it.
        """
        path = self.path / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            write_private(path, secrets.token_hex(32))
            return path
        private = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != os.geteuid():
            raise Refused(f"{path} must be a file of ours with mode 0600")
        return path


class RuntimeFolder:
    """Where sockets live: short-lived, private, and with a path short enough for them.

    One per data folder, found again by the next start. Holds nothing worth keeping.
    """

    def __init__(self, data: Path) -> None:
        digest = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]
        # Not TMPDIR: a socket's path must stay under 108 bytes, Ray's long names
        # included.
        self.path = Path(f"/tmp/cfm-{os.geteuid()}-{digest}")

    def open(self) -> None:
        """Makes it, or takes over a predecessor's and removes its sockets and files.

        Folders inside are left to whoever fills them.
        """
        private_folder(self.path)
        for item in self.path.iterdir():
            if item.is_symlink() or not item.is_dir():
                item.unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


class ChildRecords:
    """Which children run, on disk, for a start after a `kill -9` of the whole `up`."""

    def __init__(self, data: Path, runtime: Path) -> None:
        self._path = data / "children.json"
        self._runtime = runtime
        self._children: dict[str, Recorded] = {}
        self._boot = process.boot_id()

    def add(self, name: str, pid: int) -> None:
        """Records a child that was just spawned."""
        row = process.entry(pid)
        if row is not None:
            self._children[name] = Recorded(name, pid, row.start)
            self._write()

    def remove(self, name: str) -> None:
        """Forgets one that has ended, with everything it started."""
        if self._children.pop(name, None) is not None:
            self._write()

    def clear_orphans(self, patience_s: float = 3.0) -> list[str]:
        """Ends what a killed predecessor left running; returns the names of it.

        Blocks for `patience_s` at most. Only processes in a session which a recorded
        child led are touched, and of these only such as started no earlier than it and
        carry our runtime folder; a process that merely inherited an id is a stranger.
        """
        found: dict[process.Entry, str] = {}
        for child in self._read():
            members = process.session_members(child.pid)
            leader = next((e for e in members if e.pid == child.pid), None)
            if leader is not None and leader.start != child.start:
                continue
            found |= {e: child.name for e in members if self._ours(e, child)}
        # Valkey is asked first: it then writes what everysec still owes the disk.
        for target, name in found.items():
            process.send(target, signal.SIGTERM if name == "valkey" else signal.SIGKILL)
        for target in (left := process.wait_gone(found, patience_s)):
            process.send(target, signal.SIGKILL)
        if stuck := process.wait_gone(left, patience_s):
            pids = ", ".join(str(e.pid) for e in stuck)
            raise Refused(f"processes of an earlier start do not end: {pids}")
        self._path.unlink(missing_ok=True)
        return sorted(set(found.values()))

    def _ours(self, row: process.Entry, child: Recorded) -> bool:
        marker = f"{MARKER}={self._runtime}"
        return row.start >= child.start and process.belongs_to(
            row.pid, marker, self._runtime
        )

    def _read(self) -> list[Recorded]:
        try:
            records = msgspec.json.decode(self._path.read_bytes(), type=_Records)
        except (FileNotFoundError, msgspec.DecodeError):
            return []
        return records.children if records.boot == self._boot else []

    def _write(self) -> None:
        records = _Records(self._boot, list(self._children.values()))
        write_private(self._path, msgspec.json.encode(records).decode())


def require_linux() -> None:
    """Raises `Refused` elsewhere: supervision relies on /proc, prctl and pidfds."""
    if sys.platform != "linux":
        raise Refused("`cfmessenger up` needs Linux")
