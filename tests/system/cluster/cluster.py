"""Two Ray nodes, a Valkey, a namespace server and two gateways, as real processes.

Started once for all cluster tests, and put right again by whoever breaks it: `Cluster`
knows how to start each of its processes anew. Nothing is found or ended by its name,
only by the id of a process that was started here (or by Ray below one of these).

`Visit` is what one test has of it: sockets, sessions and rooms of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import valkey

from cfmessenger.cli import process
from cfmessenger.cli.local_ray import LocalRay
from cfmessenger.cli.runtime import DataFolder
from cfmessenger.client.state import PresenceState
from cfmessenger.ids import PRESENCE
from cfmessenger.link.namespace import Address, NamespaceClient
from cfmessenger.storage import keys
from tests import patience
from tests.gateway.node import Node, Refused, Socket, error_of, eventually, new_room
from tests.patience import Stopwatch
from tests.system.cluster.processes import GatewayProcess, Process, RayNode, Valkey

SETTINGS = {
    "CFM_PLACEMENT": "dedicated",  # each fault has one process; test_auto has the other
    "CFM_HOT_SHARE": "1",
    "CFM_CALM_AFTER": "3600",
    "CFM_OWN_ROOMS": "0",
    "CFM_OPEN_ROOMS": "1",
    "CFM_CHAT_RATE": "0",
    "CFM_NEW_ROOM_RATE": "0",
    "CFM_NUDGE_RATE": "0",
    "CFM_HIBERNATE_AFTER": "5",
    "CFM_DRAIN_S": "2",
    "CFM_LOG_FORMAT": "json",
    "CFM_WARM_WORKERS": "2",
    "CFM_BOTS_ACTIVE": "0",  # test_bots has servers of its own
}

# A node is given up after some 2 s when it refuses and 6 s when it hangs, so that tests
# need not wait for the product's 5 s and 20 s.
FASTER = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}

# `up` has one node and says so, which keeps Ray on loopback; two need more than that.
SEVERAL_NODES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}

DISK_BYTES = 48 * 2**20
WAKES_S = 7.5
"""Whoever is refused after that was refused because a room did not wake in time."""


class Cluster:
    """The processes. `open`, then whatever a test does, then `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.measured: list[str] = []
        self.gateways: list[GatewayProcess] = []
        self.nodes: list[RayNode] = []
        self.small_disk = False
        self._stack = contextlib.ExitStack()
        self._numbers = iter(range(1000))
        self._logs = folder / "logs"
        self._extra: list[Process] = []

    def open(self) -> None:
        """Start everything, side by side where that is possible."""
        self._logs.mkdir()
        self._mount()
        self.valkey = Valkey(self.folder / "valkey").start()
        self._stack.callback(self.valkey.kill)
        data = self._stack.enter_context(DataFolder(self.folder / "data"))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        self.env = inherited | SETTINGS
        self.env["CFM_VALKEY_URL"] = self.valkey.url
        self.env["CFM_DATA_DIR"] = str(data.path)
        self.env["CFMX_NAMESPACE"] = f"unix:{self.folder / 'namespace.sock'}"
        self._ray = LocalRay(data, self.folder, 2, self.env)
        self._head = self._ray.service.launch()
        if self._head.output is not None:
            os.close(self._head.output)
        self._start_node(list(self._head.command)).wait_started()
        self.env["CFMX_RAY_ADDRESS"] = self._ray.address
        self.env |= self._ray.driver_env | SEVERAL_NODES
        self.start_worker_node()
        self.namespace = self._driver(
            ["-m", "cfmessenger", "namespace-process"], self.env
        )
        conjurer = self.env | {
            "CFMX_NAMESPACE": f"unix:{self.folder / 'conjurer.sock'}"
        }
        self.conjurer = self._driver(["-m", "tests.system.cluster.conjurer"], conjurer)
        self.gateways = [self.start_gateway(), self.start_gateway()]
        self.nodes[1].wait_started()
        for each in (self.namespace, self.conjurer, *self.gateways):
            each.wait_ready()

    def close(self) -> None:
        """End everything, in any state."""
        for each in [*self._extra, *self.nodes[::-1]]:
            each.stop()
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep_logs(self, to: Path) -> None:
        """Copy what every process has said, for a look after a failure."""
        shutil.copytree(self._logs, to, dirs_exist_ok=True)
        ray = self.folder / "ray" / "session_latest" / "logs"
        shutil.copytree(ray, to / "ray", ignore_dangling_symlinks=True)

    def _mount(self) -> None:
        """Valkey's folder: a small disk of its own, if we may have one."""
        folder = self.folder / "valkey"
        folder.mkdir(mode=0o700)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "cfm", folder]
        try:
            self.small_disk = not subprocess.run(command, stderr=-3).returncode
        except FileNotFoundError:
            return
        if self.small_disk:
            self._stack.callback(subprocess.run, ["umount", "-l", folder])

    def _driver(self, command: list[str], env: Mapping[str, str]) -> Process:
        log = self._logs / f"{command[-1]}.log"
        started = Process([sys.executable, *command], env, log)
        self._extra.append(started)
        return started

    def _start_node(self, command: list[str]) -> RayNode:
        log = self._logs / f"node-{next(self._numbers)}.log"
        env = {**self._head.env, **FASTER, **SEVERAL_NODES}
        node = RayNode(command, env, log, cwd=self._head.cwd)
        self.nodes.append(node)
        return node

    def start_worker_node(self) -> RayNode:
        """The second node; `wait_started` is the caller's."""
        head_only = ("--head", "--port", "--temp-dir", "--no-monitor")
        command = [
            flag
            for flag in self._head.command
            if not flag.startswith(
                (*head_only, "--dashboard-port", "--include-dashboard")
            )
        ]
        return self._start_node([*command, f"--address={self._ray.address}"])

    def replace_node(self, node: RayNode) -> None:
        """A node in the place of one that is broken."""
        node.stop()
        self.nodes.remove(node)
        self.start_worker_node().wait_started()

    def replace_namespace(self) -> None:
        """Kill the namespace server, and start another in its place."""
        self.namespace.stop()
        self._extra.remove(self.namespace)
        self.namespace = self._driver(
            ["-m", "cfmessenger", "namespace-process"], self.env
        )
        self.namespace.wait_ready()

    def start_namespace(self, socket: str) -> Process:
        """One more namespace server, as another node has it; `wait_ready` is the
        caller's."""
        env = self.env | {"CFMX_NAMESPACE": f"unix:{self.folder / socket}"}
        return self._driver(["-m", "cfmessenger", "namespace-process"], env)

    def start_gateway(self, socket: str = "namespace.sock") -> GatewayProcess:
        """One more, at this namespace server; `wait_ready` is the caller's."""
        number = next(self._numbers)
        log = self._logs / f"gateway-{number}.log"
        env = self.env | {"CFMX_NAMESPACE": f"unix:{self.folder / socket}"}
        gateway = GatewayProcess(env, number, log)
        self._extra.append(gateway)
        return gateway

    def replace_gateways(self) -> None:
        """Gateways in the place of those that have ended."""
        for at, gateway in enumerate(self.gateways):
            if gateway.popen.poll() is not None:
                gateway.stop()
                self._extra.remove(gateway)
                self.gateways[at] = self.start_gateway()
        for gateway in self.gateways:
            gateway.wait_ready()

    def node_of(self, pid: int) -> RayNode:
        """Where an actor lives; fails for a process that is not ours."""
        return next(node for node in self.nodes if node.hosts(pid))

    def signal(self, pid: int, number: int) -> None:
        """Signal the process of an actor, and no other."""
        self.node_of(pid)
        os.kill(pid, number)

    def log_of(self, pid: int) -> str:
        """What an actor's process said."""
        logs = self.folder / "ray" / "session_latest" / "logs"
        found = logs.glob(f"worker-*-{pid}.err")
        return "".join(path.read_text() for path in found)

    def killed_as_hung(self, actor: str) -> bool:
        """The namespace server has found that it does not answer."""
        said = (self._logs / "namespace-process.log").read_text()
        return f"{actor} is hung: killed" in said

    @contextlib.contextmanager
    def admin(self) -> Iterator[valkey.Valkey]:
        """A client that may do and see everything."""
        path = str(self.folder / "valkey" / "valkey.sock")
        with valkey.Valkey(
            unix_socket_path=path, username="admin", password="-"
        ) as client:
            yield client

    def measure(self, text: str) -> None:
        """A line for the end of the run."""
        self.measured.append(text)


class Visit(Node):
    """What one test has of the cluster: sockets and sessions of its own."""

    def __init__(self, cluster: Cluster, stack: AsyncExitStack) -> None:
        self.cluster = cluster
        self.names = NamespaceClient(cluster.env["CFMX_NAMESPACE"])
        self._conjurer = NamespaceClient(f"unix:{cluster.folder / 'conjurer.sock'}")
        stack.push_async_callback(self.names.close)
        stack.push_async_callback(self._conjurer.close)
        url = cluster.env["CFM_VALKEY_URL"]
        super().__init__(url, self.names, cluster.gateways, stack)  # type: ignore[arg-type]
        self.stack = stack

    async def connect(self, user_id: str, path: str, **how: Any) -> Socket:
        """As everywhere; but a room has 8 s to wake, which are few on a busy machine,
        and a client that is told to come again does."""
        watch = Stopwatch()
        while True:
            began = watch.wall
            try:
                return await super().connect(user_id, path, **how)
            except Refused as refused:
                late = error_of(refused) == (503, "UNAVAILABLE")
                in_time = watch.wall - began < WAKES_S
                if in_time or not late or watch.seconds > WAKES_S:
                    raise

    async def conjure(self, room: str, **settings: Any) -> Address:
        """Make the room's actor with these `HostSettings`; nobody may have before."""
        return await self.conjure_actor(f"room:{room}", **settings)

    async def conjure_actor(self, name: str, **settings: Any) -> Address:
        """The same for any actor, a pool's as well."""
        orders = msgspec.json.encode({"settings": settings}).decode()
        return await self._conjurer.resolve(name, orders)

    async def block(self, room: str, seconds: float) -> None:
        """Block the event loop of the room's actor, which was conjured."""
        orders = msgspec.json.encode({"block": seconds}).decode()
        await self._conjurer.resolve(f"room:{room}", orders)

    async def presence(self) -> Address:
        """Where the registry lives; wakes it."""
        return await self.names.resolve(PRESENCE)

    async def nodes_alive(self) -> int:
        """How many nodes Ray believes in."""
        return len(await self._conjurer.describe())

    async def address(self, room: str) -> Address:
        """Where the room lives; wakes it."""
        return await self.names.resolve(f"room:{room}")

    async def conjure_on(self, node: RayNode) -> str:
        """A room on this node: Ray chooses, so some are made in vain."""
        for _ in range(20):
            room = new_room()
            at = await self.conjure(room, hibernate_after=60.0)
            if node.hosts(at.pid):
                return room
            self.cluster.signal(at.pid, signal.SIGKILL)
        raise AssertionError("no room was put on this node in 20 tries")

    def epoch(self, room: str) -> int:
        """The newest epoch that anybody took; for a room that lived."""
        with self.cluster.admin() as client:
            found = client.xinfo_stream(keys.log(f"room:{room}"))
        return int(found["last-generated-id"].partition(b"-")[0])

    def stored(self, room: str) -> list[tuple[int, int, dict[str, Any]]]:
        """Epoch, seq and event of everything in a room's log."""
        with self.cluster.admin() as client:
            rows = client.xrange(keys.log(f"room:{room}"))
        return [
            (*map(int, entry.split(b"-")), msgspec.json.decode(fields[b"e"]))
            for entry, fields in rows
        ]

    async def until_above(self, room: str, epoch: int, within: float) -> None:
        """Somebody has taken a newer one."""
        await eventually(lambda: self.epoch(room) > epoch, within)


@asynccontextmanager
async def visiting(cluster: Cluster) -> AsyncIterator[Visit]:
    """A `Visit`; its sockets are closed at the end."""
    async with AsyncExitStack() as stack:
        yield Visit(cluster, stack)


class Watched:
    """Who tried to append to a room's log, refused or not: Valkey's own record."""

    def __init__(self, cluster: Cluster, room: str) -> None:
        # (epoch, seq) as they came; seq 0 is an activation that takes its epoch.
        self.tried: list[tuple[int, int]] = []
        self._cluster = cluster
        self._key = keys.log(f"room:{room}").encode()
        self._end = new_room().encode()
        self._path = str(cluster.folder / "valkey" / "valkey.sock")

    async def __aenter__(self) -> Watched:
        # A line is a whole command, and a mirror may be large.
        reader, self._writer = await asyncio.open_unix_connection(
            self._path, limit=2**26
        )
        self._writer.write(b"AUTH admin -\r\nMONITOR\r\n")
        for _ in range(2):
            assert await reader.readline() == b"+OK\r\n"
        self._task = asyncio.create_task(self._read(reader))
        return self

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            words = line.split(b'"')[1::2]
            if words == [b"ECHO", self._end]:
                return
            if words[0] == b"XADD" and words[1] == self._key:
                name = words[5] if words[2] == b"MAXLEN" else words[2]
                epoch, _, seq = name.partition(b"-")
                self.tried.append((int(epoch), int(seq)))

    @property
    def refused(self) -> list[tuple[int, int]]:
        """Appends of whoever did not know that a higher epoch was taken before."""
        found, top = [], 0
        for epoch, seq in self.tried:
            top = max(top, epoch)
            if epoch < top:
                found.append((epoch, seq))
        return found

    async def until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        await eventually(holds, within)

    async def __aexit__(self, *_: object) -> None:
        """Everything is in `tried` that Valkey had been asked before."""
        with self._cluster.admin() as client:
            client.echo(self._end)
        try:
            await patience.wait_for(self._task, 10.0)
        finally:
            self._task.cancel()
            self._writer.close()


def online(watcher: Socket) -> set[str]:
    """Who is there, as the client of this presence socket believes."""
    state = PresenceState(watcher.user_id)
    for frame in watcher.frames:
        state.received(0.0, msgspec.json.encode(frame))
    return set(state.roster)


def gone(pid: int) -> bool:
    """No such process any more, or only its zombie."""
    row = process.entry(pid)
    return row is None or row.state == "Z"


def new_folder() -> Path:
    """Short, because sockets and Ray's long names go below it."""
    return Path(tempfile.mkdtemp(prefix="cfm-c-", dir="/tmp"))
