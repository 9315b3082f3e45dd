"""The whole ground: storage, a head, three nodes, and a balancer in front.

Owns the order in which all of it begins and ends, and what is kept of it: the logs when
something has failed, else nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from asyncio import gather, sleep
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from cfmessenger.accounts.sessions import Sessions
from cfmessenger.accounts.users import Directory
from cfmessenger.cli.running import namespace_key, ray_of
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.link.namespace import Address, NamespaceClient
from cfmessenger.storage import keys
from cfmessenger.storage.members import Finder, Members
from cfmessenger.storage.valkey import Valkey
from cfmessenger.tls import Files, Trust
from tests import patience
from tests.system.machines.balancer import Balancer
from tests.system.machines.machine import Machine, Started
from tests.system.machines.network import FOLDERS, Network, sweep
from tests.system.machines.storage import Storage
from tests.system.machines.topology import KEPT, POOLS, Topology

NODES = ("m1", "m2", "m3")
KEPT_FOLDERS = "cfm-kept-"


class Ground:
    """`spare` is for another head; `victim` is one of the nodes, and changes with
    `choose`."""

    def __init__(self, folder: Path) -> None:
        # Not swept by the next run: the name is no longer a run's.
        self.kept = folder.with_name(folder.name.replace(FOLDERS, KEPT_FOLDERS))
        self.network = Network()
        self.network.open()

        def machine(name: str, number: int) -> Machine:
            return Machine(name, number, self.network, folder)

        self.storage = Storage(machine("storage", 10))
        self.nodes = [machine(name, 11 + n) for n, name in enumerate(NODES)]
        self.head, self.spare = machine("head", 21), machine("spare", 22)
        self.victim = self.nodes[0]
        servers = {each.name: each.address for each in self.nodes}
        self.balancer = Balancer(self.network.host, servers, folder)
        self.topology: Topology  # once storage serves

    async def open(self) -> None:
        """Returns when every gateway is ready."""
        await self.storage.machine.open()
        await self.storage.start()
        self.topology = self.planned()
        await self.dress(self.storage.machine)
        for each in self.nodes:
            await each.open()
            await self.dress(each)
        starts = [self.start(each, "node", "gateway") for each in self.nodes]
        await gather(self.start_head(self.head), *starts)
        await self.evened_out()
        await self.balancer.start()

    def planned(self) -> Topology:
        """What runs in machines, once storage serves."""
        return Topology(self.storage, self.balancer.url)

    async def dress(self, machine: Machine) -> None:
        """What a machine that was opened needs before a role starts in it."""

    @property
    def valkey_url(self) -> str:
        """For who asks from outside."""
        return self.storage.valkey_url

    @property
    def tls(self) -> Files | None:
        """Likewise: by which machines are trusted; None: they speak clear text."""
        return None

    async def evened_out(self, within: float = 60.0) -> Counter[str]:
        """Until each node has its share of the pools; how many each has."""
        pools = [f"rooms:{n}" for n in range(POOLS)]
        async with patience.within(within):
            while True:
                # One that moves on a starved machine may take longer than a call.
                with contextlib.suppress(Unavailable):
                    found = Counter((await self._where(pools)).values())
                    if max(found.values()) * len(self.nodes) == POOLS:
                        return found
                await sleep(0.5)

    async def start_head(self, machine: Machine) -> None:
        """A head in this machine, which need not be up."""
        if not machine.up:
            await machine.open()
            await self.dress(machine)
        role = self.topology.head(machine)
        await machine.start(role.name, role.command, role.env).ready(role.ready)

    async def start(self, machine: Machine, *names: str) -> None:
        """Start these roles of a machine, one when the last one serves."""
        for role in self.topology.roles(machine):
            if role.name in names:
                made = machine.start(role.name, role.command, role.env)
                await made.ready(role.ready)

    def close(self) -> None:
        """In any state."""
        self.balancer.stop()
        for each in (*self.nodes, self.head, self.spare, self.storage.machine):
            each.kill()
        self.network.close()

    def keep(self) -> None:
        """What the machines' own files say, beside the logs."""
        for each in (self.head, self.spare, *self.nodes):
            each.keep(KEPT)

    def process(self, machine: Machine, role: str) -> Started:
        """The newest of this role."""
        return machine.started[role]

    async def tokens(self) -> list[str]:
        """A session of each seeded person, as a login would have made it."""
        kv = Valkey(self.valkey_url)
        sessions = Sessions(kv, ttl_s=1200, replica=kv, clock=Clock().now)
        try:
            people = [each for each in Directory.load() if not each.is_ai_bot]
            return [(await sessions.create(each.id, "uk"))[0] for each in people]
        finally:
            kv.close()

    async def spots(self, rooms: Iterable[str]) -> dict[str, str]:
        """In which machine each room lives; wakes them."""
        found = await self._where([f"room:{each}" for each in rooms])
        return {name.removeprefix("room:"): at for name, at in found.items()}

    async def ray_node(self, machine: Machine) -> str:
        """The id of the node of Ray's that this machine is."""
        kv = Valkey(self.valkey_url)
        try:
            found = (await Members(kv).nodes()).values()
        finally:
            kv.close()
        return next(each.id for each in found if machine.address in each.address)

    async def ray_env(self) -> dict[str, str]:
        """What a process needs to speak to the cluster's Ray."""
        _, env = await ray_of(self.valkey_url, self.tls)
        return dict(os.environ) | env

    async def _where(self, actors: Iterable[str]) -> dict[str, str]:
        names = {each.address: each.name for each in self.nodes}
        found = await self.addresses(actors)
        return {each: names.get(at.host, at.host) for each, at in found.items()}

    async def addresses(self, actors: Iterable[str]) -> dict[str, Address]:
        """Of these actors, or of the objects with these names; wakes them."""
        kv = Valkey(self.valkey_url)
        members = Members(kv)
        key = namespace_key(await members.secret())
        trust = None if self.tls is None else Trust(self.tls)
        client = NamespaceClient(Finder(members).find, key, trust=trust)
        try:
            return {each: await client.resolve(each) for each in actors}
        finally:
            await client.close()
            kv.close()

    def choose(self, spots: Mapping[str, str]) -> None:
        """The fullest is to be the victim."""
        rooms = Counter(spots.values())
        self.victim = max(self.nodes, key=lambda each: rooms[each.name])

    async def logs(self, rooms: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
        """What storage holds of these rooms: seq and id, in the log's order."""
        kv = Valkey(self.valkey_url)
        try:
            found = {
                room: await kv.ask("XRANGE", keys.log(f"room:{room}"), "-", "+")
                for room in rooms
            }
        finally:
            kv.close()
        return {
            room: [
                (int(entry.partition(b"-")[2]), msgspec.json.decode(fields[1])["id"])
                for entry, fields in rows
            ]
            for room, rows in found.items()
        }

    def cost(self) -> Counter[str]:
        """CPU seconds so far and memory (PSS, MiB) of all that runs in machines, and
        how many processes that are."""
        total: Counter[str] = Counter()
        for machine in (self.storage.machine, self.head, *self.nodes):
            for row in machine.processes() if machine.up else ():
                with contextlib.suppress(psutil.Error):
                    one = psutil.Process(row.pid)
                    total["cpu_ms"] += int(1000 * sum(one.cpu_times()[:2]))
                    total["mib"] += one.memory_full_info().pss >> 20
                    total["processes"] += 1
        return total


G = TypeVar("G", bound=Ground)


@asynccontextmanager
async def ground(
    keep: bool = False,
    kind: type[G] = Ground,  # type: ignore[assignment]
) -> AsyncIterator[G]:
    """Ready; gone at the end. The logs stay if it failed, which then says where, or if
    they are to be kept."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-"))
    made = kind(folder)
    failed = True
    try:
        await made.open()
        yield made
        failed = keep
        if keep:
            made.keep()
    except BaseException as error:
        with contextlib.suppress(OSError):
            made.keep()
        error.add_note(f"logs of all machines: {made.kept}")
        raise
    finally:
        made.close()
        if failed:
            shutil.move(folder, made.kept)
        shutil.rmtree(folder, ignore_errors=True)
