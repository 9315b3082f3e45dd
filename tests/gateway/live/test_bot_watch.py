"""When a gateway asks for a rotation and what it tells the registry, hour by hour."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import valkey

from cfmessenger.accounts.users import Directory
from cfmessenger.bots import DIRECTOR, inbox
from cfmessenger.bots.inbox import RotationDue
from cfmessenger.chat.effects import Published, decode_notification
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey
from gateway.live import bots as bots_module
from gateway.live.bots import BotWatch

BOT = Directory.load().bots[0]
HOUR_MS = 3_600_000


class Object:
    """Something that is told things, and takes them or does not."""

    def __init__(self, decode: Callable[[bytes], object]) -> None:
        self.decode = decode
        self.epoch = 1
        self.told: list[object] = []
        self.problem: Exception | None = None

    def notify(self, payload: bytes, *, once: bool) -> asyncio.Future[None]:
        assert not once, "it may well be said twice"
        self.told.append(self.decode(payload))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.problem is None:
            done.set_result(None)
        else:
            done.set_exception(self.problem)
        return done


class Hours(Clock):
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = 1000 * HOUR_MS

    def now(self) -> int:
        return self.at


class Desk:
    """A watch over a real Valkey, a look at a time."""

    def __init__(self, url: str) -> None:
        self.director, self.registry = Object(inbox.decode), Object(decode_notification)
        self.watching = True
        self.clock = Hours()
        self.kv = Valkey(url)
        self._watch = BotWatch(self.kv, Directory.load(), self, self.clock)

    def object(self, name: str) -> Object:
        assert name == DIRECTOR
        return self.director

    def watched(self) -> Object | None:
        return self.registry if self.watching else None

    async def looks(self, times: int = 1) -> None:
        for _ in range(times):
            await self._watch._look()
            await asyncio.sleep(0)  # whoever was told has said so

    @property
    def asked(self) -> int:
        assert all(type(each) is RotationDue for each in self.director.told)
        return len(self.director.told)

    @property
    def told(self) -> list[int]:
        """How many bots the registry was told of, each time."""
        assert all(type(each) is Published for each in self.registry.told)
        return [len(each.shown) for each in self.registry.told]  # type: ignore[attr-defined]


@pytest.fixture
async def desk(
    empty_valkey: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setattr(bots_module, "JITTER_S", 0.0)
    made = Desk(empty_valkey)
    yield made
    made.kv.close()


@pytest.fixture
def rotate(admin_valkey: valkey.Valkey) -> Callable[[], object]:
    return lambda: admin_valkey.sadd(keys.BOTS_ACTIVE, BOT.id)


async def test_it_asks_at_its_start_and_when_an_hour_begins(
    desk: Desk, rotate: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate()
    await desk.looks(3)
    assert desk.asked == 1
    desk.clock.at += HOUR_MS - 1
    await desk.looks(3)
    assert desk.asked == 1
    monkeypatch.setattr(desk._watch, "_rested_until", 0.0)  # the minute is long over
    desk.clock.at += 1
    await desk.looks(3)
    assert desk.asked == 2


async def test_with_nobody_there_it_asks_again_but_not_every_second(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.looks(5)
    assert desk.asked == 1
    monkeypatch.setattr(desk._watch, "_rested_until", 0.0)
    await desk.looks(5)
    assert desk.asked == 2


async def test_a_director_that_is_not_reached_is_asked_again_soon(
    desk: Desk, rotate: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.director.problem = Unavailable()
    rotate()
    await desk.looks(3)
    assert desk.asked == 1
    desk.director.problem = None
    rests = desk._watch._rested_until - asyncio.get_running_loop().time()
    assert rests <= bots_module.RETRY_S < bots_module.ASK_EVERY_S
    monkeypatch.setattr(desk._watch, "_rested_until", 0.0)
    await desk.looks(3)
    assert desk.asked == 2


async def test_switched_off_nobody_is_asked(
    desk: Desk, admin_valkey: valkey.Valkey
) -> None:
    admin_valkey.set(keys.BOT_ENABLED, "0")
    await desk.looks(3)
    assert desk.asked == 0
    admin_valkey.set(keys.BOT_ENABLED, "1")
    await desk.looks()
    assert desk.asked == 1


async def test_the_registry_is_told_what_is_news_and_in_each_life(
    desk: Desk, rotate: Callable[[], object]
) -> None:
    await desk.looks(3)
    assert desk.told == [0]
    rotate()
    await desk.looks(3)
    assert desk.told == [0, 1]
    desk.registry.epoch += 1
    await desk.looks(3)
    assert desk.told == [0, 1, 1]


async def test_who_has_no_watchers_tells_nothing_and_then_anew(
    desk: Desk, rotate: Callable[[], object]
) -> None:
    rotate()
    desk.watching = False
    await desk.looks(2)
    assert desk.told == []
    desk.watching = True
    await desk.looks(2)
    desk.watching = False
    await desk.looks()
    desk.watching = True
    await desk.looks(2)
    assert desk.told == [1, 1], "others may have told it something else meanwhile"


async def test_a_registry_that_did_not_take_it_is_told_again(
    desk: Desk, rotate: Callable[[], object]
) -> None:
    rotate()
    desk.registry.problem = Unavailable()
    await desk.looks(2)
    desk.registry.problem = None
    await desk.looks(3)
    assert desk.told == [1, 1, 1]
