"""A copy of Valkey: what is in it, of which moment, and what putting it back does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import valkey

from cfmessenger.storage import copying, keys
from cfmessenger.storage.copying import JUMP, Busy, Item, NotEmpty, Restore, Restored
from cfmessenger.storage.log import Commit, Fenced, ValkeyLog
from cfmessenger.storage.valkey import Valkey
from tests.conftest import ADMIN, own_valkey, url_of

ROOM = "room:general"


@pytest.fixture
def servers() -> Iterator[tuple[Path, Path]]:
    """Two that are empty: one that is copied, one that is restored to."""
    with ExitStack() as started:
        yield (
            started.enter_context(own_valkey()),
            started.enter_context(own_valkey()),
        )


class Place:
    """One of them, by the product's user, the backup's and an administrator."""

    def __init__(self, socket: Path) -> None:
        self.log = ValkeyLog(url_of(socket), 10_000)
        self.backup = Valkey(url_of(socket, "backup"))
        self.admin = valkey.Valkey(
            unix_socket_path=str(socket), username=ADMIN, password="-"
        )

    async def say(self, name: str, *events: bytes) -> int:
        """In a new life of the object; its epoch."""
        life = await self.log.activate(name)
        start = max(life.seq, life.numbered) + 1
        said = [(start + n, event) for n, event in enumerate(events)]
        assert await self.log.commit([Commit(name, life.epoch, said)]) == [None]
        return life.epoch

    async def events(self, name: str) -> list[tuple[int, bytes]]:
        return await self.log.page(name, None, 1000)

    def close(self) -> None:
        self.log.close()
        self.backup.close()
        self.admin.close()


@pytest.fixture
async def places(servers: tuple[Path, Path]) -> AsyncIterator[tuple[Place, Place]]:
    both = Place(servers[0]), Place(servers[1])
    yield both
    for each in both:
        each.close()


async def copy(place: Place) -> list[Item]:
    return [item async for item in copying.copied(place.backup)]


async def restore(place: Place, items: list[Item], replace: bool = False) -> Restored:
    running = Restore(place.backup)
    await running.begin(replace)
    for item in items:
        await running.put([item])
    return await running.end()


async def test_what_was_said_is_said_and_numbered_on_beyond_every_older_epoch(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    await source.say(ROOM, b"1", b"2")
    epoch = await source.say(ROOM, b"3")
    await source.log.save(ROOM, epoch, b"mirror", final=True)
    await source.say("presence:global", b"p")
    done = await restore(target, await copy(source))
    assert (done.objects, done.clipped) == (2, 0)
    assert await target.events(ROOM) == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert await target.log.mirror(ROOM) == b"mirror"
    # An actor of before, that has lived on or even taken epochs since:
    old = Commit(ROOM, epoch + JUMP - 1, [(4, b"late")])
    [outcome] = await target.log.commit([old])
    assert isinstance(outcome, Fenced)
    life = await target.log.activate(ROOM)
    assert life.epoch == epoch + JUMP + 1 and life.seq == 3
    # It did not go to sleep in that epoch: what it held is as after a crash.
    assert life.mirror is not None and life.mirror.epoch != life.previous_epoch
    assert await target.log.commit([Commit(ROOM, life.epoch, [(4, b"4")])]) == [None]


async def test_log_mirror_and_read_marks_are_of_one_moment(
    places: tuple[Place, Place],
) -> None:
    """While a room is written to: its mirror knows no more than its log."""
    source, target = places
    stop = asyncio.Event()
    life = await source.log.activate(ROOM)
    said = 0

    async def talk() -> None:
        nonlocal said
        while not stop.is_set():
            seq = said + 1
            text = b"%d" % seq
            assert await source.log.commit([Commit(ROOM, life.epoch, [(seq, text)])])
            await source.log.save(ROOM, life.epoch, text, final=False)
            await source.log.ask("ZADD", keys.reads(ROOM), "GT", seq, "user_1")
            said = seq

    async with asyncio.TaskGroup() as group:
        group.create_task(talk())
        for _ in range(20):
            before = said
            [room] = await copy(source)
            await restore(target, [room], replace=True)
            events = await target.events(ROOM)
            top = events[-1][0] if events else 0
            assert [seq for seq, _ in events] == list(range(1, top + 1))
            assert before <= top == room.seq
            mirror = int(await target.log.mirror(ROOM) or b"0")
            read = target.admin.zscore(keys.reads(ROOM), "user_1") or 0
            assert read <= mirror <= top  # type: ignore[operator]
            assert mirror >= top - 1, "the copy is old"
        stop.set()


async def test_nobody_has_read_what_is_not_there(places: tuple[Place, Place]) -> None:
    source, target = places
    await source.say(ROOM, b"1", b"2")
    marks = {"user_1": 1, "user_2": 2, "user_3": 7}
    source.admin.zadd(keys.reads(ROOM), marks)
    done = await restore(target, await copy(source))
    assert done.clipped == 1
    assert dict(target.admin.zrange(keys.reads(ROOM), 0, -1, withscores=True)) == {
        b"user_1": 1.0,
        b"user_2": 2.0,
        b"user_3": 2.0,
    }


async def test_no_session_comes_back_nor_who_was_here(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    for start in copying.LEFT_OUT:
        source.admin.set(f"{start}x", "1")
    source.admin.set("cfm:config:bot_enabled", "0")
    source.admin.set("other:key", "1")
    source.admin.zadd(keys.user_rooms("user_1"), {"dm_x": 1})
    done = await restore(target, await copy(source))
    there = {key.decode() for key in target.admin.keys("*")}
    assert there == {keys.BOT_ENABLED, keys.user_rooms("user_1")}
    assert done.others == 2


async def test_what_ends_by_itself_ends_at_the_same_moment(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    soon = int(time.time() * 1000) + 100
    source.admin.set("cfm:turnstile:a", "1", pxat=soon + 60_000)
    source.admin.set("cfm:turnstile:b", "1", pxat=soon)
    items = await copy(source)
    assert len(items) == 2
    while time.time() * 1000 <= soon:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await restore(target, items)
    assert target.admin.pexpiretime("cfm:turnstile:a") == soon + 60_000
    assert target.admin.get("cfm:turnstile:b") is None


async def test_every_restore_goes_on_above_all_numbers_that_were_used(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    await source.say(ROOM, b"1", b"2")
    items = await copy(source)
    highest = 2
    for replace in (False, True, True):
        before = time.time_ns() // 1_000_000
        await restore(target, items, replace)
        life = await target.log.activate(ROOM)
        assert life.seq == 2, "the events are as they were"
        assert life.numbered > highest and life.numbered >= before
        highest = life.numbered + 1
        said = [Commit(ROOM, life.epoch, [(highest, b"more")])]
        assert await target.log.commit(said) == [None]
    target.admin.flushall()
    await restore(target, items)
    assert (await target.log.activate(ROOM)).numbered > highest, "it is forgotten there"


async def test_something_that_is_there_is_not_replaced_unasked(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    await source.say(ROOM, b"1")
    await target.say(ROOM, b"a", b"b")
    items = await copy(source)
    with pytest.raises(NotEmpty):
        await restore(target, items)
    assert len(await target.events(ROOM)) == 2
    assert target.admin.get(keys.OWNER) is None


async def test_what_is_replaced_is_gone_and_its_actors_are_fenced(
    places: tuple[Place, Place],
) -> None:
    source, target = places
    await source.say(ROOM, b"1")
    newer = [await target.say("room:later", b"x") for _ in range(3)][-1]
    ahead = [await target.say(ROOM, b"x") for _ in range(9)][-1]
    target.admin.set("cfm:session:x", "1")
    await restore(target, await copy(source), replace=True)
    assert target.admin.get("cfm:session:x") is None
    assert await target.events(ROOM) == [(1, b"1")]
    assert await target.events("room:later") == []
    late = [
        Commit(ROOM, ahead + JUMP - 1, [(99, b"late")]),
        Commit("room:later", newer + JUMP - 1, [(99, b"late")]),
    ]
    assert [type(each) for each in await target.log.commit(late)] == [Fenced, Fenced]


async def test_a_server_that_is_used_is_refused(places: tuple[Place, Place]) -> None:
    target = places[1]
    target.admin.set(keys.OWNER, b'{"id":"a","name":"blue"}', px=10_000)
    with pytest.raises(Busy, match="blue"):
        await restore(target, [], replace=True)
    target.admin.delete(keys.OWNER)
    target.admin.zadd(keys.GATEWAYS, {"g": int(time.time() * 1000)})
    with pytest.raises(Busy, match="1 gateways"):
        await restore(target, [], replace=True)
    assert target.admin.get(keys.OWNER) is None


async def test_on_a_half_of_a_restore_no_messenger_starts(
    places: tuple[Place, Place],
) -> None:
    """It died; it is to be run again, and needs not be told that something is there."""
    source, target = places
    await source.say(ROOM, b"1")
    items = await copy(source)
    dead = Restore(target.backup)
    await dead.begin(False)
    await dead.put(items)
    assert target.admin.ttl(keys.OWNER) == -1
    await restore(target, items)
    assert await target.events(ROOM) == [(1, b"1")]
    assert target.admin.get(keys.OWNER) is None
