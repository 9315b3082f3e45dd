"""A PostgreSQL of the tests' own: made, started on a Unix socket, and gone at the end.

Needs Debian's package `postgresql` (or its binaries on the path); without it whoever
asks is skipped, with the reason.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

_numbers = itertools.count(1)
_PACKAGED = "usr/lib/postgresql/*/bin/pg_ctl"


class PostgreSQL:
    """One cluster. Its databases are made by `database`; everybody may do anything."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self.folder = folder
        self._data = folder / "data"
        self._killed = False  # from `kill` on

    def start(self) -> None:
        # Sorts as people do, so that a test sees who relies on the order of bytes.
        locale = ("--locale-provider=icu", "--icu-locale=en", "--locale=C")
        usual = ("--no-sync", "-A", "trust", "-E", "UTF8", "-U", "cfm")
        self._call("initdb", *usual, *locale)
        self.run()

    def run(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        log = str(self.folder / "log")
        self._call("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-w", "-m", "immediate", "stop")

    def end(self) -> None:
        """Stop it if it still runs."""
        if not self._killed:
            self.stop()

    def kill(self) -> None:
        """As if its machine had ended: nobody is told."""
        self._killed = True
        self._signal(signal.SIGKILL)

    def follow(self, primary: PostgreSQL) -> None:
        """Instead of `start`: become a standby that is told what is written there."""
        there = ("-h", str(primary.folder), "-U", "cfm", "-D", str(self._data))
        self._call("pg_basebackup", *there, "-R", "-c", "fast", "--no-sync")
        self.run()

    def promote(self) -> None:
        """From a standby to a primary; it takes writes when this returns."""
        self._call("pg_ctl", "-w", "promote")

    def set(self, name: str, value: str) -> None:
        """Change a setting while it runs; its sessions learn of it, too."""
        change = f"ALTER SYSTEM SET {name} = '{value}'"
        call = ("-h", str(self.folder), "-U", "cfm", "-d", "postgres", "-c", change)
        self._call("psql", *call, "-c", "SELECT pg_reload_conf()")

    def freeze(self) -> None:
        """Every process of it stops where it is."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        head = int((self._data / "postmaster.pid").read_text().split()[0])
        for process in [psutil.Process(head), *psutil.Process(head).children()]:
            with suppress(psutil.NoSuchProcess):  # a child may be of one query alone
                process.send_signal(number)

    def database(self) -> str:
        """The URL of a new and empty database."""
        name = f"cfm{next(_numbers)}"
        self._call("createdb", "-h", str(self.folder), "-U", "cfm", name)
        return f"postgresql://cfm@/{name}?host={self.folder}"

    def _call(self, program: str, *arguments: str) -> None:
        result = subprocess.run(
            [str(self._binaries / program), *arguments],
            env={"PATH": os.environ["PATH"], "PGDATA": str(self._data)},
            user=unprivileged(),
            group=None,
            extra_groups=[] if os.geteuid() == 0 else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            timeout=60,
        )
        assert result.returncode == 0, (program, result.stdout, result.stderr)


def unprivileged() -> int | None:
    """Who runs it: PostgreSQL refuses to be root's."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; Debian keeps them off the path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    packaged = sorted(Path("/").glob(_PACKAGED))
    return packaged[-1].parent if packaged else None


@contextmanager
def own_postgresql(primary: PostgreSQL | None = None) -> Iterator[PostgreSQL]:
    """Started, or following its `primary`; skips the test when there is nothing to
    start."""
    where = binaries()
    if where is None:
        pytest.skip("PostgreSQL is not installed (Debian: the package postgresql)")
    # Not pytest's tmp_path: a Unix socket's path must stay under 104 bytes.
    with tempfile.TemporaryDirectory(prefix="cfm-pg-") as name:
        if (user := unprivileged()) is not None:
            os.chown(name, user, -1)
        server = PostgreSQL(where, Path(name))
        server.start() if primary is None else server.follow(primary)
        try:
            yield server
        finally:
            server.end()
