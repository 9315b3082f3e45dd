"""One real Ray node with namespace servers in front, for all tests of a session.

Made of what `cfmessenger up` runs: its own Ray (`LocalRay`) and its own
`cfmessenger namespace-process`, several here, as on several nodes. Ends every process
it started, by id, and whatever those have left behind.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from cfmessenger.asgi import NAMESPACE, NAMESPACE_KEY
from cfmessenger.cli import process
from cfmessenger.cli.local_ray import LocalRay
from cfmessenger.cli.runtime import DataFolder, RuntimeFolder
from tests.patience import Stopwatch

START_S = 60.0  # 4 s on an idle machine
STOP_S = 10.0
HIBERNATE_AFTER_S = 1.0


class RayCluster:
    """`urls` are the namespace servers' addresses, `key` is theirs all; no other hosts
    may use its Valkey, for a pool of one name supersedes the other."""

    def __init__(self, data: Path, valkey_url: str, servers: int) -> None:
        self.key = secrets.token_hex(16)
        self.valkey_url = valkey_url
        self._folder = DataFolder(data)
        self._runtime = RuntimeFolder(data)
        self._started: list[subprocess.Popen[bytes]] = []
        self._servers = servers
        self.urls = [f"unix:{self._runtime.path}/ns{n}" for n in range(servers)]

    def start(self) -> None:
        """Ray first, then everything in front of it, until all of it serves."""
        self._folder.__enter__()
        self._runtime.open()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        told = inherited | {"CFM_VALKEY_URL": self.valkey_url}
        ray = LocalRay(self._folder, self._runtime.path, 2, told)
        launch = ray.service.launch()
        self._spawn(list(launch.command), dict(launch.env), launch.output)
        address = self._runtime.path / "ray" / "ray_current_cluster"
        watch = Stopwatch()
        while not (address.exists() and address.read_text().strip()):
            assert self._started[0].poll() is None, "Ray does not start"
            assert watch.seconds < START_S, "Ray does not get ready"
            time.sleep(0.05)
        env = inherited | ray.driver_env
        env |= {
            "CFMX_RAY_ADDRESS": ray.address,
            "CFM_VALKEY_URL": self.valkey_url,
            "CFM_HIBERNATE_AFTER": str(HIBERNATE_AFTER_S),
            "CFM_CHAT_RATE": "0",
            "CFM_NEW_ROOM_RATE": "0",
            NAMESPACE_KEY: self.key,
        }
        pipes = [self._serve(url, env) for url in self.urls]
        for pipe in pipes:
            assert os.read(pipe, 16), "a namespace server does not start"
            os.close(pipe)

    def _serve(self, url: str, env: dict[str, str]) -> int:
        reads, writes = os.pipe()
        log = self._folder.logs / f"{url.rpartition('/')[2]}.log"
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        command = [sys.executable, "-m", "cfmessenger", "namespace-process"]
        more = {NAMESPACE: url, "CFMX_READY_FD": str(writes)}
        self._spawn(command, env | more, output, writes)
        os.close(writes)
        return reads

    def _spawn(
        self, command: list[str], env: dict[str, str], output: int | None, *fds: int
    ) -> None:
        assert output is not None
        self._started.append(
            subprocess.Popen(
                command,
                env=env,
                cwd=self._runtime.path,
                stdout=output,
                stderr=output,
                pass_fds=fds,
                start_new_session=True,
            )
        )
        os.close(output)

    def stop(self) -> None:
        """The other way round; what does not end in time is killed."""
        family = [e for p in self._started for e in process.descendants(p.pid)]
        for popen in reversed(self._started):
            popen.terminate()
            try:
                popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        for left in process.wait_gone(family, 1.0):
            process.send(left, signal.SIGKILL)
        process.wait_gone(family, STOP_S)
        self._runtime.remove()
        self._folder.__exit__(None, None, None)
