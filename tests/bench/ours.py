"""The messenger under measurement: `cfmessenger up`, its people, and who is who.

Owns its settings (limits lifted, everything else by default), the list of people where
more are wanted than are seeded, and their sessions.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cfmessenger.accounts.users import Profile
from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.ids import direct_room
from cfmessenger.link.namespace import NamespaceClient
from tests.bench.launch import START_S, clean_env, folder, last_line, running
from tests.bench.loader import Server, joined
from tests.bench.meter import Meter, our_kind
from tests.bench.packages import Missing
from tests.bench.steady import at_rest

READY = "CF Messenger is ready at "
SEEDED = 20
"""So many people, `user_1` on, are used where no row wants more."""

# More rooms than processes of the pool, so that each has been given one.
FIRST_ROOMS = 16


@dataclass(frozen=True)
class Up:
    """A messenger that has just said it is ready, its data, and its first process."""

    base: str
    data: Path
    row: process.Entry


@asynccontextmanager
async def up(placement: str, people: int = 0, **settings: str) -> AsyncIterator[Up]:
    """Our own, with limits lifted, these settings, and so many people if not 0."""
    async with folder() as place:
        data, log = place / "data", place / "up.log"
        env = clean_env(
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
        if people:
            users = place / "users.json"
            users.write_bytes(msgspec.json.encode(profiles(people)))
            env["CFM_USERS"] = str(users)
        command = [sys.executable, "-m", "cfmessenger", "up", "--port", "0"]
        async with running(command, env | settings, log, signal.SIGTERM) as row:
            yield Up(await _ready(row, log), data, row)


def profiles(count: int) -> list[Profile]:
    """That many people whom nobody has seeded, named as the seeded are."""
    return [
        Profile(
            id=f"user_{n}",
            email=f"person{n}@cfm.example",
            display_name=f"Person {n}",
            avatar_id="star",
        )
        for n in range(1, count + 1)
    ]


@asynccontextmanager
async def messenger(
    placement: str, people: int = 0, **settings: str
) -> AsyncIterator[Server]:
    """The contestant: `up`, people who have signed in, and nothing left to start."""
    async with up(placement, people, **settings) as it:
        tokens = await asyncio.to_thread(log_in, it.base, people or SEEDED)
        url, meter = socket_urls(it.base, tokens), Meter([it.row.pid], our_kind)
        server = Server(url, meter)
        server.presence = presence_urls(it.base, tokens)
        server.conversation = _conversations(len(tokens))
        await _check_placement(server, placement, it.data)
        server.note = await at_rest(meter)
        yield server


def socket_urls(base: str, tokens: Sequence[str]) -> Callable[[str, int], str]:
    """The address of the n-th client of a room, each with a session."""
    address = base.replace("http://", "ws://", 1)

    def url(room: str, n: int) -> str:
        token = tokens[n % len(tokens)]
        return f"{address}/api/ws/room/{room}?sessionId={token}"

    return url


def presence_urls(base: str, tokens: Sequence[str]) -> Callable[[int], str]:
    """The address of the n-th person's presence socket."""
    address = base.replace("http://", "ws://", 1)

    def url(n: int) -> str:
        return f"{address}/api/ws/presence?sessionId={tokens[n % len(tokens)]}"

    return url


def _conversations(people: int) -> Callable[[int], tuple[str, int]]:
    """The n-th direct room, another each time, and one of its two."""
    pairs = list(itertools.islice(itertools.combinations(range(people), 2), 10_000))

    def conversation(n: int) -> tuple[str, int]:
        one, other = pairs[n]
        return direct_room(f"user_{one + 1}", f"user_{other + 1}"), one

    return conversation


async def _ready(row: process.Entry, log: Path) -> str:
    end = time.monotonic() + START_S
    while True:
        if base := _announced(log):
            return base
        now = process.entry(row.pid)
        if now is None or now.state == "Z" or time.monotonic() > end:
            raise Missing(f"`up` did not start: {last_line(log)}")
        await asyncio.sleep(0.05)


def _announced(log: Path) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    return ""


def log_in(base: str, people: int = SEEDED) -> list[str]:
    """A session of each person."""
    tokens = []
    for n in range(1, people + 1):
        body = json.dumps({"userId": f"user_{n}", "token": "bench"}).encode()
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
