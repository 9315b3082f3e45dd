"""What a host does about rooms with an actor of their own (design.md §4).

A pool's host proposes its hot rooms at once, and those that live one after another
while there is room; it lets a room go when the new process is up. The host of an
exception says how busy it is, and gives its room back when that is calm, or sleeps. All
of it is compare-and-set on the generation: whoever loses looks again half a second
later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from actors.activation import Activation
from actors.heat import Limits
from actors.pace import USUAL, Pace
from cfmessenger.memory import Memory, memory
from cfmessenger.placement import Placement, Why, is_pool
from cfmessenger.storage.generation import Generation

logger = logging.getLogger("cfmessenger.host")

SPARE_MEMORY = 0.12
"""While a smaller share of it is available no room gets a process. It is more than
`upkeep.SHORT_OF_MEMORY`, or rooms would come and go (design.md §4)."""


class Look(NamedTuple):
    """What a host knows when it looks. `now_s`: loop time; `now_ms`: ms since 1970."""

    placement: Placement
    objects: Collection[Activation]
    now_s: float
    now_ms: int


class OwnRooms:
    """The exceptions as one host sees them; it calls `look` twice a second.

    Every method may raise `Unavailable`.
    """

    def __init__(
        self,
        actor: str | None,
        limits: Limits,
        generation: Generation,
        memory: Callable[[], Memory] = memory,
        pace: Pace = USUAL,
    ) -> None:
        self._memory = memory
        self._pace = pace
        self._actor = actor or ""
        self._limits = limits
        self._generation = generation
        self._said_at = float("-inf")  # loop time of the last load said
        self._looked_at: float | None = None  # loop time of the last look

    async def look(self, at: Look) -> Placement | None:
        """Measure every object, and say a load or propose a change (design.md §4).

        Returns the generation after a proposal; None: nothing was proposed.
        """
        before, self._looked_at = self._looked_at, at.now_s
        if before is not None:
            alone = len(at.objects) == 1 and is_pool(self._actor)
            for each in at.objects:
                each.heat.look(at.now_s, at.now_s - before, self._limits, alone)
        if at.placement.mode != "auto":
            return None
        if is_pool(self._actor):
            return await self._promote(at)
        if at.placement.why(self._actor) is not None:
            return await self._speak(at)
        return None

    # A pool's.

    async def _promote(self, at: Look) -> Placement | None:
        placement, now_ms = at.placement, at.now_ms
        rooms = [a for a in at.objects if placement.may_promote(a.name, now_ms)]
        measured = placement.measured()
        full = len(measured) >= self._limits.own_rooms
        why: Why = "hot"
        candidates = [each for each in rooms if each.heat.hot]
        if not candidates:
            # Rooms that merely live never take each other's place: with more of them
            # than there is room for, that would never end.
            newest = max((placement.own[name].since for name in measured), default=0)
            if full or now_ms - newest < self._pace.one_in_ms:
                return None
            why = "lived"
            candidates = [a for a in rooms if a.lived_s(at.now_s) >= self._pace.lived_s]
            if not candidates:
                return None
        if self._memory().share < SPARE_MEMORY:
            return None
        room = max(candidates, key=_share)
        share, instead = room.heat.share, None
        if full:
            instead = await self._calmest(placement, share, now_ms)
            if instead is None and placement.full:
                return None
        made = await self._generation.promote(room.name, why, now_ms, instead)
        if room.name in made.own:
            logger.info(
                "%s is to have an actor of its own: %s, share %.3f, instead of %s",
                *(room.name, why, share, instead or "nobody"),
            )
        return made

    async def _calmest(
        self, placement: Placement, share: float, now_ms: int
    ) -> str | None:
        """The exception by measure that needs its actor least: one without a process,
        else the one of the smallest load, if that is less than half of `share`."""
        measured = placement.measured()
        loads = await self._generation.loads(measured)
        for name in measured:
            if (
                name not in loads
                and now_ms - placement.own[name].since > self._pace.orphan_ms
            ):
                return name
        calmest = min(loads, key=loads.__getitem__, default=None)
        return calmest if calmest is not None and loads[calmest] < share / 2 else None

    async def ready(
        self, placement: Placement, moving: Iterable[str], now_ms: int
    ) -> tuple[set[str], Placement | None]:
        """Which of these rooms may leave now, and the generation if it was changed.

        A room that goes to a pool may leave at once; one that goes to an actor of its
        own, when that actor is up. If it is not up within `up_within_s`, an exception
        by measure is withdrawn, and the room stays; a public or pinned room leaves all
        the same, and whoever needs it starts its actor.
        """
        moving = set(moving)
        own = {name for name in moving if placement.why(name) is not None}
        up = set(await self._generation.loads(own))
        since = now_ms - int(self._pace.up_within_s * 1000)
        old = {name for name in own - up if placement.own[name].since <= since}
        late = old.intersection(placement.measured())
        for name in late:
            logger.warning("%s stays: no actor of its own has started", name)
        made = await self._generation.demote(late, now_ms) if late else None
        return moving - own | up | (old - late), made

    # An exception's.

    async def _speak(self, at: Look) -> Placement | None:
        placement, now_s, now_ms = at.placement, at.now_s, at.now_ms
        room = next(iter(at.objects), None)
        if now_s - self._said_at >= self._pace.say_every_s:
            share = room.heat.share if room is not None else 0.0
            await self._generation.say_load(self._actor, share)
            self._said_at = now_s
        if placement.why(self._actor) != "hot" or room is None:
            return None
        if now_s - room.heat.calm_since < self._limits.calm_after_s:
            return None
        if room.sockets and len(placement.measured()) <= self._limits.own_rooms:
            logger.info("%s is calm, and lives", self._actor)
            return await self._generation.cool(self._actor, now_ms)
        logger.info("%s is calm: back to a pool", self._actor)
        return await self._generation.demote([self._actor], now_ms)

    async def start(self, placement: Placement) -> None:
        """An exception's host is up: the pool that has its room may let it go."""
        if placement.why(self._actor) is not None:
            await self._generation.say_load(self._actor, 0.0)

    async def end(self, placement: Placement, asleep: bool, now_ms: int) -> None:
        """This host ends; if its room is `asleep` an exception by measure ends too."""
        if placement.why(self._actor) is None:
            return
        await self._generation.withdraw_load(self._actor)
        if asleep:
            await self._generation.demote([self._actor], now_ms)


def _share(activation: Activation) -> float:
    return activation.heat.share
