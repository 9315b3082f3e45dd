"""The measurements of people who come: many into one room, many online, many rooms.

`gather`, `crowd`, `conversations`; as those in `measures` each wants a server that has
started all it starts. Who comes is due by the clock, however slowly those before are
let in, and CPU is counted until nobody is told anything any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from tests.bench.loader import (
    GREETING,
    PRESENCE,
    STEP_S,
    Broken,
    Ear,
    Member,
    Server,
    Tally,
    a_room,
    dial,
    together,
)
from tests.bench.measures import notes, undisturbed, verify
from tests.bench.summary import Figures, Measured, quantile

QUIET_S = 0.5
LOOK_S = 0.02


async def gather(server: Server, *, sockets: int, within_s: float) -> Measured:
    """One room into which `sockets` people come within so many seconds.

    `all_in_s` is from the first dial until everybody who is there has a line that was
    said when the last was in, so that a room which is still telling who came is not
    done. What each got on the way is in KiB and frames. Who is closed is counted.
    """
    tally, room, ear = Tally(), a_room(), Ear(numbers=server.numbers)
    greeting = GREETING if server.greets else b""
    before, began = server.meter.read(), time.perf_counter()
    urls = [server.url(room, n) for n in range(sockets)]
    with undisturbed():
        async with _coming(urls, tally, greeting, began, within_s) as members:
            here = [each for each in members if not each.closed]
            if not here:
                raise Broken("everybody was closed")
            here[0].ear = ear
            heard = asyncio.Event()
            tally.aim(tally.delivered + len(here), heard.set)
            here[0].say(time.perf_counter())
            try:
                async with asyncio.timeout(STEP_S):
                    await heard.wait()
            except TimeoutError:
                raise Broken("not everybody heard the first line") from None
            all_in_s = time.perf_counter() - began
            quiet = await _quiet(tally)
            spent = server.meter.read().spent_s(before)
    if tally.errors:
        raise Broken(f"{tally.errors} errors like {tally.first_error}")
    figures = {"all_in_s": all_in_s, "closed": float(tally.dropped)}
    return _came(sockets, figures, tally, spent, quiet)


async def crowd(server: Server, *, people: int, within_s: float) -> Measured:
    """`people` come online within so many seconds, each with a presence socket.

    `all_in_s` is from the first dial until the last knows who is there. Whoever is
    dropped on the way has no figures: nobody of a crowd is to be.
    """
    assert server.presence is not None, "only who has presence is asked"
    tally = Tally()
    before, began = server.meter.read(), time.perf_counter()
    urls = [server.presence(n) for n in range(people)]
    with undisturbed():
        async with _coming(urls, tally, PRESENCE, began, within_s):
            all_in_s = time.perf_counter() - began
            quiet = await _quiet(tally)
            spent = server.meter.read().spent_s(before)
    verify(tally, [])
    return _came(people, {"all_in_s": all_in_s}, tally, spent, quiet)


async def conversations(server: Server, *, rooms: int, within_s: float) -> Measured:
    """`rooms` conversations begin within so many seconds: a socket, a line, its echo.

    Each in a room that never was; where people have direct rooms, in one of those.
    Timed from when it was due, whatever had to start for it.
    """
    tally = Tally()
    members: list[Member] = []
    greeting = GREETING if server.greets else b""
    before, began = server.meter.read(), time.perf_counter()

    async def one(n: int) -> float:
        due = began + within_s * n / rooms
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        room, client = server.conversation(n)
        own = Tally()
        member = await dial(server.url(room, client), own, greeting)
        members.append(member)
        echoed = asyncio.Event()
        own.aim(1, echoed.set)
        member.say(time.perf_counter())
        try:
            async with asyncio.timeout(STEP_S):
                await echoed.wait()
        except TimeoutError:
            raise Broken(f"no echo; {own.first_error or 'nothing came'}") from None
        tally.refused_dials += own.refused_dials
        tally.errors += own.errors
        return time.perf_counter() - due

    with undisturbed():
        try:
            took = sorted(await together(one(n) for n in range(rooms)))
            spent = server.meter.read().spent_s(before)
        finally:
            for member in members:
                member.leave()
    per_room = _per(rooms, spent)
    figures = {
        "new_p50_ms": 1e3 * quantile(took, 0.5),
        "new_p99_ms": 1e3 * quantile(took, 0.99),
        "refused": float(tally.refused_dials),
        "cpu_ms_per_room": sum(per_room.values()),
    }
    return Measured(figures, {"cpu_ms_per_room": per_room})


@asynccontextmanager
async def _coming(
    urls: Sequence[str], tally: Tally, greeting: bytes, began: float, within_s: float
) -> AsyncIterator[list[Member]]:
    """All of them dialled, each at its time, and in; they leave at the end."""
    members: list[Member] = []

    async def one(n: int, url: str) -> None:
        due = began + within_s * n / len(urls)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        with suppress(Broken):  # closed at once: that is in `tally.dropped`
            members.append(await dial(url, tally, greeting))

    try:
        await together(one(n, url) for n, url in enumerate(urls))
        yield members
    finally:
        for member in members:
            member.leave()


async def _quiet(tally: Tally) -> str:
    """Until nobody has been told anything for a while; a sentence if that never was."""
    end = time.perf_counter() + STEP_S
    seen, since = tally.frames, time.perf_counter()
    while (now := time.perf_counter()) < end:
        await asyncio.sleep(LOOK_S)
        if tally.frames != seen:
            seen, since = tally.frames, now
        elif now - since >= QUIET_S:
            return ""
    return f"still telling who came {STEP_S:.0f} s after the last"


def _came(
    count: int, figures: Figures, tally: Tally, spent: Figures, quiet: str
) -> Measured:
    each = _per(count, spent)
    figures |= {
        "cpu_ms_per_person": sum(each.values()),
        "kib_per_person": tally.received / 1024 / count,
        "frames_per_person": tally.frames / count,
    }
    return Measured(figures, {"cpu_ms_per_person": each}, notes(quiet))


def _per(count: int, spent: Figures) -> Figures:
    return {kind: 1e3 * seconds / count for kind, seconds in spent.items()}
