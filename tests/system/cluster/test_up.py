"""`cfmessenger up` as a user runs it: a real Ray, a real Valkey, every real process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import valkey

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from tests.effort import long_only
from tests.patience import Stopwatch

# Its coverage is behaviour of processes, so the machine's load is part of each test.
pytestmark = pytest.mark.cluster

STOP_S = 10.0

# Half of what a start takes is Ray's workers: here no more of them than it needs.
FEW_WORKERS = {
    "CFM_WARM_WORKERS": "0",
    "CFM_POOL_SIZE": "1",
    "CFM_BOTS_ACTIVE": "0",
}


class Messenger:
    """One `up` in a data folder; a test may start several, one after another."""

    def __init__(self, data: Path, **env: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        with (data.parent / "stderr").open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "cfmessenger", "up", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**inherited, "CFM_DATA_DIR": str(data), **env},
            )
        self.runtime = RuntimeFolder(data).path
        self.seen: set[process.Entry] = set()

    def wait_ready(self) -> "Messenger":
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line.startswith("CF Messenger is ready at http://127.0.0.1:"), line
        self.url = line.split()[-1]
        self.family()
        return self

    def family(self) -> list[process.Entry]:
        """Every process it started, and remembers them."""
        found = process.descendants(self.popen.pid)
        self.seen.update(found)
        return found

    def child(self, wanted: str) -> process.Entry:
        """The direct or indirect child whose command contains `wanted`."""
        return next(row for row in self.family() if wanted in command(row))

    def valkey(self) -> "valkey.Valkey":
        return valkey.Valkey.from_url((self.runtime / "valkey.url").read_text())

    def serves(self, path: str = "/readyz") -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_serving(self) -> None:
        """Until it answers that it is ready; a look at its parts takes a second."""
        watch = Stopwatch()
        while not self.serves():
            assert watch.seconds < 10.0
            time.sleep(0.1)

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signals it; returns the seconds until it and all it started are gone."""
        self.family()
        began = Stopwatch()
        self.popen.send_signal(number)
        assert self.popen.wait(STOP_S + 5) == 0
        assert left_of(self.seen, 0.0) == []
        assert self.popen.stdout is not None and self.popen.stdout.read() == ""
        return began.seconds


def command(row: process.Entry) -> str:
    try:
        return (
            Path(f"/proc/{row.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        )
    except (OSError, UnicodeDecodeError):
        return ""


def left_of(rows: set[process.Entry], patience_s: float) -> list[str]:
    return [command(row) for row in process.wait_gone(rows, patience_s)]


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    watch = Stopwatch()
    while not condition():
        assert watch.seconds < timeout_s
        time.sleep(0.05)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data: Path) -> Iterator[Callable[..., Messenger]]:
    started: list[Messenger] = []

    def begin(few_workers: bool = True, **env: str) -> Messenger:
        few = FEW_WORKERS if few_workers else {}
        started.append(Messenger(data, **few | env))
        return started[-1]

    yield begin
    for messenger in started:
        for row in messenger.seen | set(process.descendants(messenger.popen.pid)):
            process.send(row, signal.SIGKILL)
        messenger.popen.kill()
        messenger.popen.wait(10)
        assert messenger.popen.stdout is not None
        messenger.popen.stdout.close()
    RuntimeFolder(data).remove()


def test_one_life(start: Callable[..., Messenger], data: Path) -> None:
    up = start(few_workers=False, CFM_GATEWAYS="2").wait_ready()
    up.wait_serving()

    # A second start says who has the folder, and leaves the first alone.
    second = subprocess.run(
        [sys.executable, "-m", "cfmessenger", "up", "--data-dir", str(data)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"cfmessenger: {data} is in use by process {up.popen.pid}\n"
    )

    # Nothing listens beyond loopback, nothing starves, no secret is in an argument.
    token = (data / "ray.token").read_text()
    password = (up.runtime / "valkey.url").read_text().split(":")[2].partition("@")[0]
    for row in up.family():
        member = psutil.Process(row.pid)
        listening = [
            c.laddr.ip
            for c in member.net_connections(kind="tcp")
            if c.status == psutil.CONN_LISTEN
        ]
        assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}, command(row)
        assert member.nice() == 0, command(row)
        assert token not in command(row) and password not in command(row)
        if "ray" in command(row):
            assert "CFM_" not in "".join(member.environ()), command(row)

    with up.valkey() as kv:
        assert kv.set("cfm:kept", "1")
    assert up.end() < STOP_S
    assert not up.runtime.exists()
    assert (data / "logs" / "ray" / "raylet.out").is_file()

    again = start().wait_ready()
    with again.valkey() as kv:
        assert kv.get("cfm:kept") == b"1"
    assert again.end(signal.SIGINT) < STOP_S


@long_only
def test_a_killed_up_leaves_nothing_in_the_way(start: Callable[..., Messenger]) -> None:
    up = start().wait_ready()
    with up.valkey() as kv:
        assert kv.set("cfm:kept", "1")
    up.popen.kill()
    up.popen.wait(10)

    # At once, while Ray's processes have not all noticed.
    again = start().wait_ready()
    assert left_of(up.seen, 0.0) == []
    with again.valkey() as kv:
        assert kv.get("cfm:kept") == b"1"
        assert kv.set("cfm:kept", "2")

    # Every process at the same time.
    for row in [*again.family(), process.entry(again.popen.pid)]:
        assert row is not None
        process.send(row, signal.SIGKILL)
    again.popen.wait(10)
    assert left_of(again.seen, 10.0) == []
    third = start().wait_ready()
    with third.valkey() as kv:
        assert kv.get("cfm:kept") == b"2"
    assert third.end() < STOP_S


@long_only
def test_whatever_dies_is_there_again(start: Callable[..., Messenger]) -> None:
    up = start().wait_ready()
    for wanted in ("cfmessenger gateway", "valkey-server", "gcs_server"):
        before = {name: up.child(name) for name in (wanted, "cfmessenger namespace")}
        process.send(before[wanted], signal.SIGKILL)
        assert left_of({before[wanted]}, 10.0) == []
        eventually(lambda wanted=wanted: any(wanted in command(r) for r in up.family()))
        if wanted == "gcs_server":
            # The driver of a cluster that is gone goes too.
            assert left_of({before["cfmessenger namespace"]}, 10.0) == []
        eventually(up.serves)
    assert up.end() < STOP_S


def test_a_stop_during_the_start(start: Callable[..., Messenger]) -> None:
    up = start()
    eventually(lambda: any("gcs_server" in command(row) for row in up.family()))
    assert up.end() < STOP_S


@long_only
def test_the_second_signal_does_not_wait(start: Callable[..., Messenger]) -> None:
    up = start().wait_ready()
    # Stopped, the raylet and the rooms cannot go in good order.
    for row in up.family():
        process.send(row, signal.SIGSTOP)
    up.popen.send_signal(signal.SIGINT)
    began = Stopwatch()
    time.sleep(0.2)
    up.popen.send_signal(signal.SIGINT)
    assert up.popen.wait(10) == 0
    assert began.seconds < 3
    assert left_of(up.seen, 0.0) == []


@long_only
def test_valkey_of_somebody_else(
    start: Callable[..., Messenger], valkey_url: str, data: Path
) -> None:
    up = start(CFM_VALKEY_URL=valkey_url).wait_ready()
    up.wait_serving()
    assert not any("valkey-server" in command(row) for row in up.family())
    assert not (data / "valkey").exists()
    assert up.end() < STOP_S


def refused(data: Path, *args: str, **env: str) -> str:
    """The one line of a start that fails, after which nothing is left."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
    done = subprocess.run(
        [sys.executable, "-m", "cfmessenger", "up", "--data-dir", str(data), *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, **env},
    )
    line, rest = done.stderr.split("\n", 1)
    assert (done.stdout, rest) == ("", "")
    assert not RuntimeFolder(data).path.exists()
    return f"{done.returncode} {line}"


def test_a_port_that_is_taken_is_one_line(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refused(data, "--port", port) == (
            f"1 cfmessenger: cannot listen on 127.0.0.1:{port}: Address already in use "
            "(end whoever has it, or choose another with CFM_PORT)"
        )


def test_users_that_cannot_be_read_are_one_line(data: Path) -> None:
    assert refused(data, "--port", "0", CFM_USERS="/does/not/exist") == (
        "3 cfmessenger: CFM_USERS: expected a readable file, No such file or directory"
    )


def test_a_valkey_that_nobody_answers_is_one_line(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"valkey://cfm:secret@{place}"
    assert refused(data, "--port", "0", CFM_VALKEY_URL=url) == (
        f"1 cfmessenger: CFM_VALKEY_URL: valkey://{place} does not answer: "
        "Connection refused (start it there, or correct the setting)"
    )


def test_a_data_folder_that_is_full_or_cannot_be_made_is_one_line(data: Path) -> None:
    data.write_text("a file")
    assert refused(data).startswith(f"1 cfmessenger: cannot use the data folder {data}")


def test_a_damaged_log_is_one_line_with_a_remedy(data: Path) -> None:
    files = data / "valkey" / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.1.incr.aof").write_bytes(b"garbage\r\n")
    manifest = files / "appendonly.aof.manifest"
    manifest.write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}

    def last_line() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cfmessenger", "up", "--data-dir", str(data)]
            + ["--port", "0"],
            capture_output=True,
            text=True,
            timeout=120,
            env=inherited,
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    said = last_line()
    assert "valkey does not start (tried 3 times): exit code 1: Bad file format" in said
    assert str(data / "logs" / "valkey.log") in said and "--fix" in said
    manifest.unlink()
    assert "would start empty" in last_line()
    assert not manifest.exists()
