"""What every namespace promises: one suite for the loop of a test and for a real Ray.

`local` is `LocalNamespace` itself, `served` the same behind a `NamespaceServer` and its
client, `ray` a real cluster behind two servers, as two nodes have them; each placement
on its own, and pools on a Valkey Cluster of three shards as well.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from actors.host_settings import HostSettings
from actors.local_namespace import LocalNamespace
from actors.namespace_server import NamespaceServer
from actors.pace import Pace
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.namespace import Address, Described, Namespace, NamespaceClient
from cfmessenger.placement import Mode, Placement, is_pool
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME
from cfmessenger.storage.log import ValkeyLog
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import chat, fresh_room, register
from tests.effort import long_only
from tests.ray_cluster import RayCluster

KEY = "secret"
PATIENCE_S = 20.0  # a cold Ray worker takes a second, on a busy machine some


class World:
    """A namespace and what may happen to the processes behind it."""

    def __init__(self, namespace: Namespace, real: bool) -> None:
        self.namespace = namespace
        self.real = real
        self.clients: list[NamespaceClient] = []
        self.url = ""  # of their server
        self.callers: list[Caller] = []

    async def crash(self, name: str, address: Address) -> None:
        """The process behind a name dies."""
        if self.real:
            os.kill(address.pid, signal.SIGKILL)
        else:
            await self.namespace.kill(address.actor, address.actor_id)

    def hang(self, address: Address) -> None:
        """It does nothing any more, but is there."""
        if self.real:
            os.kill(address.pid, signal.SIGSTOP)

    async def caller(self, address: Address, gateway: str = "gA") -> Caller:
        caller = await Caller.open(address, gateway)
        self.callers.append(caller)
        return caller

    async def entered(self, name: str, *conns: str) -> tuple[Address, Caller]:
        """Resolved, linked and attached, with these sockets in."""
        address = await self.namespace.resolve(name)
        caller = await self.caller(address)
        caller.enter(name, *conns)
        await caller.visitor.until_covered()
        return address, caller

    async def row(self, name: str) -> Described | None:
        rows = [r for r in await self.namespace.describe() if r.name == name]
        assert len(rows) <= 1
        return rows[0] if rows else None

    async def until_gone(self, name: str) -> None:
        await eventually(lambda: self._absent(name))

    async def _absent(self, name: str) -> bool:
        return await self.row(name) is None

    async def close(self) -> None:
        for caller in self.callers:
            caller.close()
        for client in self.clients:
            await client.close()


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with patience.within(PATIENCE_S):
        while not await true():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.05)


async def _follows(client: NamespaceClient, placement: Placement) -> bool:
    return await client.placement() == placement


@pytest.fixture(
    params=[
        "local",
        "local pool",
        "served",
        "local pool on shards",
        pytest.param("ray", marks=pytest.mark.cluster),
        pytest.param("ray pool", marks=[long_only, pytest.mark.cluster]),
        pytest.param("ray pool on shards", marks=[long_only, pytest.mark.cluster]),
    ]
)
async def world(
    request: pytest.FixtureRequest,
    valkey_url: str,
    tmp_path: Path,
) -> AsyncIterator[World]:
    real, shards = request.param.startswith("ray"), "shards" in request.param
    if real:
        named = "ray_on_shards" if shards else "ray_cluster"
        cluster: RayCluster = request.getfixturevalue(named)
        valkey_url = cluster.valkey_url
    elif shards:
        valkey_url = request.getfixturevalue("valkey_cluster").url
    log = ValkeyLog(valkey_url, 10_000)
    await register(log, "gA", "gB")
    if not real:  # a generation that another suite has left would be followed
        await log.execute([("DEL", keys.log(NAME))])
    log.close()
    if real:
        clients = [NamespaceClient(url, cluster.key) for url in cluster.urls]
        world = World(clients[0], real=True)
        world.clients, world.url = clients, cluster.urls[0]
        mode: Mode = "pooled" if "pool" in request.param else "dedicated"
        made = await clients[0].place(mode, 2)
        await eventually(lambda: _follows(clients[1], made))
        yield world
        await world.close()
        return
    pace = Pace(tick_s=0.05)
    backend = LocalNamespace(
        HostSettings(valkey_url, 10_000, 0.4, (0, 1), (0, 1), pace=pace),
        Placement("pooled", 2, 1) if "pool" in request.param else None,
    )
    if request.param != "served":
        world = World(backend, real=False)
        yield world
    else:
        url = f"unix:{tmp_path}/ns"
        server = NamespaceServer(backend, url, KEY)
        await server.start()
        clients = [NamespaceClient(url, KEY) for _ in range(2)]
        world = World(clients[0], real=False)
        world.clients, world.url = clients, url
        yield world
        await server.close()
    await world.close()
    await backend.close()


async def test_it_answers_pings(world: World) -> None:
    assert await world.namespace.ping() is True


async def test_a_name_leads_to_one_place(world: World) -> None:
    name = fresh_room()
    first = await world.namespace.resolve(name)
    assert await world.namespace.resolve(name, "uk") == first
    assert first.host == "127.0.0.1"
    assert 0 < first.port < 65536
    assert len(first.key) >= 64
    assert first.actor_id


async def test_two_names_are_two_objects(world: World) -> None:
    one, two = fresh_room(), fresh_room()
    await world.namespace.resolve(two)  # slow, perhaps, and the first would fall asleep
    _, first = await world.entered(one, "gA.1")
    _, second = await world.entered(two, "gA.1")
    first.chat(one, "gA.1", "for the first")
    await first.visitor.until_covered()
    assert first.visitor.chats("gA.1") == [(1, "for the first")]
    assert second.visitor.chats("gA.1") == []


async def test_twenty_at_once_are_one_flight(world: World) -> None:
    name = fresh_room()
    asked = world.clients or [world.namespace]
    calls = [asked[n % len(asked)].resolve(name) for n in range(20)]
    found = await asyncio.gather(*calls)
    assert len(set(found)) == 1
    _, caller = await world.entered(name, "gA.1")
    assert caller.visitor.outputs[-1].epoch == 1
    assert await world.row(name) is not None


async def test_the_key_that_it_hands_out_is_needed(world: World) -> None:
    name = fresh_room()
    address = await world.namespace.resolve(name)
    for hello in (
        link.Hello(5, "0" * 64, "gA"),
        link.Hello(link.VERSION, address.key, "gA"),
        link.Hello(link.VERSION + 2, "", "gA", link.VERSION + 1, b"n" * 32),
    ):
        caller = await Caller.silent(address)
        caller.say(hello, caller.visitor.attach(name))
        await caller.until_ended()
        assert all(isinstance(each, link.Refused) for each in caller.last)
    wrong = await Caller.open(address, "gA", key="0" * 64)
    assert wrong.welcome is None
    good = await world.caller(address)
    assert good.welcome is not None
    assert (good.welcome.version, good.welcome.pid) == (link.VERSION, address.pid)
    assert address.version == link.VERSION


async def test_what_is_said_is_shown_and_covered(world: World) -> None:
    name = fresh_room()
    address, caller = await world.entered(name, "gA.1")
    other = await world.caller(address, "gB")
    other.enter(name, "gB.1")
    await other.visitor.until_covered()
    caller.chat(name, "gA.1", "hello")
    await caller.visitor.until_covered()
    await other.visitor.until(lambda: bool(other.visitor.chats("gB.1")))
    assert caller.visitor.chats("gA.1") == other.visitor.chats("gB.1") == [(1, "hello")]
    assert caller.visitor.covered == 2
    assert other.visitor.covered == 1


async def test_who_is_awake_can_be_described(world: World) -> None:
    name = fresh_room()
    address, caller = await world.entered(name, "gA.1", "gA.2")
    caller.chat(name, "gA.1", "hello")
    await caller.visitor.until_covered()
    row = await world.row(name)
    assert row is not None
    pooled = is_pool(address.actor)
    placement = ("pooled" if pooled else "dedicated") if world.real else "local"
    assert 0.0 <= row.load <= 1.0
    actor = row.actor if address.actor == "*" else address.actor
    want = Described(name, placement, address.pid, 1, 1, 2, "running", actor, row.load)
    assert bool(row.node) == world.real and row.node == address.node
    assert row == msgspec.structs.replace(want, node=row.node)


async def test_it_sleeps_and_wakes_with_everything_but_its_process(
    world: World,
) -> None:
    name = fresh_room()
    first, caller = await world.entered(name, "gA.1")
    caller.chat(name, "gA.1", "before")
    await caller.visitor.until_covered()
    goodbye = await patience.wait_for(caller.visitor.until_goodbye("idle"), PATIENCE_S)
    assert goodbye == link.Goodbye(name, 1, 2, "idle")
    if world.real and not is_pool(first.actor):
        await patience.wait_for(caller.ended.wait(), PATIENCE_S)
    await world.until_gone(name)

    address = await world.namespace.resolve(name)
    again = await world.caller(address)
    v = again.visitor
    v.n = caller.visitor.n
    again.say(v.attach(name, "gA.1", seq=1, epoch=1, covered=2, replay=2))
    again.chat(name, "gA.1", "after")
    await v.until_covered()
    assert v.chats("gA.1") == [(2, "after")]
    assert v.outputs[-1].epoch == 2
    assert "system" not in v.kinds("gA.1"), "waking is not joining"


async def test_a_crash_loses_nothing_that_was_shown(world: World) -> None:
    name = fresh_room()
    address, caller = await world.entered(name, "gA.1")
    caller.chat(name, "gA.1", "confirmed")
    await caller.visitor.until_covered()
    await world.crash(name, address)
    await caller.until_ended()
    assert caller.visitor.goodbyes == []
    found = await world.namespace.resolve(name)
    assert found.actor_id != address.actor_id
    assert found.key != address.key
    again = await world.caller(found)
    v = again.visitor
    v.n = caller.visitor.n
    said = link.Said(v.n, "gA.1", chat("confirmed"))
    # The answer got lost on the way, for all this gateway knows.
    again.say(v.attach(name, "gA.1", seq=0, epoch=1, covered=1, replay=2))
    again.say(link.Inputs(name, [said]))
    await v.until_covered()
    assert v.chats("gA.1") == [(1, "confirmed")]
    assert v.outputs[-1].epoch == 2


async def test_only_the_very_actor_is_killed(world: World) -> None:
    name = fresh_room()
    address, caller = await world.entered(name, "gA.1")
    assert not await world.namespace.kill(address.actor, "0" * len(address.actor_id))
    if world.real:
        assert not await world.namespace.kill(address.actor, address.actor_id), (
            "it is not hung"
        )
        assert not await world.namespace.kill(fresh_room(), address.actor_id)
    caller.say(link.Ping(1))
    await caller.visitor.until(lambda: caller.pongs == [1])
    world.hang(address)
    assert await world.namespace.kill(address.actor, address.actor_id)
    found = await world.namespace.resolve(name)
    assert found.actor_id != address.actor_id
    assert not await world.namespace.kill(address.actor, address.actor_id), (
        "it was replaced"
    )
    again = await world.caller(found)
    again.enter(name, "gA.2")
    await again.visitor.until_covered()
    assert again.visitor.outputs[-1].epoch == 2
    # A process that does not even take the order is killed by Ray 5 s later.
    await patience.wait_for(caller.ended.wait(), PATIENCE_S)


async def test_a_hung_object_is_described_as_such(world: World) -> None:
    if not world.real:
        pytest.skip("what shares our loop cannot hang alone")
    name = fresh_room()
    address, _ = await world.entered(name, "gA.1")
    world.hang(address)
    row = await world.row(address.actor)
    assert row is not None
    assert row.state == "hung"

    async def killed() -> bool:
        # Once in ten seconds a name, and a pool's may have been the last test's.
        return await world.namespace.kill(address.actor, address.actor_id)

    await eventually(killed)


async def test_who_has_the_wrong_key_is_not_served(world: World) -> None:
    if not world.clients:
        pytest.skip("a namespace in our own process has no key")
    stranger = NamespaceClient(world.url, "wrong")
    with pytest.raises(Unavailable):
        await stranger.resolve(fresh_room())
    await stranger.close()
