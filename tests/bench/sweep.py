"""What is measured for deploy/CAPACITY.md: sweeps that change one thing at a time.

Owns the points of each sweep and how one is taken: on a messenger of its own, with
pooled placement, that has just been started and has nothing left to start. A `Survey`
is what was taken so far; several may be read as one, for a machine that one can have
for minutes at a time only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from tests.bench.arrivals import crowd
from tests.bench.loader import Broken, Server, a_room, joined
from tests.bench.measures import notes, paced
from tests.bench.ours import messenger
from tests.bench.packages import Missing
from tests.bench.statuses import changes
from tests.bench.steady import at_rest
from tests.bench.summary import Measured

SECONDS, SLICE_S = 4.0, 1.0
LIMIT_S = 600.0
AWAKE = {"CFM_HIBERNATE_AFTER": "600"}


class Point(msgspec.Struct, frozen=True):
    """One measurement of a sweep: which, of what size, with which settings."""

    sweep: str
    measure: str
    sizes: dict[str, float]
    settings: dict[str, str] = {}

    @property
    def key(self) -> str:
        """The same for the same point of any run."""
        return repr((self.sweep, sorted(self.sizes.items()), self.settings))


class Taken(msgspec.Struct, frozen=True):
    """A point and what was found there, or why nothing was."""

    point: Point
    measured: Measured | None = None
    reason: str = ""


class Survey(msgspec.Struct):
    """All that was taken, as `--json` writes it."""

    started_at: str
    machine: dict[str, str]
    taken: list[Taken] = []

    def of(self, sweep: str) -> list[Taken]:
        """What was found in a sweep, in its order."""
        return [t for t in self.taken if t.point.sweep == sweep and t.measured]


def merged(surveys: Iterable[Survey]) -> Survey:
    """Several as one; of a point that was taken twice the later counts. Raises
    ValueError if there are none."""
    every = list(surveys)
    if not every:
        raise ValueError("expected a survey")
    taken = {each.point.key: each for survey in every for each in survey.taken}
    started = ", ".join(dict.fromkeys(each.started_at for each in every))
    return Survey(started, every[-1].machine, list(taken.values()))


def _paced(sweep: str, rooms: int, per_room: int, rate: float, **more: str) -> Point:
    sizes = {"rooms": rooms, "per_room": per_room, "rate": rate}
    return Point(sweep, "paced", sizes, more)


def points() -> list[Point]:
    """All sweeps."""
    many = [_paced("sockets", 1, k, 200) for k in (4, 20, 60, 200)]
    many += [_paced("rooms", rooms, 4, 400) for rooms in (10, 100, 400)]
    many += [_paced("rates", 50, 4, rate) for rate in (100, 400, 1500)]
    for name, values in (("CFM_GATEWAYS", (1, 2, 4)), ("CFM_POOL_SIZE", (1, 2, 4))):
        sweep = name[4:].lower()
        many += [_paced(sweep, 50, 4, 400, **{name: str(n)}) for n in values]
    many += [
        Point(f"held_{what}", "held", {"sockets": n, "one_each": one_each}, AWAKE)
        for what, one_each, counts in (
            ("sockets", False, (500, 5000)),
            ("rooms", True, (200, 4000)),
        )
        for n in counts
    ]
    many += [
        Point("presence", "changes", {"people": n, "rate": 20})
        for n in (50, 200, 400, 1000)
    ]
    many += [
        Point("crowd", "crowd", {"people": n, "within_s": 5.0})
        for n in (100, 300, 1000)
    ]
    many += [_paced("grow_rooms", n, 1, 400, **AWAKE) for n in (10, 100, 1000, 10_000)]
    many += [
        _paced("grow_sockets", 10, n // 10, 20, **AWAKE)
        for n in (100, 300, 1000, 3000, 10_000)
    ]
    return many


SWEEPS = tuple(dict.fromkeys(point.sweep for point in points()))


async def held(server: Server, *, sockets: int, one_each: bool) -> Measured:
    """What so many sockets of one room, or each of a room of its own in which a line
    was said, hold: KiB (USS) by kind of process, and CPU an accept."""
    name, before = a_room(), server.meter.read()
    places = [(f"{name}{n}" if one_each else name, n) for n in range(sockets)]
    async with joined(server, places) as members:
        accepted = server.meter.read().spent_s(before)
        for member in members if one_each else ():
            member.say(time.perf_counter())
        unsteady = await at_rest(server.meter)
        kinds = ("gateway", "actors", "valkey")
        kib = {kind: server.meter.private_kib(kind) for kind in kinds}
        accepts = {kind: 1e3 * s / sockets for kind, s in accepted.items()}
    return Measured(
        {"kib": sum(kib.values()), "cpu_ms_per_accept": sum(accepts.values())},
        {"kib": kib, "cpu_ms_per_accept": accepts},
        notes(unsteady),
    )


async def _paced_and_kept(
    server: Server, *, rooms: int, per_room: int, rate: float
) -> Measured:
    """As `measures.paced`, and by how much Valkey grew for each message."""
    before = server.meter.private_kib("valkey")
    found = await paced(
        server,
        rooms=rooms,
        per_room=per_room,
        rate=rate,
        slice_s=SLICE_S,
        seconds=SECONDS,
    )
    grown = 1024 * (server.meter.private_kib("valkey") - before)
    said = max(found.figures["said"], 1.0)
    more = {"valkey_bytes_per_message": grown / said}
    return msgspec.structs.replace(found, figures=found.figures | more)


async def _changes(server: Server, *, people: int, rate: float) -> Measured:
    return await changes(
        server, people=people, rate=rate, slice_s=SLICE_S, seconds=SECONDS
    )


MEASURES: dict[str, Callable[..., Awaitable[Measured]]] = {
    "paced": _paced_and_kept,
    "held": held,
    "changes": _changes,
    "crowd": crowd,
}
COUNTS = {"rooms", "per_room", "sockets", "people"}


async def take(point: Point) -> Taken:
    """One point. What could not be measured says why."""
    sizes: dict[str, Any] = {
        key: int(value) if key in COUNTS else value
        for key, value in point.sizes.items()
    }
    people = sizes.get("people", 0)
    try:
        async with messenger("pooled", people, **point.settings) as server:
            async with asyncio.timeout(LIMIT_S):
                found = await MEASURES[point.measure](server, **sizes)
            if server.note:
                said = [f"at its start {server.note}", *found.notes]
                found = msgspec.structs.replace(found, notes=said)
    except (Broken, Missing, OSError, TimeoutError) as error:
        return Taken(point, None, str(error) or type(error).__name__)
    return Taken(point, found)
