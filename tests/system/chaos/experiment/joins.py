"""A thousand people open a presence socket at once: O(sockets) frames per burst.

Frames are counted raw, by type, at every socket; then one more person comes and one
leaves, which must cost one frame a socket.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from cfmessenger.client.errors import ClientError
from cfmessenger.client.session import Session
from cfmessenger.client.urls import websocket_url
from tests.system.chaos.experiment.scene import Scene, scene

PEOPLE = 1000
AT_ONCE = 100
DIALS = 5


class _Watcher:
    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        self.bytes = 0
        self.online: set[str] = set()
        self.task: asyncio.Task[None] | None = None
        self.socket: ClientConnection | None = None

    async def open(self, session: Session) -> None:
        url = websocket_url(
            session.client.url, "/api/ws/presence", await session.ticket(), None
        )
        self.socket = await connect(
            url,
            compression=None,
            proxy=None,
            open_timeout=60.0,
            ping_interval=None,
            max_size=2**24,
        )
        self.task = asyncio.create_task(self._read(self.socket))

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            frame: dict[str, Any] = json.loads(data)
            kind = frame["type"] + (" partial" if frame.get("partial") else "")
            self.frames[kind] += 1
            self.bytes += len(data)
            if kind == "presence_full_sync":
                self.online = {each["id"] for each in frame["participants"]}
            for each in frame.get("participants", ()):
                self._seen(each["id"], each["status"])
            if kind == "presence_join":
                self._seen(frame["userId"], "online")
            elif kind == "presence_update":
                self._seen(frame["userId"], frame["status"])

    def _seen(self, user: str, status: str) -> None:
        if status == "offline":
            self.online.discard(user)
        else:
            self.online.add(user)


async def run(seed: int) -> bool:
    async with scene(PEOPLE + 1, seed, CFM_GATEWAYS="2") as s:
        began = time.monotonic()
        gate = asyncio.Semaphore(AT_ONCE)

        async def login(n: int) -> None:
            async with gate:
                await s.session(n)

        await asyncio.gather(*(login(n) for n in range(PEOPLE + 1)))
        s.say(f"{PEOPLE + 1} people logged in, {time.monotonic() - began:.1f} s")
        watchers = [_Watcher() for _ in range(PEOPLE)]
        try:
            await _storm(s, watchers)
            await _one_more(s, watchers)
        finally:
            for each in watchers:
                if each.task is not None:
                    each.task.cancel()
                if each.socket is not None:
                    each.socket.transport.abort()
            tasks = [each.task for each in watchers if each.task is not None]
            await asyncio.gather(*tasks, return_exceptions=True)
        return not s.failed


async def _storm(s: Scene, watchers: list[_Watcher]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    retried = 0

    async def join(n: int) -> None:
        nonlocal retried
        session = await s.session(n)
        for attempt in range(DIALS):
            try:
                async with gate:
                    await watchers[n].open(session)
                return
            except (OSError, TimeoutError, ClientError):
                retried += 1
                await asyncio.sleep(0.2 * 2**attempt)
        s.expect(False, f"person {n} did not get in")

    began = time.monotonic()
    await asyncio.gather(*(join(n) for n in range(PEOPLE)))
    opened = time.monotonic() - began
    last = await _until(s, watchers, PEOPLE, 30.0)
    total, size = _sum(watchers)
    frames = sum(total.values())
    s.say(
        f"{PEOPLE} sockets joined within {opened:.1f} s (retries {retried}); everyone "
        f"knew everyone {last - began - opened:+.2f} s after the last was in"
    )
    s.say(f"frames {frames}: {dict(total)}; {size / 2**20:.1f} MiB")
    bursts = opened / 0.05
    s.say(
        f"{frames / PEOPLE:.1f} frames a socket; one by one would be about "
        f"{PEOPLE / 2:.0f} a socket, {PEOPLE * PEOPLE // 2} in all; the bound is "
        f"{bursts:.0f} ticks of 50 ms in that time"
    )
    s.expect(frames / PEOPLE < min(bursts * 1.5 + 10, PEOPLE / 4), "frames melt")


async def _one_more(s: Scene, watchers: list[_Watcher]) -> None:
    for text, count in (("comes", PEOPLE + 1), ("leaves", PEOPLE)):
        for each in watchers:
            each.frames.clear()
            each.bytes = 0
        began = time.monotonic()
        if text == "comes":
            extra = _Watcher()
            await extra.open(await s.session(PEOPLE))
        else:
            assert extra.socket is not None and extra.task is not None
            await extra.socket.close()
            await asyncio.wait([extra.task])
        last = await _until(s, watchers, count, 10.0)
        await asyncio.sleep(0.3)
        total, size = _sum(watchers)
        s.say(
            f"one person {text}: {dict(total)}, {size} bytes, told within "
            f"{(last - began) * 1000:.0f} ms"
        )


async def _until(
    s: Scene, watchers: list[_Watcher], count: int, timeout_s: float
) -> float:
    """When everyone knows of `count` people; else that is a failure."""
    end = time.monotonic() + timeout_s
    while any(len(each.online) != count for each in watchers):
        if time.monotonic() > end:
            wrong = sum(len(each.online) != count for each in watchers)
            s.expect(False, f"{wrong} sockets do not know of {count} people")
            break
        await asyncio.sleep(0.01)
    return time.monotonic()


def _sum(watchers: list[_Watcher]) -> tuple[Counter[str], int]:
    total: Counter[str] = Counter()
    for each in watchers:
        total += each.frames
    return total, sum(each.bytes for each in watchers)
