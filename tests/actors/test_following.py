"""How a namespace server follows the generation: looks, changes, what is put back."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from actors.following import Following, Seed
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import ValkeyLog
from tests import patience
from tests.actors.scene import fresh_room

SEED = Seed("auto", 2, "", ("room:general",))


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    await log.execute([("DEL", keys.log(NAME))])
    yield log
    await log.execute([("DEL", keys.log(NAME))])
    log.close()


@pytest.fixture
def generation(log: ValkeyLog) -> Generation:
    return Generation(log)


def following(generation: Generation) -> Following:
    return Following(generation, SEED, lambda: None)


async def test_where_there_is_none_it_makes_one(generation: Generation) -> None:
    one, two = following(generation), following(generation)
    assert one.known is None
    made = await one.placement()
    assert (made.mode, made.size, made.why("room:general")) == ("auto", 2, "public")
    assert await two.placement() == made == await generation.read()


async def test_one_look_for_all_who_ask_meanwhile(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = following(generation)
    await mine.placement()
    asked = 0
    number = generation.number

    async def counted() -> int:
        nonlocal asked
        asked += 1
        return await number()

    monkeypatch.setattr(generation, "number", counted)
    found = await asyncio.gather(*(mine.newest() for _ in range(10)))
    assert asked == 1 and len({each.number for each in found}) == 1


async def test_who_stops_waiting_does_not_end_the_look_of_others(
    generation: Generation,
) -> None:
    mine = following(generation)
    first = asyncio.ensure_future(mine.newest())
    second = asyncio.ensure_future(mine.newest())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).mode == "auto"


async def test_a_change_by_others_is_followed_and_said(
    generation: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    told = asyncio.Event()
    mine = Following(generation, SEED, told.set)
    before = await mine.placement()
    running = asyncio.create_task(mine.run())
    name = fresh_room()
    told.clear()
    await generation.pin(name)
    async with patience.within(10.0):
        await told.wait()
    running.cancel()
    pool = before.actor_of(name)
    assert mine.known is not None and mine.known.actor_of(name) == name
    assert f"{name} moves from {pool} to {name}: pinned" in caplog.text


async def test_what_storage_has_lost_goes_on_above_what_is_known(
    generation: Generation, log: ValkeyLog
) -> None:
    mine = following(generation)
    name = fresh_room()
    pinned = await mine.change(generation.pin(name))
    await log.execute([("DEL", keys.log(NAME))])
    again = await mine.newest()
    assert again.number > pinned.number and again.own == pinned.own
    assert await generation.read() == again


async def test_an_older_answer_changes_nothing(generation: Generation) -> None:
    mine = following(generation)
    await mine.placement()
    newest = await mine.change(generation.pin(fresh_room()))

    async def late() -> Placement:
        return Placement("pooled", 1, newest.number - 1)

    assert await mine.change(late()) == newest == mine.known


async def test_it_tells_when_another_cluster_has_what_this_one_had(
    generation: Generation,
) -> None:
    blue = Following(generation, SEED._replace(cluster="blue"), lambda: None)
    await blue.placement()
    green = Following(generation, SEED._replace(cluster="green"), lambda: None)
    green.stand_by(await generation.hand_to("blue"))
    await generation.pin(fresh_room())
    for each in (blue, green):
        await each.newest()
    assert not blue.handed.is_set(), "that only says whose it is"
    assert not green.handed.is_set(), "it never had any"
    taken = await green.change(generation.hand_to("green"))
    assert (await blue.newest()) == taken
    assert blue.handed.is_set() and not green.handed.is_set()
    await generation.hand_to("blue")
    await green.newest()
    assert green.handed.is_set()
