"""The generation of placement, as a process follows it that hosts nothing itself.

A namespace server does: it looks twice a second and when somebody asks for the newest,
tells of what changed, and puts back what storage has lost (design.md §4).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.placement import Mode, Placement
from cfmessenger.storage.generation import Generation

logger = logging.getLogger("cfmessenger.namespace")

FOLLOW_EVERY_S = 0.5


class Seed(NamedTuple):
    """What the generation is made of where there is none. `start`: names one start of a
    node that is the whole system; `public`: rooms with actors of their own; `cluster`:
    the Ray cluster that asks, which owns this Valkey."""

    mode: Mode = "dedicated"
    size: int = 1
    start: str = ""
    public: tuple[str, ...] = ()
    cluster: str = ""


class Following:
    """`run` for as long as the process lives; `newest` for who must not be late.

    `adopted` is called after each change; `handed` is set once another Ray cluster than
    the seed's has what this one had. Whatever reads may raise `Unavailable`.
    """

    def __init__(
        self, generation: Generation, seed: Seed, adopted: Callable[[], None]
    ) -> None:
        self.known: Placement | None = None  # from the first look on
        self.handed = asyncio.Event()  # once objects that lived here live elsewhere
        self._lived_here = False  # from the first generation on that says so
        self._generation = generation
        self._seed = seed
        self._adopted = adopted
        self._looks = Flights[Placement]()  # while one is under way

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with contextlib.suppress(Unavailable):
                await self.newest()
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def placement(self) -> Placement:
        """The generation that is known here, which may be half a second old."""
        return self.known or await self.newest()

    async def newest(self) -> Placement:
        """The present generation; one look for all who ask while it is under way."""
        return await self._looks.join("newest", self._read)

    async def change(self, change: Awaitable[Placement]) -> Placement:
        """Make a change, and follow it at once."""
        return self._adopt(await change)

    async def _read(self) -> Placement:
        known, generation = self.known, self._generation
        if known is None:
            return self._adopt(await generation.seed(*self._seed))
        number = await generation.number()
        if number == known.number:
            return known
        found = await generation.read() if number > known.number else None
        return self._adopt(found or await generation.restore(known))

    def stand_by(self, found: Placement) -> None:
        """Know a generation that is still another cluster's, instead of a look."""
        self.known = found

    def _adopt(self, found: Placement) -> Placement:
        before = self.known
        if before is not None and found.number <= before.number:
            return before
        self.known = found
        here = found.lives_in(self._seed.cluster)
        if self._lived_here and not here:
            self.handed.set()
        self._lived_here = self._lived_here or here
        _tell(before, found)
        self._adopted()
        return found


def _tell(before: Placement | None, found: Placement) -> None:
    if before is None or (before.mode, before.size) != (found.mode, found.size):
        logger.info("placement %d: %s, %d", found.number, found.mode, found.size)
    if before is None:
        return
    for name in found.changed_after(before.number):
        was, now = before.actor_of(name), found.actor_of(name)
        if was != now:
            why = found.why(name) or f"not {before.why(name)} any more"
            logger.info("%s moves from %s to %s: %s", name, was, now, why)
