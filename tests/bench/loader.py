"""A small loader: WebSocket clients in rooms, light enough to outrun a server.

Owns dialling, speaking, counting and listening; what is measured with them is in
`measures` and `arrivals`. It knows nothing of who serves: the wire is `{"type": "chat",
"id", "content"}` in and the same with `seq` out to everybody in the room, after a
greeting of type `system`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from picows import (
    WSFrame,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from tests.bench.meter import Meter

CHAT = b'{"type":"chat"'
ERROR = b'{"type":"error"'
# Together with the time stamp a line of ordinary length.
PADDING = "x" * 80
GREETING = b"{"
PRESENCE = b'{"type":"presence_full_sync"'
DIALLING = 32
STEP_S = 30.0
RETRY_S = 0.5


T = TypeVar("T")


class Broken(Exception):
    """The server did not do the work, so there is nothing to measure."""


@dataclass
class Server:
    """A running contestant: the address of the n-th client of a room, and its meter.

    `greets`: it says something to who comes; else who is connected is in. `numbers`:
    its messages have a `seq` in their room. `presence` is the address of the n-th
    person's presence socket, where there are some, and `conversation` the n-th room of
    two that nobody was ever in, with the number of one of its clients. `note` is what
    is to be known of how it started.
    """

    url: Callable[[str, int], str]
    meter: Meter
    greets: bool = True
    numbers: bool = True
    presence: Callable[[int], str] | None = None
    conversation: Callable[[int], tuple[str, int]] = lambda n: (a_room(), n)
    note: str = ""


class _Heard(msgspec.Struct):
    content: str
    seq: int = 0


@dataclass
class Ear:
    """Listens to one socket closely: latencies of what should have gone from `since` to
    before `until`, and the room's seq if the server `numbers`."""

    since: float = 0.0
    until: float = float("inf")
    numbers: bool = True
    latencies_s: list[float] = field(default_factory=list)
    last_seq: int = 0
    breaks: int = 0

    def hear(self, body: bytes) -> None:
        """Takes one chat as it came; its content begins with the intended time."""
        heard = _decode(body)
        if self.numbers:
            self.breaks += bool(self.last_seq) and heard.seq != self.last_seq + 1
            self.last_seq = heard.seq
        intended = float(heard.content.partition(" ")[0])
        if self.since <= intended < self.until:
            self.latencies_s.append(time.perf_counter() - intended)


_decode = msgspec.json.Decoder(_Heard).decode


class Tally:
    """What all sockets of one measurement got; `aim` calls back at so many chats.

    `frames` and `received` (bytes) are of every text frame, `refused_dials` of
    handshakes that were told to come again.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.frames = 0
        self.received = 0
        self.dropped = 0
        self.refused_dials = 0
        self.errors = 0
        self.first_error = ""
        self._goal = -1
        self._reached: Callable[[], None] = lambda: None

    def aim(self, goal: int, reached: Callable[[], None]) -> None:
        """`reached` is called once, by the delivery that makes it `goal`."""
        self._goal, self._reached = goal, reached

    def refused(self, body: bytes) -> None:
        """The server answered with an error frame."""
        self.errors += 1
        self.first_error = self.first_error or body[:160].decode(errors="replace")

    def count(self) -> None:
        """One more delivery."""
        self.delivered += 1
        if self.delivered == self._goal:
            self._reached()


class Member(WSListener):
    """One client, in when it has got a frame that begins with `greeting` (nothing: when
    it is connected)."""

    transport: WSTransport

    def __init__(self, tally: Tally, greeting: bytes = GREETING) -> None:
        self.tally = tally
        self.greeting = greeting
        self.ear: Ear | None = None
        self.greeted = asyncio.get_running_loop().create_future()
        self.closed = False  # by the server
        self.close_code = 1006  # until it has said another
        self._leaving = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        if not self.greeting:
            self.greeted.set_result(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                self.close_code = int(frame.get_close_code().value)
                transport.disconnect()
            return
        body = frame.get_payload_as_bytes()
        self.tally.frames += 1
        self.tally.received += len(body)
        if body.startswith(CHAT):
            if self.ear is not None:
                self.ear.hear(body)
            self.tally.count()
        elif body.startswith(ERROR):
            self.tally.refused(body)
        elif not self.greeted.done() and body.startswith(self.greeting):
            self.greeted.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._leaving:
            self.closed = True
            self.tally.dropped += 1
            if not self.greeted.done():
                said = f"a socket was closed at once ({self.close_code})"
                self.greeted.set_exception(Broken(said))

    def say(self, intended: float) -> None:
        """Sends one chat that should have gone at `intended` (perf_counter)."""
        text = (
            f'{{"type":"chat","id":"{uuid.uuid4().hex}",'
            f'"content":"{intended:.6f} {PADDING}"}}'
        )
        self.transport.send(WSMsgType.TEXT, text.encode())

    def leave(self) -> None:
        """Closes; returns at once."""
        self._leaving = True
        self.transport.disconnect()


async def join(
    server: Server, places: Sequence[tuple[str, int]], tally: Tally | None = None
) -> list[Member]:
    """Clients for (room, number of the client), each greeted, in that order."""
    tally = tally or Tally()
    free = asyncio.Semaphore(DIALLING)
    greeting = GREETING if server.greets else b""

    async def one(room: str, n: int) -> Member:
        async with free:
            return await dial(server.url(room, n), tally, greeting)

    return await together(one(room, n) for room, n in places)


async def together(dials: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them, in their order. Raises `Broken` when one does not get in."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in dials]
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise Broken(f"a client could not join: {first!r}") from first
    return [task.result() for task in tasks]


async def dial(url: str, tally: Tally, greeting: bytes = GREETING) -> Member:
    """A client that is in; it comes again, as any client does, when it is asked to."""
    async with asyncio.timeout(STEP_S):
        member = await _connect(url, tally, greeting)
        await member.greeted
        return member


@asynccontextmanager
async def joined(
    server: Server, places: Sequence[tuple[str, int]], tally: Tally | None = None
) -> AsyncIterator[list[Member]]:
    """As `join`; they leave at the end."""
    members = await join(server, places, tally)
    try:
        yield members
    finally:
        for member in members:
            member.leave()


async def _connect(url: str, tally: Tally, greeting: bytes) -> Member:
    while True:
        # Ours, not what is returned: that is gone with a connection that is closed.
        member = Member(tally, greeting)
        try:
            await ws_connect(
                lambda: member,  # noqa: B023 - called in this very turn
                url,
                websocket_handshake_timeout=STEP_S,
                read_buffer_init_size=4096,
            )
        except WSInvalidStatusError as refused:
            answer = refused.response
            if answer is None or answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            tally.refused_dials += 1
            await asyncio.sleep(RETRY_S)
            continue
        return member


def a_room() -> str:
    """The name of a room nobody was ever in."""
    return f"r{uuid.uuid4().hex[:12]}"
