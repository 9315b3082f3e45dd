"""Folders, their lock, secrets on disk, and what is done about a dead predecessor."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cfmessenger.cli import process
from cfmessenger.cli.runtime import (
    MARKER,
    ChildRecords,
    DataFolder,
    InUse,
    Recorded,
    Refused,
    RuntimeFolder,
    open_log,
    private_folder,
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
def orphan(tmp_path: Path) -> subprocess.Popen[bytes]:
    env = {MARKER: str(tmp_path / "run")}
    return process.spawn(SLEEP, env, death_signal=signal.SIGKILL)


def ended(popen: subprocess.Popen[bytes]) -> int:
    return popen.wait(10)


def test_a_recorded_orphan_is_ended(
    orphan: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    ChildRecords(tmp_path, tmp_path / "run").add("gateway-0", orphan.pid)
    later = ChildRecords(tmp_path, tmp_path / "run")
    assert later.clear_orphans() == ["gateway-0"]
    assert ended(orphan) == -signal.SIGKILL
    assert later.clear_orphans() == []


def test_valkey_is_asked_before_it_is_killed(
    orphan: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    ChildRecords(tmp_path, tmp_path / "run").add("valkey", orphan.pid)
    assert ChildRecords(tmp_path, tmp_path / "run").clear_orphans() == ["valkey"]
    assert ended(orphan) == -signal.SIGTERM


@pytest.mark.parametrize("wrong", ["start", "boot", "marker", "forgotten"])
def test_a_stranger_with_the_same_id_is_left_alone(
    wrong: str, orphan: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    run = tmp_path / ("other" if wrong == "marker" else "run")
    records = ChildRecords(tmp_path, run)
    records.add("gateway-0", orphan.pid)
    path = tmp_path / "children.json"
    if wrong == "start":
        row = process.entry(orphan.pid)
        assert row is not None
        child = Recorded("gateway-0", orphan.pid, row.start - 1)
        saved = {"boot": process.boot_id(), "children": [child]}
        path.write_bytes(msgspec.json.encode(saved))
    elif wrong == "boot":
        path.write_text(path.read_text().replace(process.boot_id(), "another"))
    elif wrong == "forgotten":
        records.remove("gateway-0")
    assert ChildRecords(tmp_path, run).clear_orphans() == []
    assert orphan.poll() is None
    orphan.kill()
    ended(orphan)


def test_an_unreadable_record_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text("{")
    assert ChildRecords(tmp_path, tmp_path / "run").clear_orphans() == []
