"""This node as a member of its cluster: it joins, says each second that it is there,
knows who else is, and leaves (design.md §13).

What it knows is some seconds old at most; what it does not know is `Unavailable` and
changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from cfmessenger.errors import Unavailable
from cfmessenger.storage.capabilities import HANDOVER, Running
from cfmessenger.storage.members import (
    LEASE_MS,
    Holder,
    Members,
    Node,
    differences,
)

logger = logging.getLogger("cfmessenger.namespace")

SAY_EVERY_S = 1.0
VOID_S = LEASE_MS / 1000 + SAY_EVERY_S
"""By then the lease of a cluster that is gone has ended."""
STEADY_S = 5.0
"""After it joined, and after each pool that it took over, a node takes none for so
long."""
STAYS_MS = 60_000
"""The cores of a node count for the size of the pool once it was there for so long."""
SUSPECT_S = 5.0
"""A node on which an actor had to be ended, or could not be made, gets none for so
long."""


class Owned(Exception):
    """Another cluster uses this Valkey; the text names it."""


class Disagreement(Exception):
    """Settings that all machines must have in common differ; the text has both."""


class Membership:
    """`join` once, `run` until the end, `leave` before it.

    `agreed`: the settings that all machines must have, as they are here.
    """

    def __init__(
        self, members: Members, owner: Holder, node: Node, agreed: Mapping[str, str]
    ) -> None:
        self.node = node  # as it says it is; `leave` makes it draining
        # Of this Ray cluster, by id, as last read; this one included.
        self.nodes: dict[str, Node] = {}
        self.owner = ""  # the name of who holds the lease, as last seen
        self._members = members
        self._lease = members.owner(owner)
        self._agreed = agreed
        self._suspect: dict[str, float] = {}  # node → loop time until which it is
        self._now = 0  # ms, of Valkey's clock when this node last said it was there
        self._steady_at = float("inf")  # loop time from which it may take over a pool

    async def take_over(
        self,
        running: Callable[[], Awaitable[Running]],
        prepare: Callable[[str], Awaitable[object]],
        hand_over: Callable[[], Awaitable[object]],
        alone: bool = False,
        patience_s: float = VOID_S,
    ) -> None:
        """Take the lease from whoever has it, before `join`. Where everybody who is
        there knows how, rooms go one by one: `prepare` is called first, with the id of
        the other cluster, and this node serves when it returns; `hand_over` at once
        behind the lease, or the other cluster would not know what to do. Else they all
        go at once, and this waits until its nodes are gone.

        Raises `Disagreement` (unless `alone`), or `Unavailable`.
        """
        holder = await self._lease.read()
        if holder is None or holder.id == self._lease.mine.id:
            return
        if not alone:
            await self._agree(keep=False)
        if lacking := (await running()).lacking(HANDOVER):
            logger.warning(
                "%s's rooms come all at once: %s cannot hand them over one by one",
                *(holder.name, ", ".join(lacking)),
            )
            await self._lease.take()
            await self._outlast(patience_s)
            return
        self.nodes = {self.node.id: self.node}
        await prepare(holder.id)
        logger.info("takes over from %s, room by room", holder.name)
        await self._members.say(self.node)  # gateways look for it from then on
        await self._lease.take()
        await hand_over()

    async def _outlast(self, patience_s: float) -> None:
        """Until no node of another cluster is there: it puts its rooms to sleep."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while loop.time() < end:
            await self._lease.hold()
            if not {n for n in await self._members.nodes() if n != self.node.id}:
                return
            await asyncio.sleep(SAY_EVERY_S / 2)

    async def _agree(self, keep: bool) -> None:
        agreed = await self._members.agree(self._agreed, keep=keep)
        if wrong := differences(self._agreed, agreed):
            raise Disagreement("; ".join(wrong))

    async def join(
        self,
        patience_s: float = VOID_S,
        alone: bool = False,
    ) -> None:
        """Returns when this node is one. Waits for a lease that may yet end. `alone`:
        it is the whole cluster, and nobody else can be there.

        Raises `Owned`, `Disagreement` or `Unavailable`.
        """
        await self._claim(patience_s)
        if alone:
            await self._members.insist(self._agreed)
        await self._agree(keep=True)
        self.node = replace(self.node, since=await self._members.now())
        await self._say()
        self.moved()

    async def _claim(self, patience_s: float) -> None:
        loop = asyncio.get_running_loop()
        end, told = loop.time() + patience_s, False
        while (holder := await self._lease.hold()).id != self._lease.mine.id:
            if not told:
                logger.warning(
                    "this Valkey is %s's; waiting %d s for that to end",
                    holder.name,
                    LEASE_MS // 1000,
                )
                told = True
            if loop.time() > end:
                raise Owned(
                    f"this Valkey is used by the cluster of {holder.name}, which is "
                    "there; end that, use another Valkey, or --take-over"
                )
            await asyncio.sleep(SAY_EVERY_S / 2)
        self.owner = holder.name

    async def run(self) -> None:
        """Until the cluster has another owner."""
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            with contextlib.suppress(Unavailable):
                holder = await self._lease.hold()
                self.owner = holder.name
                if holder.id != self._lease.mine.id:
                    logger.error("this Valkey was taken over by %s", holder.name)
                    return
                await self._members.agree(self._agreed, keep=True)
                await self._say()

    async def leave(self) -> None:
        """From here on nobody makes an actor here."""
        self.node = replace(self.node, state="draining")
        with contextlib.suppress(Unavailable):
            await self._say()

    async def gone(self, alone: bool) -> None:
        """It has left. `alone`: nobody needs to wait for the lease, nor to agree."""
        with contextlib.suppress(Unavailable):
            await self._members.withdraw(self.node.id)
            if alone:
                await self._members.forget(self._agreed)
                await self._lease.release()

    async def _say(self) -> None:
        await self._members.say(self.node)
        await self.look()
        self._now = await self._members.now()

    def moved(self) -> None:
        """It has a pool more than before, or is new."""
        self._steady_at = asyncio.get_running_loop().time() + STEADY_S

    @property
    def steady(self) -> bool:
        """It may take over a pool."""
        return asyncio.get_running_loop().time() >= self._steady_at

    @property
    def settled(self) -> set[str]:
        """The nodes that have been there for a while."""
        from_ms = self._now - STEADY_S * 1000
        return {n for n, each in self.nodes.items() if each.since <= from_ms}

    @property
    def cores(self) -> int:
        """Of the nodes that have come to stay."""
        found = self.nodes.values()
        return sum(e.cores for e in found if self._now - e.since >= STAYS_MS)

    async def look(self) -> None:
        """Read anew who is there. Raises `Unavailable`."""
        found = await self._members.nodes()
        ours = ("", self.node.cluster)  # an older release does not say whose it is
        self.nodes = {n: each for n, each in found.items() if each.cluster in ours}

    def suspect(self, node: str) -> None:
        """Nothing is made there for a while."""
        now = asyncio.get_running_loop().time()
        self._suspect = {n: t for n, t in self._suspect.items() if t > now}
        self._suspect[node] = now + SUSPECT_S

    @property
    def suspects(self) -> set[str]:
        """The nodes on which nothing is to be made now."""
        now = asyncio.get_running_loop().time()
        return {node for node, until in self._suspect.items() if until > now}
