"""The table: what is done to which machine, and how long it takes.

A row is measured whatever today's code makes of it; what must hold for every build is
that nothing acknowledged is lost, doubled or reordered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.system.machines.ground import Ground, ground
from tests.system.machines.load import Figures, planned, play

SPREAD = 300


class Row(NamedTuple):
    """A fault. `seconds` is what it takes on a calm machine."""

    what: str
    hurt: Callable[[Ground], Awaitable[None]]
    seconds: float = 0.0


async def _nothing(on: Ground) -> None:
    pass


ROWS = {
    "calm": Row("nothing is broken", _nothing),
}


class Played(NamedTuple):
    """One run of a row."""

    figures: Figures
    theirs: tuple[str, ...]
    """The rooms that lived where it was done."""


async def row(name: str) -> Played:
    """On a ground of its own."""
    async with ground() as on:
        return await played(on, ROWS[name])


async def played(on: Ground, what: Row) -> Played:
    """On this ground, which is broken afterwards."""
    plan = planned(on.balancer.url, what.seconds)
    rooms = [plan.room_name(n) for n in range(plan.rooms)]
    where: dict[str, str] = {}

    async def hurt() -> None:
        where.update(await on.spots(rooms))
        await what.hurt(on)

    figures = await play(plan, await on.tokens(), hurt)
    hit = on.victim.name
    return Played(figures, tuple(room for room in rooms if where[room] == hit))


async def spread() -> Counter[str]:
    """How many of 300 rooms live in each machine."""
    async with ground() as on:
        found = await on.spots(f"spread-{n}" for n in range(SPREAD))
        return Counter({each.name: 0 for each in on.nodes} | Counter(found.values()))
