"""What goes wrong: each fault strikes somebody, most of them end by themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from actors.activation import Activation, State
from cfmessenger.storage import keys
from tests.system.sim.processes import PLENTY, SHORT
from tests.system.sim.sim_loop import Process, SimClock

if TYPE_CHECKING:
    from tests.system.sim.namespace import Change
    from tests.system.sim.processes import GatewayProcess, HostProcess
    from tests.system.sim.world import World

HEAT_EVERY_S = 0.25
POINTS = ("before_append", "after_append", "before_mirror", "after_mirror")
NOTICED_S = 2.0
"""By then gateways have noticed that memory is full no longer."""
HEALED_S = 5.0
"""By then rooms have put back what a server lacks that was promoted."""
CUT_OFF_P = 0.4
"""Of those that are gone with Valkey so many are only believed dead."""
FUSE = 80
"""A process that is to die does so within so many callbacks."""


class Faults:
    """The faults of a world. `count`: how often each struck."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.count: Counter[str] = Counter()
        self._frozen: list[tuple[Process, float]] = []
        # Who had which event of which room when the log lost it.
        self.owed: list[tuple[Process, str, bytes]] = []

    async def happen(self, seconds: float) -> None:
        """Let things go wrong for so long."""
        world, rng = self._world, self._world.rng
        names = list(world.plan.faults)
        weights = list(world.plan.faults.values())
        end = world.loop.time() + seconds
        while (now := world.loop.time()) < end:
            pause = rng.expovariate(1 / world.plan.every_s)
            await asyncio.sleep(min(pause, end - now))
            if not names:
                continue
            name = rng.choices(names, weights)[0]
            strike: Callable[[], bool] = getattr(self, f"_{name}")
            if strike():
                self.count[name] += 1
                world.note("FAULT %s", name)

    def heal(self) -> None:
        """Nothing is wrong any more, though what happened has happened."""
        world = self._world
        for process, since in self._frozen:
            self._thaw(process, since)
        world.arm("")
        for process in self._processes():
            process.fuse = 0
        if not world.valkey.process.alive:
            world.valkey.start()
        self._recover()
        world.valkey.back()
        world.namespace.away = False
        world.memory = PLENTY
        world.network.spikes_s = min(world.network.spikes_s, 0.2)
        world.network.heal()

    def _processes(self) -> list[Process]:
        world = self._world
        each = [*world.namespace.living, *world.living_gateways]
        servers = [world.namespace.server] if world.namespace.server else []
        return [one.process for one in (*each, *servers)]

    def _later(self, low: float, high: float, then: Callable[[], None]) -> None:
        world = self._world
        world.loop.call_later(world.rng.uniform(low, high), self._unless_healed, then)

    def _unless_healed(self, then: Callable[[], None]) -> None:
        if not self._world.healed:
            then()

    def _host(self) -> HostProcess | None:
        world = self._world
        ready = [each for each in world.namespace.living if each.ready]
        return world.rng.choice(ready) if ready else None

    def _gateway(self) -> GatewayProcess | None:
        world = self._world
        ready = [each for each in world.living_gateways if each.ready]
        return world.rng.choice(ready) if ready else None

    # Actor processes.

    def _host_dies(self) -> bool:
        host = self._host()
        if host is not None:
            host.process.fuse = self._world.rng.randint(1, FUSE)
        return host is not None

    def _host_dies_at_a_point(self) -> bool:
        self._world.arm(self._world.rng.choice(POINTS))
        return True

    def _host_drains(self) -> bool:
        host = self._host()
        if host is None or host.host is None or host.process.frozen:
            return False
        host.process.run(self._world.loop.create_task, host.host.drain())
        return True

    def _host_freezes(self) -> bool:
        host = self._host()
        return host is not None and self._freeze(host.process, 0.3, 9.0)

    def _node_is_believed_dead(self) -> bool:
        world = self._world
        host = world.namespace.split()
        if host is None:
            return False
        if world.rng.random() < 0.4:
            self._block(host.process, world.valkey.process, 0.5, 4.0)
        for gateway in world.living_gateways:
            if world.rng.random() < 0.6:
                if world.rng.random() < 0.6:
                    self._block(gateway.process, host.process, 0.2, 6.0)
                self._break(gateway.process, host.process)
        if world.rng.random() < 0.5:
            self._later(0.1, 1.5, lambda: self._believed_alive(host))
        return True

    def _believed_alive(self, host: HostProcess) -> None:
        """The other way round: some are sent back to the one that is superseded."""
        world = self._world
        current = world.namespace.outdate(host, world.rng.uniform(0.2, 1.5))
        if current is not None:
            world.note("%s is taken for the one that %s is", host.process, current)
            for gateway in world.living_gateways:
                if world.rng.random() < 0.6:
                    self._break(gateway.process, current)

    # Gateways.

    def _gateway_dies(self) -> bool:
        gateway = self._gateway()
        if gateway is not None:
            gateway.process.fuse = self._world.rng.randint(1, FUSE)
        return gateway is not None

    def _gateway_drains(self) -> bool:
        gateway = self._gateway()
        if gateway is None or gateway.draining or gateway.process.frozen:
            return False
        gateway.process.run(self._world.loop.create_task, gateway.drain())
        return True

    def _gateway_freezes(self) -> bool:
        gateway = self._gateway()
        return gateway is not None and self._freeze(gateway.process, 0.3, 6.0)

    def _freeze(self, process: Process, low: float, high: float) -> bool:
        if process.frozen:
            return False
        process.frozen = True
        entry = (process, self._world.loop.time())
        self._frozen.append(entry)
        self._world.note("%s stands still", process)
        self._later(low, high, lambda: self._thaw(*entry))
        return True

    def _thaw(self, process: Process, since: float) -> None:
        world = self._world
        if not process.frozen:
            return
        world.note("%s goes on", process)
        if any(each.process is process for each in world.gateways):
            world.history.lame.append((since, world.loop.time()))
        world.loop.thaw(process)

    # The network.

    def _connection_breaks(self) -> bool:
        world = self._world
        if not world.network.ends:
            return False
        for _ in range(world.rng.choice((1, 1, 3))):
            end = world.rng.choice(list(world.network.ends))
            world.note("%s loses its connection to %s", end.process, end.peer.process)
            world.network.reset(end)
        return True

    def _connection_stalls(self) -> bool:
        """One connection alone: later ones between the same two may be faster."""
        world = self._world
        clients = world.clients
        ends = [
            e for e in world.network.ends if clients not in (e.process, e.peer.process)
        ]
        if not ends:
            return False
        end = world.rng.choice(ends)
        world.note("from %s to %s it takes long", end.process, end.peer.process)
        end.out.stall(world.rng.uniform(0.5, 8.0))
        return True

    def _break(self, one: Process, other: Process) -> None:
        for end in list(self._world.network.ends):
            if end.process is one and end.peer.process is other:
                self._world.network.reset(end)

    def _block(self, one: Process, other: Process, low: float, high: float) -> None:
        network = self._world.network
        network.block(one, other)
        self._world.note("%s and %s cannot reach each other", one, other)
        self._later(low, high, lambda: network.unblock(one, other))

    def _host_cannot_reach_valkey(self) -> bool:
        host = self._host()
        if host is not None:
            self._block(host.process, self._world.valkey.process, 0.3, 9.0)
        return host is not None

    def _gateway_cannot_reach_host(self) -> bool:
        gateway, host = self._gateway(), self._host()
        if gateway is None or host is None:
            return False
        self._block(gateway.process, host.process, 0.3, 9.0)
        return True

    def _gateway_cannot_reach_valkey(self) -> bool:
        gateway = self._gateway()
        if gateway is not None:
            self._block(gateway.process, self._world.valkey.process, 0.3, 6.0)
        return gateway is not None

    # Valkey and the namespace.

    def _placement_changes(self) -> bool:
        """Rooms are to live elsewhere, while they talk."""
        world = self._world
        rng = world.rng
        auto = world.plan.placement.mode == "auto"
        modes = ("auto", "auto", "auto", "pooled", "dedicated")
        mode = rng.choice(modes if auto else ("dedicated", "pooled", "pooled"))
        size = rng.choice((1, 2, 3))
        world.note("placement is to be %s, %d", mode, size)
        return self._change(lambda generation: generation.change(mode, size))

    def _change(self, change: Change) -> bool:
        server = self._world.namespace.server
        if server is None or not server.process.alive or server.known is None:
            return False
        server.change(change)
        return True

    def _room(self) -> str:
        return f"room:{self._world.rng.choice(self._world.plan.rooms)}"

    def _room_is_promoted(self) -> bool:
        name, why = self._room(), self._world.rng.choice(("hot", "lived"))
        self._world.note("%s is to have an actor of its own, %s", name, why)
        now = SimClock().now()
        return self._change(lambda generation: generation.promote(name, why, now))

    def _room_is_pinned(self) -> bool:
        name = self._room()
        return self._change(lambda generation: generation.pin(name))

    def _room_is_unpinned(self) -> bool:
        name = self._room()
        return self._change(lambda generation: generation.unpin(name))

    def _rooms_are_demoted(self) -> bool:
        names, now = {self._room(), self._room()}, SimClock().now()
        return self._change(lambda generation: generation.demote(names, now))

    def _room_is_hot(self) -> bool:
        """Wherever it lives meanwhile."""
        name, loop = self._room(), self._world.loop
        self._world.note("%s is hot", name)
        self._heat(name, loop.time() + self._world.rng.uniform(1.0, 6.0))
        return True

    def _heat(self, name: str, until: float) -> None:
        for each in self._activations(name):
            each.heat.took(HEAT_EVERY_S / 2)
        if self._world.loop.time() < until:
            self._later(HEAT_EVERY_S, HEAT_EVERY_S, lambda: self._heat(name, until))

    def _activations(self, name: str) -> Iterator[Activation]:
        for each in self._world.namespace.living:
            found = each.host.objects.get(name) if each.host is not None else None
            if found is not None and found.state is State.RUNNING:
                yield found

    def _memory_is_short(self) -> bool:
        world = self._world
        world.memory = SHORT

        def back() -> None:
            world.memory = PLENTY

        self._later(0.5, 3.0, back)
        return True

    def _namespace_server_dies(self) -> bool:
        server = self._world.namespace.server
        if server is None or not server.process.alive:
            return False
        server.process.fuse = self._world.rng.randint(1, FUSE)
        return True

    def _valkey_dies(self) -> bool:
        valkey = self._world.valkey
        if not valkey.process.alive:
            return False
        valkey.crash()
        self._later(0.1, 7.0, valkey.start)
        return True

    def _valkey_fails_over(self) -> bool:
        """To a replica that lags: the newest epochs and messages are gone."""
        world = self._world
        valkey = world.valkey
        if not valkey.process.alive:
            return False
        lag_s = world.rng.uniform(valkey.lags_s / 15, valkey.lags_s)
        world.note("the replica lacks %.2f s", lag_s)
        had = len(valkey.gone)
        valkey.fail_over(lag_s)
        self._note_who_has({each[1:] for each in valkey.gone[had:]})
        self._later(0.1, 4.0, valkey.start)
        self._unsure(4.0 + HEALED_S)
        return True

    def _note_who_has(self, gone: set[tuple[bytes, int, bytes]]) -> None:
        """What the log has just lost, and a process that lives has to give back."""
        living = self._world.namespace.living
        for each in living:
            if any(each.key == other.key for other in living if other is not each):
                continue  # which of the two is faster nobody knows
            tails = each.host.tails if each.host is not None else None
            for room in self._world.plan.rooms:
                name = f"room:{room}"
                tail = tails.get(name) if tails is not None else None
                for seq, event in tail.after(0) if tail is not None else ():
                    if (keys.log(name).encode(), seq, event) in gone:
                        self.owed.append((each.process, room, event))

    def stood_still(self, process: Process) -> bool:
        """Whether it ever did."""
        return any(process is each for each, _ in self._frozen)

    def _hosts_die_as_valkey_fails_over(self) -> bool:
        """As a machine dies, or is cut off, on which all of them are: some or all.
        Those that are cut off are believed dead, and live on."""
        world = self._world
        hosts = [each for each in world.namespace.living if each.ready]
        if not hosts or not world.valkey.process.alive:
            return False
        for each in world.rng.sample(hosts, world.rng.randint(1, len(hosts))):
            if world.rng.random() < CUT_OFF_P and world.namespace.forget(each):
                world.note("%s is believed dead", each.process)
                for gateway in world.living_gateways:
                    if world.rng.random() < 0.6:
                        self._break(gateway.process, each.process)
            else:
                world.kill(each.process, "with Valkey")
        return self._valkey_fails_over()

    def _valkey_is_replaced(self) -> bool:
        """By a replica that lacks nothing; connections to the old one are kept."""
        self._world.valkey.copy += 1
        return True

    def _replica_is_away(self) -> bool:
        valkey = self._world.valkey
        valkey.leave()
        self._later(1.0, 9.0, valkey.back)
        return True

    def _valkey_freezes(self) -> bool:
        process = self._world.valkey.process
        return process.alive and self._freeze(process, 0.3, 8.0)

    def _valkey_is_slow(self) -> bool:
        self._world.valkey.fsync_s = self._world.rng.choice((0.5, 3.0, 8.0))
        self._later(0.3, 6.0, self._recover)
        return True

    def _valkey_is_full(self) -> bool:
        self._world.valkey.full = True
        self._later(0.3, 6.0, self._recover)
        self._unsure(6.0 + NOTICED_S)
        return True

    def _unsure(self, for_s: float) -> None:
        now = self._world.loop.time()
        self._world.history.unsure.append((now, now + for_s))

    def _recover(self) -> None:
        valkey = self._world.valkey
        valkey.fsync_s, valkey.full = self._world.plan.fsync_s, False

    def _namespace_is_away(self) -> bool:
        namespace = self._world.namespace
        namespace.away = True

        def back() -> None:
            namespace.away = False

        self._later(0.2, 5.0, back)
        return True
