"""The gateway's ends of links: one for each actor process it talks to.

A link finds out when its actor process is gone (the stream ends) or hung (pings that
this gateway sent, while its own loop ran, stay unanswered), and tells the stubs that
ride on it (design.md §3.10). What the messages mean is the stubs' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random

from cfmessenger.background import Background
from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.link.namespace import Address, Namespace
from cfmessenger.placement import Placement
from cfmessenger.tls import Trust
from gateway import metrics
from gateway.live.link import Dialling, Link, Lost

logger = logging.getLogger("cfmessenger.links")

PING_EVERY_S = 1.0
TRIES, FIRST_PAUSE_S = 4, 0.05
MOST_MOVED = 10_000


class Links:
    """All links of this gateway, opened on demand, watched until closed."""

    def __init__(
        self, gateway: str, namespace: Namespace, trust: Trust | None = None
    ) -> None:
        self._gateway = gateway  # until `rename`
        self._namespace = namespace
        # By the address's key: from its Welcome until `_watch` finds it lost.
        self._links: dict[str, Link] = {}
        # By actor: the last link to each pool; it may be lost.
        self._pools: dict[str, Link] = {}
        self._placement = Placement()  # the newest known; number 0: none yet
        self._following = Flights[None]()  # while it asks for a newer
        self._moved: set[str] = set()  # from a host's `moved` until resolved anew
        # By actor: the id of one whose link went silent, until its actor is linked.
        self._silent: dict[str, str] = {}
        self._dialling = Dialling(trust)
        self._working: list[asyncio.Task[None]] = []  # from `start` to `close`
        self.ahead = asyncio.Event()  # set once all pools were linked, for good
        self._closed = False  # True from `close` on
        self._killing = Background()  # one for each hung actor
        # Numbers of inputs and of attaches, over all stubs: none is used twice.
        self.next_input = itertools.count(1).__next__
        self.next_turn = itertools.count(1).__next__

    def start(self) -> None:
        """Begin to watch for hung actors (design.md §3.10), and to link pools before
        they are needed (design.md §4)."""
        for work in (self._watch, self._link_pools):
            self._working.append(asyncio.create_task(work()))

    async def to(self, name: str, hint: str | None) -> Link:
        """A live link to where `name` lives now. Raises `Unavailable`.

        A name in a pool that is linked is not resolved at all. Any other may for a
        moment still mean a process that is going to sleep, so it is resolved again
        when that process cannot be reached, up to `TRIES` times in all; at once the
        first time, with the evidence that it is lost.
        """
        actor = self._placement.actor_of(name)
        known = self._pools.get(actor)
        if known is not None and not known.lost and name not in self._moved:
            return known
        backoff = Backoff(random.uniform, base_s=FIRST_PAUSE_S)
        lost = self._silent.get(actor, "")
        for attempt in range(TRIES):
            moved = name in self._moved
            address = await self._namespace.resolve(name, hint, moved, lost)
            if address.generation > self._placement.number:
                await self._follow()
            if moved:
                self._moved.discard(name)
            try:
                found = await self._at(address)
                if address.pooled:
                    self._pools[address.actor] = found
                self._silent.pop(address.actor, None)
                return found
            except Unavailable as problem:
                if attempt == TRIES - 1:
                    raise
                if isinstance(problem, Lost):
                    lost = address.actor_id
            if attempt or not lost:
                await asyncio.sleep(backoff.delay())
        raise AssertionError("not reached")

    async def _at(self, address: Address) -> Link:
        found = self._links.get(address.key)
        if found is not None and not found.lost:
            return found
        if self._closed:
            raise Unavailable(message="The gateway closes.")
        return await self._dialling.open(address, self._gateway, self._keep)

    def _keep(self, opened: Link) -> None:
        if opened.gateway != self._gateway:  # renamed meanwhile
            opened.abort()
            raise Unavailable(message="The gateway has a new name.")
        self._links[opened.address.key] = opened

    @property
    def refused(self) -> str:
        """Why an actor was not linked to lately, though it is there; empty: none."""
        return self._dialling.refused

    async def _follow(self) -> None:
        """Learn the newest placement; whoever wants it meanwhile shares the question.

        Raises `Unavailable`.
        """
        await self._following.join("placement", self._learn)

    async def _learn(self) -> None:
        found = await self._namespace.placement()
        if found.number > self._placement.number:
            _count_moves(self._placement, found)
            self._placement = found

    def moved(self, name: str) -> None:
        """This object does not live where we believed: resolve before it is reached."""
        if len(self._moved) > MOST_MOVED:  # whoever needs it is told `moved` again
            self._moved.clear()
        self._moved.add(name)

    def rename(self, gateway: str) -> None:
        """Be called this from now on; links under the old name end."""
        self._gateway = gateway
        self._drop()

    def _drop(self) -> None:
        for each in self._links.values():
            each.riders.clear()
            each.abort()
        self._links.clear()
        self._pools.clear()

    async def close(self) -> None:
        """Drop every link, those that are being opened too; there will be no more."""
        self._closed = True
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._dialling.cancel()
        await self._following.cancel()
        self._drop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for key, each in list(self._links.items()):
                if each.lost:
                    del self._links[key]
                elif not each.ping():
                    logger.warning("pid %d is silent", each.address.pid)
                    self._silent[each.address.actor] = each.address.actor_id
                    self._killing.begin(self._kill(each.address))
                    each.abort()

    async def _link_pools(self) -> None:
        """Link every pool once a second, so that the first message of a room waits
        neither for a resolve nor for a dial, after a start or a pool's death."""
        while True:
            try:
                known = self._placement
                if not known.number or not all(map(self._linked, known.pools)):
                    await self._follow()  # one that ended may have no part any more
                pools = self._placement.pools
                await asyncio.gather(*(self.to(pool, None) for pool in pools))
                self.ahead.set()
            except Unavailable:
                pass  # whoever needs one asks for it, and is told
            except Exception:
                logger.exception("pools are not linked ahead")
            await asyncio.sleep(PING_EVERY_S)

    def _linked(self, pool: str) -> bool:
        known = self._pools.get(pool)
        return known is not None and not known.lost

    async def _kill(self, at: Address) -> None:
        """The namespace asks once more, then ends that very actor (design.md §3.10)."""
        with contextlib.suppress(Unavailable):
            await self._namespace.kill(at.actor, at.actor_id)


def _count_moves(before: Placement, after: Placement) -> None:
    if not before.number:
        return  # who just learns of a placement has seen nothing move
    for name in after.changed_after(before.number):
        if before.actor_of(name) != after.actor_of(name):
            metrics.PLACEMENT_MOVES.labels(after.why(name) or "ended").inc()
