"""Folders, their lock, secrets on disk, and what is done about a dead predecessor."""

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfmessenger.cli import process
from cfmessenger.cli.runtime import (
    CHILD,
    MARKER,
    DataFolder,
    InUse,
    LockedFolder,
    Refused,
    RuntimeFolder,
    end_leftovers,
    open_log,
    private_folder,
    told,
    write_private,
)

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "data") as data:
        assert mode(data.path) == 0o700
        with pytest.raises(InUse, match=f"in use by process {os.getpid()}$"):
            DataFolder(data.path).__enter__()
    with DataFolder(tmp_path / "data"):
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from cfmessenger.cli.runtime import DataFolder\n"
        "with DataFolder(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InUse, match=f"process {holder.pid}$"):
            DataFolder(tmp_path).__enter__()
        holder.kill()
        holder.wait(10)
        with DataFolder(tmp_path):
            pass


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="cannot use"):
        DataFolder(tmp_path / "file").__enter__()


def test_a_secret_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as data:
        path = data.secret("ray.token")
        text = path.read_text()
        assert len(text) == 64 and mode(path) == 0o600
        assert data.secret("ray.token").read_text() == text
        path.chmod(0o640)
        with pytest.raises(Refused, match="0600"):
            data.secret("ray.token")
        path.unlink()
        path.symlink_to(tmp_path / "lock")
        with pytest.raises(Refused, match="0600"):
            data.secret("ray.token")


def test_a_private_file_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_logs_keep_one_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"1", b"2", b"3"):
        fd = open_log(path)
        assert fd is not None
        os.write(fd, text)
        os.close(fd)
    assert path.read_bytes() == b"3"
    assert (tmp_path / "log.1").read_bytes() == b"2"


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Refused, match="not a folder of ours"):
        private_folder(tmp_path / "link")
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
        with pytest.raises(Refused, match="not a folder of ours"):
            private_folder(foreign)


def test_the_runtime_folder_is_short_private_and_found_again(tmp_path: Path) -> None:
    folder = RuntimeFolder(tmp_path)
    assert folder.path == RuntimeFolder(tmp_path / "x" / "..").path
    assert folder.path != RuntimeFolder(tmp_path / "other").path
    # Ray adds up to 75 characters, and a socket's path has 107.
    assert len(str(folder.path)) <= 32
    folder.path.mkdir(mode=0o755)
    try:
        (folder.path / "stale.sock").touch()
        folder.open()
        assert mode(folder.path) == 0o700
        assert list(folder.path.iterdir()) == []
    finally:
        folder.remove()
    assert not folder.path.exists()


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts what a killed `up` would leave, as some of its children."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        name: str, command: list[str] = SLEEP, **more: str
    ) -> subprocess.Popen[bytes]:
        env = {MARKER: str(tmp_path / "run"), CHILD: name, **more}
        started.append(process.spawn(command, env, death_signal=signal.SIGKILL))
        return started[-1]

    yield start
    for popen in started:
        popen.kill()
        popen.wait(10)


Orphan = Callable[..., subprocess.Popen[bytes]]


def ended(popen: subprocess.Popen[bytes]) -> int:
    return popen.wait(10)


def test_what_a_killed_up_left_is_ended(orphan: Orphan, tmp_path: Path) -> None:
    gateway = orphan("gateway-0")
    assert end_leftovers(tmp_path / "run") == ["gateway-0"]
    assert ended(gateway) == -signal.SIGKILL
    assert end_leftovers(tmp_path / "run") == []


def test_valkey_is_asked_before_it_is_killed(orphan: Orphan, tmp_path: Path) -> None:
    valkey = orphan("valkey")
    assert end_leftovers(tmp_path / "run") == ["valkey"]
    assert ended(valkey) == -signal.SIGTERM


def test_a_process_without_its_environment_is_known_by_its_folder(
    tmp_path: Path,
) -> None:
    # As Ray's workers, whose titles overwrite it, once `ray start` itself is dead.
    (tmp_path / "run").mkdir()
    script = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen({SLEEP!r}, env={{}})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    leader = process.spawn(
        [sys.executable, "-S", "-c", script],
        {},
        death_signal=signal.SIGKILL,
        cwd=tmp_path / "run",
    )
    ended(leader)
    left = process.session_members(leader.pid)
    assert len(left) == 1
    assert end_leftovers(tmp_path / "run") == []  # its name is not known
    assert process.wait_gone(left, 0) == []


def test_somebody_who_looks_around_in_the_folder_is_left_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    shell = process.spawn(SLEEP, {}, death_signal=signal.SIGKILL, cwd=tmp_path / "run")
    assert end_leftovers(tmp_path / "run") == []
    assert shell.poll() is None
    shell.kill()
    ended(shell)


def test_another_messenger_is_left_alone(orphan: Orphan, tmp_path: Path) -> None:
    other = orphan("gateway-0", **{MARKER: str(tmp_path / "run-2")})
    assert end_leftovers(tmp_path / "run") == []
    assert other.poll() is None


def test_a_start_below_a_child_of_ours_does_not_end_itself(
    orphan: Orphan, tmp_path: Path
) -> None:
    script = (
        "from pathlib import Path\n"
        "from cfmessenger.cli.runtime import end_leftovers\n"
        f"end_leftovers(Path({str(tmp_path / 'run')!r}))"
    )
    inner = orphan("gateway-0", [sys.executable, "-c", script])
    assert ended(inner) == 0


def test_a_folder_is_locked_by_the_process_it_was_handed_to(tmp_path: Path) -> None:
    """Whatever becomes of who started it, and from whichever path others come."""
    lock = LockedFolder(tmp_path)
    holder = process.spawn(SLEEP, {}, death_signal=signal.SIGKILL, inherit=[lock.fd])
    os.close(lock.fd)
    link = tmp_path.with_name("link")
    link.symlink_to(tmp_path)
    with pytest.raises(InUse, match=f"link is in use by process {holder.pid}$"):
        LockedFolder(link)
    holder.kill()
    ended(holder)
    os.close(LockedFolder(link).fd)


def test_an_error_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        (tmp_path / "none" / "file").write_text("")
    assert told(caught.value) == f"{tmp_path}/none/file: No such file or directory"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data")
    assert told(full) == ("/data: No space left on device (free some space there)")


def test_a_log_that_cannot_be_opened_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert open_log(tmp_path / "file" / "log") is None
    assert open_log(tmp_path / "none" / "log") is None


def test_the_runtime_folder_is_held_against_cleaners(tmp_path: Path) -> None:
    folder = RuntimeFolder(tmp_path)
    folder.open()
    try:
        (folder.path / "ray").mkdir()
        stale = [folder.path, folder.path / "ray", folder.path / "ray" / "file"]
        stale[-1].touch()
        for path in stale:
            os.utime(path, (0, 0))
        folder.keep()
        assert all(path.stat().st_mtime > 1e9 for path in stale)
        # What systemd-tmpfiles does before it looks into a folder.
        fd = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
        # Deleted and made again, it is another one to hold.
        shutil.rmtree(folder.path)
        private_folder(folder.path)
        folder.keep()
        fd = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    finally:
        folder.remove()
