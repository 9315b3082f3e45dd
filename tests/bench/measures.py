"""The measurements: what a server is asked to do, and what that cost it.

`fanout`, `paced`, `idle`, `wake`; those of people who come are in `arrivals`. Each
wants a server that has started all it starts, and opens its window when the load is
steady (`steady`). One that refuses or loses a message, breaks a room's seq or drops a
socket has no figures: it is `Broken`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from tests.bench.loader import (
    STEP_S,
    Broken,
    Ear,
    Member,
    Server,
    Tally,
    a_room,
    joined,
)
from tests.bench.pacer import Pacer
from tests.bench.steady import at_rest, until_steady
from tests.bench.steady import window as opened
from tests.bench.summary import Measured, quantile

# The slowest contestant may need some time to say what it owes.
DRAIN_S = 60.0
SPEAK_S = 3.0
KEPT_UP = 0.95


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without Python's collector, whose pauses would be in somebody's figures."""
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


def notes(*said: str) -> list[str]:
    """Those that say something."""
    return [each for each in said if each]


def verify(tally: Tally, ears: Sequence[Ear]) -> None:
    """Raises `Broken` if anything was refused, dropped or out of order."""
    if tally.errors:
        raise Broken(f"{tally.errors} errors like {tally.first_error}")
    if tally.dropped:
        raise Broken(f"{tally.dropped} sockets were dropped")
    if breaks := sum(ear.breaks for ear in ears):
        raise Broken(f"seq was broken {breaks} times")


async def fanout(
    server: Server, *, sockets: int, window: int, slice_s: float, seconds: float
) -> Measured:
    """One room, as fast as it goes: `window` messages are in flight all the time.

    A message counts as out of flight when every socket has got one more. The speakers
    take turns.
    """
    tally, room, ear = Tally(), a_room(), Ear(numbers=server.numbers)
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
        with undisturbed():
            tally.aim(sockets, round_done)
            for _ in range(window):
                speak()
            unsteady = await until_steady(
                server.meter, lambda: tally.delivered, slice_s
            )
            found = await opened(server.meter, lambda: tally.delivered, seconds)
            going = False
            await _drained(tally, sent * sockets)
        verify(tally, [ear])
    if not found.work:
        raise Broken("nothing was delivered in the measured time")
    return Measured(
        {
            "cpu_us_per_delivery": found.cpu_us,
            "deliveries_per_s": found.work / found.seconds,
        },
        {"cpu_us_per_delivery": found.each()},
        notes(unsteady, found.note),
    )


async def paced(
    server: Server,
    *,
    rooms: int,
    per_room: int,
    rate: float,
    slice_s: float,
    seconds: float,
) -> Measured:
    """`rate` messages a second over all rooms, whether the server keeps up or not.

    Latency is from the time a message should have gone to its arrival at one socket of
    its room, so that a server which falls behind cannot hide it; one that did has none,
    for it would only say how long the measurement was.
    """
    tally = Tally()
    ears = [Ear(since=float("inf"), numbers=server.numbers) for _ in range(rooms)]
    names = [a_room() for _ in range(rooms)]
    places = [(name, n) for name in names for n in range(per_room)]

    def said_by_all() -> float:
        return tally.delivered / per_room

    def say(n: int, due: float) -> None:
        room, turn = n % rooms, n // rooms % per_room
        members[room * per_room + turn].say(due)

    def listen(began: float) -> None:
        pacer.measure()
        for ear in ears:
            ear.since, ear.until = began, began + seconds
            ear.latencies_s.clear()

    async with joined(server, places, tally) as members:
        for at, ear in enumerate(ears):
            members[at * per_room].ear = ear
        pacer = Pacer(rate, say, said_by_all)
        with undisturbed():
            async with pacer.going():
                unsteady = await until_steady(server.meter, said_by_all, slice_s)
                found = await opened(server.meter, said_by_all, seconds, listen)
                late = pacer.note
            await _drained(tally, pacer.sent * per_room)
        verify(tally, ears)
    latencies = sorted(one for ear in ears for one in ear.latencies_s)
    figures = {
        "cpu_us_per_message": found.cpu_us,
        "messages_per_s": found.work / found.seconds,
        "said": float(pacer.sent),
    }
    if figures["messages_per_s"] >= KEPT_UP * rate:
        figures["p50_ms"] = 1e3 * quantile(latencies, 0.5)
        figures["p99_ms"] = 1e3 * quantile(latencies, 0.99)
    parts = {"cpu_us_per_message": found.each()}
    return Measured(figures, parts, notes(unsteady, found.note, late))


async def idle(
    server: Server, *, sockets: int, before: int, quiet_s: float, rest_s: float
) -> Measured:
    """Sockets of one room that say nothing, beyond `before` that made the heap grow.

    What an accept costs ends when the last is in; what it leaves to be done is not at
    rest, so the window of rest opens when that is over.
    """
    tally, room = Tally(), a_room()
    async with joined(server, [(room, n) for n in range(before)], tally):
        memory = await _memory_bytes(server, quiet_s)
        start = server.meter.read()
        async with joined(server, [(room, n) for n in range(sockets)], tally):
            accepted = server.meter.read().spent_s(start)
            unsteady = await at_rest(server.meter)
            held = await _memory_bytes(server, quiet_s) - memory
            rest = await opened(server.meter, time.perf_counter, rest_s)
            verify(tally, [])
    per_accept = {kind: 1e3 * s / sockets for kind, s in accepted.items()}
    at_rest_percent = {kind: 100 * s / rest.seconds for kind, s in rest.cpu_s.items()}
    return Measured(
        {
            "kib_per_socket": held / 1024 / sockets,
            "cpu_ms_per_accept": sum(per_accept.values()),
            "cpu_percent_at_rest": sum(at_rest_percent.values()),
        },
        {"cpu_ms_per_accept": per_accept, "cpu_percent_at_rest": at_rest_percent},
        notes(unsteady, rest.note),
    )


async def wake(
    server: Server, *, rooms: int, pause_s: float, sleep_s: float, quiet_s: float
) -> Measured:
    """Rooms of one socket each: the first word in a new one, and after a long silence.

    One after the other with `pause_s` between, and `sleep_s` of silence before the
    second words; with 0 there are none, for servers whose rooms never sleep. One more
    room is awake all the time, so that what any room needs is not counted as theirs;
    and what else sleeps in the meantime does so in both readings of a pair.
    """
    tally = Tally()
    members: list[Member] = []
    new_s: list[float] = []
    async with _room_awake(server), AsyncExitStack() as stack:
        none_awake = await _memory_bytes(server, quiet_s)
        await asyncio.sleep(sleep_s)
        none_asleep = await _memory_bytes(server, quiet_s) if sleep_s else none_awake
        for n in range(rooms):
            began = time.perf_counter()
            place = joined(server, [(a_room(), n)], tally)
            members += await stack.enter_async_context(place)
            await _answer(members[-1], tally)
            new_s.append(time.perf_counter() - began)
            await asyncio.sleep(pause_s)
        for member in members:
            await _answer(member, tally)  # the first may be asleep again
        await asyncio.sleep(quiet_s)
        awake = server.meter.memory_bytes() - none_awake
        figures = {
            "new_p50_ms": 1e3 * quantile(sorted(new_s), 0.5),
            "kib_per_room": awake / 1024 / rooms,
        }
        if sleep_s:
            await asyncio.sleep(sleep_s)
            asleep = await _memory_bytes(server, quiet_s) - none_asleep
            woken_s = []
            for member in members:
                woken_s.append(await _answer(member, tally))
                await asyncio.sleep(pause_s)
            woken_s.sort()
            figures |= {
                "woken_p50_ms": 1e3 * quantile(woken_s, 0.5),
                "woken_p99_ms": 1e3 * quantile(woken_s, 0.99),
                "kib_per_room_asleep": asleep / 1024 / rooms,
            }
        verify(tally, [])
    return Measured(figures)


@asynccontextmanager
async def _room_awake(server: Server) -> AsyncIterator[None]:
    """A room somebody speaks in more often than any room falls asleep."""
    async with joined(server, [(a_room(), 0)]) as members:

        async def speak() -> None:
            while True:
                members[0].say(time.perf_counter())
                await asyncio.sleep(SPEAK_S)

        speaking = asyncio.create_task(speak())
        try:
            yield
        finally:
            speaking.cancel()


async def _memory_bytes(server: Server, quiet_s: float) -> int:
    """Read once no process has come or gone for `quiet_s`: one would be the figure."""
    end = time.perf_counter() + STEP_S
    quiet_since = time.perf_counter()
    while (now := time.perf_counter()) - quiet_since < quiet_s and now < end:
        before = server.meter.family
        await asyncio.sleep(min(0.25, quiet_s))
        server.meter.rescan()
        if server.meter.family != before:
            quiet_since = time.perf_counter()
    return server.meter.memory_bytes()


async def _answer(member: Member, tally: Tally) -> float:
    """Speaks and waits for the echo; the seconds that took."""
    echoed = asyncio.get_running_loop().create_future()
    tally.aim(tally.delivered + 1, lambda: echoed.set_result(None))
    began = time.perf_counter()
    member.say(began)
    async with asyncio.timeout(STEP_S):
        await echoed
    return time.perf_counter() - began
