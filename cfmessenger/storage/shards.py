"""The servers of a Valkey Cluster, and the map of who has which slot.

The map is asked of any of them, by one look for all who want to know; each primary that
it names has one `Server`, from when it is first needed. What goes where, and what is
sent anew, is `cluster.py`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from typing import Any

from cfmessenger.addresses import cluster_seeds, url_at
from cfmessenger.errors import Unavailable
from cfmessenger.storage.resp import checked, endpoint_of, pack
from cfmessenger.storage.server import Server
from cfmessenger.storage.slots import Address, Topology, slot_of, topology_of

LOOK_S = 0.5
"""How long one server may take to say who has which slot."""
REST_S = 0.05
"""Between two looks, at least; jittered."""
GONE_S = 10.0
"""A server that is no primary any more is left so long after: whatever is in flight
there has had its deadline."""

_SLOTS = pack([("CLUSTER", "SLOTS")])


class Shards:
    """Of one client. Raises ValueError for a URL that cannot be meant; nothing is
    contacted before the first look."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._seeds = [Address(*seed) for seed in cluster_seeds(url)]
        for seed in self._seeds:
            endpoint_of(url_at(url, *seed))
        self._topology: Topology | None = None  # from the first look on, as last heard
        # From when each is first needed; until it is no primary any more, or `close`.
        self._servers: dict[Address, Server] = {}
        self._leaving: set[Server] = set()  # each from then on, for `GONE_S`
        # The last look; `close` ends it.
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")  # loop time of its end
        self._why: Exception | None = None  # it found nobody; None: it did, or none was

    @property
    def known(self) -> bool:
        """There is a map, however old."""
        return self._topology is not None

    @property
    def servers(self) -> Collection[Server]:
        """Those that are in use."""
        return self._servers.values()

    def address_of(self, key: str) -> Address:
        """Where a key is, as far as is known. "": anywhere."""
        if self._topology is None:
            return self._seeds[0]
        owner = self._topology.owners[slot_of(key)] if key else None
        return owner or self._topology.primaries[0]

    def server(self, address: Address) -> Server:
        """The one at this address."""
        server = self._servers.get(address)
        if server is None:
            server = Server(self.url_of(address), self._timeout_s)
            self._servers[address] = server
        return server

    def url_of(self, address: Address) -> str:
        """How it is reached: user, database and TLS as for all."""
        return url_at(self._url, *address)

    def moved(self, slot: int, address: Address) -> None:
        """Somebody said that this slot is there."""
        if self._topology is not None:
            self._topology = self._topology.moved(slot, address)

    async def at_all(self) -> Collection[Address]:
        """The primaries, as last heard. Raises `Unavailable`."""
        if self._topology is None:
            await self._look()
        return self._primaries()

    async def now(self) -> Collection[Address]:
        """The primaries, as they are now. Raises `Unavailable`."""
        await self._look()
        return self._primaries()

    def _primaries(self) -> Collection[Address]:
        assert self._topology is not None
        return self._topology.primaries

    def away(self) -> Unavailable:
        """That nobody answered the last look, and why."""
        away = Unavailable(message="No server of the Valkey Cluster answers.")
        away.__cause__ = self._why
        return away

    def doubt(self) -> None:
        """Somebody may have another slot than we know: a look begins, if none is under
        way."""
        self._begun()

    def _begun(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._asked())
            self._looking.add_done_callback(_looked)
        return self._looking

    async def learn(self, deadline: float) -> bool:
        """Look, if there is time; whether anything is known then."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._look()
        except (TimeoutError, Unavailable):
            pass
        return self._topology is not None

    async def _look(self) -> None:
        """Ask who has which slot, once for all who want to know. Raises `Unavailable`;
        what was known before stays known then."""
        look = self._begun()
        try:
            await asyncio.shield(look)
        except asyncio.CancelledError:
            if look.cancelled():
                raise Unavailable(message="The Valkey Cluster was left.") from None
            raise

    async def _asked(self) -> None:
        loop = asyncio.get_running_loop()
        rest = self._looked_at + random.uniform(REST_S, 2 * REST_S) - loop.time()
        if rest > 0:
            await asyncio.sleep(rest)
        known = self._topology.primaries if self._topology else ()
        problem: Exception | None = None
        try:
            # The others first in whom we have no doubt: who is asked is left to chance.
            for address in _shuffled(known) + _shuffled(set(self._seeds) - set(known)):
                try:
                    (said,) = await self.server(address).send(_SLOTS, 1, LOOK_S)
                    self._take(topology_of(checked(said), address))
                    self._why = None
                    return
                except (Unavailable, ValueError) as error:
                    problem = error
        finally:
            self._looked_at = loop.time()
        self._why = problem
        raise self.away()

    def _take(self, found: Topology) -> None:
        self._topology = found
        loop = asyncio.get_running_loop()
        for address in self._servers.keys() - set(found.primaries):
            server = self._servers.pop(address)
            self._leaving.add(server)
            loop.call_later(GONE_S, self._leave, server)

    def _leave(self, server: Server) -> None:
        server.close()
        self._leaving.discard(server)

    def close(self) -> None:
        """Drop all connections; what is in flight has an unknown outcome."""
        for server in (*self._servers.values(), *self._leaving):
            server.close()
        self._servers.clear()
        self._leaving.clear()
        if self._looking is not None:
            self._looking.cancel()


def _looked(look: asyncio.Task[None]) -> None:
    if not look.cancelled():
        look.exception()  # whoever needs one looks again


def _shuffled(addresses: Any) -> list[Address]:
    found = list(addresses)
    random.shuffle(found)
    return found
