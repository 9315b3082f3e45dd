"""Whether a host still owns its objects: it was placed here, and nobody took over.

Placed by the generation, which may move an object elsewhere; taken over when there is a
higher epoch than ours. A dedicated host has one object, and looks at its epoch. A pool
has too many to look at each: it shares the fate of its own marker, an epoch that it
takes at its start, and only what a generation moves may live elsewhere too, for as long
as that generation spreads. When a generation says that all objects live in another Ray
cluster, the host lets them go one by one, and whatever that cluster's hosts have taken
meanwhile is not this one's any more: then each object's own epoch counts, and the
marker, which is the other's by then, says nothing. So the marker and the generation's
number are read in one round trip. A host that reads a number it does not know is not
trusted before it has followed that generation and looked at what it changed (design.md
§3, §4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from actors.tail import Standing, Tail, compare
from cfmessenger.placement import Placement, is_pool
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import Fenced, ValkeyLog

TRUST_S = 2.0
"""Without a look at the log for so long, an object shows nothing (design.md §3)."""

SPREADING_S = 5.0
"""For so long after a new generation somebody may still follow the one before."""


class Lived(Protocol):
    """What of an activation this needs; epoch 0: it has none yet. Loop times: when it
    was asked for, and when it was here."""

    name: str

    @property
    def asked_at(self) -> float: ...
    @property
    def taken_at(self) -> float: ...
    @property
    def epoch(self) -> int: ...
    @property
    def numbered(self) -> int:
        """The last number that the log may have of it."""

    @property
    def lineage(self) -> str: ...
    @property
    def tail(self) -> Tail: ...
    def proved(self, lineage: str) -> None: ...


class Lost(NamedTuple):
    """What a look has found: the names that somebody else speaks for now; `all`: the
    whole pool has a successor; `behind`: the names whose log has lost something, or of
    which nobody can tell."""

    names: list[str]
    all: bool = False
    behind: Sequence[str] = ()


class Ownership:
    """The ownership of one host, made on its loop. Times are the loop's, in seconds."""

    def __init__(
        self,
        actor: str | None,
        placement: Placement,
        storage: ValkeyLog,
        generation: Generation,
        cluster: str = "",
    ) -> None:
        self._cluster = cluster  # "": whichever it is
        self.placement = placement  # the newest generation that is known here
        # From the first generation on that says so: that of who made this host, mostly.
        self.lived_here = self.here
        self.moving: set[str] = set()  # names placed elsewhere now, until they left
        self.pool = actor if actor is not None and is_pool(actor) else None
        self._actor = actor  # None: any object may live here
        self._storage = storage
        self._generation = generation
        self._epoch = 0  # a pool's marker, from `take` on, or from when it lives here
        self._marked = False  # that it is of `_lineage`; until that is another
        self._lineage = ""  # where that was taken or looked at last, from `take` on
        # Names that may live elsewhere too: until what moved them has spread, or until
        # they left.
        self._changed: set[str] = set()
        self._all_until = 0.0  # until then every object may live elsewhere too
        self._placed_at = 0.0  # when the newest generation was followed
        self._read_at = 0.0  # when the last look began that confirmed ownership

    async def take(self) -> None:
        """Once, at the start. A pool takes its marker, by which a predecessor finds out
        that it is superseded.

        Raises `Fenced` or `Unavailable`.
        """
        if (found := await self._generation.read()) is not None:
            self.follow(found, ())
        if self.pool is not None and self.here:
            await self._mark(self.pool)
        now = _now()
        self._lineage = self._lineage_of(self.pool or NAME)
        self._read_at = self._placed_at = now
        self._all_until = now + SPREADING_S

    async def _mark(self, pool: str) -> None:
        """Take a marker above all that there were, also those that storage has lost."""
        self._epoch = (await self._storage.activate(pool, self._epoch)).epoch
        self._marked = True

    def _lineage_of(self, name: str) -> str:
        return self._storage.lineage_of(keys.log(name))

    @property
    def here(self) -> bool:
        """Whether objects live in this host's cluster, as far as is known. A host whose
        cluster is about to take over waits for that; the one before lets go."""
        return self.placement.lives_in(self._cluster)

    def owns(self, name: str) -> bool:
        """Whether an object lives here, under the generation that is known."""
        mine = self._actor is None or self.placement.actor_of(name) == self._actor
        return mine and self.here

    @property
    def unread_s(self) -> float:
        """Seconds since the last look that confirmed ownership."""
        return _now() - self._read_at

    def trusted(self, each: Lived) -> bool:
        """Storage was read so lately that nobody can have taken this object over: by a
        look that knew its epoch, and until there is one by whoever took that."""
        if self.unread_s > TRUST_S or each.lineage != self._lineage_of(each.name):
            return False
        looked_at = each.taken_at < self._read_at
        return looked_at or _now() - each.asked_at <= TRUST_S

    def follow(self, placement: Placement, names: Iterable[str]) -> None:
        """Adopt a newer generation; an older one changes nothing.

        `names`: the objects that are here. Those that it places elsewhere must leave.
        """
        former = self.placement
        if placement.number <= former.number:
            return
        now = _now()
        self.placement, self._placed_at = placement, now
        self.lived_here = self.lived_here or self.here
        was, now_is = (
            (each.mode, each.size, each.cluster) for each in (former, placement)
        )
        if was != now_is:
            self._all_until = now + SPREADING_S
        # An exception that came and went unseen had its own process in between. And
        # what comes here only now may be taken by a host that does not know that yet.
        self._changed |= placement.changed_after(former.number)
        self.moving = {name for name in names if not self.owns(name)}

    async def look(self, objects: Mapping[str, Lived]) -> Lost:
        """Reads epochs, and the generation where there is a newer one.

        Where another server answers than before, or the same one anew, it may have lost
        something: then everything is looked at before anything more is shown, a pool's
        marker first. Raises `Unavailable`; what is not confirmed is soon not trusted.
        """
        now = _now()
        if now - self._read_at > TRUST_S:
            self._all_until = now + SPREADING_S  # who knows what was missed
        if now - self._placed_at > SPREADING_S:
            self._changed &= self.moving
        everything = self.pool is None or now < self._all_until or not self.here
        mine = {
            name: (each.epoch, each.lineage, each.tail.top)
            for name, each in objects.items()
            if each.epoch
            and (
                everything
                or name in self._changed
                or each.lineage != self._lineage_of(name)
            )
        }
        asked = {name: self._lineage_of(name) for name in mine}
        pool = [] if self.pool is None else [self.pool]
        known = self.placement
        number, *tops = await self._storage.looks([NAME, *pool, *mine])
        lineage = self._lineage_of(self.pool or NAME)
        if number.epoch > self.placement.number:
            found = await self._generation.read()
            if found is None or found.number < number.epoch:
                return Lost([])  # not trusted until storage has it again
            self.follow(found, objects)
        if self.placement is not known:
            return await self.look(objects)  # what moves now was not compared
        marker = tops.pop(0).epoch if pool else 0
        if self._epoch and marker > self._epoch and self.here:
            if await self._generation.number() > number.epoch:
                return await self.look(objects)  # it may be another cluster's by now
            return Lost(list(objects), all=True)
        another = lineage != self._lineage
        if another:
            self._lineage = lineage  # from here on nothing is shown that is of another
            self._marked = False
        if self.pool is not None and not self._marked and self.here:
            # It may be of another pool that took the same, after ours was lost.
            try:
                await self._mark(self.pool)
            except Fenced:  # and that was faster
                return Lost(list(objects), all=True)
            another = True
        if another:
            return await self.look(objects)
        if any(self._lineage_of(name) != was for name, was in asked.items()):
            return await self.look(objects)  # nobody can tell who has answered
        self._read_at = now
        lost: list[str] = []
        behind: list[str] = []
        for (name, (epoch, was, before)), top in zip(mine.items(), tops, strict=True):
            each = objects.get(name)
            # One that was activated during the read has a newer epoch: not compared.
            if each is None or each.epoch != epoch or each.lineage != was:
                continue
            strange = each.lineage != asked[name]
            standing = compare(each.tail, before, each.numbered, top, strange=strange)
            if standing is Standing.AHEAD:
                lost.append(name)
            elif standing is Standing.BEHIND:
                behind.append(name)
            elif strange:
                each.proved(asked[name])
        return Lost(lost, behind=behind)


def _now() -> float:
    return asyncio.get_running_loop().time()
