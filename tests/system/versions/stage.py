"""Heads, nodes and gateways of either release on one Valkey, people in front of them.

People come through one port that leads to each gateway in turn, talk all the time, and
come back when they are sent away (`cfmessenger load` and its oracle). Must not decide
what is replaced by what (test_versions.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import msgspec

from cfmessenger.accounts.sessions import Sessions
from cfmessenger.accounts.users import Directory
from cfmessenger.clock import Clock
from cfmessenger.load.plan import plan
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from tests.gateway.node import dial
from tests.patience import within
from tests.postgresql import PostgreSQL
from tests.replicated import Relay
from tests.system.cluster.roles import Machine, Roles, free_port
from tests.system.machines.load import Figures, Verdict, play

logger = logging.getLogger("tests.versions")

DIRECT = "dm_user_1__user_2"
ROOMS, SOCKETS, RATE = 6, 18, 30.0
WARM_S, LAG_MS = 2.0, 20_000.0
SETTINGS = {
    "CFM_NODE_ADDRESS": "127.0.0.1",
    "CFM_OPEN_ROOMS": "1",
    "CFM_CHAT_RATE": "0",
    "CFM_NEW_ROOM_RATE": "0",
    "CFM_OWN_ROOMS": "0",
    "CFM_HOT_SHARE": "0",
    "CFM_POOL_SIZE": "2",
    "CFM_MAX_SESSIONS_PER_USER": "1000",
    "CFM_DRAIN_S": "4",
}


class Front(Relay):
    """A port that leads to one gateway after another."""

    def __init__(self) -> None:
        super().__init__(0)
        self.ports: list[int] = []
        self._turn = 0

    @property
    def target(self) -> int:
        self._turn += 1
        return self.ports[self._turn % len(self.ports)]

    @target.setter
    def target(self, port: int) -> None:
        """Set by who makes it; the ports are what counts."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Talked(NamedTuple):
    """What people saw of one replacement. `activations`: the most that any of their
    rooms was brought to life while it went on."""

    verdict: Verdict
    acked: int
    activations: int
    pause_s: float
    examples: list[str]

    def __str__(self) -> str:
        lost, doubled, reordered, holes, unseen = self.verdict
        return (
            f"{self.acked} acknowledged; lost {lost}, doubled {doubled}, reordered "
            f"{reordered}, holes {holes}, unseen {unseen}; at most {self.activations} "
            f"activations a room; longest pause {self.pause_s:.2f} s"
        )


class Stage:
    """Within `staged`. `before`: the code of the release before."""

    def __init__(self, roles: Roles, front: Front, before: Path) -> None:
        self.roles = roles
        self.front = front
        self._code = {"before": before, "this": None}
        self._numbers = iter(range(1000))

    def node(self, release: str = "this", *flags: str, **env: str) -> Machine:
        """Begin one, of the release `before` or of `this` one."""
        more = {"CFM_NAMESPACE_PORT": str(free_port())} | env
        return self._start("node", release, *flags, **more)

    def head(self, release: str = "this", **env: str) -> Machine:
        return self._start("head", release, CFM_RAY_PORT=str(free_port()), **env)

    def gateway(self, release: str = "this") -> Machine:
        return self._start("gateway", release, "--port", "0")

    def _start(self, role: str, release: str, *flags: str, **env: str) -> Machine:
        name = f"{role}-{next(self._numbers)}-{release}"
        code = self._code[release]
        return self.roles.start(name, role, *flags, code=code, **env)

    def serve(self, *gateways: Machine) -> None:
        """People come by these from now on."""
        self.front.ports = [each.port for each in gateways]

    def status(self) -> dict[str, Any]:
        done = self.roles.call("status", "--json", "--cluster", self.roles.url)
        return dict(json.loads(done.stdout))

    async def talk(
        self, what: str, seconds: float, fault: Callable[[], Awaitable[None]]
    ) -> Talked:
        """People talk for so long, and meanwhile that is done: `what`, in words."""
        made = plan(
            "churn",  # nobody is dropped by it; but it waits for whoever was
            secrets.token_hex(3),
            url=self.front.url,
            rooms=ROOMS,
            sockets=SOCKETS,
            rate=RATE,
            arrivals="constant",
            churn_rate=0.0,
            warmup_s=WARM_S,
            duration_s=seconds,
            max_lag_ms=LAG_MS,
        )
        rooms = [made.room_name(n) for n in range(made.rooms)]
        epochs: list[int] = []

        async def done() -> None:
            epochs.extend(await asyncio.to_thread(self._epochs, rooms))
            await fault()

        figures = await play(made, await self._tokens(), done)
        after = await asyncio.to_thread(self._epochs, rooms)
        told = await asyncio.to_thread(self._told, figures, rooms, epochs, after)
        logger.info("%s: %s", what, told)
        return told

    def _told(
        self, figures: Figures, rooms: list[str], before: list[int], after: list[int]
    ) -> Talked:
        return Talked(
            figures.judged(self._logs(rooms)),
            figures.result.counts["acked"],
            max(now - was for was, now in zip(before, after, strict=True)),
            figures.pauses(rooms)[-1],
            figures.result.oracle.examples,
        )

    def _epochs(self, rooms: list[str]) -> list[int]:
        with self.roles.admin() as admin:
            tops = [admin.xinfo_stream(keys.log(f"room:{each}")) for each in rooms]
        return [int(top["last-generated-id"].partition(b"-")[0]) for top in tops]

    def _logs(self, rooms: list[str]) -> Mapping[str, list[tuple[int, str]]]:
        with self.roles.admin() as admin:
            found = {each: admin.xrange(keys.log(f"room:{each}")) for each in rooms}
        return {
            room: [
                (int(entry.partition(b"-")[2]), msgspec.json.decode(fields[b"e"])["id"])
                for entry, fields in rows
            ]
            for room, rows in found.items()
        }

    async def _tokens(self) -> list[str]:
        kv = Valkey(self.roles.url)
        sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=Clock().now)
        try:
            people = [each for each in Directory.load() if not each.is_ai_bot]
            return [(await sessions.create(each.id, "uk"))[0] for each in people]
        finally:
            kv.close()

    # What is to be as it was, whoever tells it.

    async def begun(self) -> tuple[list[Any], int]:
        """A direct room with three messages, of which the first was read and the second
        delivered: what is shown of it to who is to read the others."""
        ids = ("m1", "m2", "m3")
        said = [{"type": "chat", "content": each, "id": each} for each in ids]
        await self.say("user_1", DIRECT, *said)
        read = {"type": "ack", "ackId": "m1", "status": "read"}
        delivered = read | {"ackId": "m2", "status": "delivered"}
        await self.say("user_2", DIRECT, read, delivered)
        shown = await self.shown("user_2", DIRECT)
        statuses = [("m1", 1, "read"), ("m2", 2, "delivered"), ("m3", 3, None)]
        assert shown == (statuses, 2)
        return shown

    async def say(self, user: str, room: str, *frames: dict[str, Any]) -> None:
        """Send these, each once the one before is known."""
        token = await self._token(user)
        url = f"{self.front.url.replace('http', 'ws')}/api/ws/room/{room}?since=0"
        headers = {"Authorization": f"Bearer {token}"}
        async with await dial(url, additional_headers=headers) as socket, within(20.0):
            for each in frames:
                await socket.send(msgspec.json.encode(each).decode())
                answer = "chat" if each["type"] == "chat" else "delivery_status"
                while msgspec.json.decode(await socket.recv())["type"] != answer:
                    pass

    async def shown(self, user: str, room: str) -> tuple[list[Any], int]:
        """What a page of the room shows (id, seq, status), and how much is unread."""
        token = await self._token(user)
        url = f"{self.front.url.replace('http', 'ws')}/api/ws/room/{room}?since=0"
        headers = {"Authorization": f"Bearer {token}"}
        async with await dial(url, additional_headers=headers) as socket, within(20.0):
            frame: dict[str, Any] = {"type": ""}
            while frame["type"] != "history":
                frame = msgspec.json.decode(await socket.recv())
        rows = [(m["id"], m["seq"], m.get("status")) for m in frame["messages"]]
        found = await asyncio.to_thread(_data, f"{self.front.url}/api/rooms", headers)
        (unread,) = [each["unreadCount"] for each in found if each["id"] == room]
        return rows, unread

    async def _token(self, user: str) -> str:
        kv = Valkey(self.roles.url)
        try:
            sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=Clock().now)
            return (await sessions.create(user, "uk"))[0]
        finally:
            kv.close()


def _data(url: str, headers: dict[str, str]) -> Any:
    with urlopen(Request(url, headers=headers), timeout=20) as answer:
        return json.load(answer)["data"]


@asynccontextmanager
async def staged(postgresql: PostgreSQL, before: Path) -> AsyncIterator[Stage]:
    """A Valkey, a database, and nobody there yet."""
    with Roles() as roles:
        roles.env |= SETTINGS | {"CFM_DATABASE_URL": postgresql.database()}
        async with Front().listening() as front:
            yield Stage(roles, front, before)
