"""The warm pool asks for little, waits its turn, and never harms who does without."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from actors import warm_pool
from actors.warm_pool import BURST, WarmPool
from tests import patience

Check = Callable[[], bool]


class Raylet:
    """A raylet as the pool sees it, whose workers are ready at once, or never."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.ready = 0
        self.asked: list[int] = []
        self.broken: Exception | None = None

    def idle(self) -> int:
        if self.broken:
            raise self.broken
        return self.ready

    def starting(self) -> int:
        return 0

    def prestart(self, count: int) -> None:
        self.asked.append(count)
        self.ready += count if self.works else 0


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_EVERY_S", "AFTER_CREATION_S", "AFTER_ASKING_S", "FIRST_RETRY_S"):
        monkeypatch.setattr(warm_pool, name, 0.001)


@pytest.fixture
def raylet(monkeypatch: pytest.MonkeyPatch) -> Raylet:
    made = Raylet()
    monkeypatch.setattr(warm_pool, "_Raylet", lambda: made)
    return made


async def running(pool: WarmPool, scenario: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(pool.run())
    try:
        await scenario()
        assert not task.done()
    finally:
        task.cancel()


async def until(check: Check) -> None:
    async with patience.within(5):
        while not check():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.001)


async def test_what_is_missing_is_asked_for(raylet: Raylet) -> None:
    pool = WarmPool(2)

    async def scenario() -> None:
        await until(lambda: raylet.asked == [2])
        raylet.ready -= 1
        await until(lambda: raylet.asked == [2, 1])

    await running(pool, scenario)


async def test_an_actor_that_is_being_made_goes_first(raylet: Raylet) -> None:
    pool = WarmPool(2)

    async def scenario() -> None:
        with pool.creation():
            await asyncio.sleep(0.05)
            assert raylet.asked == []
        await until(lambda: raylet.asked == [2])

    await running(pool, scenario)


async def test_it_is_full_when_none_is_missing_and_nobody_is_about_to_take_one(
    raylet: Raylet,
) -> None:
    pool = WarmPool(2)

    async def scenario() -> None:
        await pool.full(5.0)
        assert raylet.ready == 2
        with pool.creation():
            raylet.ready -= 1
        full = asyncio.create_task(pool.full(5.0))
        await asyncio.sleep(0)
        assert not full.done()
        await full
        assert raylet.asked == [2, 1]

    await running(pool, scenario)


async def test_who_waits_for_workers_that_never_come_waits_no_longer_than_it_says(
    raylet: Raylet,
) -> None:
    raylet.works = False
    pool = WarmPool(2)

    async def scenario() -> None:
        await pool.full(0.05)
        assert raylet.ready == 0

    await running(pool, scenario)
    await WarmPool(0).full(3600.0)


async def test_workers_that_never_come_are_not_asked_for_for_ever(
    raylet: Raylet,
) -> None:
    raylet.works = False
    pool = WarmPool(2)

    async def scenario() -> None:
        await until(lambda: sum(raylet.asked) == 2 * BURST)
        await asyncio.sleep(0.05)
        assert sum(raylet.asked) == 2 * BURST
        with pool.creation():
            pass  # has taken one, from whatever there was
        await until(lambda: sum(raylet.asked) == 2 * BURST + 1)

    await running(pool, scenario)


async def test_a_raylet_that_fails_is_one_line_and_another_try(
    raylet: Raylet, caplog: pytest.LogCaptureFixture
) -> None:
    raylet.broken = RuntimeError("no\nmore")
    pool = WarmPool(1)

    async def scenario() -> None:
        await until(lambda: bool(caplog.records))
        await asyncio.sleep(0.05)
        with pool.creation():
            pass  # whoever makes an actor does not notice
        raylet.broken = None
        await until(lambda: raylet.asked == [1])

    with caplog.at_level(logging.WARNING, "cfmessenger.warm_pool"):
        await running(pool, scenario)
    (record,) = caplog.records
    assert record.getMessage() == "no warm workers for now: RuntimeError: no"


async def test_without_a_driver_it_is_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        await until(lambda: bool(caplog.records))
        await asyncio.sleep(0.05)

    with caplog.at_level(logging.WARNING, "cfmessenger.warm_pool"):
        await running(WarmPool(1), scenario)
    (record,) = caplog.records
    assert "no driver" in record.getMessage()


async def test_another_ray_is_not_guessed_at(
    raylet: Raylet,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm_pool, "RAY_VERSIONS", ("1.0",))
    async with patience.within(5):
        await WarmPool(2).run()
    assert raylet.asked == []
    assert "not known to work with Ray" in caplog.text


async def test_no_pool_is_no_pool(raylet: Raylet) -> None:
    async with patience.within(5):
        await WarmPool(0).run()
    assert raylet.asked == []
