"""Ray nodes with labels, and namespace servers in front of them, as real processes.

`ray start` as whoever runs a cluster of their own would call it: each node a process of
ours, on this machine's own address, and `namespace-process` as a gateway meets it.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cfmessenger.cli import process
from cfmessenger.link.namespace import NamespaceClient
from tests.patience import Stopwatch

START_S = 60.0  # 3 s on an idle machine
STOP_S = 10.0

NODE_ENV = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_preload_python_modules": "actors.object_actor",
    "RAY_worker_maximum_startup_concurrency": "2",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # A node that refuses is given up after some 2 s.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}


class Child:
    """A process of ours, and what it starts."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        ours, theirs = os.pipe()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.log = log
        self.popen = process.spawn(
            [sys.executable, "-m", *command],
            {**env, "CFMX_READY_FD": str(theirs)},
            death_signal=signal.SIGKILL,
            cwd=None,
            inherit=(theirs,),
            output=output,
        )
        os.close(theirs)
        os.close(output)
        self._ready = ours

    def wait_ready(self) -> None:
        """It has said so on the pipe."""
        readable, _, _ = select.select([self._ready], [], [], START_S)
        assert readable and os.read(self._ready, 16), self.log.read_text()

    def workers(self, title: str = "ray::") -> set[int]:
        """The Ray workers below it whose process title begins so."""
        rows = process.descendants(self.popen.pid)
        return {row.pid for row in rows if command(row.pid).startswith(title)}

    def kill(self) -> None:
        """`kill -9`, of it and of all it has started."""
        rows = process.descendants(self.popen.pid)
        self.popen.kill()
        self.popen.wait(STOP_S)
        for row in rows:
            process.send(row, signal.SIGKILL)
        process.wait_gone(rows, STOP_S)
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


class Nodes:
    """The nodes of one Ray, by region, and its namespace servers."""

    def __init__(self, valkey_url: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cfm-n-", dir="/tmp"))
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CFM", "RAY_"))
        }
        self._env = inherited | {"RAY_AUTH_TOKEN_PATH": str(token)}
        self._valkey_url = valkey_url
        self._servers = 0
        self.address = ""
        self.nodes: dict[str, Child] = {}
        self.others: list[Child] = []

    def start_node(self, region: str, **env: str) -> Child:
        """One more; the first is the head. Returns when it has joined."""
        flags = [f"--address={self.address}"]
        if not self.address:
            flags = ["--head", "--port=0", "--dashboard-port=0", "--no-monitor"]
            flags += ["--include-dashboard=false"]
        flags += [f"--temp-dir={self.folder_of(region)}"]
        flags += ["--block", "--num-cpus=1", f"--labels=region={region}"]
        flags += ["--include-log-monitor=false"]
        flags += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
        flags += ["--dashboard-agent-listen-port=0", "--object-store-memory=78643200"]
        log = self._folder / f"{region}-{len(self.nodes)}-{time.monotonic_ns()}.log"
        node = Child(
            ["ray.scripts.scripts", "start", *flags],
            # As whoever runs a Ray of their own sets it for its workers.
            self._env | NODE_ENV | {"CFM_VALKEY_URL": self._valkey_url} | env,
            log,
        )
        self.nodes[region] = node
        eventually(lambda: "Ray runtime started" in log.read_text(), START_S)
        if not self.address:
            # Written after that line, and not at once.
            at = self.folder_of(region) / "ray_current_cluster"
            eventually(lambda: at.exists() and at.read_text().strip(), START_S)
            self.address = at.read_text()
        return node

    def folder_of(self, region: str) -> Path:
        """Where the Ray of that node keeps its files."""
        return self._folder / f"ray-{region}"

    def serve(self, region: str = "", **settings: str) -> NamespaceServed:
        """A namespace server with these settings, once it serves; of the head, if no
        region is named. A node without one gets no rooms."""
        self._servers += 1
        region = region or next(iter(self.nodes))
        url = f"unix:{self._folder / f'ns{self._servers}'}"
        env = {
            **self._env,
            "RAY_AUTH_MODE": "token",
            "CFMX_RAY_ADDRESS": self.address,
            "CFMX_RAY_FOLDER": str(self.folder_of(region)),
            "CFMX_NAMESPACE": url,
            "CFM_VALKEY_URL": self._valkey_url,
            "CFM_DATA_DIR": str(self._folder),
            "CFM_HIBERNATE_AFTER": "600",
            "CFM_WARM_WORKERS": "0",
            # Whatever another suite has left in this Valkey.
            "CFM_PLACEMENT": "dedicated",
            "CFMX_PLACEMENT_SEED": self._folder.name,
            "CFM_BOTS_ACTIVE": "0",
            **settings,
        }
        log = self._folder / f"ns{self._servers}.log"
        served = NamespaceServed(["cfmessenger", "namespace-process"], env, log)
        served.url = url
        self.others.append(served)
        served.wait_ready()
        return served

    def control_store(self) -> process.Entry:
        """The process that all of Ray depends on."""
        head = next(iter(self.nodes.values()))
        rows = process.descendants(head.popen.pid)
        return next(row for row in rows if "gcs_server" in command(row.pid))

    def region_of(self, pid: int) -> str:
        """Where that worker runs."""
        return next(r for r, node in self.nodes.items() if pid in node.workers())

    def close(self) -> None:
        """End everything, in any state."""
        for each in [*self.others, *reversed(self.nodes.values())]:
            each.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class NamespaceServed(Child):
    """A namespace server."""

    url = ""

    def client(self) -> NamespaceClient:
        """As a gateway has it."""
        return NamespaceClient(self.url)


def command(pid: int) -> str:
    """Its command line or title; nothing for a process that is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace")


def eventually(condition: Callable[[], object], within: float) -> None:
    """Look until it holds: other processes cannot set an event of ours."""
    watch = Stopwatch()
    while not condition():
        assert watch.seconds < within
        time.sleep(0.02)
