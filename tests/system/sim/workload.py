"""People with browser tabs: what they do, and what they note of it.

A tab connects to some gateway, speaks, and connects again with `since` when it lost its
connection, as the original client does. Some people retry what was not confirmed with
the same id, some do not; some send an id twice at once; ids of different people are
equal on purpose. Everything sent and heard goes into the history.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from tests.system.sim.history import (
    CHAT,
    MESSAGES,
    NUDGE,
    POISON,
    WINK,
    Frame,
    Heard,
    Sent,
    Socket,
    serial_of,
)

if TYPE_CHECKING:
    from tests.system.sim.gaze import Gaze
    from tests.system.sim.world import World

CONNECT_S = 4.0
encode = msgspec.json.Encoder().encode


class Line(asyncio.Protocol):
    """A client's end of a WebSocket, played: frames down, length-prefixed texts up."""

    def __init__(self, tab: Tab | Gaze) -> None:
        self._tab = tab
        self._buffer = b""
        self.transport: Any = None
        self.lost = False
        self.accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def say(self, text: bytes) -> None:
        self.transport.write(len(text).to_bytes(4, "big") + text)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (cut := split_frame(self._buffer)) is not None:
            op, payload, self._buffer = cut
            if op == 0x82:
                if not self.accepted.done():
                    self._tab.enter()
                    self.accepted.set_result(True)
            elif op == 0x81:
                self._tab.hear(payload)
            elif op == 0x88:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.accepted.done():
            self.accepted.set_result(False)
        if not self.ended.done():
            self.ended.set_result(None)


def split_frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """The first WebSocket frame of a buffer: opcode, payload, and what follows."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        if len(buffer) < start:
            return None
        size = int.from_bytes(buffer[2:start], "big")
    end = start + size
    if len(buffer) < end:
        return None
    return buffer[0], buffer[start:end], buffer[end:]


class Person:
    """A user: ids are theirs across their tabs."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self.ids = 0
        self.kind = CHAT  # of the last one
        self.retries = rng.random() < 0.6  # sends again what was not confirmed
        self.eager = rng.random() < 0.25  # sends an id twice at once, now and then
        self.tabs: list[Tab] = []

    def fresh_id(self) -> str:
        self.ids += 1
        return f"m{self.ids}"


class Tab:
    """One tab of a person in one room."""

    def __init__(self, world: World, person: Person, room: str) -> None:
        self.world = world
        self.person = person
        self.room = room
        self.socket: Socket | None = None
        self.line: Line | None = None
        self.quiet = False  # says nothing of its own accord any more
        self.unheard: list[Sent] = []  # sent, and neither echoed nor refused
        self._seen: int | None = None
        self._era: int | None = None  # of what it saw last
        self._rng = world.rng
        person.tabs.append(self)

    @property
    def connected(self) -> bool:
        return self.socket is not None and self.socket.closed_at is None

    @property
    def seen(self) -> int:
        """The last seq of an unbroken row, as the client would say it with `since`."""
        return self._seen or 0

    # Its life.

    async def live(self) -> None:
        rng = self._rng
        await asyncio.sleep(rng.random() * 2)
        while True:
            line = await self._connect()
            if line is None:
                await asyncio.sleep(0.1 + rng.random() * 0.5)
                continue
            self.line = line
            await self._talk(line)
            self._leave()
            if rng.random() < 0.1 and not self.quiet:
                await asyncio.sleep(rng.random() * 6)
            await asyncio.sleep(rng.random() * 0.4)

    async def _connect(self) -> Line | None:
        world, rng = self.world, self._rng
        gateway = world.some_gateway()
        if gateway is None:
            return None
        self._since = self._seen if rng.random() < 0.85 else None
        era = self._era if self._since is not None else None
        line = Line(self)
        try:
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: line, gateway, 80)
                hello: Frame = {"user": self.person.name, "room": self.room}
                resumed = {"since": self._since, "era": era}
                line.say(encode({**hello, **resumed}))
                if await line.accepted:
                    return line
        except (OSError, TimeoutError):
            pass
        if line.transport is not None:
            line.transport.abort()
        if self.socket is not None and self.socket.closed_at is None:
            self._leave()
        return None

    def enter(self) -> None:
        """Accepted; called before any frame is heard."""
        world = self.world
        since = self._since
        number = len(world.history.sockets) + 1
        self.socket = Socket(
            number, self.person.name, self.room, since, world.loop.time()
        )
        if since is None:
            self._seen = self._era = None
        self.socket.era = self._era
        world.history.sockets.append(self.socket)
        world.note("%s enters as socket %s, since %s", self.person.name, number, since)

    def _leave(self) -> None:
        assert self.socket is not None
        self.socket.closed_at = self.world.loop.time()
        self.world.note("socket %s is gone", self.socket.number)
        self.line = None

    async def _talk(self, line: Line) -> None:
        rng, world = self._rng, self.world
        if self.person.retries and not self.quiet:
            left = {each.id: each.kind for each in self.unheard if each.id is not None}
            self.unheard.clear()
            for own, kind in left.items():
                self._send(kind, own)
        else:
            self.unheard.clear()
        while not line.ended.done():
            pause = rng.expovariate(1 / world.plan.pause_s)
            await asyncio.wait([line.ended], timeout=pause)
            if line.ended.done():
                return
            if self.quiet:
                await line.ended
                return
            self.act()
            if rng.random() < world.plan.leave_p:
                line.transport.abort() if rng.random() < 0.5 else line.transport.close()
                return

    # What it does.

    def act(self) -> None:
        """Something that people do."""
        rng, plan = self._rng, self.world.plan
        if plan.rename_p and rng.random() < plan.rename_p:
            self.change()
            return
        draw = rng.random()
        if draw < 0.62:
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                self.speak()
        elif draw < 0.74:
            self._say({"type": "typing", "isTyping": rng.random() < 0.7})
        elif draw < 0.82:
            ack = f"m{rng.randrange(1, 9)}"
            status = rng.choice(("delivered", "read"))
            self._say({"type": "ack", "ackId": ack, "status": status})
        elif draw < 0.87:
            status = rng.choice(("online", "busy", "away"))
            self._say({"type": "presence", "status": status})
        elif draw < 0.9:
            self._say({"type": "ping", "t": 1})
        elif draw < 0.93:
            self._say({"type": "nonsense"})

    def change(self) -> None:
        """Another name, message or status, by one of the ways that there are."""
        rng, user = self._rng, self.person.name
        status = rng.choice(("online", "busy", "away", "offline"))
        name, message = (f"{user} {self.world.number(what)}" for what in ("name", "pm"))
        ways: tuple[Frame, ...] = (
            {"status": status},
            {"status": status, "displayName": name},
            {"status": status, "displayName": name, "personalMessage": message},
        )
        way = rng.randrange(6)
        if way < 3:
            self._say({"type": "presence", **ways[way]})
            return
        words = ({"display_name": name}, {"personal_message": message}, {})[way - 3]
        chosen = None if words and rng.random() < 0.5 else status
        ready = [each for each in self.world.living_gateways if each.ready]
        if ready:
            rng.choice(ready).ask(user, chosen, words)

    def speak(self) -> None:
        """A durable frame, perhaps with an id, perhaps with one that was sent."""
        rng, person = self._rng, self.person
        nameless = any(sent.id is None for sent in self.unheard)
        if rng.random() < 0.3 and not nameless:
            # Its answer has no name either, so one at a time, and never a nudge: one is
            # like another.
            self._send(rng.choice((CHAT, CHAT, WINK)), None)
            return
        if not (person.eager and person.ids and rng.random() < 0.15):
            person.kind = rng.choice((CHAT, CHAT, CHAT, NUDGE, WINK))
            person.ids += 1
        kind, own = person.kind, f"m{person.ids}"
        self._send(kind, own)
        if person.eager and rng.random() < 0.2:
            other = rng.choice(person.tabs)
            if other.connected and other.room == self.room:
                other._send(kind, own)

    def _send(self, kind: str, own_id: str | None) -> None:
        world = self.world
        if self.socket is None or self.line is None or self.line.lost:
            return
        serial = world.next_serial()
        frame: Frame = {"type": kind}
        if kind == CHAT:
            # Drawn apart, so that it changes nothing but what it causes.
            draw = Random(f"{world.seed} poison {serial}").random()
            word = POISON if draw < world.plan.poison_p and not self.quiet else "says"
            frame["content"] = f"{self.person.name} {word} #{serial}"
        elif kind == WINK:
            frame["winkId"] = f"w{serial}"
        if own_id is not None:
            frame["id"] = own_id
        at = world.loop.time()
        sent = Sent(
            serial, self.socket.number, self.person.name, self.room, kind, own_id, at
        )
        sent.poison = POISON in frame.get("content", "")
        self.socket.sent.append(sent)
        self.unheard.append(sent)
        world.note("socket %s sends #%s %s", self.socket.number, serial, own_id)
        self._say(frame)

    def _say(self, frame: Frame) -> None:
        if self.line is not None and not self.line.lost:
            self.line.say(encode(frame))

    # What it hears.

    def hear(self, payload: bytes) -> None:
        """A frame arrives."""
        world, socket = self.world, self.socket
        frame = world.decoded(payload)
        assert socket is not None
        if socket.closed_at is not None:
            return
        socket.heard.append(Heard(world.loop.time(), frame))
        kind = frame["type"]
        if world.tracing and kind not in ("typing", "system", "participants"):
            world.note("socket %s hears %s", socket.number, _brief(frame))
        if kind == "history":
            if frame["gap"]:
                self._seen = None
            for message in frame["messages"]:  # what is lost is not among them
                self._see(message, skipping=True)
            if self._seen is None:
                self._seen = frame["lastSeq"]
            self._era = frame.get("era", self._era)
        elif kind in MESSAGES:
            self._see(frame)
        elif kind == "error" and frame["code"] in (
            "STORAGE_UNAVAILABLE",
            "RATE_LIMITED",
            "INTERNAL_ERROR",
        ):
            self._refused(frame)

    def _see(self, message: Frame, *, skipping: bool = False) -> None:
        seq = message["seq"]
        if self._seen is None or skipping or seq == self._seen + 1:
            self._seen = seq
            self._era = message.get("era", self._era)
        if message["senderId"] == self.person.name and self.unheard:
            own, serial = message["id"], serial_of(message)
            self.unheard = [
                sent
                for sent in self.unheard
                if sent.id != own and sent.serial != serial
            ]

    def _refused(self, frame: Frame) -> None:
        own = frame.get("id")
        for sent in self.unheard:
            if sent.id == own:
                self.unheard.remove(sent)
                again = frame["code"] == "STORAGE_UNAVAILABLE" and self.person.retries
                if again and own is not None and not self.quiet:
                    self._send(sent.kind, own)
                return


def _brief(frame: Frame) -> str:
    kind = frame["type"]
    if kind == "history":
        seqs = [message["seq"] for message in frame["messages"]]
        span = f"{seqs[0]}-{seqs[-1]}" if seqs else "nothing"
        return f"history {span}, last {frame['lastSeq']}{', GAP' * frame['gap']}"
    if kind in MESSAGES:
        said = frame.get("winkId") or frame["content"]
        return f"{kind} {frame['seq']} {frame['id']} {said!r}"
    if kind == "error":
        return f"{frame['code']} {frame.get('id')}"
    return str(kind)
