"""Hosts that propose, wait for, and give back actors of rooms' own (design.md §4)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from actors.heat import Limits
from actors.host import Host
from actors.host_settings import HostSettings
from actors.own_rooms import Look
from actors.pace import Pace
from cfmessenger.memory import Memory
from cfmessenger.placement import Placement
from cfmessenger.storage import generation as generation_module
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import fresh_room, register

HOT = Limits(hot_share=1e-9, hot_hold_s=10.0, calm_after_s=3600.0)
"""Whatever does anything at all is hot."""

LIVING = Limits(hot_share=1.0, hot_hold_s=10.0, own_rooms=2)

QUICK = Pace(tick_s=0.02, say_every_s=0.02, one_in_ms=0)

Launch = Callable[..., Awaitable[Host]]


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    await register(log, "gA", "gB")
    await log.execute([("DEL", keys.log(NAME), keys.OWN_LOADS)])
    yield log
    await log.execute([("DEL", keys.log(NAME), keys.OWN_LOADS)])
    log.close()


@pytest.fixture
async def generation(log: ValkeyLog) -> Generation:
    made = Generation(log)
    await made.seed("auto", 1)
    return made


@pytest.fixture
async def launch(valkey_url: str, generation: Generation) -> AsyncIterator[Launch]:
    hosts: list[Host] = []

    async def launch(
        actor: str,
        limits: Limits = HOT,
        hibernate_after: float = 3600.0,
        memory: Callable[[], Memory] = lambda: Memory(1, 1),
        pace: Pace = QUICK,
    ) -> Host:
        plain = HostSettings(valkey_url, 10_000, hibernate_after, (0, 1), (0, 1))
        chosen = replace(plain, actor=actor, limits=limits, pace=pace)
        host = Host(chosen, lambda reason: None, memory)
        hosts.append(host)
        await host.start()
        return host

    yield launch
    for host in hosts:
        await host.kill()


async def talked_in(host: Host, name: str) -> Caller:
    """Somebody who has entered and said something."""
    caller = await Caller.open(host.address("x"))
    caller.enter(name, "gA.1")
    caller.chat(name, "gA.1", "hello")
    await caller.visitor.until_covered()
    return caller


async def talking(caller: Caller, name: str, until: Callable[[], bool]) -> None:
    """Talks on until something holds."""
    async with patience.within(10.0):
        while not until():
            caller.chat(name, "gA.1", "and")
            await caller.visitor.until_covered()


async def found(
    generation: Generation, holds: Callable[[Placement], bool]
) -> Placement:
    async with patience.within(10.0):
        while True:
            now = await generation.read()
            if now is not None and holds(now):
                return now
            await asyncio.sleep(0.01)


async def test_a_hot_room_leaves_when_its_own_actor_is_up(
    launch: Launch, generation: Generation
) -> None:
    name = fresh_room()
    pool = await launch("rooms:0")
    caller = await talked_in(pool, name)
    await talking(caller, name, lambda: pool.placement.why(name) == "hot")
    # Its new process is late: it talks on where it is.
    caller.chat(name, "gA.1", "still here")
    await caller.visitor.until_covered()
    assert caller.visitor.goodbyes == []
    own = await launch(name)
    assert own.placement.why(name) == "hot", "it reads the generation as it starts"
    goodbye = await caller.visitor.until_goodbye("moved")
    assert goodbye.object == name and goodbye.covered == caller.visitor.covered
    there = await Caller.open(own.address("y"))
    there.enter(name, "gA.2")
    await there.visitor.until_covered()
    assert there.visitor.outputs[-1].epoch == 2
    for each in (caller, there):
        each.close()


async def test_a_room_whose_own_actor_does_not_come_stays(
    launch: Launch, generation: Generation
) -> None:
    name = fresh_room()
    pool = await launch("rooms:0", pace=replace(QUICK, up_within_s=0.1))
    caller = await talked_in(pool, name)
    await talking(caller, name, lambda: name in pool.placement.ended)
    assert pool.placement.own == {}
    caller.chat(name, "gA.1", "as ever")
    await caller.visitor.until_covered()
    assert caller.visitor.goodbyes == []
    caller.close()


async def test_rooms_that_live_go_one_by_one_as_far_as_there_is_room(
    launch: Launch, generation: Generation
) -> None:
    names = [fresh_room() for _ in range(4)]
    pace = replace(QUICK, lived_s=0.2, up_within_s=3600.0)
    pool = await launch("rooms:0", LIVING, pace=pace)
    callers = [await talked_in(pool, name) for name in names]
    full = await found(generation, lambda now: len(now.measured()) == 2)
    await talking(callers[0], names[0], lambda: pool.trusted(pool.objects[names[0]]))
    now = await generation.read()
    assert now is not None and now.number == full.number, "there is room for two"
    assert {own.why for own in now.own.values()} == {"lived"}
    for each in callers:
        each.close()


async def test_who_merely_lives_takes_nobodys_place(
    launch: Launch, generation: Generation
) -> None:
    """Else rooms more than there is room for would change places for ever."""
    calm, name = [fresh_room(), fresh_room()], fresh_room()
    for each in calm:
        await generation.promote(each, "lived", 0)
        await generation.say_load(each, 0.0)
    pace = replace(QUICK, lived_s=0.0, up_within_s=3600.0)
    pool = await launch("rooms:0", LIVING, pace=pace)
    caller = await talked_in(pool, name)
    end = pool.loop.time() + 0.4  # some twenty looks
    await talking(caller, name, lambda: pool.loop.time() > end)
    assert set(pool.placement.own) == set(calm)
    caller.close()


async def test_a_hot_one_takes_the_place_of_the_calmest(
    launch: Launch, generation: Generation
) -> None:
    calm, busy, name = fresh_room(), fresh_room(), fresh_room()
    for each, share in ((calm, 0.0), (busy, 0.9)):
        await generation.promote(each, "lived", 0)
        await generation.say_load(each, share)
    limits = replace(HOT, own_rooms=2)
    pool = await launch("rooms:0", limits)
    caller = await talked_in(pool, name)
    await talking(caller, name, lambda: pool.placement.why(name) == "hot")
    assert set(pool.placement.own) == {busy, name}
    caller.close()


async def test_an_exception_goes_back_when_it_is_calm(
    launch: Launch, generation: Generation
) -> None:
    name = fresh_room()
    await generation.promote(name, "hot", 0)
    own = await launch(name, Limits(hot_share=0.9, calm_after_s=0.2))
    caller = await talked_in(own, name)
    await caller.visitor.until_goodbye("moved")
    await found(generation, lambda now: now.own == {} and name in now.ended)
    caller.close()


async def test_while_there_is_room_a_calm_one_stays_as_one_that_lives(
    launch: Launch, generation: Generation
) -> None:
    name = fresh_room()
    await generation.promote(name, "hot", 0)
    limits = Limits(hot_share=0.9, calm_after_s=0.2, own_rooms=1)
    own = await launch(name, limits)
    caller = await talked_in(own, name)
    await found(generation, lambda now: now.why(name) == "lived")
    caller.chat(name, "gA.1", "nothing moved")
    await caller.visitor.until_covered()
    assert caller.visitor.goodbyes == []
    caller.close()


async def test_no_exception_outlives_its_room(
    launch: Launch, generation: Generation
) -> None:
    name, pinned = fresh_room(), fresh_room()
    await generation.promote(name, "hot", 0)
    await generation.pin(pinned)
    hosts = [await launch(each, HOT, 0.1) for each in (name, pinned)]
    callers = [
        await talked_in(host, each)
        for host, each in zip(hosts, (name, pinned), strict=True)
    ]
    for caller in callers:
        await caller.visitor.until_goodbye("idle")
    await found(generation, lambda now: set(now.own) == {pinned})
    for caller in callers:
        caller.close()


async def test_a_load_that_is_not_said_any_more_ends(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_module, "LOAD_FOR_S", 1)
    await generation.say_load("room:a", 0.25)
    assert await generation.loads(["room:a", "room:b"]) == {"room:a": 0.25}
    async with patience.within(10.0):
        while await generation.loads(["room:a"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_without_memory_to_spare_no_room_gets_a_process(
    launch: Launch, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(100, 5)
    name = fresh_room()
    pool = await launch("rooms:0", memory=lambda: memory)
    caller = await talked_in(pool, name)
    hot: list[Placement | None] = []
    look = pool._exceptions.look

    async def spy(at: Look) -> Placement | None:
        made = await look(at)
        hot.extend([made] if any(each.heat.hot for each in at.objects) else [])
        return made

    monkeypatch.setattr(pool._exceptions, "look", spy)
    await talking(caller, name, lambda: len(hot) >= 3)
    assert hot == [None] * len(hot) and pool.placement.own == {}
    memory = Memory(100, 50)
    await talking(caller, name, lambda: pool.placement.why(name) == "hot")
    caller.close()
