"""A small loader: WebSocket clients in rooms, and what serving them cost the server.

Four measurements, each on a server that has just been started: `fanout`, `paced`,
`idle`, `wake`. They know nothing of who serves; the wire is `{"type": "chat", "id",
"content"}` in and the same with `seq` out to everybody in the room, after a greeting of
type `system`. A server that drops a socket, loses a message or breaks a room's seq has
no figures: it is `Broken`.
"""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

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
from tests.bench.summary import Figures, quantile

CHAT = b'{"type":"chat"'
ERROR = b'{"type":"error"'
# Together with the time stamp a line of ordinary length.
PADDING = "x" * 80
DIALLING = 32
STEP_S = 30.0
RETRY_S = 0.5
# The slowest contestant may need some time to say what it owes.
DRAIN_S = 30.0


class Broken(Exception):
    """The server did not do the work, so there is nothing to measure."""


@dataclass
class Server:
    """A running contestant: the address of the n-th client of a room, and its meter."""

    url: Callable[[str, int], str]
    meter: Meter


class _Heard(msgspec.Struct):
    seq: int
    content: str


@dataclass
class Ear:
    """Listens to one socket closely: latencies since `since`, and the room's seq."""

    since: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    last_seq: int = 0
    breaks: int = 0

    def hear(self, body: bytes) -> None:
        """Takes one chat as it came; its content begins with the intended time."""
        heard = _decode(body)
        if self.last_seq and heard.seq != self.last_seq + 1:
            self.breaks += 1
        self.last_seq = heard.seq
        intended = float(heard.content.partition(" ")[0])
        if intended >= self.since:
            self.latencies_s.append(time.perf_counter() - intended)


_decode = msgspec.json.Decoder(_Heard).decode


class Tally:
    """Deliveries of all sockets of one measurement; `aim` calls back at a count."""

    def __init__(self) -> None:
        self.delivered = 0
        self.dropped = 0
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
    """One client in a room."""

    transport: WSTransport

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.ear: Ear | None = None
        self.greeted = asyncio.get_running_loop().create_future()
        self._leaving = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        body = frame.get_payload_as_bytes()
        if body.startswith(CHAT):
            if self.ear is not None:
                self.ear.hear(body)
            self.tally.count()
        elif body.startswith(ERROR):
            self.tally.refused(body)
        elif not self.greeted.done():
            self.greeted.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._leaving:
            self.tally.dropped += 1
            if not self.greeted.done():
                self.greeted.set_exception(Broken("a socket was closed at once"))

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

    async def dial(room: str, n: int) -> Member:
        async with free, asyncio.timeout(STEP_S):
            member = await _connect(server.url(room, n), tally)
            await member.greeted
            return member

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(dial(room, n)) for room, n in places]
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        raise Broken(f"a client could not join: {first!r}") from first
    return [task.result() for task in tasks]


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


async def _connect(url: str, tally: Tally) -> Member:
    while True:
        try:
            _, member = await ws_connect(
                lambda: Member(tally),
                url,
                websocket_handshake_timeout=STEP_S,
                read_buffer_init_size=4096,
            )
        except WSInvalidStatusError as refused:
            answer = refused.response
            if answer is None or answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            await asyncio.sleep(RETRY_S)  # as any client does: it asks us to
            continue
        assert isinstance(member, Member)
        return member


def a_room() -> str:
    """The name of a room nobody was ever in."""
    return f"r{uuid.uuid4().hex[:12]}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _drained(tally: Tally, expected: int) -> None:
    end = time.perf_counter() + DRAIN_S
    while tally.delivered < expected and time.perf_counter() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    if tally.delivered != expected:
        said = f"; {tally.errors} errors like {tally.first_error}"
        raise Broken(
            f"{tally.delivered} of {expected} deliveries came"
            f"{said if tally.errors else ''}"
        )


def _verify(tally: Tally, ears: Sequence[Ear]) -> None:
    if tally.errors:
        raise Broken(f"{tally.errors} errors like {tally.first_error}")
    if tally.dropped:
        raise Broken(f"{tally.dropped} sockets were dropped")
    if breaks := sum(ear.breaks for ear in ears):
        raise Broken(f"seq was broken {breaks} times")


async def fanout(
    server: Server, *, sockets: int, window: int, warm_s: float, seconds: float
) -> Figures:
    """One room, as fast as it goes: `window` messages are in flight all the time.

    A message counts as out of flight when every socket has got one more. The speakers
    take turns.
    """
    tally, room, ear = Tally(), a_room(), Ear()
    sent, rounds, going = 0, 0, True

    def speak() -> None:
        nonlocal sent
        members[sent % sockets].say(time.perf_counter())
        sent += 1

    def round_done() -> None:
        nonlocal rounds
        rounds += 1
        tally.aim((rounds + 1) * sockets, round_done)
        if going:
            speak()

    places = [(room, n) for n in range(sockets)]
    async with joined(server, places, tally) as members:
        members[0].ear = ear
        with _undisturbed():
            tally.aim(sockets, round_done)
            for _ in range(window):
                speak()
            await asyncio.sleep(warm_s)
            server.meter.rescan()
            cpu, delivered, began = _mark(server, tally)
            await asyncio.sleep(seconds)
            server.meter.rescan()
            cpu_end, delivered_end, ended = _mark(server, tally)
            going = False
            await _drained(tally, sent * sockets)
        _verify(tally, [ear])
    deliveries = delivered_end - delivered
    if not deliveries:
        raise Broken("nothing was delivered in the measured time")
    return {
        "cpu_us_per_delivery": 1e6 * (cpu_end - cpu) / deliveries,
        "deliveries_per_s": deliveries / (ended - began),
    }


def _mark(server: Server, tally: Tally) -> tuple[float, int, float]:
    return server.meter.cpu_s(), tally.delivered, time.perf_counter()


async def paced(
    server: Server,
    *,
    rooms: int,
    per_room: int,
    rate: float,
    warm_s: float,
    seconds: float,
) -> Figures:
    """`rate` messages a second over all rooms, whether the server keeps up or not.

    Latency is from the time a message should have gone to its arrival at one socket of
    its room, so that a server which falls behind cannot hide it.
    """
    tally, ears = Tally(), [Ear(since=float("inf")) for _ in range(rooms)]
    names = [a_room() for _ in range(rooms)]
    places = [(name, n) for name in names for n in range(per_room)]
    sent = 0

    async def speak_until(end: float) -> None:
        nonlocal sent
        while (now := time.perf_counter()) < end:
            while sent < (now - start) * rate:
                room, turn = sent % rooms, sent // rooms % per_room
                members[room * per_room + turn].say(start + sent / rate)
                sent += 1
            due = start + sent / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async with joined(server, places, tally) as members:
        for at, ear in enumerate(ears):
            members[at * per_room].ear = ear
        with _undisturbed():
            server.meter.rescan()
            start = time.perf_counter()
            await speak_until(start + warm_s)
            cpu, delivered, began = _mark(server, tally)
            for ear in ears:
                ear.since = began
            await speak_until(began + seconds)
            server.meter.rescan()
            cpu_end, delivered_end, ended = _mark(server, tally)
            await _drained(tally, sent * per_room)
        _verify(tally, ears)
    messages = (delivered_end - delivered) / per_room
    latencies = sorted(one for ear in ears for one in ear.latencies_s)
    return {
        "cpu_us_per_message": 1e6 * (cpu_end - cpu) / max(messages, 1.0),
        "messages_per_s": messages / (ended - began),
        "p50_ms": 1e3 * quantile(latencies, 0.5),
        "p99_ms": 1e3 * quantile(latencies, 0.99),
    }


async def idle(
    server: Server, *, sockets: int, before: int, settle_s: float
) -> Figures:
    """Sockets of one room that say nothing, beyond `before` that made the heap grow."""
    tally, room = Tally(), a_room()
    async with joined(server, [(room, n) for n in range(before)], tally):
        await asyncio.sleep(settle_s)
        memory = server.meter.memory_bytes()
        cpu = server.meter.cpu_s()
        async with joined(server, [(room, n) for n in range(sockets)], tally):
            server.meter.rescan()
            cpu_end = server.meter.cpu_s()
            await asyncio.sleep(settle_s)
            after = server.meter.memory_bytes()
            _verify(tally, [])
    return {
        "kib_per_socket": (after - memory) / 1024 / sockets,
        "cpu_ms_per_accept": 1e3 * (cpu_end - cpu) / sockets,
    }


async def wake(
    server: Server, *, rooms: int, pause_s: float, sleep_s: float
) -> Figures:
    """Rooms of one socket each: the first word in a new one, and after a long silence.

    One after the other with `pause_s` between, and `sleep_s` of silence before the
    second words; with 0 there are none, for servers whose rooms never sleep.
    """
    tally = Tally()
    before = server.meter.memory_bytes()
    names = [a_room() for _ in range(rooms)]
    members: list[Member] = []
    new_s: list[float] = []
    woken_s: list[float] = []
    async with AsyncExitStack() as stack:
        for n, name in enumerate(names):
            began = time.perf_counter()
            place = joined(server, [(name, n)], tally)
            members += await stack.enter_async_context(place)
            await _answer(members[-1], tally)
            new_s.append(time.perf_counter() - began)
            await asyncio.sleep(pause_s)
        awake = server.meter.memory_bytes()
        figures = {
            "new_p50_ms": 1e3 * quantile(sorted(new_s), 0.5),
            "kib_per_room": (awake - before) / 1024 / rooms,
        }
        if sleep_s:
            await asyncio.sleep(sleep_s)
            asleep = server.meter.memory_bytes()
            for member in members:
                woken_s.append(await _answer(member, tally))
                await asyncio.sleep(pause_s)
            figures |= {
                "woken_p50_ms": 1e3 * quantile(sorted(woken_s), 0.5),
                "woken_p99_ms": 1e3 * quantile(sorted(woken_s), 0.99),
                "kib_per_room_asleep": (asleep - before) / 1024 / rooms,
            }
        _verify(tally, [])
    return figures


async def _answer(member: Member, tally: Tally) -> float:
    """Speaks and waits for the echo; the seconds that took."""
    echoed = asyncio.get_running_loop().create_future()
    tally.aim(tally.delivered + 1, lambda: echoed.set_result(None))
    began = time.perf_counter()
    member.say(began)
    async with asyncio.timeout(STEP_S):
        await echoed
    return time.perf_counter() - began
