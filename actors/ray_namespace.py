"""Ray as the namespace: named, detached actors, one per object.

What is asked for, decided: where an object lives, whether there is room for one more,
what is done about an actor that is hung. Ray is never trusted for mutual exclusion (the
epoch is), and its calls are those of `ray_driver`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable

import msgspec
from ray.exceptions import (
    ActorUnavailableError,
    RayActorError,
    RayError,
)

from actors import spread
from actors.following import Following, Seed
from actors.host_settings import HostSettings
from actors.leaving import leave
from actors.location import Location, Nowhere
from actors.membership import Membership
from actors.nodes import Nodes
from actors.object_actor import ObjectActor, placement_of
from actors.ray_driver import Node, RayDriver, outcomes
from actors.raylet import Raylet
from actors.upkeep import Upkeep
from actors.wake_proof import WakeProof
from actors.wake_trial import FILL_S, WakeTrial
from actors.warm_pool import WarmPool
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.ids import PRESENCE, is_room
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Mode, Placement
from cfmessenger.settings import ROOM_BYTES
from cfmessenger.storage.generation import Generation
from cfmessenger.storage.log import ValkeyLog
from cfmessenger.tls import Trust

logger = logging.getLogger("cfmessenger.namespace")

DESCRIBE_TIMEOUT_S = 1.0
RESOLVE_DEADLINE_S = 8.0
ATTEMPT_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 2.0
MOST_PAUSE_S = 0.05
KILL_EVERY_S = 10.0
ANSWER_S = 1.0
"""An actor that has not answered by then may be on a node that is gone."""
DRAINING_EVERY_S = 1.0
DRAIN_S = 30.0
MAX_POOL = 1000
LET_GO_EVERY_S = 0.2
MOST_PREPARED = 50
"""Actors of single rooms, the busiest first, that are made before a cluster takes over;
others when somebody needs them."""

ROOMS_PER_CORE = 101
"""Dedicated rooms: beyond some 200 on two cores the next starts too slowly."""


class _Elsewhere(Unavailable):
    """The room does not live in an actor of its own any more."""


class RayNamespace:
    """`Namespace` over a Ray cluster that this process is a driver of.

    Long, and with many attributes: each verb of the port is some lines here, and what
    it needs is a part of its own (warm workers, upkeep, nodes, the proof of a wake).

    `max_rooms` None: as many as the nodes' memory allows; they limit dedicated rooms.
    `location` is the hint for objects that nobody gives one; None: hints mean nothing.
    `seed`: what the generation is made of where there is none; None: dedicated rooms.
    `front` is where gateways reach the server before it; empty: there is none.
    `membership`: this node's in its cluster; None: any node of Ray's will do.
    `raylet`: this node's; None: `drain` is of all that Ray knows. `grows`: the pool
    does with the cluster.
    """

    unreachable_since: float | None = None  # it is here

    def __init__(
        self,
        settings: HostSettings,
        log_level: str,
        *,
        warm_workers: int = 0,
        max_rooms: int | None = None,
        location: str | None = None,
        strict: bool = False,
        seed: Seed | None = None,
        front: str = "",
        membership: Membership | None = None,
        raylet: Raylet | None = None,
        grows: bool = False,
        actor_class: type[ObjectActor] = ObjectActor,
    ) -> None:
        self._settings = settings
        self._log_level = log_level
        self._ray = RayDriver(actor_class)
        self._warm = WarmPool(warm_workers)
        self._max_rooms = max_rooms
        self._making: set[str] = set()  # actors that are being made from here
        # Actor → loop time: killed in the last KILL_EVERY_S, or being looked at.
        self._killed: dict[str, float] = {}
        self._pings = Flights[list[str]]()  # while one is under way
        self._membership = membership
        self._raylet = raylet
        self._grows = grows
        self._seed = seed or Seed()
        clock = Clock()
        self._log = ValkeyLog(settings.valkey_url, 0, clock)
        self._generation = Generation(self._log)
        self._cluster = self._seed.cluster
        self._upkeep = Upkeep(self, self._generation, clock, cluster=self._cluster)
        self._following = Following(self._generation, self._seed, self._upkeep.news.set)
        self._flights = Flights[Address]()  # `_resolve`, by actor
        trial = WakeTrial(
            self._ray,
            self._warm,
            settings.valkey_url,
            front,
            lambda: (self._settings_of(""), log_level),
            None if settings.tls is None else Trust(settings.tls),
        )
        self._proof = WakeProof(trial.look, trial.wake)
        found = None
        if location is not None:
            log = ValkeyLog(settings.valkey_url, settings.log_length)
            found = Location(log, location, strict)
        self._nodes = Nodes(found, membership)

    async def lost(self, whole: bool = True) -> None:
        """Returns once Ray is gone for good; until then keeps the workers warm and
        follows the generation. `whole`: all of Ray is on this machine; else its control
        store is another's, and may come back."""
        working = [
            asyncio.create_task(each)
            for each in (self._warm.run(), self._following.run(), self._upkeep.run())
        ]
        try:
            await (self._ray.lost() if whole else asyncio.Event().wait())
        finally:
            for each in working:
                each.cancel()

    # Another Ray cluster takes this Valkey over, or this one does (design.md §13).

    async def prepare(self, owner: str) -> None:
        """Have the actors ready in which objects will live that are still those of the
        cluster of this id. They own nothing until `take_over`. Raises `Unavailable`."""
        if await self._generation.read() is None:
            return  # nothing lives there
        # Where nobody has said whose it is, whoever hosts something believes it is his.
        found = await self._generation.hand_to(owner)
        self._following.stand_by(found)
        alive = await self._generation.loads(found.own)
        own = sorted(alive, key=alive.__getitem__, reverse=True)[:MOST_PREPARED]
        for pool in found.pools:
            await self._reach(pool)
        for actor in (PRESENCE, *own):
            with contextlib.suppress(Unavailable):  # whoever needs it asks for it
                await self._reach(actor)

    async def take_over(self) -> None:
        """All objects live here from now on; the other cluster's hosts let them go.
        Raises `Unavailable`."""
        await self._tell(self._generation.hand_to(self._cluster))

    async def handed(self) -> None:
        """Returns once objects live in another cluster."""
        await self._following.handed.wait()

    async def let_go(self, timeout_s: float) -> int:
        """Wait until all objects of this node have left for the other cluster; how many
        actors are left."""
        if self._raylet is None:
            return 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._raylet.actors():  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(LET_GO_EVERY_S)
        return len(self._raylet.actors())

    async def warmed(self) -> None:
        """Returns when the warm workers are there, or after a while."""
        await self._warm.full(FILL_S)

    async def placement(self) -> Placement:
        return await self._following.placement()

    async def place(self, mode: Mode, size: int) -> Placement:
        """Begin a new generation and tell every actor at once."""
        if not 1 <= size <= MAX_POOL:
            raise Unavailable("VALIDATION_ERROR", f"size: 1 to {MAX_POOL}.")
        return await self._tell(self._generation.change(mode, size, self._seed.public))

    async def pin(self, name: str) -> Placement:
        return await self._tell(self._generation.pin(_room(name)))

    async def unpin(self, name: str) -> Placement:
        return await self._tell(self._generation.unpin(_room(name)))

    async def _tell(self, change: Awaitable[Placement]) -> Placement:
        made = await self._following.change(change)
        with contextlib.suppress(Unavailable):  # who is not told will look
            calls = await self._ray.call_all("place", msgspec.msgpack.encode(made))
            await outcomes(calls.values(), DESCRIBE_TIMEOUT_S)
        return made

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        """Get or create by name; one flight an actor, however many live there."""
        placement = await (self._following.newest() if moved else self.placement())
        if not placement.lives_in(self._cluster):
            raise Unavailable(message="Another cluster has the rooms now.")
        if lost:
            await self.kill(placement.actor_of(name), lost)
        try:
            return await self._reach(placement.actor_of(name), hint)
        except _Elsewhere:
            placement = await self._following.newest()
            return await self._reach(placement.actor_of(name), hint)

    async def _reach(self, actor: str, hint: str | None = None) -> Address:
        at = await self._flights.join(actor, lambda: self._resolve(actor, hint))
        known = self._following.known or Placement()
        return msgspec.structs.replace(at, generation=known.number)

    async def start(self, actor: str) -> None:
        """Have this actor before anybody asks for it. Raises `Unavailable`."""
        await self._reach(actor)

    async def actors(self) -> set[str]:
        """The names that Ray knows. Raises `Unavailable`."""
        return set(await self._ray.names())

    async def even_out(self) -> None:
        """Take one pool over from a node that has more than its share. Raises
        `Unavailable`."""
        member = self._membership
        if member is None or member.node.state != "up" or not member.steady:
            return
        here = member.node.id
        nodes = [n for n, each in member.nodes.items() if each.state == "up"]
        if nodes == [here]:
            return
        pool = spread.uneven(here, nodes, await self._ray.where())
        if pool is None:
            return
        logger.info("%s moves here, to even out", pool)
        call = await self._ray.call(pool, "drain")
        if call is not None:
            await outcomes([call], DESCRIBE_TIMEOUT_S)
        member.moved()

    async def grow(self, placement: Placement) -> None:
        """A pool's process for every core of the nodes that have come to stay, unless
        somebody has said how many. Raises `Unavailable`."""
        if self._membership is None or not self._grows:
            return
        cores = self._membership.cores
        if cores > placement.size:
            await self.place(placement.mode, min(cores, MAX_POOL))

    async def _resolve(self, name: str, hint: str | None) -> Address:
        """Tries again for `RESOLVE_DEADLINE_S`: for a moment a name may mean an actor
        that is dead."""
        loop = asyncio.get_running_loop()
        end = loop.time() + RESOLVE_DEADLINE_S
        pause = 0.01
        while True:
            try:
                until = min(loop.time() + ATTEMPT_TIMEOUT_S, end)
                async with asyncio.timeout_at(until):
                    raw = await self._find_or_make(name, hint)
                if raw:
                    return msgspec.msgpack.decode(raw, type=Address)
            except (RayActorError, ValueError) as error:
                logger.info("%s: %s", name, type(error).__name__)
            except TimeoutError:
                logger.info("%s: no answer", name)
                await self._give_up_nowhere(name, hint)
            except RayError as error:
                logger.warning("%s does not start: %s", name, _last_line(error))
                self._proof.failed()
                raise Unavailable(message=f"{name} does not start.") from error
            if loop.time() + pause > end:
                self._proof.failed()
                raise Unavailable(message=f"{name} does not start.")
            await asyncio.sleep(pause)
            # People wait for one that leaves, or has just died: it is soon gone.
            pause = min(pause * 2, MOST_PAUSE_S)

    async def _find_or_make(self, name: str, hint: str | None) -> bytes:
        found = await self._ray.call(name, "address")
        if found is not None:
            return await self._answer(name, found)
        cluster = await self._ray.cluster()
        self._check_capacity(name, cluster.nodes, cluster.names)
        if is_room(name) and (await self._following.newest()).actor_of(name) != name:
            raise _Elsewhere  # it gave its actor back, which is not to be made again
        self._making.add(name)
        try:
            node, where = await self._nodes.place(name, hint, cluster)
            with self._warm.creation():
                settings = self._settings_of(name)
                made = await self._ray.make(name, where, settings, self._log_level)
                try:
                    answer = await made
                except (RayError, asyncio.CancelledError):
                    self._nodes.failed(node)
                    raise
                self._proof.woke()
                return answer
        finally:
            self._making.discard(name)

    async def _answer(self, name: str, call: asyncio.Future[bytes]) -> bytes:
        """What the actor says; if it does not, and its node has left the cluster, it is
        ended: Ray's own verdict may take longer than people wait."""
        done, _ = await asyncio.wait((call,), timeout=ANSWER_S)
        if not done:
            # One that was to be made there waits for a node that is gone, in silence.
            shown = (await self._ray.where()).get(name)
            where = shown or self._nodes.chosen(name)
            if where is not None and self._nodes.left(where):
                logger.warning("%s is on a node that is gone: ended", name)
                await self._ray.end(name)
        return await call

    def _settings_of(self, actor: str) -> bytes:
        placement = self._following.known or Placement()
        settings = self._settings.for_actor(actor, placement)
        return msgspec.msgpack.encode(settings.on_the_way())

    def _check_capacity(self, name: str, nodes: list[Node], names: list[str]) -> None:
        """Raises `Unavailable` AT_CAPACITY. Only rooms with actors of their own count,
        and only they are refused (design.md §4, Limits)."""
        known = self._following.known
        if not is_room(name) or (known and known.mode == "auto"):
            return
        limit = self._max_rooms
        if limit is None:
            memory = sum(each["Resources"].get("memory", 0.0) for each in nodes)
            cores = sum(each["Resources"].get("CPU", 0.0) for each in nodes)
            cores = max(int(cores), len(os.sched_getaffinity(0)))
            limit = max(1, min(int(memory / ROOM_BYTES), cores * ROOMS_PER_CORE))
        awake = sum(map(is_room, {*names, *self._making}))
        if awake >= limit:
            logger.warning("%s may not wake: %d rooms are awake", name, awake)
            raise Unavailable("AT_CAPACITY", "Too many rooms are awake right now.")

    async def _give_up_nowhere(self, name: str, hint: str | None) -> None:
        """An actor that waits for a node of its location must not wait in silence."""
        if not self._nodes.strict:
            return
        try:
            await self._nodes.place(name, hint, await self._ray.cluster())
        except Nowhere:
            await self._ray.end(name)
            raise

    async def kill(self, actor: str, actor_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        self._killed = {k: t for k, t in self._killed.items() if now - t < KILL_EVERY_S}
        if actor in self._killed:
            return False
        self._killed[actor] = now
        killed = False
        try:
            if await self._hung(actor, actor_id):
                logger.warning("%s is hung: killed", actor)
                killed = await self._ray.end(actor, actor_id)
        finally:
            if not killed:
                self._killed.pop(actor, None)
        return killed

    async def _hung(self, name: str, actor_id: str) -> bool:
        call = await self._ray.call(name, "describe", actor_id)
        if call is None:
            return False
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT_S):
                await call
        except (TimeoutError, ActorUnavailableError):
            return True  # to Ray it is unavailable once its connection is as silent
        except RayError:
            pass  # dead already
        return False

    async def describe(self) -> list[Described]:
        calls = await self._ray.call_all("describe")
        await outcomes(calls.values(), DESCRIBE_TIMEOUT_S)
        found: list[Described] = []
        for name, call in calls.items():
            if not call.done():
                call.cancel()
                state = "starting" if name in self._making else "hung"
                row = Described(name, placement_of(name), 0, state=state, actor=name)
                found.append(row)
            elif call.exception() is None:
                found += msgspec.msgpack.decode(call.result(), type=list[Described])
        return sorted(found, key=lambda each: each.name)

    async def stored(self) -> bool:
        await self._log.writable()
        return True

    async def ping(self) -> bool:
        """Whether Ray's control store answers; one call for all who ask meanwhile."""
        await self._pings.join("ping", lambda: self._ray.names(PING_TIMEOUT_S))
        return True

    async def wakes(self) -> None:
        """As the port says; and the first look, when what is kept has started."""
        self._proof.check()

    async def told_to_leave(self) -> None:
        """Returns once Ray is about to end this node."""
        if self._membership is None:
            await asyncio.Event().wait()
            return
        here = self._membership.node.id
        while True:
            with contextlib.suppress(Unavailable):
                if here in await self._ray.draining():
                    return
            await asyncio.sleep(DRAINING_EVERY_S)

    async def drain(self, timeout_s: float = DRAIN_S) -> int:
        """Put every object of this node to sleep; nothing new comes here. How many
        actors are left."""
        if self._membership is not None:
            await self._membership.leave()
        if self._raylet is None or self._membership is None:
            calls = await self._ray.call_all("drain")
            await outcomes(calls.values(), timeout_s)
            return 0
        return await leave(self._raylet, timeout_s)


def _last_line(error: RayError) -> str:
    """What was raised there; above it is a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _room(name: str) -> str:
    if not is_room(name):
        raise Unavailable("VALIDATION_ERROR", "name: a room's, `room:<id>`.")
    return name
