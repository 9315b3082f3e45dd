"""A backup of a real messenger that is talked in, and what is there after a restore."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cfmessenger.cli import process
from cfmessenger.cli.runtime import RuntimeFolder
from cfmessenger.client import Client, RoomConnection, Session
from cfmessenger.client.errors import SendTimeout
from cfmessenger.storage import keys
from cfmessenger.storage.copying import JUMP
from tests.system.cluster.test_up import FEW_WORKERS, Messenger

pytestmark = pytest.mark.cluster

ROOMS = ("general", "music", "dm_user_1__user_2")
FREE = ("CHAT_RATE", "LOGIN_RATE", "WRITE_RATE", "ORDER_QUOTA", "ORDER_QUOTA_BYTES")
FEW = FEW_WORKERS | {f"CFM_{name}": "0" for name in FREE}
ORDER = {"currency": "EUR", "items": [{"name": "t", "quantity": 1, "unitPrice": 1}]}
AFTER = 50


@pytest.fixture
def start() -> Iterator[Callable[..., Messenger]]:
    """Messengers on folders of a test's own."""
    started: list[tuple[Messenger, Path]] = []

    def begin(data: Path) -> Messenger:
        started.append((Messenger(data, **FEW), data))
        return started[-1][0].wait_ready()

    yield begin
    for messenger, data in started:
        for row in messenger.seen | set(process.descendants(messenger.popen.pid)):
            process.send(row, signal.SIGKILL)
        messenger.popen.kill()
        messenger.popen.wait(10)
        assert messenger.popen.stdout is not None
        messenger.popen.stdout.close()
        RuntimeFolder(data).remove()


async def command(data: Path, *words: str) -> tuple[int, str, str]:
    """A command to its end: its code and what it said."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CFM")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cfmessenger", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**inherited, "CFM_DATA_DIR": str(data)},
    )
    return done.returncode, done.stdout, done.stderr


class Talk:
    """People who talk all the time, and what was acknowledged to them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.acked: dict[str, dict[str, int]] = {room: {} for room in ROOMS}
        self.orders = 0
        self.stop, self.news = asyncio.Event(), asyncio.Event()
        self._numbers = count()

    async def talk(self, room: str) -> None:
        async with self.session.room(room) as there:
            listening = asyncio.create_task(_listen(there))
            while not self.stop.is_set():
                text = f"m{next(self._numbers)}"
                try:
                    said = await there.send(text)
                except SendTimeout:
                    continue
                assert said.seq is not None
                self.acked[room][text] = said.seq
                self.news.set()
            listening.cancel()

    async def buy(self) -> None:
        while not self.stop.is_set():
            await self.session._call(dict, "POST", "/api/data/orders", ORDER)
            self.orders += 1

    async def until(self, more: int) -> None:
        """So many more were acknowledged in each room."""
        wanted = {room: len(said) + more for room, said in self.acked.items()}
        while any(len(self.acked[room]) < n for room, n in wanted.items()):
            self.news.clear()
            await self.news.wait()


async def _listen(there: RoomConnection) -> None:
    """Who is deaf is not spoken to for long."""
    async for _ in there:
        pass


async def told(session: Session, room: str) -> dict[int, str]:
    """Everything that is in a room, by number; each number once."""
    found: dict[int, str] = {}
    before: int | None = None
    while True:
        page = await session.messages(room, before=before, limit=100)
        for each in page.messages:
            assert each.seq not in found
            found[each.seq] = each.content
        before = page.next_before
        if before is None:
            return found


async def test_what_was_acknowledged_before_a_backup_is_there_after_a_restore(
    start: Callable[..., Messenger], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    copy = tmp_path / "backups" / "one"
    up = start(first)
    async with Client(up.url) as client, await client.login("user_1") as session:
        talk = Talk(session)
        async with asyncio.TaskGroup() as group:
            for room in ROOMS:
                group.create_task(talk.talk(room))
            group.create_task(talk.buy())
            await talk.until(100)
            before = {room: dict(said) for room, said in talk.acked.items()}
            orders = talk.orders
            code, out, err = await command(first, "backup", str(copy))
            assert code == 0, err
            assert "database: messenger.sqlite3" in out
            await talk.until(AFTER)
            talk.stop.set()
        # Onto itself while it runs: no.
        code, _, err = await command(first, "restore", "--replace", str(copy))
        assert code == 1 and "is in use by process" in err
        epochs = {room: epoch_of(up, room) for room in ROOMS}
    up.end()
    assert {each.name: oct(each.stat().st_mode)[-3:] for each in copy.iterdir()} == {
        "manifest.json": "600",
        "messenger.sqlite3": "600",
        "valkey.items": "600",
    }
    code, out, err = await command(second, "restore", str(copy))
    assert code == 0, err
    assert "everybody logs in again" in out
    code, _, err = await command(second, "restore", str(copy))
    assert code == 1 and "there is something already" in err

    up = start(second)
    async with Client(up.url) as client:
        async with await client.login("user_1") as session:
            for room in ROOMS:
                there = await told(session, room)
                kept = {text: seq for seq, text in there.items()}
                lost = {t for t, seq in before[room].items() if kept.get(t) != seq}
                assert not lost
                # What it has of later is what was acknowledged then, too.
                for text, seq in kept.items():
                    assert talk.acked[room].get(text, seq) == seq
                # Its numbers go on, and its epochs are far above all that were.
                async with session.room(room) as entered:
                    said = await entered.send("after")
                assert said.seq is not None and said.seq > max(there)
                assert epoch_of(up, room) > epochs[room] + JUMP // 2
            query = "/api/data/orders?limit=1"
            found: Any = await session._call(dict, "GET", query)
            assert found["items"]
    up.end()
    assert orders > 0


def epoch_of(up: Messenger, room: str) -> int:
    with up.valkey() as kv:
        found: Any = kv.xinfo_stream(keys.log(f"room:{room}"))
    return int(found["last-generated-id"].partition(b"-")[0])
