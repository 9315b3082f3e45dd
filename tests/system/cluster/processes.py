"""The kinds of process that the cluster is made of.

Each is started here, known by its id, and ended with everything in its session; nothing
is found or ended by its name.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cfmessenger.accounts.sessions import Sessions
from cfmessenger.cli import process
from cfmessenger.storage import valkey
from tests.gateway.node import OwnValkey
from tests.patience import Stopwatch


class Process:
    """One that was started here; `stop` ends it with all of its session."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        cwd: Path | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._ready, theirs = os.pipe()
        try:
            self.popen = process.spawn(
                command,
                {**env, "CFMX_READY_FD": str(theirs)},
                death_signal=signal.SIGKILL,
                cwd=cwd,
                inherit=(*inherit, theirs),
                output=output,
            )
        finally:
            os.close(output)
            os.close(theirs)
        self.log = log
        self._is_ready = False

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_ready(self, within: float = 40.0) -> None:
        """It has said so on its pipe."""
        if self._is_ready:
            return
        found = select.select([self._ready], [], [], within)[0]
        assert found and os.read(self._ready, 16), self.log.read_text()[-2000:]
        self._is_ready = True

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Ended, collected, and nothing left of what it started."""
        members = process.session_members(self.pid)
        for row in members:
            process.send(row, signal.SIGKILL)
        self.popen.kill()
        self.popen.wait(10)
        process.wait_gone(members, 5.0)
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


class Valkey(OwnValkey):
    """The cluster's, on a disk that a test may fill."""

    @property
    def ended(self) -> bool:
        """It has gone by itself."""
        return self._process is None or self._process.poll() is not None


class RayNode(Process):
    """One `ray start --block`, which is the parent of its raylet."""

    def wait_started(self, within: float = 60.0) -> None:
        watch = Stopwatch()
        while b"Ray runtime started" not in self.log.read_bytes():
            assert self.popen.poll() is None and watch.seconds < within, (
                self.log.read_text()[-2000:]
            )
            time.sleep(0.02)
        assert self.raylet

    @property
    def raylet(self) -> process.Entry:
        """The node's raylet, which is the parent of its workers."""
        for row in process.session_members(self.pid):
            command = Path(f"/proc/{row.pid}/cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"raylet/raylet"):
                return row
        raise AssertionError("no raylet")

    def hosts(self, pid: int) -> bool:
        """Whether that process is a worker of this node."""
        row = process.entry(pid)
        return row is not None and row.session == self.pid


class GatewayProcess(Process):
    """`cfmessenger gateway-process` on a port of its own."""

    def __init__(self, env: Mapping[str, str], number: int, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            fd = listener.fileno()
            own = {"CFMX_LISTEN_FD": str(fd), "CFMX_GATEWAY": str(number)}
            command = [sys.executable, "-m", "cfmessenger", "gateway-process"]
            super().__init__(command, {**env, **own}, log, inherit=(fd,))
        self._valkey_url = env["CFM_VALKEY_URL"]

    async def login(self, user_id: str) -> str:
        """A session, as the login would have made it."""
        kv = valkey.Valkey(self._valkey_url)
        try:
            sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=_now_ms)
            token, _ = await sessions.create(user_id, "uk")
            return token
        finally:
            kv.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
