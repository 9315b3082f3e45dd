"""Pools: one actor process for many rooms, its own fence, and rooms that move."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from msgspec import structs

from actors import ownership
from actors.host import Host
from actors.host_settings import HostSettings
from actors.pace import Pace
from cfmessenger.chat.crowd import Crowd
from cfmessenger.link import messages as link
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME
from cfmessenger.storage.log import Top, ValkeyLog
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import (
    Visitor,
    attachment,
    chat,
    fresh_room,
    register,
    until,
)

POOL = Placement("pooled", 2, 10**6)
"""Newer than what any other suite has left in the key."""

Launch = Callable[..., Awaitable[Host]]

QUICK = Pace(tick_s=0.01)
"""A host that looks around more often than once in half a second."""


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    await register(log, "gA", "gB")
    yield log
    log.close()


async def generation_is(log: ValkeyLog, placement: Placement) -> None:
    """Store it, as whoever changes it does."""
    entry, body = f"{placement.number}-0", msgspec.json.encode(placement)
    await log.ask("XADD", keys.log(NAME), "MAXLEN", "=", "1", entry, "e", body)


class Ends:
    """Why each host's process ended."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.news = asyncio.Event()

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self.news.set()

    async def until(self, *reasons: str) -> None:
        await until(lambda: len(self.reasons) >= len(reasons), self.news)
        assert self.reasons == list(reasons)


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
async def launch(valkey_url: str, log: ValkeyLog, ends: Ends) -> AsyncIterator[Launch]:
    hosts: list[Host] = []

    async def launch(actor: str, placement: Placement = POOL, **more: object) -> Host:
        plain = HostSettings(valkey_url, 10_000, 3600.0, (0, 1), (0, 1), pace=QUICK)
        settings = msgspec.structs.replace(
            plain, actor=actor, placement=placement, **more
        )
        host = Host(settings, ends)
        hosts.append(host)
        await host.start()
        return host

    yield launch
    for host in hosts:
        await host.kill()
    await log.execute([("DEL", keys.log(NAME))])


def room_of(placement: Placement, actor: str) -> str:
    """A fresh room that lives in this actor."""
    while placement.actor_of(name := fresh_room()) != actor:
        pass
    return name


def next_of(placement: Placement, size: int, mode: str = "pooled") -> Placement:
    return msgspec.structs.replace(
        placement, mode=mode, size=size, number=placement.number + 1
    )


def mover(before: Placement, after: Placement) -> tuple[str, str]:
    """A fresh room that moves, and the actor it leaves."""
    while before.actor_of(name := fresh_room()) == after.actor_of(name):
        pass
    return name, before.actor_of(name)


async def entered(host: Host, gateway: str, *names: str) -> Caller:
    """A gateway with one socket in each of these rooms."""
    caller = await Caller.open(host.address("x"), gateway)
    for n, name in enumerate(names):
        caller.enter(name, f"{gateway}.{n}")
        await caller.visitor.until_covered()
    return caller


# Its own fence.


async def test_it_takes_its_own_epoch_at_its_start(
    launch: Launch, log: ValkeyLog
) -> None:
    before = await log.epoch("rooms:0")
    await launch("rooms:0")
    assert await log.epoch("rooms:0") == before + 1
    await launch("rooms:1")
    assert await log.epoch("rooms:0") == before + 1


async def test_the_second_of_a_name_supersedes_the_first(
    launch: Launch, log: ValkeyLog, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its rooms end at once, though nobody has woken them elsewhere."""
    monkeypatch.setattr(ownership, "SPREADING_S", 0.0)
    names = [room_of(POOL, "rooms:0") for _ in range(5)]
    first = await launch("rooms:0")
    caller = await entered(first, "gA", *names)
    await launch("rooms:0")
    await caller.until_ended()
    await ends.until("duplicate_activation")
    goodbyes = caller.visitor.goodbyes
    assert {each.object for each in goodbyes} == set(names)
    assert {each.reason for each in goodbyes} == {"duplicate_activation"}
    assert [await log.mirror(name) for name in names] == [None] * 5
    assert first.links.closed


async def test_its_look_is_one_read_however_many_rooms(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "SPREADING_S", 0.0)
    asked: list[list[str]] = []
    looked = asyncio.Event()
    looks = ValkeyLog.looks

    async def spy(self: ValkeyLog, names: list[str]) -> list[Top]:
        asked.append(list(names))
        looked.set()
        return await looks(self, names)

    host = await launch("rooms:0")
    caller = await entered(host, "gA", *(room_of(POOL, "rooms:0") for _ in range(4)))
    monkeypatch.setattr(ValkeyLog, "looks", spy)
    await until(lambda: len(asked) >= 2, looked)
    assert asked[-1] == [NAME, "rooms:0"]
    caller.close()


async def test_while_a_generation_spreads_it_looks_at_each_room(
    launch: Launch, log: ValkeyLog
) -> None:
    one, two = room_of(POOL, "rooms:0"), room_of(POOL, "rooms:0")
    host = await launch("rooms:0")
    caller = await entered(host, "gA", one, two)
    await log.activate(one)
    goodbye = await caller.visitor.until_goodbye("duplicate_activation")
    assert goodbye.object == one
    assert list(host.objects) == [two]
    assert not host.leaving
    caller.close()


# Somebody who knows of a later life.


async def test_an_attach_that_knows_a_higher_epoch_ends_the_older_life(
    launch: Launch, log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever attached is told, or it would wait here for ever."""
    monkeypatch.setattr(ownership, "SPREADING_S", 0.0)
    name = room_of(POOL, "rooms:0")
    host = await launch("rooms:0")
    caller = await entered(host, "gA", name)
    later = (await log.activate(name)).epoch
    knowing = await Caller.open(host.address("x"), "gB")
    v = knowing.visitor
    knowing.say(v.attach(name, "gB.1", seq=0, epoch=later))
    goodbye = await v.until_goodbye("duplicate_activation")
    assert (goodbye.epoch, goodbye.covered) == (0, 0), "nothing was done for it"
    await caller.visitor.until_goodbye("duplicate_activation")
    assert v.outputs == []
    assert host.objects == {}

    knowing.say(v.attach(name, "gB.1", seq=0, epoch=later))
    knowing.chat(name, "gB.1", "the next life")
    await v.until_covered()
    assert v.outputs[-1].epoch == later + 1
    for each in (caller, knowing):
        each.close()


async def test_who_waits_behind_one_that_knows_more_than_storage_is_told_too(
    launch: Launch, log: ValkeyLog
) -> None:
    """Both came before the room was loaded, and nobody lived since."""
    name = room_of(POOL, "rooms:0")
    host = await launch("rooms:0")
    knowing = await Caller.open(host.address("x"), "gA")
    plain = await Caller.open(host.address("x"), "gB")
    plain.say(link.Ping(1))  # behind its proof, which is read by then
    await plain.visitor.until(lambda: plain.pongs == [1])
    # In one turn each, before the start's first answer from Valkey.
    knowing.say(knowing.visitor.attach(name, "gA.1", seq=0, epoch=99))
    plain.enter(name, "gB.1")
    for each in (knowing, plain):
        await each.visitor.until_goodbye("damage")
        assert each.visitor.outputs == []
    plain.enter(name, "gB.2")
    await plain.visitor.until_covered()
    assert plain.visitor.outputs[-1].epoch == 100
    for each in (knowing, plain):
        each.close()


# Rooms that move.


@pytest.mark.parametrize("mode", ["pooled", "dedicated"])
async def test_what_moves_is_mirrored_and_says_so(
    launch: Launch, log: ValkeyLog, mode: str
) -> None:
    after = next_of(POOL, 3, mode)
    name, actor = mover(POOL, after)
    host = await launch(actor)
    caller = await entered(host, "gA", name)
    caller.chat(name, "gA.0", "before")
    await caller.visitor.until_covered()
    host.place(after)
    goodbye = await caller.visitor.until_goodbye("moved")
    assert goodbye == link.Goodbye(name, 1, caller.visitor.n, "moved")
    found = await log.activate(name)
    assert found.mirror is not None
    assert (found.mirror.epoch, found.mirror.final) == (1, True)
    if not after.has(actor):
        await caller.until_ended()
        return
    caller.say(caller.visitor.attach(name, "gA.0", seq=1, epoch=1))
    await caller.visitor.until(lambda: len(caller.visitor.goodbyes) == 2)
    assert caller.visitor.goodbyes[-1] == link.Goodbye(name, 0, 0, "moved")
    caller.close()


async def test_what_stays_notices_nothing(launch: Launch) -> None:
    after = next_of(POOL, 3)
    goes, actor = mover(POOL, after)
    stays = room_of(POOL, actor)
    while after.actor_of(stays) != actor:
        stays = room_of(POOL, actor)
    host = await launch(actor)
    caller = await entered(host, "gA", goes, stays)
    host.place(after)
    await caller.visitor.until_goodbye("moved")
    caller.chat(stays, "gA.1", "still here")
    await caller.visitor.until_covered()
    assert caller.visitor.chats("gA.1") == [(1, "still here")]
    assert [each.object for each in caller.visitor.goodbyes] == [goes]
    assert list(host.objects) == [stays]
    caller.close()


async def test_under_constant_talk_it_moves_and_hands_over_the_rest(
    launch: Launch, log: ValkeyLog
) -> None:
    """Its gate is never idle: parting takes nothing more."""
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    host, other = await launch(actor), await launch(after.actor_of(name), after)
    caller = await entered(host, "gA", name)
    v = caller.visitor
    said: list[link.Said] = []
    loop = asyncio.get_running_loop()

    def talk() -> None:
        if not v.goodbyes:
            batch = [v.chat("gA.0", str(v.n + 1)) for _ in range(3)]
            said.extend(batch)
            caller.say(link.Inputs(name, list[link.Input](batch)))
            loop.call_later(0.0005, talk)

    talk()
    await v.until(lambda: v.covered > 30)
    host.place(after)
    await v.until(lambda: bool(v.goodbyes))
    goodbye = v.goodbyes[0]  # what came too late is answered with another
    assert (goodbye.epoch, goodbye.reason) == (1, "moved")
    assert goodbye.covered == v.covered > 30
    assert await log.mirror(name) is not None

    rest = [each for each in said if each.n > goodbye.covered]
    there = await Caller.open(other.address("x"), "gA")
    w = there.visitor
    w.n, w.rested = v.n, goodbye.epoch
    seq = v.chats("gA.0")[-1][0]
    there.say(w.attach(name, "gA.0", seq=seq, epoch=1, covered=goodbye.covered))
    there.say(link.Inputs(name, list[link.Input](rest)))
    await w.until_covered()
    await w.until(lambda: len(v.chats("gA.0")) + len(w.chats("gA.0")) == len(said))
    stored = await log.after(name, 0, 10_000)
    assert [entry.seq for entry in stored] == list(range(1, len(said) + 1))
    texts = [msgspec.json.decode(entry.event)["content"] for entry in stored]
    assert texts == [str(each.n) for each in said], "each once, and in order"
    assert v.chats("gA.0") + w.chats("gA.0") == list(enumerate(texts, 1))
    for each in (caller, there):
        each.close()


async def test_whoever_has_just_come_is_told_who_is_there_before_it_moves(
    launch: Launch, log: ValkeyLog
) -> None:
    """A list of people is on its way for 50 ms, and nobody returns for it."""
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    host = await launch(actor)
    caller = await entered(host, "gA", name)
    v = caller.visitor
    assert names(v, "gA.0") == set()
    host.place(after)
    assert (await v.until_goodbye("moved")).epoch == 1
    assert names(v, "gA.0") == {"gA.0"}
    caller.close()


async def test_they_go_in_batches(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = next_of(POOL, 1, "dedicated")
    host = await launch("rooms:0", pace=Pace(tick_s=0.01, at_once=4))
    names = [room_of(POOL, "rooms:0") for _ in range(10)]
    caller = await entered(host, "gA", *names)
    left: list[int] = []
    put_to_sleep = host._put_to_sleep

    async def spy(now: float) -> None:
        await put_to_sleep(now)
        left.append(len(host.objects))

    monkeypatch.setattr(host, "_put_to_sleep", spy)
    host.place(after)
    await caller.visitor.until(lambda: len(caller.visitor.goodbyes) == 10)
    assert [n for n in left if n < 10] == [6, 2, 0][: len([n for n in left if n < 10])]
    assert 6 in left and 2 in left
    assert {each.reason for each in caller.visitor.goodbyes} == {"moved"}
    caller.close()


async def test_a_room_that_is_loading_moves_as_soon_as_it_can(
    launch: Launch, log: ValkeyLog
) -> None:
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    host = await launch(actor)
    caller = await Caller.open(host.address("x"), "gA")
    caller.enter(name, "gA.0")
    await caller.visitor.until(lambda: name in host.objects)
    host.place(after)
    goodbye = await caller.visitor.until_goodbye("moved")
    # Whether it was loaded in time to take the input or not.
    assert goodbye.covered in (0, 1)
    assert host.objects == {}
    caller.close()


def names(visitor: Visitor, conn: str) -> set[str]:
    """Whose sockets the newest list of people is of, as this one sees it."""
    lists = [f for f in visitor.seen(conn) if f["type"] == "participants"]
    people = lists[-1]["participants"] if lists else []
    return {who["id"].removeprefix("user_").replace("_", ".") for who in people}


async def test_who_moves_says_that_a_crowd_is_still_to_be_told(
    launch: Launch, log: ValkeyLog
) -> None:
    """Nobody speaks there: all would go on to see who has left."""
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    host = await launch(actor, crowd=Crowd(above=1, tick_ms=3_600_000))
    caller = await Caller.open(host.address("x"), "gA")
    visitor = caller.visitor
    caller.enter(name, "gA.0")
    opened = [visitor.opened("gA.1"), visitor.opened("gA.2")]
    caller.say(link.Inputs(name, [*opened]))
    await visitor.until(lambda: bool(names(visitor, "gA.2")))
    caller.say(link.Inputs(name, [visitor.closed("gA.2")]))
    await visitor.until_covered()
    host.place(after)
    goodbye = await visitor.until_goodbye("moved")
    assert goodbye == link.Goodbye(name, 1, visitor.n, "moved", due=True)
    there = await launch(after.actor_of(name), after, crowd=Crowd(above=1, tick_ms=50))
    again = await Caller.open(there.address("x"), "gA")
    attach = again.visitor.attach(
        name, "gA.0", "gA.1", seq=0, epoch=1, covered=visitor.n
    )
    again.say(structs.replace(attach, rested=1))
    await again.visitor.until(lambda: bool(names(again.visitor, "gA.0")))
    assert again.visitor.seen("gA.0")[-1]["total"] == 2
    for each in (caller, again):
        each.close()


async def test_what_moves_soon_after_a_crash_hands_over_no_roster(
    launch: Launch, log: ValkeyLog
) -> None:
    """Not all who hold sockets there are back yet: those come back, and do not join."""
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    crashed = await launch(actor)
    one, two = [await entered(crashed, gateway, name) for gateway in ("gA", "gB")]
    await crashed.kill()
    for each in (one, two):
        await each.until_ended()

    host = await launch(actor)
    back = await Caller.open(host.address("x"), "gB")
    back.say(back.visitor.attach(name, "gB.0", seq=0, epoch=1, covered=1, replay=1))
    await back.visitor.until(lambda: bool(back.visitor.outputs))
    host.place(after)
    await back.visitor.until(lambda: bool(back.visitor.goodbyes))
    assert back.visitor.goodbyes[0].reason == "moved"

    there = await launch(after.actor_of(name), after)
    late, again = [await Caller.open(there.address("x"), g) for g in ("gA", "gB")]
    for each, epoch, rested in ((again, 2, 2), (late, 1, 0)):
        v, conn = each.visitor, f"{each.visitor.gateway}.0"
        v.rested = rested
        each.say(v.attach(name, conn, seq=0, epoch=epoch, covered=1, replay=1))
        await v.until(lambda v=v: bool(v.outputs))
    for each in (again, late):
        v, conn = each.visitor, f"{each.visitor.gateway}.0"
        await v.until(lambda v=v, conn=conn: names(v, conn) == {"gA.0", "gB.0"})
        assert "system" not in v.kinds(conn)
    for each in (back, late, again):
        each.close()


# What it follows.


async def test_it_reads_the_generation_by_itself(
    launch: Launch, log: ValkeyLog
) -> None:
    after = next_of(POOL, 1)
    name, actor = mover(POOL, after)
    host = await launch(actor)
    caller = await entered(host, "gA", name)
    await generation_is(log, after)
    await caller.visitor.until_goodbye("moved")
    assert host.placement == after
    caller.close()


@pytest.mark.parametrize("number", [POOL.number, POOL.number - 1])
async def test_an_older_generation_is_not_followed(launch: Launch, number: int) -> None:
    host = await launch("rooms:1")
    name = room_of(POOL, "rooms:1")
    caller = await entered(host, "gA", name)
    host.place(Placement("dedicated", 1, number))
    caller.chat(name, "gA.0", "here")
    await caller.visitor.until_covered()
    assert host.placement == POOL
    assert caller.visitor.goodbyes == []
    caller.close()


async def test_a_pool_without_a_part_leaves(launch: Launch, ends: Ends) -> None:
    name = room_of(POOL, "rooms:1")
    host = await launch("rooms:1")
    caller = await entered(host, "gA", name)
    await launch("rooms:0")
    host.place(next_of(POOL, 1))
    await caller.until_ended()
    assert caller.visitor.goodbyes[-1].reason == "moved"
    await ends.until("moved")


async def test_a_pool_with_a_part_stays_though_it_is_empty(
    launch: Launch, ends: Ends
) -> None:
    host = await launch("rooms:1", hibernate_after=0.02)
    caller = await entered(host, "gA", room_of(POOL, "rooms:1"))
    await caller.visitor.until_goodbye("idle")
    looked = host._ownership._read_at
    async with patience.within(5):
        while host._ownership._read_at < looked + 0.1:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    assert not host.leaving and ends.reasons == []
    caller.close()


async def test_a_dedicated_room_moves_into_a_pool_and_its_process_ends(
    launch: Launch, ends: Ends, log: ValkeyLog
) -> None:
    dedicated = Placement("dedicated", 1, POOL.number)
    after, name = next_of(POOL, 2), fresh_room()
    host, pool = (
        await launch(name, dedicated),
        await launch(after.actor_of(name), after),
    )
    caller = await entered(host, "gA", name)
    host.place(after)
    await caller.until_ended()
    assert caller.visitor.goodbyes[-1].reason == "moved"
    await ends.until("moved")
    there = await Caller.open(pool.address("x"), "gA")
    v = there.visitor
    v.users["gA.0"] = attachment("gA.0").user_id
    v.n = caller.visitor.n
    v.rested = caller.visitor.rested
    there.say(v.attach(name, "gA.0", seq=0, epoch=1, covered=v.n))
    there.say(link.Inputs(name, [v.said("gA.0", chat("moved in"))]))
    await v.until_covered()
    assert v.chats("gA.0") == [(1, "moved in")]
    assert "system" not in v.kinds("gA.0"), "moving is not joining"
    there.close()
