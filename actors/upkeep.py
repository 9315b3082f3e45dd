"""What a namespace server keeps ready: actors that are there before anybody asks.

The pools, all the time, so that no first message waits for a Python to start, also when
one has died; the registry, once, at the start; and the new process of a room that is to
have its own, one after another. It takes back exceptions whose process is gone, and,
when the machine is short of memory, the calmest (design.md §4). In a cluster it takes
this node's share of the pools (design.md §13).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.ids import PRESENCE
from cfmessenger.memory import Memory, memory
from cfmessenger.placement import Placement
from cfmessenger.storage.generation import Generation

logger = logging.getLogger("cfmessenger.namespace")

LOOK_EVERY_S = 1.0
NEW_MS = 30_000
"""A pin or an exception by measure no older than this is started; an older one by
measure that has no process is taken back (design.md §4)."""

SHORT_OF_MEMORY = 0.08
"""While a smaller share is available the calmest exception by measure goes back to a
pool. Ray itself ends processes at 0.05."""

GIVE_BACK_EVERY_S = 5.0
"""By then what one exception's process held is free, and is measured as free."""


class Actors(Protocol):
    """What of the namespace this needs."""

    async def placement(self) -> Placement: ...
    async def start(self, actor: str) -> None: ...
    async def actors(self) -> set[str]: ...
    async def wakes(self) -> None: ...
    async def even_out(self) -> None: ...
    async def grow(self, placement: Placement) -> None: ...


class Upkeep:
    """Looks every `look_every_s`, and when `news` is set: a new generation. `cluster`:
    the Ray cluster of these actors."""

    def __init__(
        self,
        actors: Actors,
        generation: Generation,
        clock: Clock,
        memory: Callable[[], Memory] = memory,
        look_every_s: float = LOOK_EVERY_S,
        give_back_every_s: float = GIVE_BACK_EVERY_S,
        new_ms: int = NEW_MS,
        cluster: str = "",
    ) -> None:
        self.news = asyncio.Event()  # from a new generation until the next look
        self._memory = memory
        # Loop time when an exception was last taken back for want of memory.
        self._gave_back_at = float("-inf")
        self._actors = actors
        self._generation = generation
        self._clock = clock
        self._look_every_s = look_every_s
        self._give_back_every_s = give_back_every_s
        self._new_ms = new_ms
        self._cluster = cluster

    async def run(self) -> None:
        """Until it is cancelled."""
        begun = False  # the first look has succeeded
        while True:
            try:
                await self._look([] if begun else [PRESENCE])
                if not begun:
                    begun = True
                    await self._actors.wakes()
            except Unavailable as problem:
                logger.debug("not kept ready: %s", problem.message)
            except Exception:
                logger.exception("what is kept ready")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await self.news.wait()
            self.news.clear()

    async def _look(self, ahead: list[str]) -> None:
        placement = await self._actors.placement()
        if not placement.lives_in(self._cluster):
            return  # another one's
        there = await self._actors.actors()
        missing = [a for a in [*placement.pools, *ahead] if a not in there]
        await asyncio.gather(*map(self._actors.start, missing))
        if placement.mode == "auto":
            await self._exceptions(placement, there)
        if placement.mode != "dedicated" and not missing:
            await self._actors.grow(placement)
            await self._actors.even_out()

    async def _exceptions(self, placement: Placement, there: set[str]) -> None:
        now, orphans = self._clock.now(), []
        for name in placement.measured():
            if name in there:
                continue
            if now - placement.own[name].since < self._new_ms:
                await self._actors.start(name)  # one after another
            else:
                orphans.append(name)
        for name, own in placement.own.items():
            new = now - own.since < self._new_ms
            if new and own.why == "pinned" and name not in there:
                await self._actors.start(name)
        # One that was just killed has said how busy it is, and may come back.
        heard = await self._generation.loads(orphans)
        if orphans := [name for name in orphans if name not in heard]:
            logger.info("%s: asleep, back to pools", ", ".join(orphans))
            await self._generation.demote(orphans, now)
        elif placement.measured():
            await self._make_room(placement, now)

    async def _make_room(self, placement: Placement, now_ms: int) -> None:
        """Where memory is short, the calmest exception goes, one after another."""
        now, free = asyncio.get_running_loop().time(), self._memory().share
        since = now - self._gave_back_at
        if free >= SHORT_OF_MEMORY or since < self._give_back_every_s:
            return
        loads = await self._generation.loads(placement.measured())
        if loads:
            calmest = min(loads, key=loads.__getitem__)
            logger.warning(
                "short of memory, %.0f %% is left: %s goes back to a pool",
                *(free * 100, calmest),
            )
            self._gave_back_at = now
            await self._generation.demote([calmest], now_ms)
