"""Which commands make a machine a head or a node, in this one place.

Today Ray is started by hand and `cfmessenger up` joins it, in every machine; the head
is a node like the others. A role's command may change here and nowhere else: faults and
rows know the names of roles and what `Topology` says of them.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import NamedTuple

from cfmessenger.cli.local_ray import OBJECT_STORE_BYTES, PRELOADED
from cfmessenger.cli.running import NAMESPACE_SOCKET
from cfmessenger.cli.runtime import RuntimeFolder
from tests.system.machines import balancer
from tests.system.machines.machine import Machine
from tests.system.machines.storage import Storage

DATA = "/tmp/data"
KEPT = ("ray/session_2*/logs", "data/logs")
"""Below a machine's /tmp: what is worth a look when something has failed."""

RAY_PORT = 6380
WARM = "1"

# Rules that a load would meet are lifted; pools enough for each machine to have some,
# and no rooms of their own, which would be processes that come and go with the minutes.
SETTINGS = {
    "CFM_DATA_DIR": DATA,
    "CFM_PORT": str(balancer.PORT),
    "CFM_POOL_SIZE": "6",
    "CFM_OWN_ROOMS": "0",
    "CFM_WARM_WORKERS": WARM,
    "CFM_BOTS_ACTIVE": "0",
    "CFM_OPEN_ROOMS": "1",
    "CFM_CHAT_RATE": "0",
    "CFM_NEW_ROOM_RATE": "0",
    "CFM_MAX_SOCKETS_PER_SESSION": "0",
    "CFM_MAX_SOCKETS_PER_ADDRESS": "0",
}

# What `up` sets for a Ray of its own, said by hand.
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_timeline": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_preload_python_modules": PRELOADED,
    "RAY_worker_maximum_startup_concurrency": "1",
}
RAY_FLAGS = (
    *("--block", "--disable-usage-stats", f"--num-cpus={WARM}"),
    *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
    *("--dashboard-agent-listen-port=0", f"--object-store-memory={OBJECT_STORE_BYTES}"),
)
HEAD_FLAGS = (
    *("--head", f"--port={RAY_PORT}", "--no-monitor"),
    *("--dashboard-port=0", "--include-dashboard=false"),
)

# Without grpc there is no server of the Ray Client on a fixed port.
_RAY = (
    "import sys; sys.modules['grpc'] = None; "
    "from ray.scripts.scripts import main; main()"
)


class Role(NamedTuple):
    """A process of a machine: how it is started, and what it says when it serves."""

    name: str
    command: list[str]
    env: dict[str, str]
    ready: str


class Topology:
    """The roles of machines that share this storage; the head's address is known."""

    restarts = ("up",)
    """The roles that a rolling restart restarts, in this order."""

    namespace_port: int | None = None
    """Where gateways reach the namespace over TCP; None: by a Unix socket."""

    def __init__(self, storage: Storage, head: Machine, edge: str) -> None:
        self._head = head
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CFM", "RAY_"))
        }
        self._ray = inherited | RAY | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._env = self._ray | SETTINGS
        self._env["CFM_VALKEY_URL"] = storage.valkey_url
        self._env["CFM_RAY_ADDRESS"] = f"{head.address}:{RAY_PORT}"
        self._env["CFM_ALLOWED_ORIGINS"] = edge
        # Nobody logs in: beyond loopback there must be one, and it is never asked.
        self._env["CFM_TURNSTILE_SECRET_KEY"] = secrets.token_hex(16)
        if storage.database_url:
            self._env["CFM_DATABASE_URL"] = storage.database_url

    def roles(self, machine: Machine) -> list[Role]:
        """What runs in this machine, in the order in which it starts."""
        return [self._raylet(machine), self._up(machine)]

    def _raylet(self, machine: Machine) -> Role:
        where = [f"--address={self._head.address}:{RAY_PORT}"]
        flags = [*RAY_FLAGS, f"--node-ip-address={machine.address}"]
        flags += HEAD_FLAGS if machine is self._head else where
        command = [sys.executable, "-c", _RAY, "start", *flags]
        return Role("ray", command, self._ray, "Ray runtime started")

    def _up(self, machine: Machine) -> Role:
        command = [sys.executable, "-m", "cfmessenger", "up"]
        env = self._env | {"CFM_HOST": machine.address}
        return Role("up", command, env, "CF Messenger is ready")

    def namespace(self, machine: Machine) -> str:
        """Where this machine's namespace server answers."""
        socket = RuntimeFolder(Path(DATA)).path / NAMESPACE_SOCKET
        return f"unix:{machine.path(str(socket))}"
