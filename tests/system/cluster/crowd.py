"""People who talk in one room, and the verdict on what they saw.

A `Crowd` says messages at a steady rate through all its sockets and never waits for the
answer to the last one. `judge` hands everything to the checker of `tests.system.chaos`:
what was acknowledged is in the log under that number, nothing is there twice, every
socket saw one gap-free line and stayed open, and every message was answered in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec

from cfmessenger.accounts.users import Directory
from cfmessenger.wire.events import Event as DurableEvent
from tests.gateway.node import Frame, Socket, eventually
from tests.patience import Stopwatch
from tests.system.chaos import history as h
from tests.system.chaos.checker import Limits, check
from tests.system.chaos.history import Event, History
from tests.system.cluster.cluster import Visit

decode_message = msgspec.json.Decoder(DurableEvent).decode

LIMITS = Limits(nudge_rate=(0, 1))
_encode = msgspec.json.encode
_names = {each.display_name: each.id for each in Directory.load(None).people}


class _Timed(list[Frame]):
    """Frames, and when each came."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(frames)
        self.at = [time.monotonic()] * len(frames)

    def append(self, frame: Frame) -> None:
        self.at.append(time.monotonic())
        super().append(frame)


class Crowd:
    """Sockets in `room`; a user has one, and all talk."""

    def __init__(self, visit: Visit, room: str, sockets: list[Socket]) -> None:
        self.visit = visit
        self.room = room
        self.sockets = sockets
        self.sent: dict[str, float] = {}  # id → when, the first time
        self.acked: dict[str, int] = {}  # id → seq
        self.refused: dict[str, float] = {}  # id → when
        self.acked_at: list[float] = []
        self._waits: list[float] = []
        self._senders: dict[str, Socket] = {}
        self._records: list[h._Record] = []
        self._numbers = iter(range(10**9))
        self._taken: dict[Socket, int] = {}  # frames that were looked at
        self._began = time.monotonic()
        self._watch = Stopwatch()
        for each in sockets:
            self._join(each)

    @classmethod
    async def enter(
        cls, visit: Visit, room: str, people: int = 4, gateways: int = 2
    ) -> Crowd:
        """`people` users, each with a socket at one gateway after the other."""
        sockets = [
            await visit.enter(f"user_{n + 1}", room, gateway=n % gateways)
            for n in range(people)
        ]
        return cls(visit, room, sockets)

    def _join(self, socket: Socket) -> None:
        socket.frames = _Timed(socket.frames)
        where = socket.user_id, 1, socket.user_id, self.room
        self._records.append(h.Opened(self._began, *where, None))

    async def say(
        self,
        socket: Socket,
        id: str | None = None,  # noqa: A002
        padding: str = "",
    ) -> str:
        """One message, not waiting for anything; the same id again is a repeat."""
        name = id or f"{socket.user_id}-{next(self._numbers)}"
        now, user = time.monotonic(), socket.user_id
        if name not in self.sent:
            self.sent[name] = now
            self._senders[name] = socket
            self._records.append(h.Invoke(now, user, user, self.room, "chat", name))
        self._records.append(h.Written(now, user, 1, name))
        await socket.send("chat", content=name + padding, id=name)
        return name

    @asynccontextmanager
    async def talking(self, per_s: float, padding: str = "") -> AsyncIterator[None]:
        """All talk, `per_s` messages a second together, while the block runs."""
        task = asyncio.create_task(self._talk(per_s, padding))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _talk(self, per_s: float, padding: str) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for socket in self.sockets:
                await self.say(socket, padding=padding)
                due += 1 / per_s
                await asyncio.sleep(max(0.0, due - loop.time()))

    def look(self) -> None:
        """Take note of everything that came since the last look."""
        for socket in self.sockets:
            frames = socket.frames
            assert isinstance(frames, _Timed)
            start = self._taken.get(socket, 0)
            for at in range(start, len(frames)):
                self._note(socket, frames[at], frames.at[at])
            self._taken[socket] = len(frames)

    def _note(self, socket: Socket, frame: Frame, at: float) -> None:
        user, kind = socket.user_id, frame["type"]
        where = user, 1, self.room
        add = self._records.append
        if kind == "chat":
            add(self._shown(where, frame, at, live=True))
            if frame["senderId"] == user and frame["id"] not in self.acked:
                self.acked[frame["id"]] = frame["seq"]
                self.acked_at.append(at)
                self._waits.append(at - self.sent[frame["id"]])
                add(h.Ok(at, user, self.room, frame["id"], frame["seq"]))
        elif kind == "history":
            told = frame["messages"]
            ends = (told[0]["seq"], told[-1]["seq"]) if told else (0, 0)
            add(h.Recap(at, *where, *ends, frame["lastSeq"], frame["gap"]))
            self._records += [self._shown(where, each, at, live=False) for each in told]
        elif kind == "error":
            self.refused.setdefault(frame["id"], at)
            add(h.Refused(at, *where, frame["id"], frame["code"]))
        elif kind == "system":
            self._line(where, frame["content"], at)

    @staticmethod
    def _shown(
        where: tuple[str, int, str], frame: Frame, at: float, *, live: bool
    ) -> h.Shown:
        event = Event.of(decode_message(_encode(frame)))
        shown = event.seq, event.sender, event.id, event.content
        return h.Shown(at, *where, *shown, live)

    def _line(self, where: tuple[str, int, str], content: str, at: float) -> None:
        for ending, joined in ((" joined the room.", True), (" left the room.", False)):
            user = _names.get(content.removesuffix(ending))
            ours = user in {each.user_id for each in self.sockets}
            if ours and content.endswith(ending):
                self._records.append(h.Line(at, *where, user, joined))

    @property
    def open(self) -> list[str]:
        """Messages without an answer yet."""
        self.look()
        return [
            name
            for name in self.sent
            if name not in self.acked and name not in self.refused
        ]

    @property
    def waits(self) -> list[float]:
        """How long each echo took, sorted."""
        self.look()
        return sorted(self._waits)

    @property
    def pauses(self) -> list[float]:
        """How long nobody's message was acknowledged, each time, sorted."""
        self.look()
        return sorted(b - a for a, b in pairwise(sorted(self.acked_at)))

    @property
    def pause(self) -> float:
        """The longest of them."""
        return self.pauses[-1]

    async def until_acked(self, more: int, within: float = 10.0) -> None:
        """So many more messages are acknowledged than now."""
        self.look()
        wanted = len(self.acked) + more

        def enough() -> bool:
            self.look()
            return len(self.acked) >= wanted

        await eventually(enough, within)

    async def answered(self, within: float = 10.0) -> None:
        """Everything that was sent has an answer, one way or the other."""
        await eventually(lambda: not self.open, within)

    async def insist(self, within: float = 10.0) -> None:
        """Say what was refused again, with the same ids, until it is acknowledged."""
        await self.answered(within)
        for name in self.refused:
            if name not in self.acked:
                await self.say(self._senders[name], name)

        def all_acked() -> bool:
            self.look()
            return self.sent.keys() == self.acked.keys()

        await eventually(all_acked, within)

    async def judge(self, within: float = 10.0) -> list[dict[str, Any]]:
        """Every socket has all of the log, and the checker finds nothing wrong.

        Returns the log's events.
        """
        name = await self.say(self.sockets[0])
        for socket in self.sockets:
            await socket.has("chat", within, id=name)
        self.look()
        assert [each.user_id for each in self.sockets if not each.open] == []
        stored = self.visit.stored(self.room)
        assert [seq for _, seq, _ in stored] == [e["seq"] for _, _, e in stored]
        history = History()
        # Gateways refuse by the wall clock; while others have the CPU nobody can.
        history.lag_s = self._watch.wall - self._watch.seconds
        for record in sorted(self._records, key=lambda record: record.t):
            history.add(record)
        history.logs[self.room] = [
            Event.of(decode_message(_encode(event))) for _, _, event in stored
        ]
        anomalies = check(history, LIMITS)
        assert not anomalies, anomalies[:5]
        return [event for _, _, event in stored]


def quantile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]
