"""The namespace of the world, which is no better than Ray's: late, away, or wrong.

It registers one actor per name and yet may hand out a second while the first lives:
when it believes a node dead that is only cut off. It may give an address that was right
a moment ago. What it is asked to kill it kills, if it can reach it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.json import encode
from msgspec.structs import replace

from cfmessenger import keys
from cfmessenger.errors import Unavailable
from cfmessenger.namespace import Address, Described
from cfmessenger.placement import Placement
from tests.sim.processes import HostProcess
from tests.sim.sim_loop import Process

if TYPE_CHECKING:
    from tests.sim.world import World

PATIENCE_S = 3.0


class FakeNamespace:
    """`Namespace` for every gateway of the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._current: dict[str, HostProcess] = {}
        self.hosts: list[HostProcess] = []
        self.away = False
        self.generation = world.plan.placement
        self.changed_at = -60.0
        self._before = self.generation
        self._outdated: dict[str, tuple[HostProcess, float]] = {}

    @property
    def living(self) -> list[HostProcess]:
        """Every actor process that is alive, registered or not."""
        self.hosts = [each for each in self.hosts if each.process.alive]
        return self.hosts

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False
    ) -> Address:
        world = self._world
        await asyncio.sleep(world.network.latency() + world.rng.random() * 0.01)
        if self.away:
            raise Unavailable(message="The namespace does not answer.")
        placement = self.generation
        if not world.healed and world.rng.random() < world.plan.stale_p:
            placement = self._before  # it has not heard yet
        key = placement.actor_of(name)
        host = self._stale(key) or self._current.get(key)
        if host is None or not host.process.alive or host.leaving:
            host = self._current[key] = HostProcess(world, key, placement)
            self.hosts.append(host)
            world.note("%s is to run %s", host.process, key)
        end = world.loop.time() + PATIENCE_S
        while not host.ready or host.process.frozen:
            if world.loop.time() > end or not host.process.alive:
                raise Unavailable(message="The actor does not answer.")
            if host.ready and world.rng.random() < 0.05:
                break  # its address is known from before
            await asyncio.sleep(0.05)
        return replace(host.address(), placement=placement)

    def _stale(self, key: str) -> HostProcess | None:
        """Another one of this name, as somebody may remember it."""
        world = self._world
        if world.healed:
            return None
        old, until = self._outdated.get(key, (None, 0.0))
        if old is not None and old.process.alive and world.loop.time() < until:
            return old
        if not world.plan.stale_p or world.rng.random() > world.plan.stale_p:
            return None
        current = self._current.get(key)
        found = [
            h for h in self.living if h.key == key and h.ready and h is not current
        ]
        return world.rng.choice(found) if found else None

    def split(self) -> HostProcess | None:
        """Believe a node dead that is not."""
        keys = [key for key, host in self._current.items() if host.process.alive]
        return self._current.pop(self._world.rng.choice(keys)) if keys else None

    def outdate(self, host: HostProcess, seconds: float) -> Process | None:
        """Give out a superseded actor for so long; returns the one it hides."""
        current = self._current.get(host.key)
        if current is None or current is host or not host.process.alive:
            return None
        self._outdated[host.key] = host, self._world.loop.time() + seconds
        return current.process

    async def kill(self, name: str, actor_id: str) -> bool:
        world = self._world
        await asyncio.sleep(world.rng.random())
        for host in self.living:
            if host.actor_id != actor_id or not host.process.frozen:
                continue
            if self._current.get(host.key) is host:
                del self._current[host.key]
            if world.healed or world.rng.random() < 0.5:
                world.kill(host.process, "hung")
            return True
        return False

    def place(self, placement: Placement) -> None:
        """A new generation; who is told of it at once, and who has to look?"""
        self._before, self.generation = self.generation, placement
        self.changed_at = self._world.loop.time()
        self._world.valkey.strings[keys.PLACEMENT.encode()] = encode(placement)
        for each in self.living:
            if each.host is not None and self._world.rng.random() < 0.5:
                each.process.run(each.host.place, placement)

    async def describe(self) -> list[Described]:
        return []

    async def wakes(self) -> None:
        """Nobody asks."""

    async def ping(self) -> bool:
        if self.away:
            raise Unavailable
        return True
