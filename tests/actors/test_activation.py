"""An object's life on a real Valkey, over a network that stalls, cuts and is late."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from actors.activation import Activation, State
from actors.birth import CALLS
from actors.mirrors import LIVE_MIRROR_EVERY_S
from cfmessenger.chat.room import RoomRules
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.storage import keys
from cfmessenger.storage import log as log_module
from cfmessenger.storage.log import Commit, Fenced, ValkeyLog
from cfmessenger.storage.valkey import Valkey
from tests import patience
from tests.actors.scene import (
    Scene,
    Visitor,
    attachment,
    chat,
    fresh_room,
    register,
    settled,
)
from tests.valkey_proxy import Proxy

A, B = "gA", "gB"


@pytest.fixture
def name() -> str:
    return fresh_room()


@pytest.fixture
async def scene(proxy: Proxy, valkey_url: str) -> AsyncIterator[Scene]:
    """Objects whose log is behind the proxy; the test itself looks around it."""
    scene = Scene(proxy.url)
    scene.aside = ValkeyLog(valkey_url, 10_000)
    await register(scene.aside, A, B)
    yield scene
    scene.close()


@pytest.fixture
def a() -> Visitor:
    return Visitor(A)


@pytest.fixture
def b() -> Visitor:
    return Visitor(B)


def say(activation: Activation, visitor: Visitor, *inputs: link.Input) -> None:
    activation.receive(visitor, link.Inputs(activation.name, list(inputs)))


async def reattached(
    activation: Activation, visitor: Visitor, message: link.Attach, *again: link.Input
) -> None:
    """What a stub does after a reset: attach, then everything that is not covered."""
    activation.receive(visitor, message)
    if again:
        say(activation, visitor, *again)
    await visitor.until_covered()


# The output gate.


async def test_nothing_is_shown_before_it_is_confirmed(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    before = len(a.got), len(b.got)
    proxy.stall()
    say(room, a, a.chat("gA.1", "hello"))
    await proxy.until_kept()
    assert await scene.stored(name) == [("1-1", "hello")], "Valkey has it"
    assert (len(a.got), len(b.got)) == before, "and nobody knows"
    assert room.seq == 1
    proxy.flow()
    await a.until_covered()
    assert a.chats("gA.1") == b.chats("gB.1") == [(1, "hello")]


async def test_ephemeral_events_keep_their_place_behind_durable_ones(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    seen = len(b.seen("gB.1"))
    typing = b'{"type":"typing","isTyping":true}'
    proxy.stall()
    say(room, a, a.chat("gA.1", "one"))
    await proxy.until_kept()
    say(room, a, a.said("gA.1", typing), a.said("gA.1", b"no json"))
    say(room, a, a.chat("gA.1", "two"))
    await asyncio.sleep(0)
    assert len(b.seen("gB.1")) == seen
    assert "error" not in a.kinds("gA.1"), "an answer waits its turn as well"
    proxy.flow()
    await a.until_covered()
    assert b.kinds("gB.1")[seen:][:3] == ["chat", "typing", "chat"]
    assert a.kinds("gA.1")[-3:] == ["chat", "error", "chat"]


async def test_all_that_comes_during_a_commit_is_the_next_commit(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    say(room, a, a.chat("gA.1", "0"))
    await proxy.until_kept()
    for n in range(1, 50):
        say(room, a, a.chat("gA.1", str(n)))
        await asyncio.sleep(0)
    assert len(proxy.appends) == 1
    proxy.flow()
    await a.until_covered()
    assert len(proxy.appends) == 2
    assert proxy.appends[1].count(b"XADD") == 49
    assert proxy.appends[1].count(b"MULTI") == 1
    assert a.chats("gA.1") == [(n + 1, str(n)) for n in range(50)]
    assert len(a.outputs[-1].items) == 1, "one blob for all of them"


async def test_a_refused_append_shows_nothing_and_ends_the_activation(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    await asyncio.sleep(0)
    covered, outputs = a.covered, len(a.outputs)
    await scene.aside.activate(name)
    say(room, a, a.chat("gA.1", "of a loser"))
    assert await scene.until_gone(room) == "duplicate_activation"
    assert len(a.outputs) == outputs
    for visitor in (a, b):
        goodbye = await visitor.until_goodbye("duplicate_activation")
        assert goodbye.epoch == 1
    assert a.goodbyes[-1].covered == covered
    assert await scene.stored(name) == []
    say(room, a, a.chat("gA.1", "after the end"))
    await asyncio.sleep(0.01)
    assert len(a.outputs) == outputs
    assert room.state is State.GONE


# Unknown outcomes.


@pytest.mark.parametrize("landed", [True, False])
async def test_an_unknown_outcome_resets_and_each_message_appears_once(
    scene: Scene, proxy: Proxy, a: Visitor, name: str, landed: bool
) -> None:
    room = await scene.live(name, a, "gA.1")
    say(room, a, a.chat("gA.1", "before"))
    await a.until_covered()
    covered = a.covered
    lost = [a.chat("gA.1", "with id", "id-1"), a.chat("gA.1", "without")]
    held = [a.chat("gA.1", "held")]
    if landed:
        proxy.stall()
    else:
        proxy.hold_requests()
    say(room, a, *lost)
    await (proxy.until_kept() if landed else proxy.until_appends(2))
    say(room, a, *held)
    first = proxy.pipes[0]
    proxy.cut()
    goodbye = await a.until_goodbye("reset")
    assert goodbye == link.Goodbye(name, 1, covered, "reset")
    assert a.chats("gA.1") == [(1, "before")]
    if landed:
        proxy.flow()
    attach = a.attach(name, "gA.1", seq=1, epoch=1, covered=covered, replay=a.n)
    await reattached(room, a, attach, *lost, *held)
    if not landed:
        proxy.flow()  # now the old append arrives, too late
        first.server.close()
        await first.server.wait_closed()
    said = ["before", "with id", "without", "held"]
    assert a.chats("gA.1") == list(enumerate(said, 1)), "each once, and in order"
    epochs = "1112" if landed else "1222"
    ids = [f"{epoch}-{seq}" for seq, epoch in enumerate(epochs, 1)]
    assert await scene.stored(name) == list(zip(ids, said, strict=True))
    assert room.epoch == 2
    assert scene.ended == []


async def test_swallowed_replies_reset_after_the_deadline(
    scene: Scene,
    proxy: Proxy,
    a: Visitor,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = await scene.live(name, a, "gA.1")
    monkeypatch.setattr(log_module, "COMMIT_TIMEOUT_S", 0.05)
    proxy.lose_replies = True
    lost = a.chat("gA.1", "lost reply", "id-1")
    say(room, a, lost)
    await a.until_goodbye("reset")
    proxy.lose_replies = False
    attach = a.attach(name, "gA.1", seq=0, epoch=1, covered=a.covered, replay=a.n)
    await reattached(room, a, attach, lost)
    assert a.chats("gA.1") == [(1, "lost reply")]
    assert await scene.stored(name) == [("1-1", "lost reply")]


async def test_the_outcome_of_an_earlier_incarnation_is_nobodys(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    await scene.aside.activate(name)
    room = await scene.live(name, a, "gA.1")
    assert room.epoch == 2
    proxy.stall()
    say(room, a, a.chat("gA.1", "of this one"))
    await proxy.until_kept()
    old = Commit(name, 1, [(1, b"of the one before")])
    for outcome in (None, Unavailable(), Fenced()):
        room._flow._committed(old, outcome)
    assert (room.state, a.chats("gA.1")) == (State.RUNNING, [])
    proxy.flow()
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "of this one")]


async def test_a_message_sent_again_by_its_client_is_echoed_to_it_alone(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    say(room, a, a.chat("gA.1", "once", "id-1"))
    await a.until_covered()
    say(room, a, a.chat("gA.1", "once", "id-1"))
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "once"), (1, "once")]
    assert b.chats("gB.1") == [(1, "once")]


async def test_a_valkey_that_stays_away_ends_the_activation(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.refusing = True
    proxy.cut()
    say(room, a, a.chat("gA.1", "nowhere"))
    room.receive(b, b.attach(name))
    assert await scene.until_gone(room) == "storage_failed"
    assert [g.reason for g in a.goodbyes] == ["reset"]
    assert await scene.stored(name) == []


async def test_who_waits_for_a_start_that_fails_is_told(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    proxy.refusing = True
    room = scene.start(name)
    room.receive(a, a.attach(name))
    say(room, a, a.opened("gA.1"))
    goodbye = await a.until_goodbye("storage_failed")
    assert goodbye.covered == 0
    assert len(a.goodbyes) == 1
    assert await scene.until_gone(room) == "storage_failed"


# The input gate.


async def test_what_comes_while_it_loads_waits_in_order(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    await scene.valkey.epoch(name)
    proxy.stall()
    room = scene.start(name)
    room.receive(a, a.attach(name))
    say(room, a, a.opened("gA.1"))
    say(room, a, a.chat("gA.1", "one"), a.chat("gA.1", "two"))
    await proxy.until_kept()
    assert (room.state, a.got) == (State.STARTING, [])
    assert room.idle_for(1e12) == 0
    proxy.flow()
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "one"), (2, "two")]


async def test_who_leaves_while_it_loads_is_not_waited_for(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    await scene.valkey.epoch(name)
    proxy.stall()
    room = scene.start(name)
    for visitor in (a, b):
        room.receive(visitor, visitor.attach(name))
        say(room, visitor, visitor.opened(f"{visitor.gateway}.1"))
    await proxy.until_kept()
    room.leave(a)
    proxy.flow()
    await b.until_covered()
    assert a.got == []
    assert list(room.seats) == [B]
    assert room.sockets == 1


async def test_inputs_of_who_is_not_attached_are_not_taken(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    again = Visitor(A)  # the same gateway on another link, before its attach
    say(room, again, link.Said(9, "gA.1", chat("too early")))
    say(room, b, link.Said(9, "gB.1", chat("a stranger")))
    for visitor in (again, b):
        assert (await visitor.until_goodbye("reset")).covered == 0
    assert room.seq == 0


# Attaching again.


async def test_attaching_again_brings_the_gap_and_is_not_joining(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    room.leave(a)
    say(room, b, *(b.chat("gB.1", str(n)) for n in range(1, 6)))
    await b.until_covered()
    seen, news = len(a.seen("gA.1")), len(b.seen("gB.1"))
    again = Visitor(A)
    room.receive(again, again.attach(name, "gA.1", seq=2, epoch=1, covered=a.covered))
    say(room, b, b.chat("gB.1", "6"))
    await b.until_covered()
    await settled(room)
    assert again.chats("gA.1") == [(n, str(n)) for n in range(3, 7)]
    assert len(a.seen("gA.1")) == seen
    lines = [f for f in b.seen("gB.1")[news:] if f["type"] == "system"]
    assert lines == [], "nobody joined and nobody left"


async def test_a_gateway_without_members_gets_no_gap(
    scene: Scene, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    say(room, a, a.chat("gA.1", "1"))
    await a.until_covered()
    again = Visitor(A)
    room.receive(again, again.attach(name, seq=None, covered=a.covered))
    await settled(room)
    fanouts = [i for o in again.outputs for i in o.items if isinstance(i, link.Fanout)]
    assert not any(i.seq for i in fanouts)


async def test_a_gap_larger_than_the_buffer_is_behind(
    scene: Scene, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    say(room, a, *(a.chat("gA.1", str(n)) for n in range(1, 103)))
    await a.until_covered()
    room.leave(a)
    again = Visitor(A)
    room.receive(again, again.attach(name, "gA.1", seq=1, covered=a.covered))
    assert again.got == [link.Goodbye(name, 1, 0, "behind")]
    # It has paged what was missing, and comes again.
    room.receive(again, again.attach(name, "gA.1", seq=2, covered=a.covered))
    await again.until(lambda: bool(again.outputs))
    assert [seq for seq, _ in again.chats("gA.1")] == list(range(3, 103))


async def test_whoever_attaches_during_a_commit_sees_each_event_once(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    flying = a.chat("gA.1", "in flight")
    say(room, a, flying)
    await proxy.until_kept()
    room.leave(a)
    again = Visitor(A)
    attach = again.attach(
        name, "gA.1", seq=0, epoch=1, covered=a.covered, replay=flying.n
    )
    room.receive(again, attach)
    say(room, again, flying)
    await asyncio.sleep(0)
    assert again.got == []
    proxy.flow()
    await again.until_covered(flying.n)
    assert again.chats("gA.1") == [(1, "in flight")]
    assert a.chats("gA.1") == []


async def test_a_socket_that_enters_while_its_link_breaks_is_greeted_once(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, b, "gB.1")
    room.receive(a, a.attach(name))
    proxy.stall()
    say(room, b, b.chat("gB.1", "in flight"))
    opened = a.opened("gA.1")
    say(room, a, opened)  # held behind the append
    await proxy.until_kept()
    room.leave(a)
    again = Visitor(A)
    again.users = a.users
    room.receive(again, again.attach(name, replay=opened.n))
    say(room, again, opened)
    proxy.flow()
    await again.until_covered(opened.n)
    await settled(room)
    greetings = [
        f for f in again.seen("gA.1") if f.get("content") == "Connected to ChatRoom"
    ]
    assert len(greetings) == 1
    assert again.kinds("gA.1").count("history") == 1


async def test_what_belongs_to_an_earlier_attach_comes_too_late(
    scene: Scene, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    attach = replace(a.attach(name, "gA.1", seq=0, covered=a.covered), turn=2)
    room.receive(a, attach)
    late = a.chat("gA.1", "sent before it")
    room.receive(a, link.Inputs(name, [late], 1))
    assert (await a.until_goodbye("reset")).turn == 1
    assert room.seq == 0
    room.receive(a, link.Inputs(name, [late], 2))
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "sent before it")]
    assert a.outputs[-1].turn == 2


# Sleep.


async def test_sleep_writes_the_mirror_and_says_what_is_covered(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, a, a.chat("gA.1", "1"), a.chat("gA.1", "2"))
    await a.until_covered()
    await settled(room)
    assert await room.hibernate()
    assert scene.reasons(room) == ["idle"]
    assert a.goodbyes == [link.Goodbye(name, 1, a.n, "idle")]
    assert b.goodbyes == [link.Goodbye(name, 1, 0, "idle")]
    outputs = len(a.outputs)
    say(room, a, a.chat("gA.1", "too late"))
    await asyncio.sleep(0.01)
    assert len(a.outputs) == outputs
    assert len(await scene.stored(name)) == 2

    c = Visitor(A)
    c.n = a.n
    woken = scene.start(name)
    woken.receive(c, c.attach(name, "gA.1", seq=2, epoch=1, covered=2, replay=c.n))
    say(woken, c, link.Said(c.n, "gA.1", chat("too late")))
    await c.until_covered()
    assert c.chats("gA.1") == [(3, "too late")], "seq goes on, nothing is missing"
    assert (woken.epoch, woken.sockets) == (2, 1)
    await settled(woken)
    assert "system" not in c.kinds("gA.1"), "waking up is not joining"


async def test_it_does_not_sleep_while_anything_is_unconfirmed(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    say(room, a, a.chat("gA.1", "in flight"))
    await proxy.until_kept()
    assert not await room.hibernate()
    assert (room.state, room.idle_for(1e12)) == (State.RUNNING, 0)
    proxy.flow()
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "in flight")]
    assert room.idle_for(1e12) > 0


async def test_a_start_is_not_asleep(scene: Scene, name: str) -> None:
    room = scene.start(name)
    assert not await room.hibernate()
    assert not await room.hibernate("shutting_down")


async def test_whoever_attaches_while_it_falls_asleep_is_told(
    scene: Scene, proxy: Proxy, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    sleeping = asyncio.create_task(room.hibernate())
    await proxy.until_kept()
    again = Visitor(A)
    for visitor in (b, again):
        room.receive(visitor, visitor.attach(name))
        say(room, visitor, visitor.opened(f"{visitor.gateway}.2"))
    proxy.flow()
    assert await sleeping
    # Else it would wait for an answer for ever: its link lives, its object does not.
    for visitor in (b, again):
        assert (await visitor.until_goodbye("idle")).covered == 0


async def test_a_mirror_of_unknown_outcome_is_not_trusted(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    say(room, a, a.chat("gA.1", "1"))
    await a.until_covered()
    await settled(room)
    proxy.stall()
    sleeping = asyncio.create_task(room.hibernate())
    await proxy.until_kept()
    proxy.cut()
    proxy.flow()
    assert not await sleeping
    assert (await a.until_goodbye("reset")).covered == a.n
    await reattached(room, a, a.attach(name, "gA.1", seq=1, epoch=1, covered=a.n))
    await settled(room)
    assert (room.epoch, room.seq, scene.ended) == (2, 1, [])
    assert (await scene.aside.activate(name)).mirror is not None, "it had landed"


async def test_a_shutdown_waits_for_the_commit_in_flight(
    scene: Scene, proxy: Proxy, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    say(room, a, a.chat("gA.1", "in flight"))
    await proxy.until_kept()
    ending = asyncio.create_task(room.hibernate("shutting_down"))
    await asyncio.sleep(0)
    assert room.state is State.PARTING
    assert not await room.hibernate("moved"), "it is on its way already"
    assert a.chats("gA.1") == []
    proxy.flow()
    assert await ending
    assert a.chats("gA.1") == [(1, "in flight")]
    assert a.goodbyes == [link.Goodbye(name, 1, a.n, "shutting_down")]


async def test_a_shutdown_under_load_mirrors_only_what_the_log_has(
    scene: Scene, proxy: Proxy, a: Visitor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await scene.live(name, a, "gA.1")
    proxy.stall()
    say(room, a, a.chat("gA.1", "1"))
    await proxy.until_kept()
    ending = asyncio.create_task(room.hibernate("shutting_down"))
    # People go on talking: each commit is followed at once by the next.
    n = 1
    async with patience.within(15):
        while not ending.done():
            n += 1
            say(room, a, a.chat("gA.1", str(n)))
            proxy.flow()
            await asyncio.sleep(0.001)
            proxy.stall()
    proxy.flow()
    assert await ending
    reason = a.goodbyes[-1].reason
    stored = await scene.stored(name)
    woken = await scene.aside.activate(name)
    assert woken.seq == len(stored)
    b = Visitor(A)
    again = scene.start(name)
    attach = b.attach(name, "gA.1", seq=0, covered=0)
    again.receive(b, attach)
    await b.until(lambda: bool(b.got))
    assert again.seq == len(stored), reason


@pytest.mark.parametrize("fate", ["fenced", "cut", "away"])
async def test_a_shutdown_whose_commit_fails_ends_once_and_claims_nothing(
    scene: Scene, proxy: Proxy, a: Visitor, name: str, fate: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    covered = a.covered
    if fate == "fenced":
        await scene.aside.activate(name)
    proxy.stall()
    say(room, a, a.chat("gA.1", "in flight"))
    await proxy.until_kept()
    ending = asyncio.create_task(room.hibernate("shutting_down"))
    await asyncio.sleep(0)
    proxy.refusing = fate == "away"
    if fate != "fenced":
        proxy.cut()
    proxy.flow()
    await ending
    if room.state not in (State.STARTING, State.RUNNING):  # else it was reset
        await scene.until_gone(room)
    assert a.chats("gA.1") == []
    assert max(goodbye.covered for goodbye in a.goodbyes) <= covered
    assert len(scene.reasons(room)) <= 1
    if fate == "fenced":
        assert scene.reasons(room) == ["duplicate_activation"]
        assert await scene.aside.mirror(name) is None, "a loser has nothing to say"
    if fate == "away":  # perhaps after a reset, whose load failed
        assert await scene.until_gone(room) == "storage_failed"


# Two at once.


async def test_of_two_activations_one_survives(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    first = await scene.live(name, a, "gA.1")
    say(first, a, a.chat("gA.1", "of the first"))
    await a.until_covered()
    second = await scene.live(name, b, "gB.1")
    assert (first.epoch, second.epoch) == (1, 2)
    await asyncio.gather(settled(first), settled(second))
    say(first, a, a.chat("gA.1", "lost"))
    say(second, b, b.chat("gB.1", "of the second"))
    assert await scene.until_gone(first) == "duplicate_activation"
    await b.until_covered()
    assert await scene.stored(name) == [
        ("1-1", "of the first"),
        ("2-2", "of the second"),
    ]
    assert second.state is State.RUNNING
    assert a.chats("gA.1") == [(1, "of the first")]


async def test_ten_starts_at_once_leave_one_that_can_write(
    valkey_url: str, name: str
) -> None:
    scenes = [Scene(valkey_url) for _ in range(10)]
    rooms = [scene.start(name) for scene in scenes]
    visitors = [Visitor(f"g{n}") for n in range(10)]
    for visitor, room in zip(visitors, rooms, strict=True):
        room.receive(visitor, visitor.attach(name))
        conn = f"{visitor.gateway}.1"
        say(room, visitor, visitor.opened(conn), visitor.chat(conn, "I won"))
    for visitor in visitors:
        await visitor.until(lambda v=visitor: bool(v.goodbyes) or v.covered == 2)
    # Whoever confirmed something before a later epoch was taken is over now as well.
    for visitor, room in zip(visitors, rooms, strict=True):
        if room.state is State.RUNNING:
            say(room, visitor, visitor.chat(f"{visitor.gateway}.1", "I am alone"))
            await visitor.until(lambda v=visitor: bool(v.goodbyes) or v.covered == 3)
    running = [room for room in rooms if room.state is State.RUNNING]
    assert len(running) == 1
    stored = await scenes[0].stored(name)
    assert [seq.partition("-")[2] for seq, _ in stored] == [
        str(n) for n in range(1, len(stored) + 1)
    ]
    assert running[0].epoch == max(room.epoch for room in rooms)
    assert [content for _, content in stored].count("I am alone") == 1
    for scene in scenes:
        scene.close()


async def test_a_losers_mirror_is_refused(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    loser = await scene.live(name, a, "gA.1")
    winner = await scene.live(name, b, "gB.1")
    say(winner, b, b.chat("gB.1", "1"))
    await b.until_covered()
    await asyncio.gather(settled(loser), settled(winner))
    assert await winner.hibernate()
    assert await loser.hibernate()
    assert scene.reasons(loser) == ["duplicate_activation"]
    assert a.goodbyes[-1].reason == "duplicate_activation"
    found = await scene.aside.activate(name)
    assert found.mirror is not None
    assert (found.mirror.epoch, found.previous_epoch, found.seq) == (2, 2, 1)


async def test_a_losers_mirror_that_comes_first_is_not_believed(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    loser = await scene.live(name, a, "gA.1")
    winner = await scene.live(name, b, "gB.1")
    say(winner, b, b.chat("gB.1", "1"))
    await b.until_covered()
    await settled(loser)
    assert await loser.hibernate()
    winner.vanish()
    c = Visitor("gC")
    third = await scene.live(name, c, "gC.1")
    assert (third.epoch, third.seq, third.sockets) == (3, 1, 1)


async def test_a_superseded_one_ends_once(scene: Scene, a: Visitor, name: str) -> None:
    room = await scene.live(name, a, "gA.1")
    room.supersede()
    room.supersede()
    assert scene.reasons(room) == ["duplicate_activation"]
    assert len(a.goodbyes) == 1


# Alarms, deaths of gateways, mirrors of receipts.


async def test_the_alarm_rings_by_itself(scene: Scene, a: Visitor, name: str) -> None:
    await scene.live(name, a, "gA.1")
    assert a.kinds("gA.1") == ["system", "system", "participants"]


async def test_a_dead_gateways_sockets_leave(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    room.bury(B)
    await settled(room)
    assert room.sockets == 1
    assert a.seen("gA.1")[-2]["content"] == "USER_GB_1 left the room."
    assert [p["id"] for p in a.seen("gA.1")[-1]["participants"]] == ["user_gA_1"]


async def test_a_gateway_that_died_meanwhile_is_not_waited_for(
    scene: Scene, a: Visitor, b: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    await room.hibernate()
    await scene.aside.execute([("ZREM", keys.GATEWAYS, B)])
    woken = scene.start(name)
    c = Visitor(A)
    woken.receive(c, c.attach(name, "gA.1", seq=0, covered=a.covered))
    await settled(woken)
    assert (woken.sockets, woken.gateways) == (1, {A})


async def test_the_gateways_of_the_mirror_are_called(
    scene: Scene, a: Visitor, b: Visitor, name: str, valkey_url: str
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    await room.hibernate()
    client = Valkey(valkey_url)
    heard = client.listen(keys.gateway_channel(A), keys.gateway_channel(B))
    assert await anext(heard) is None
    woken = scene.start(name)
    woken.receive(a, a.attach(name, "gA.1", seq=0, covered=a.covered))
    async with patience.within(5):
        # Only the other one: A has come by itself.
        assert await anext(heard) == (keys.gateway_channel(B), name)
    await heard.aclose()
    client.close()


@pytest.mark.parametrize("how", ["called in vain", "asleep"])
async def test_who_comes_after_a_crash_is_announced_once_nobody_is_waited_for(
    scene: Scene, a: Visitor, b: Visitor, name: str, how: str
) -> None:
    room = await scene.live(name, a, "gA.1", "gA.2")
    say(room, a, a.chat("gA.1", "1", "id-1"))
    say(room, a, a.said("gA.2", b'{"type":"ack","ackId":"id-1","status":"read"}'))
    await a.until_covered()
    await settled(room)
    await room.mirror_receipts(scene.loop.time() + LIVE_MIRROR_EVERY_S)
    room.vanish()
    woken = await scene.live(name, b, "gB.1")
    kinds = b.kinds("gB.1")
    assert kinds.count("system") == 1, "A may have people enough for a crowd"
    for _ in range(CALLS):  # as its host does twice a second
        if how == "called in vain":
            woken.call_absent()
    if how == "asleep":
        assert not await woken.hibernate()
    await settled(woken)
    (line,) = [f["content"] for f in b.seen("gB.1")[len(kinds) :]]
    assert line == f"{attachment('gB.1').display_name} joined the room."
    assert await woken.hibernate()


async def test_receipts_are_mirrored_now_and_then(
    scene: Scene, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1", "gA.2")
    say(room, a, a.chat("gA.1", "1", "id-1"))
    say(room, a, a.said("gA.2", b'{"type":"ack","ackId":"id-1","status":"read"}'))
    await a.until_covered()
    await settled(room)
    now = scene.loop.time()
    await room.mirror_receipts(now)
    assert await scene.aside.mirror(name) is None, "not so soon"
    await room.mirror_receipts(now + LIVE_MIRROR_EVERY_S)
    first = await scene.aside.mirror(name)
    assert first is not None
    await room.mirror_receipts(now + 2 * LIVE_MIRROR_EVERY_S)
    (length,) = await scene.aside.execute([("XINFO", "STREAM", keys.mirror(name))])
    assert length[length.index(b"entries-added") + 1] == 1, "only if they changed"
    room.vanish()
    b = Visitor(B)
    woken = await scene.live(name, b, "gB.1")
    assert woken.sockets == 1, "the roster of a live mirror is not believed"
    (history,) = [f for f in b.seen("gB.1") if f["type"] == "history"]
    assert history["messages"][0]["status"] == "read"


async def test_a_live_mirror_of_a_loser_ends_it(
    scene: Scene, a: Visitor, name: str
) -> None:
    room = await scene.live(name, a, "gA.1", "gA.2")
    say(room, a, a.chat("gA.1", "1", "id-1"))
    say(room, a, a.said("gA.2", b'{"type":"ack","ackId":"id-1","status":"read"}'))
    await a.until_covered()
    await settled(room)
    await scene.aside.save(name, 2, b"of a winner", final=True)
    await room.mirror_receipts(scene.loop.time() + LIVE_MIRROR_EVERY_S)
    assert scene.reasons(room) == ["duplicate_activation"]


async def test_who_is_not_sure_to_be_alone_shows_nothing_but_what_is_confirmed(
    scene: Scene, a: Visitor, b: Visitor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await scene.live(name, a, "gA.1")
    room.receive(b, b.attach(name))
    say(room, b, b.opened("gB.1"))
    await b.until_covered()
    await settled(room)
    monkeypatch.setattr(scene, "trusted", lambda room: False)
    seen = len(b.seen("gB.1"))
    say(room, a, a.said("gA.1", b'{"type":"typing","isTyping":true}'))
    await asyncio.sleep(0.02)
    assert len(b.seen("gB.1")) == seen
    assert room.idle_for(1e12) == 0
    say(room, a, a.chat("gA.1", "an append needs no trust"))
    await a.until_covered()
    assert b.kinds("gB.1")[seen : seen + 2] == ["typing", "chat"]
    say(room, a, a.said("gA.1", b"no json"))
    monkeypatch.undo()
    room.trust_again()
    await a.until_covered()
    assert a.kinds("gA.1")[-1] == "error"


async def test_rates_hold_across_a_crash(
    valkey_url: str, name: str, a: Visitor
) -> None:
    scene = Scene(valkey_url, RoomRules(chat_rate=(2, 60), nudge_rate=(3, 10)))
    room = await scene.live(name, a, "gA.1")
    say(room, a, *(a.chat("gA.1", str(n)) for n in range(2)))
    await a.until_covered()
    room.vanish()
    b = Visitor(A)
    b.n = a.n
    woken = scene.start(name)
    woken.receive(b, b.attach(name, "gA.1", seq=2, covered=a.n))
    say(woken, b, b.chat("gA.1", "one too many"))
    await b.until_covered()
    errors = [f for f in b.seen("gA.1") if f["type"] == "error"]
    assert [error["code"] for error in errors] == ["RATE_LIMITED"]
    scene.close()
