"""What a namespace server keeps ready, and what it takes back for want of memory."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from actors.upkeep import GIVE_BACK_EVERY_S, SHORT_OF_MEMORY, Upkeep
from cfmessenger.clock import Clock
from cfmessenger.ids import PRESENCE
from cfmessenger.memory import Memory
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from tests import patience
from tests.actors.scene import fresh_room

PLENTY, SHORT = Memory(100, 50), Memory(100, round(SHORT_OF_MEMORY * 100) - 1)


@pytest.fixture
async def generation(valkey_url: str) -> AsyncIterator[Generation]:
    log = ValkeyLog(valkey_url, 10_000)
    await log.execute([("DEL", keys.log(NAME), keys.OWN_LOADS)])
    made = Generation(log)
    await made.seed("auto", 2)
    yield made
    await log.execute([("DEL", keys.log(NAME), keys.OWN_LOADS)])
    log.close()


class Ray:
    """The names that are registered, and the memory of the node."""

    def __init__(self, generation: Generation) -> None:
        self.names: set[str] = set()
        self.memory = PLENTY
        self.looks = 0
        self.full = False  # nothing more can start
        self.evened = 0  # how often it was asked to
        self.grown: list[Placement] = []  # what it was asked about
        self.placements = 0  # how often it has read one of another cluster
        self.asked = asyncio.Event()
        self._generation = generation
        self._changed = asyncio.Condition()

    async def placement(self) -> Placement:
        found = await self._generation.read()
        assert found is not None
        self.placements += not found.lives_in("blue")
        self.asked.set()
        return found

    async def start(self, actor: str) -> None:
        if not self.full:
            self.names.add(actor)

    async def actors(self) -> set[str]:
        async with self._changed:
            self.looks += 1
            self._changed.notify_all()
        return set(self.names)

    async def wakes(self) -> None:
        """Nobody asks."""

    async def even_out(self) -> None:
        self.evened += 1

    async def grow(self, placement: Placement) -> None:
        self.grown.append(placement)

    async def looked(self, times: int) -> None:
        """Until it was looked at so often again."""
        wanted = self.looks + times
        async with self._changed, patience.within(10.0):
            await self._changed.wait_for(lambda: self.looks >= wanted)


@pytest.fixture
def give_back_every_s() -> float:
    return GIVE_BACK_EVERY_S


@pytest.fixture
async def ray(generation: Generation, give_back_every_s: float) -> AsyncIterator[Ray]:
    ray = Ray(generation)
    upkeep = Upkeep(
        ray,
        generation,
        Clock(),
        lambda: ray.memory,
        look_every_s=0.01,
        give_back_every_s=give_back_every_s,
        cluster="blue",
    )
    running = asyncio.create_task(upkeep.run())
    yield ray
    running.cancel()


async def own_rooms(generation: Generation, *loads: float) -> list[str]:
    """Rooms with a process of their own, which have said how busy it is."""
    names = [fresh_room() for _ in loads]
    for name, load in zip(names, loads, strict=True):
        await generation.promote(name, "lived", Clock().now())
        await generation.say_load(name, load)
    return names


async def test_the_pools_are_there_and_the_registry_once(ray: Ray) -> None:
    await ray.looked(2)
    assert ray.names == {"rooms:0", "rooms:1", PRESENCE}
    ray.names.clear()  # everything has died at once; the registry may have slept
    await ray.looked(2)
    assert ray.names == {"rooms:0", "rooms:1"}


async def test_evening_out_and_growth_wait_for_the_pools(
    ray: Ray, generation: Generation
) -> None:
    ray.full = True  # no pool can start
    ray.names.clear()
    await ray.looked(2)
    ray.evened, ray.grown = 0, []
    await ray.looked(3)
    assert (ray.evened, ray.grown) == (0, [])
    ray.full = False
    await ray.looked(4)
    assert ray.evened > 0
    assert {each.size for each in ray.grown} == {2}
    await generation.change("dedicated", 2)
    await ray.looked(2)
    ray.evened = 0
    await ray.looked(2)
    assert ray.evened == 0, "rooms of their own are nobody's share"


async def test_short_of_memory_the_calmest_goes_back_and_says_so(
    ray: Ray, generation: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    busy, calm, busier = await own_rooms(generation, 0.2, 0.1, 0.3)
    pinned = fresh_room()
    await generation.pin(pinned)
    ray.names |= {busy, calm, busier, pinned}
    await ray.looked(3)
    assert set((await ray.placement()).own) == {busy, calm, busier, pinned}
    ray.memory = SHORT
    await ray.looked(3)
    assert set((await ray.placement()).own) == {busy, busier, pinned}, (
        "one, and no other before what it held can have come back"
    )
    assert f"7 % is left: {calm} goes back to a pool" in caplog.text


@pytest.mark.parametrize("give_back_every_s", [0.0])
async def test_still_short_the_next_goes_and_never_a_pinned_one(
    ray: Ray, generation: Generation
) -> None:
    names = await own_rooms(generation, 0.2, 0.1)
    pinned = fresh_room()
    await generation.pin(pinned)
    ray.names |= {*names, pinned}
    ray.memory = SHORT
    await ray.looked(6)
    assert set((await ray.placement()).own) == {pinned}


async def test_what_another_cluster_has_is_not_kept_ready_here(
    ray: Ray, generation: Generation
) -> None:
    """Its pools have these names, too."""
    await ray.looked(2)
    await generation.hand_to("green")
    ray.names.clear()
    evened = ray.evened
    here = await generation.pin(fresh_room())
    async with patience.within(10.0):
        while ray.placements < 2:  # it has looked at what it is now
            await ray.asked.wait()
            ray.asked.clear()
    assert not here.lives_in("blue")
    assert ray.names == set() and ray.evened == evened
    await generation.hand_to("blue")
    await ray.looked(2)
    assert ray.names >= {"rooms:0", "rooms:1"}
