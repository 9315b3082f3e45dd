"""People who look at who is online: presence sockets, whom they watch, what they show.

A gaze connects to some gateway, watches and unwatches people, leaves and comes back, as
a contact list does that is scrolled. What it was told goes into the history.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.system.sim.history import Frame, Gazed, Heard
from tests.system.sim.workload import CONNECT_S, Line, encode

if TYPE_CHECKING:
    from tests.system.sim.world import World

NOBODY = "nobody"
"""Whom some watch, and who never comes."""


class Gaze:
    """One presence socket of a person, again and again."""

    def __init__(self, world: World, user: str) -> None:
        self.world = world
        self.user = user
        self.quiet = False  # does nothing of its own accord any more
        self.socket: Gazed | None = None  # the latest
        self._line: Line | None = None  # while there is one
        self._rng = world.rng

    @property
    def connected(self) -> bool:
        """It has had its full sync, too."""
        return (
            self.socket is not None
            and self.socket.closed_at is None
            and any(h.frame["type"] == "presence_full_sync" for h in self.socket.heard)
        )

    async def live(self) -> None:
        rng = self._rng
        await asyncio.sleep(rng.random() * 3)
        while True:
            line = await self._connect()
            if line is not None:
                self._line = line
                await self._look(line)
                self._leave()
            await asyncio.sleep(rng.random() * 0.5)

    async def _connect(self) -> Line | None:
        gateway = self.world.some_gateway()
        if gateway is None:
            return None
        line = Line(self)
        try:
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: line, gateway, 80)
                hello = {"user": self.user, "room": None, "since": None, "era": None}
                line.say(encode(hello))
                if await line.accepted:
                    return line
        except (OSError, TimeoutError):
            pass
        if line.transport is not None:
            line.transport.abort()
        if self.socket is not None and self.socket.closed_at is None:
            self._leave()
        return None

    async def _look(self, line: Line) -> None:
        rng, plan = self._rng, self.world.plan
        while not line.ended.done():
            pause = rng.expovariate(1 / plan.pause_s)
            await asyncio.wait([line.ended], timeout=pause)
            if line.ended.done():
                return
            if self.quiet:
                await line.ended
                return
            self._act(line)
            if rng.random() < plan.leave_p:
                line.transport.abort()
                return

    def _act(self, line: Line) -> None:
        rng, socket = self._rng, self.socket
        assert socket is not None
        people = [f"user_{n + 1}" for n in range(self.world.plan.people)]
        some = rng.sample([*people, NOBODY], rng.choice((1, 1, 2, 3)))
        draw = rng.random()
        if draw < 0.4:
            socket.watched.update(some)
            socket.ever.update(some)
            self._say(line, {"type": "watch", "userIds": some})
        elif draw < 0.7:
            socket.watched.difference_update(some)
            self._say(line, {"type": "unwatch", "userIds": some})
        elif draw < 0.9:
            status = rng.choice(("online", "busy", "offline", "offline"))
            self._say(line, {"type": "presence_update", "status": status})

    def _say(self, line: Line, frame: Frame) -> None:
        if not line.lost:
            self.world.note("%s says on presence %s", self.user, frame)
            line.say(encode(frame))

    def enter(self) -> None:
        """Accepted; called before any frame is heard."""
        self.socket = Gazed(self.user, self.world.loop.time())
        self.world.history.gazes.append(self.socket)

    def hear(self, payload: bytes) -> None:
        """A frame arrives."""
        assert self.socket is not None
        if self.socket.closed_at is None:
            frame = self.world.decoded(payload)
            self.socket.heard.append(Heard(self.world.loop.time(), frame))
            self.world.note("%s hears on presence %s", self.user, frame)

    def _leave(self) -> None:
        assert self.socket is not None
        self.socket.closed_at = self.world.loop.time()
        self._line = None
