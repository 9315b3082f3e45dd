"""Which commands make a machine a head or a node, in this one place.

A head is alone in its machine; a node's has a gateway too. Faults and rows know the
names of roles and what `Topology` says of them.
"""

from __future__ import annotations

import os
import secrets
import sys
from typing import NamedTuple

from tests.system.machines import balancer
from tests.system.machines.machine import Machine
from tests.system.machines.storage import Storage

DATA = "/tmp/data"
KEPT = ("cfm-*/ray/session_2*/logs", "data/*/logs")
"""Below a machine's /tmp: what is worth a look when something has failed."""

POOLS = 6

# Rules that a load would meet are lifted; pools enough for each machine to have some,
# and no rooms of their own, which would be processes that come and go with the minutes.
SETTINGS = {
    "CFM_DATA_DIR": DATA,
    "CFM_PORT": str(balancer.PORT),
    "CFM_POOL_SIZE": str(POOLS),
    "CFM_OWN_ROOMS": "0",
    "CFM_BOTS_ACTIVE": "0",
    "CFM_OPEN_ROOMS": "1",
    "CFM_CHAT_RATE": "0",
    "CFM_NEW_ROOM_RATE": "0",
    "CFM_MAX_SOCKETS_PER_SESSION": "0",
    "CFM_MAX_SOCKETS_PER_ADDRESS": "0",
}


def bare() -> dict[str, str]:
    """The environment without what the product or Ray reads of it."""
    ours = ("CFM", "RAY_")
    return {n: value for n, value in os.environ.items() if not n.startswith(ours)}


class Role(NamedTuple):
    """A process of a machine: how it is started, and what it says when it serves."""

    name: str
    command: list[str]
    env: dict[str, str]
    ready: str


class Topology:
    """The roles of machines that share this storage."""

    restarts = ("gateway", "node")
    """The roles of a node that a rolling restart restarts."""

    namespace_port = 6390
    """Where gateways reach a node's namespace."""

    def __init__(self, storage: Storage, edge: str) -> None:
        self._env = bare() | SETTINGS
        self._env["CFM_VALKEY_URL"] = storage.valkey_url
        self._env["CFM_RAY_STORE_URL"] = storage.ray_store_url
        self._env["CFM_ALLOWED_ORIGINS"] = edge
        # Nobody logs in: beyond loopback there must be one, and it is never asked.
        self._env["CFM_TURNSTILE_SECRET_KEY"] = secrets.token_hex(16)
        self._env["CFM_DATABASE_URL"] = storage.database_url

    def head(self, machine: Machine) -> Role:
        """Where no room lives."""
        return self._role("head", machine, "The head is ready")

    def roles(self, machine: Machine) -> list[Role]:
        """What runs in a node's machine, in the order in which it starts."""
        return [
            self._role("node", machine, "The node is ready"),
            self._role("gateway", machine, "CF Messenger is ready"),
        ]

    def _role(self, name: str, machine: Machine, ready: str) -> Role:
        command = [sys.executable, "-m", "cfmessenger", name]
        env = self._env | {"CFM_HOST": machine.address}
        return Role(name, command, env | {"CFM_NODE_ADDRESS": machine.address}, ready)
