"""The folders of a running messenger: what lasts, what does not, and who holds them.

Owns the lock of the data folder, the folder for Unix sockets, files of secrets and how
a start recognises what a predecessor that was killed left running. Must not start or
supervise anything. A second `up` on the same data folder is refused and told who has
it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cfmessenger.cli import process

log = logging.getLogger("cfmessenger.up")

MARKER = "CFMX_RUNTIME_DIR"
CHILD = "CFMX_CHILD"
"""In the environment of every child: our runtime folder, and under which name it runs.
They tell a later start whose these are."""

ROOM_TO_WRITE = 64 * 1024


class InUse(Exception):
    """Another process holds a folder; the text names both."""


class Refused(Exception):
    """A folder or file is not safely ours to use; the text says which and why."""


class LockedFolder:
    """Nothing else opens this folder while a process that was given `fd` lives.

    For a child to which the descriptor is handed over (and which its own children then
    share): the lock (flock) is of the open file, so it ends with the last of them,
    however that dies and whether we live or not, and holds for whoever comes to the
    same folder by another path. Raises `InUse`, naming the holder.
    """

    def __init__(self, folder: Path) -> None:
        # A file, because some network file systems cannot lock a folder.
        path = folder / "lock"
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = ", ".join(map(str, process.holders(os.fstat(self.fd))))
            os.close(self.fd)
            who = f"process {found}" if found else "a process that is not seen here"
            raise InUse(f"{folder} is in use by {who}") from None
        except BaseException:
            os.close(self.fd)
            raise


def told(error: OSError) -> str:
    """The error as one sentence: what, where, and what to do about it if we know."""
    why = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{why}" + (f" ({advice})" if advice else "")


_ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of the quota there",
    errno.EROFS: "it must be writable",
    errno.EACCES: "it must be ours to write",
    errno.EPERM: "it must be ours to write",
    errno.EEXIST: "a file is where a folder must be",
    errno.ENOTDIR: "a file is where a folder must be",
    errno.EMFILE: "raise the limit of open files, ulimit -n",
    errno.ENFILE: "the machine has too many open files",
    errno.ENOMEM: "the machine has no memory left",
    errno.EAGAIN: "raise the limit of processes, ulimit -u",
    errno.EADDRINUSE: "end whoever has it, or choose another with CFM_PORT",
}


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
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_writable(folder: Path) -> None:
    """Raises OSError, with the folder's name, unless a file of 64 KiB fits in there."""
    draft = folder / f".space.{os.getpid()}"
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Written, not reserved: some file systems pretend.
            if os.write(fd, bytes(ROOM_TO_WRITE)) < ROOM_TO_WRITE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None


def open_log(path: Path) -> int | None:
    """A descriptor for appending to a fresh log; the last run's is kept as `.1`.

    None where there can be none: a log is no reason not to serve.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        with suppress(FileNotFoundError):
            path.replace(path.with_name(path.name + ".1"))
        return os.open(path, flags, 0o600)
    except OSError as error:
        log.warning("no log: %s", told(error))
        return None


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
        except OSError as error:
            raise Refused(self._unusable(error)) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode().strip() or "unknown"
            os.close(self._lock)
            raise InUse(f"{self.path} is in use by process {holder}") from None
        try:
            check_writable(self.path)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise Refused(self._unusable(error)) from None
        return self

    def _unusable(self, error: OSError) -> str:
        error.filename = None  # said already
        return f"cannot use the data folder {self.path}: {told(error)}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
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
    Below /tmp cleaners come by: `keep` shows them that it is in use, and whoever puts
    something here makes the folder anew (`private_folder`) if one came all the same.
    """

    def __init__(self, data: Path) -> None:
        digest = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:12]
        # Not TMPDIR: a socket's path must stay under 108 bytes, Ray's long names
        # included.
        self.path = Path(f"/tmp/cfm-{os.geteuid()}-{digest}")
        self._held = -1  # the folder itself, locked, from `open` to `remove`

    def open(self) -> None:
        """Makes it, or takes over a predecessor's and removes its sockets and files.

        Folders inside are left to whoever fills them. Raises `Refused`.
        """
        made = not self.path.exists()
        try:
            private_folder(self.path)
            check_writable(self.path)
            for item in self.path.iterdir():
                if item.is_symlink() or not item.is_dir():
                    item.unlink(missing_ok=True)
            self.keep()
        except OSError as error:
            if made:
                self.remove()
            error.filename = None
            raise Refused(
                f"cannot use {self.path}, the folder for sockets: {told(error)}"
            ) from None

    def keep(self) -> None:
        """Keeps cleaners away; to be repeated, more often than they look.

        systemd-tmpfiles passes over a folder that is locked, with all below it; others
        (tmpreaper, tmpwatch) go by times. Raises OSError.
        """
        if self._held < 0 or os.fstat(self._held).st_nlink == 0:
            self._let_go()
            self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Shared, and not waited for: a cleaner may be looking right now.
            with suppress(BlockingIOError):
                fcntl.flock(self._held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        for folder, _, files in os.walk(self.path):
            for name in ("", *files):
                with suppress(OSError):
                    os.utime(os.path.join(folder, name), follow_symlinks=False)

    def remove(self) -> None:
        """Deletes it with all that is in it."""
        self._let_go()
        shutil.rmtree(self.path, ignore_errors=True)

    def _let_go(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def end_leftovers(runtime: Path, patience_s: float = 3.0) -> list[str]:
    """Ends what a killed predecessor left running; returns the names of it.

    Blocks for `patience_s` a time. A process is recognised by what it carries since its
    spawn, so nothing has to be written down that could not be written or could go
    stale: our runtime folder in its environment, or, since programs that set their
    title overwrite that, in this folder of ours and without a leader of its session
    that could be somebody's shell. Never a process that we descend from. Raises
    `Refused` for one that does not end.
    """
    found = _leftovers(runtime)
    # Valkey is asked first: it then writes what everysec still owes the disk.
    for target, name in found.items():
        process.send(target, signal.SIGTERM if name == "valkey" else signal.SIGKILL)
    for target in (left := process.wait_gone(found, patience_s)):
        process.send(target, signal.SIGKILL)
    if stuck := process.wait_gone(left, patience_s):
        pids = ", ".join(str(e.pid) for e in stuck)
        raise Refused(f"processes of an earlier start do not end: {pids}")
    return sorted({name for name in found.values() if name})


def _leftovers(runtime: Path) -> dict[process.Entry, str]:
    """Them, each with the name of the child that it is or was started by, if known."""
    table = {row.pid: row for row in process.entries() if row.state != "Z"}
    pid = os.getpid()
    while (us := table.pop(pid, None)) is not None:
        pid = us.parent
    carried = {row: process.environment(row.pid) for row in table.values()}
    ours = {
        row: env.get(CHILD, "")
        for row, env in carried.items()
        if env.get(MARKER) == str(runtime)
    }
    names = {row.session: name for row, name in ours.items()}
    for row in table.values():
        leader = table.get(row.session)
        if row in ours or not process.runs_in(row.pid, runtime):
            continue
        if leader is None or leader in ours:
            ours[row] = names.get(row.session, "")
    return ours


def require_linux() -> None:
    """Raises `Refused` elsewhere: supervision relies on /proc, prctl and pidfds."""
    if sys.platform != "linux":
        raise Refused("`cfmessenger up` needs Linux")
