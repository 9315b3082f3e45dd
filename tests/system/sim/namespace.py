"""The namespace of the world, which is no better than Ray's: late, away, or wrong.

It registers one actor per name and yet may hand out a second while the first lives:
when it believes a node dead that is only cut off. It may give an address that was right
a moment ago. What it is asked to kill it kills, if it can reach it.

What it knows of the generation is known by a process of its own, as a namespace server
does: the real `Following` and the real `Upkeep`, against the world's Valkey.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from actors.following import Following, Seed
from actors.upkeep import Upkeep
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from tests.system.sim.fake_valkey import URL
from tests.system.sim.plan import NEW_MS
from tests.system.sim.processes import HostProcess
from tests.system.sim.sim_loop import Process, SimClock

if TYPE_CHECKING:
    from tests.system.sim.world import World

PATIENCE_S = 3.0
ANSWER_S = 8.0

Change = Callable[[Generation], Awaitable[Placement]]


class NamespaceServer:
    """A process that follows the generation and keeps actors ready, as Ray's does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(f"n{world.number('namespace server')}")
        self.process.on_death = lambda: world.kill(self.process, "fuse")
        self.known: Placement | None = None  # from its first look on
        self.before: Placement | None = None  # from the first change on
        self.process.run(self._begin)

    def _begin(self) -> None:
        clock, plan = SimClock(), self.world.plan.placement
        self.generation = Generation(ValkeyLog(URL, 0, clock))
        self._upkeep = Upkeep(
            self, self.generation, clock, lambda: self.world.memory, new_ms=NEW_MS
        )
        seed = Seed(plan.mode, plan.size)
        self.following = Following(self.generation, seed, self._adopted)
        create = asyncio.get_running_loop().create_task
        self._running = [create(self._upkeep.run()), create(self.following.run())]

    def newest(self) -> Awaitable[Placement]:
        """The present generation, whoever asks: it looks as itself."""
        create = asyncio.get_running_loop().create_task
        # Shielded, since a dead process would not even end what is cancelled.
        return asyncio.shield(self.process.run(create, self.following.newest()))

    def _adopted(self) -> None:
        self.before, self.known = self.known, self.following.known
        self.world.note("%s knows %s", self.process, self.known)
        self._upkeep.news.set()

    def change(self, change: Change) -> None:
        """An operator's command; who is told of it at once, and who has to look?"""
        create = asyncio.get_running_loop().create_task
        self.process.run(create, self._change(change))

    async def _change(self, change: Change) -> None:
        world = self.world
        with contextlib.suppress(Unavailable):
            made = await self.following.change(change(self.generation))
            for each in world.namespace.living:
                if each.host is not None and world.rng.random() < 0.5:
                    each.process.run(each.host.place, made)

    # What `Upkeep` asks for.

    async def placement(self) -> Placement:
        return self.known or await self.newest()

    async def start(self, actor: str) -> None:
        """Late, and sometimes not at all."""
        world = self.world
        if not world.healed:
            await asyncio.sleep(world.rng.expovariate(2.0))
            if world.rng.random() < world.plan.unstarted_p:
                raise Unavailable(message="It does not start.")
        await world.namespace.reach(actor, self.known or Placement())

    async def actors(self) -> set[str]:
        return self.world.namespace.actors

    async def even_out(self) -> None:
        """There is no other node."""

    async def grow(self, placement: Placement) -> None:
        """Nor does one join."""

    async def wakes(self) -> None:
        """Nobody asks."""


class FakeNamespace:
    """`Namespace` for every gateway of the world."""

    unreachable_since: float | None = None  # what it lacks, all gateways lack

    def __init__(self, world: World) -> None:
        self._world = world
        self._current: dict[str, HostProcess] = {}
        self.hosts: list[HostProcess] = []
        self.server: NamespaceServer | None = None
        self.away = False
        self._outdated: dict[str, tuple[HostProcess, float]] = {}

    @property
    def living(self) -> list[HostProcess]:
        """Every actor process that is alive, registered or not."""
        self.hosts = [each for each in self.hosts if each.process.alive]
        return self.hosts

    @property
    def actors(self) -> set[str]:
        """The names that are registered."""
        return {key for key, host in self._current.items() if host.process.alive}

    @property
    def generations(self) -> list[tuple[float, Placement]]:
        """Every one there ever was, and since when, as storage has seen it."""
        stream = self._world.valkey.streams.get(keys.log(NAME).encode())
        past = stream.past if stream is not None else []
        return [
            (at, msgspec.json.decode(i.fields[1], type=Placement)) for at, i in past
        ]

    @property
    def generation(self) -> Placement:
        """The newest."""
        newest = self._world.valkey.streams[keys.log(NAME).encode()].items[-1]
        return msgspec.json.decode(newest.fields[1], type=Placement)

    async def _known(self, moved: bool) -> Placement:
        """What the server says; only who was told `moved` makes it look."""
        server = self.server
        if self.away or server is None or not server.process.alive:
            raise Unavailable(message="The namespace does not answer.")
        try:
            async with asyncio.timeout(ANSWER_S):
                newest = await (server.newest() if moved else server.placement())
        except TimeoutError as error:
            raise Unavailable(message="The namespace does not answer.") from error
        world = self._world
        if not moved and not world.healed and world.rng.random() < world.plan.stale_p:
            return server.before or newest  # it has not heard yet
        return newest

    async def placement(self) -> Placement:
        await asyncio.sleep(self._world.network.latency())
        return await self._known(moved=False)

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        world = self._world
        await asyncio.sleep(world.network.latency() + world.rng.random() * 0.01)
        placement = await self._known(moved)
        host = await self.reach(placement.actor_of(name), placement)
        return replace(host.address(), generation=placement.number)

    async def reach(self, key: str, placement: Placement) -> HostProcess:
        """Get or create an actor."""
        world = self._world
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
        return host

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

    def forget(self, host: HostProcess) -> bool:
        """Believe this one dead; False: it was not registered any more."""
        if self._current.get(host.key) is not host:
            return False
        del self._current[host.key]
        return True

    def registered(self, process: Process) -> bool:
        """Whether its name leads to it."""
        return any(each.process is process for each in self._current.values())

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

    async def describe(self) -> list[Described]:
        return []

    async def wakes(self) -> None:
        """Nobody asks."""

    async def drain(self) -> int:
        return 0

    async def stored(self) -> bool:
        raise Unavailable  # nobody knows

    async def ping(self) -> bool:
        if self.away:
            raise Unavailable
        return True
