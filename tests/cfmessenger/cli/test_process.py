"""Processes are found and signalled by id and start time, never mistaken."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfmessenger.cli import process

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
# Has a child of its own, says its id, and ignores everything.
PARENT = [
    *(sys.executable, "-S", "-c"),
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; "
    "time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)",
]


@contextmanager
def spawned(command: list[str], **env: str) -> Iterator[subprocess.Popen[bytes]]:
    popen = process.spawn(command, env, death_signal=signal.SIGKILL)
    try:
        yield popen
    finally:
        for row in process.session_members(popen.pid):
            process.send(row, signal.SIGKILL)
        popen.wait(10)


def test_a_child_leads_a_session_of_its_own() -> None:
    with spawned(SLEEP) as popen:
        row = process.entry(popen.pid)
        assert row is not None
        assert (row.parent, row.session) == (os.getpid(), popen.pid)
        assert popen.pid in {row.pid for row in process.descendants(os.getpid())}
        assert [row.pid for row in process.session_members(popen.pid)] == [popen.pid]


def test_a_signal_reaches_only_the_very_process() -> None:
    with spawned(SLEEP) as popen:
        row = process.entry(popen.pid)
        assert row is not None
        process.send(row._replace(start=row.start + 1), signal.SIGKILL)
        assert process.wait_gone([row], 0.05) == [row]  # still there
        process.send(row, signal.SIGKILL)
        assert process.wait_gone([row], 10) == []
        popen.wait(10)
        process.send(row, signal.SIGKILL)  # gone: nothing happens
        assert process.entry(popen.pid) is None


def test_environment_and_folder_tell_whose_a_process_is(tmp_path: Path) -> None:
    with spawned(SLEEP, MARK="a=b") as popen:
        assert process.environment(popen.pid)["MARK"] == "a=b"
        assert process.runs_in(popen.pid, Path.cwd())
        assert not process.runs_in(popen.pid, tmp_path)
    assert process.environment(popen.pid) == {}
    assert not process.runs_in(popen.pid, Path.cwd())


def test_a_deleted_folder_is_still_where_a_process_runs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    popen = process.spawn(SLEEP, {}, death_signal=signal.SIGKILL, cwd=folder)
    folder.rmdir()
    assert process.runs_in(popen.pid, folder)
    popen.kill()
    popen.wait(10)


def test_who_has_a_file_open_is_found(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    popen = process.spawn(SLEEP, {}, death_signal=signal.SIGKILL, inherit=[fd])
    assert process.holders(os.fstat(fd)) == [popen.pid]
    popen.kill()
    popen.wait(10)
    assert process.holders(os.fstat(fd)) == []
    os.close(fd)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from cfmessenger.cli import process\n"
        f"child = process.spawn({SLEEP!r}, {{}}, death_signal=signal.SIGKILL)\n"
        "print(child.pid, process.entry(child.pid).start, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, start = map(int, parent.stdout.readline().split())
        row = process.entry(pid)
        assert row is not None and row.start == start
        parent.kill()
        assert process.wait_gone([row], 10) == []


def test_stdout_of_a_child_is_not_ours(capfd) -> None:  # type: ignore[no-untyped-def]
    with spawned([sys.executable, "-S", "-c", "print('hello')"]) as popen:
        assert popen.wait(10) == 0
    assert capfd.readouterr() == ("", "hello\n")


def test_grandchildren_are_descendants() -> None:
    ours, theirs = os.pipe()
    popen = process.spawn(PARENT, {}, death_signal=signal.SIGKILL, output=theirs)
    os.close(theirs)
    try:
        with open(ours) as said:
            grandchild = int(said.readline())
        found = {row.pid for row in process.descendants(os.getpid())}
        assert {popen.pid, grandchild} <= found
    finally:
        family = set(process.session_members(popen.pid))
        for row in family:
            process.send(row, signal.SIGKILL)
        popen.wait(10)
    assert process.wait_gone(family, 10.0) == []
    assert process.session_members(popen.pid) == []


def test_how_a_process_ended_in_words() -> None:
    assert process.how_ended(-signal.SIGTERM) == "SIGTERM"
    assert (
        process.how_ended(-signal.SIGRTMIN - 1) == f"exit code {-signal.SIGRTMIN - 1}"
    )
    assert process.how_ended(3) == "exit code 3"
