"""What the tests of actors share: surroundings on a real Valkey, and a played gateway.

`Visitor` is a gateway's end of a link without a stub: it says exactly what a test wants
said and keeps all it is told. `Screen` is what one socket's client would see.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from actors.activation import Activation, State
from actors.guests import Guest, all_kinds
from actors.kinds import Kind
from actors.surroundings import Surroundings
from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.room import RoomRules
from cfmessenger.clock import Clock
from cfmessenger.ids import gateway_of
from cfmessenger.link import messages as link
from cfmessenger.link.roll import PersonalRoll
from cfmessenger.storage import keys
from cfmessenger.storage.derived import DerivedKeys
from cfmessenger.storage.log import ValkeyLog
from tests import patience

Frame = dict[str, Any]
PATIENCE_S = 5.0
UNLIMITED = RoomRules(chat_rate=(0, 1), nudge_rate=(0, 1))


def kind_of(name: str, rules: RoomRules = UNLIMITED) -> Kind:
    """The kind behind a name where there are no guests."""
    return all_kinds(rules, []).of(name)


def fresh_room() -> str:
    return f"room:r{uuid.uuid4().hex[:20]}"


async def register(log: ValkeyLog, *gateways: str) -> None:
    """These gateways are alive, as far as anybody can see in Valkey."""
    now = time.time_ns() // 1_000_000
    await log.execute([("ZADD", keys.GATEWAYS, now, each) for each in gateways])


async def until(done: Callable[[], bool], news: asyncio.Event) -> None:
    """Wait for `done`, looking again whenever there is news."""
    async with patience.within(PATIENCE_S):
        while not done():
            news.clear()
            await news.wait()


def frames(blob: bytes) -> list[Frame]:
    """The JSON frames in a blob of finished WebSocket text frames."""
    found = []
    while blob:
        assert blob[0] == 0x81
        size, start = blob[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(blob[2:start], "big")
        found.append(msgspec.json.decode(blob[start : start + size]))
        blob = blob[start + size :]
    return found


def attachment(conn: str, user: str = "", typing: bool = False) -> Attachment:
    user = user or f"user_{conn.replace('.', '_')}"
    return Attachment(conn, user, user.upper(), "online", typing)


def chat(content: str, id: str | None = None) -> bytes:  # noqa: A002
    frame: Frame = {"type": "chat", "content": content}
    return msgspec.json.encode(frame if id is None else {**frame, "id": id})


class Visitor:
    """A gateway's end of a link (`actors.release.Recipient`), played by the test."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.got: list[link.ToGateway] = []
        self.covered = 0
        self.rested = 0
        self.members: dict[str, list[Frame]] = {}  # socket in the fan-out → its screen
        self.users: dict[str, str] = {}
        self.n = 0
        self.news = asyncio.Event()

    def send(self, message: link.ToGateway) -> None:
        self.got.append(message)
        if isinstance(message, link.Output):
            for item in message.items:
                self._show(item)
        if isinstance(message, link.Output | link.Goodbye):
            said_goodbye = isinstance(message, link.Goodbye)
            self.rested = message.epoch if said_goodbye else 0
            self.covered = max(self.covered, message.covered)
        self.news.set()

    def _show(self, item: link.Item) -> None:
        if isinstance(item, link.Fanout):
            for conn, screen in self.members.items():
                if self.users[conn] != item.but_user:
                    screen += frames(item.blob)
        elif isinstance(item, link.ToSockets):
            for conn in item.conns:
                self._screens.setdefault(conn, []).extend(frames(item.blob))
        elif isinstance(item, link.Roll):
            roll = PersonalRoll(item.frame, item.start, item.end, item.users)
            for conn in item.conns or self.members:
                if conn not in item.but:
                    told = roll.for_one(attachment(conn, self.users[conn]))
                    self._screens.setdefault(conn, []).extend(frames(b"".join(told)))
        elif isinstance(item, link.Subscribed):
            for conn in item.conns:
                self.members[conn] = self._screens.setdefault(conn, [])

    @property
    def _screens(self) -> dict[str, list[Frame]]:
        return self.__dict__.setdefault("screens", {})

    # What it says.

    def attach(
        self,
        room: str,
        *conns: str,
        seq: int | None = None,
        epoch: int = 0,
        covered: int = 0,
        replay: int = 0,
    ) -> link.Attach:
        """`conns` are the sockets that the object knows of already."""
        for conn in conns:
            self.users.setdefault(conn, attachment(conn).user_id)
            self.members.setdefault(conn, self._screens.setdefault(conn, []))
        sockets = [attachment(conn, self.users[conn]) for conn in conns]
        return link.Attach(
            room, epoch, seq, covered, replay, sockets, rested=self.rested
        )

    def opened(
        self, conn: str, since: int | None = None, user: str = ""
    ) -> link.Opened:
        assert gateway_of(conn) == self.gateway
        who = attachment(conn, user)
        self.users[conn] = who.user_id
        return link.Opened(self._number(), who, since, False)

    def closed(self, conn: str) -> link.Closed:
        return link.Closed(self._number(), conn)

    def said(self, conn: str, data: bytes) -> link.Said:
        return link.Said(self._number(), conn, data)

    def chat(self, conn: str, content: str, id: str | None = None) -> link.Said:  # noqa: A002
        return self.said(conn, chat(content, id))

    def _number(self) -> int:
        self.n += 1
        return self.n

    # What it was told.

    def seen(self, conn: str) -> list[Frame]:
        return self._screens.setdefault(conn, [])

    def chats(self, conn: str) -> list[tuple[int, str]]:
        """(seq, content) of the live messages a socket saw, in order."""
        seen = self.seen(conn)
        return [(f["seq"], f["content"]) for f in seen if f["type"] == "chat"]

    def kinds(self, conn: str) -> list[str]:
        return [frame["type"] for frame in self.seen(conn)]

    @property
    def goodbyes(self) -> list[link.Goodbye]:
        return [each for each in self.got if isinstance(each, link.Goodbye)]

    @property
    def outputs(self) -> list[link.Output]:
        return [each for each in self.got if isinstance(each, link.Output)]

    async def until(self, done: Callable[[], bool]) -> None:
        await until(done, self.news)

    async def until_covered(self, n: int | None = None) -> None:
        """Until all that was said so far (or `n`) is covered."""
        wanted = self.n if n is None else n
        await self.until(lambda: self.covered >= wanted)

    async def until_goodbye(self, reason: str) -> link.Goodbye:
        await self.until(lambda: bool(self.goodbyes))
        assert self.goodbyes[-1].reason == reason, self.goodbyes
        return self.goodbyes[-1]


class Scene(Surroundings):
    """Surroundings whose Valkey is at `url`; keeps which activations ended, and why."""

    def __init__(self, url: str, rules: RoomRules = UNLIMITED, *guests: Guest) -> None:
        self.valkey = ValkeyLog(url, 10_000)
        self.aside = ValkeyLog(url, 10_000)
        kinds = all_kinds(rules, guests)
        super().__init__(self.valkey, DerivedKeys(self.aside), kinds, Clock())
        self.ended: list[tuple[Activation, str]] = []
        self.news = asyncio.Event()
        self._started: list[Activation] = []

    def gone(self, activation: Activation, reason: str) -> None:
        self.ended.append((activation, reason))
        self.news.set()

    def reasons(self, activation: Activation) -> list[str]:
        return [reason for each, reason in self.ended if each is activation]

    def start(self, name: str) -> Activation:
        activation = Activation(name, self)
        self._started.append(activation)
        activation.start()
        return activation

    async def live(self, name: str, visitor: Visitor, *conns: str) -> Activation:
        """An activation with one gateway attached and these sockets in it."""
        activation = self.start(name)
        activation.receive(visitor, visitor.attach(name))
        inputs: list[link.Input] = [visitor.opened(conn) for conn in conns]
        activation.receive(visitor, link.Inputs(name, inputs))
        await visitor.until_covered()
        await settled(activation)
        return activation

    async def until_gone(self, activation: Activation) -> str:
        await until(lambda: bool(self.reasons(activation)), self.news)
        (reason,) = self.reasons(activation)
        return reason

    async def stored(self, name: str) -> list[tuple[str, str]]:
        """(id, content) of every event in the log."""
        (rows,) = await self.aside.execute([("XRANGE", keys.log(name), "-", "+")])
        return [
            (entry_id.decode(), msgspec.json.decode(fields[1])["content"])
            for entry_id, fields in rows
        ]

    def close(self) -> None:
        for activation in self._started:
            activation.vanish()
        self.valkey.close()
        self.aside.close()


async def settled(activation: Activation) -> None:
    """Until nothing is pending at a running activation, its alarm included."""
    async with patience.within(PATIENCE_S):
        while (  # noqa: ASYNC110 - it tells nobody
            activation.state is not State.RUNNING or not activation.idle_for(1e12)
        ):
            await asyncio.sleep(0.005)
