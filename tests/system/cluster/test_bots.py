"""Bots in the whole messenger, as a user runs it: `up`, a real Ray, two gateways.

What bots do in detail is shown on one node in tests/gateway/live/test_bots.py; here
their director is a process of its own, which may be killed, and the switch is the
command's.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from cfmessenger.bots import DIRECTOR
from cfmessenger.storage import keys
from tests import patience
from tests.effort import long_only
from tests.gateway.node import Frame, Socket, dial, eventually
from tests.system.cluster.test_up import Messenger, data, start

pytestmark = pytest.mark.cluster

__all__ = ["data", "start"]

DORIS = "bot_dialup"
ROOM = f"dm_{DORIS}__user_1"
PATIENCE_S = 30.0
TIMES = 4


class House:
    """An `up`, and one person in it."""

    def __init__(self, up: Messenger, folder: Path) -> None:
        self.up = up
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
        self.env = {**inherited, "CFM_DATA_DIR": str(folder), "COLUMNS": "200"}
        self.http = httpx2.AsyncClient(base_url=up.url, trust_env=False)
        self.token = ""
        self.sockets: list[Socket] = []

    async def sign_in(self) -> None:
        body = {"userId": "user_1", "token": "any"}
        answer = await self.http.post("/api/auth/login", json=body)
        self.token = answer.json()["data"]["sessionId"]

    async def socket(self, path: str) -> Socket:
        url = self.up.url.replace("http:", "ws:") + path
        headers = {"Authorization": f"Bearer {self.token}"}
        async with patience.within(PATIENCE_S):
            connection = await self._dial(url, headers)
        self.sockets.append(Socket(connection, "user_1", self.token))
        return self.sockets[-1]

    async def _dial(self, url: str, headers: dict[str, str]) -> ClientConnection:
        """As any client does: whoever is told 503 comes again."""
        while True:
            try:
                return await dial(url, additional_headers=headers, open_timeout=30)
            except InvalidStatus as refused:
                assert refused.response.status_code == 503
                await asyncio.sleep(float(refused.response.headers["Retry-After"]))

    def run(self, *command: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "cfmessenger", *command],
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    async def listed(self) -> set[str]:
        users = (await self.http.get("/api/users")).json()["data"]
        return {user["id"] for user in users if user["isAiBot"]}

    def director(self) -> int:
        """The process that it lives in; it must be awake."""
        rows = map(msgspec.json.decode, self.run("rooms", "--json").splitlines())
        (pid,) = [row["pid"] for row in rows if row["name"] == DIRECTOR]
        return int(pid)

    def refused_off(self) -> int:
        figures = keys.bots_metrics(_today())
        return int(self.up.valkey().hget(figures, f"{DORIS}:refused_off") or 0)

    def spent(self) -> int:
        return int(self.up.valkey().get(keys.bots_quota(_today(), "user_1")) or 0)


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


@pytest.fixture
async def house(
    start: Callable[..., Messenger],
    data: Path,
) -> AsyncIterator[House]:
    # All nine, so that the hour does not matter.
    settings = {"CFM_BOTS_ACTIVE": "9", "CFM_GATEWAYS": "2", "CFM_CHAT_RATE": "0"}
    up = start(few_workers=False, **settings).wait_ready()
    made = House(up, data)
    await made.sign_in()
    try:
        yield made
    finally:
        await made.http.aclose()
        for socket in made.sockets:
            await socket.close()


def shown(watcher: Socket) -> str | None:
    """Her status, as somebody who watches saw it last."""
    status = None
    for frame in watcher.frames:
        found = frame.get("participants", [frame])
        for who in found:
            if DORIS in (who.get("id"), who.get("userId")):
                status = who.get("status", "online")
    return status


async def ask(socket: Socket, text: str) -> Frame:
    return await socket.say(text)


async def answer_to(socket: Socket, echo: Frame, within: float = PATIENCE_S) -> Frame:
    return await socket.has("chat", within, id=f"re.{echo['seq']}", senderId=DORIS)


async def insist(socket: Socket, text: str) -> Frame:
    """A question that was under way to a process that died is lost: asked again."""
    for _ in range(TIMES):
        echo = await ask(socket, text)
        with suppress(AssertionError):
            return await answer_to(socket, echo, PATIENCE_S / TIMES)
    raise AssertionError("no answer to any of them")


@long_only
async def test_they_are_there_answer_survive_and_are_switched_off(house: House) -> None:
    await eventually(lambda: _there(house, 9), within=PATIENCE_S)
    watcher = await house.socket("/api/ws/presence")
    await eventually(lambda: shown(watcher) == "online", within=PATIENCE_S)

    al = await house.socket(f"/api/ws/room/{ROOM}")
    first = await ask(al, "hello, my modem sings")
    typing = await al.wait("typing", within=PATIENCE_S, senderId=DORIS)
    assert typing["isTyping"] is True
    said = [(await answer_to(al, first))["content"]]

    os.kill(house.director(), signal.SIGKILL)
    said.append((await insist(al, "and now it whistles"))["content"])
    assert len(set(said)) == 2
    await eventually(lambda: house.spent() >= 2, what="the count of both lives")

    assert house.run("bots", "off") == "bots are off\n"
    await eventually(lambda: shown(watcher) == "offline", within=PATIENCE_S)
    assert await house.listed() == set()
    unheard = await ask(al, "are you there?")
    await eventually(lambda: house.refused_off() == 1, within=PATIENCE_S)
    assert house.run("bots", "on") == "bots are on\n"
    await eventually(lambda: _there(house, 9), within=PATIENCE_S)
    third = await ask(al, "back again?")
    await answer_to(al, third)
    answered = [f["id"] for f in al.of("chat") if f["senderId"] == DORIS]
    assert len(set(answered)) == len(answered)
    assert f"re.{unheard['seq']}" not in answered

    table = house.run("bots")
    (line,) = [line for line in table.splitlines() if DORIS in line]
    assert "until" in line
    metrics = (await house.http.get("/metrics")).text
    assert f'cfm_bot_replies_total{{bot="{DORIS}"}}' in metrics


async def _there(house: House, count: int) -> bool:
    return len(await house.listed()) == count
