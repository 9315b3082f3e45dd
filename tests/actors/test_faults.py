"""A machine with a bug: who is told, what is covered, and that nobody else notices.

The bug is put into the real `Room`: a verb that does half of its work, then raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from actors.activation import Activation, State
from actors.faults import FAULTS
from actors.release import Release
from cfmessenger.chat.effects import Wants
from cfmessenger.chat.room import Room
from cfmessenger.link import messages as link
from cfmessenger.storage import keys
from tests import patience
from tests.actors.caller import Caller
from tests.actors.scene import (
    PATIENCE_S,
    Frame,
    Scene,
    Visitor,
    fresh_room,
    register,
    settled,
)
from tests.actors.test_host import Launch, launch, log
from tests.valkey_proxy import Proxy

__all__ = ["launch", "log"]  # fixtures
A, B = "gA", "gB"

Bug = Callable[..., None]


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Bug:
    """`bug(verb, when)`: from now on that verb of a room fails if `when(*arguments)`,
    having changed what it should not have."""

    def put(verb: str, when: Callable[..., bool] = lambda *_: True) -> None:
        sound = getattr(Room, verb)

        def buggy(self: Room, *arguments: Any, **named: Any) -> Any:
            if when(*arguments):
                self.seq += 1
                raise ZeroDivisionError("a bug")
            return sound(self, *arguments, **named)

        monkeypatch.setattr(Room, verb, buggy)

    return put


@pytest.fixture
async def scene(valkey_url: str) -> AsyncIterator[Scene]:
    scene = Scene(valkey_url)
    await register(scene.aside, A, B)
    yield scene
    scene.close()


def poisonous(now: int, conn: str, data: bytes, fresh_id: str) -> bool:
    return b"poison" in data


def codes(frames: list[Frame]) -> list[tuple[str, str | None]]:
    return [(f["code"], f.get("id")) for f in frames if f["type"] == "error"]


class Gateway(Visitor):
    """A visitor that does what a stub does: it keeps what is not covered, and attaches
    again when it is told goodbye."""

    def __init__(self, gateway: str, activation: Activation) -> None:
        super().__init__(gateway)
        self.activation = activation
        self.held: dict[str, None] = {}
        self.kept: list[link.Input] = []
        self.closed: dict[str, int] = {}
        self.attaches = 0
        self.dead = False  # it hears nothing any more
        self.changes: dict[str, int] = {}  # what its attaches say otherwise

    def come(self) -> None:
        self.attaches += 1
        name = self.activation.name
        message = self.attach(name, *self.held, covered=self.covered, replay=self.n)
        self.activation.receive(self, replace(message, **self.changes))
        if self.kept:
            self.activation.receive(self, link.Inputs(name, list(self.kept)))

    def say(self, *inputs: link.Input) -> None:
        self.kept += inputs
        self.activation.receive(self, link.Inputs(self.activation.name, list(inputs)))

    def send(self, message: link.ToGateway) -> None:
        if isinstance(message, link.Output):
            for item in message.items:
                if isinstance(item, link.Closing):
                    self.closed[item.conn] = item.code
                    self.held.pop(item.conn, None)
        if isinstance(message, link.Output | link.Goodbye):
            for each in self.kept:
                if each.n <= message.covered and isinstance(each, link.Opened):
                    conn = each.attachment.conn
                    if conn not in self.closed:
                        self.held[conn] = None
                elif each.n <= message.covered and isinstance(each, link.Closed):
                    self.held.pop(each.conn, None)
            self.kept = [each for each in self.kept if each.n > message.covered]
        super().send(message)
        wanted = isinstance(message, link.Goodbye) and message.reason in link.AGAIN
        if wanted and not self.dead:
            asyncio.get_running_loop().call_soon(self.come)


async def entered(scene: Scene, name: str, *conns: str) -> Gateway:
    """A room with one gateway that has these sockets in it."""
    a = Gateway(A, scene.start(name))
    a.come()
    a.say(*(a.opened(conn) for conn in conns))
    await a.until_covered()
    await settled(a.activation)
    return a


async def test_an_input_at_which_a_room_fails_is_answered_once_and_never_comes_again(
    scene: Scene, bug: Bug, caplog: pytest.LogCaptureFixture
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1", "gA.2")
    epoch = a.activation.epoch
    bug("message", poisonous)
    a.say(
        a.chat("gA.2", "before", "b1"),
        a.chat("gA.1", "poison", "p1"),
        a.chat("gA.2", "behind", "b2"),
        a.chat("gA.1", "mine", "p2"),
    )
    await a.until_covered()
    await settled(a.activation)
    assert codes(a.seen("gA.1")) == [("INTERNAL_ERROR", "p1")]
    assert codes(a.seen("gA.2")) == []
    assert a.chats("gA.2") == [(1, "before"), (2, "behind"), (3, "mine")]
    assert [text for _, text in await scene.stored(name)] == [
        "before",
        "behind",
        "mine",
    ]
    assert (a.activation.epoch, a.activation.state) == (epoch + 1, State.RUNNING)
    assert [each.reason for each in a.goodbyes] == ["fault"]
    errors = [r for r in caplog.records if r.levelname == "ERROR"]
    assert [r.getMessage() for r in errors] == [f"{name} fails at a Said"]
    assert "poison" not in caplog.text, "never a message body"


async def test_a_fault_waits_for_what_was_said_before_it(
    scene: Scene, bug: Bug
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    bug("message", poisonous)
    a.say(a.chat("gA.1", "one", "i1"))
    await asyncio.sleep(0)  # the append of `one` is under way
    a.say(a.chat("gA.1", "poison", "i2"))
    await a.until_covered()
    kinds = [f.get("seq") or f["type"] for f in a.seen("gA.1")]
    assert kinds.index(1) < kinds.index("error")


async def test_a_frame_without_an_id_is_answered_too(scene: Scene, bug: Bug) -> None:
    a = await entered(scene, fresh_room(), "gA.1")
    bug("message", poisonous)
    a.say(a.said("gA.1", b"{poison"))
    await a.until_covered()
    assert codes(a.seen("gA.1")) == [("INTERNAL_ERROR", None)]


async def test_a_socket_at_whose_entry_a_room_fails_is_closed(
    scene: Scene, bug: Bug
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    bug("connect", lambda now, who, *_: who.conn == "gA.2")
    bug("attach", lambda now, gateway, all_: "gA.2" in {each.conn for each in all_})
    a.say(a.opened("gA.2"), a.opened("gA.3"))
    await a.until_covered()
    await settled(a.activation)
    assert a.closed == {"gA.2": 1011}
    assert a.activation.sockets == 2
    assert a.attaches == 2, "once to begin with, and once after the fault"


@pytest.mark.parametrize("verb", ["close", "notify"])
async def test_what_nobody_waits_for_is_covered_alone(
    scene: Scene, bug: Bug, verb: str
) -> None:
    a = await entered(scene, fresh_room(), "gA.1", "gA.2")
    bug(verb)
    a.n += 1
    if verb == "close":
        a.say(link.Closed(a.n, "gA.2"))
    else:
        a.say(link.Notified(a.n, b"news"))
    a.say(a.chat("gA.1", "goes on"))
    await a.until_covered()
    await settled(a.activation)
    assert a.chats("gA.1") == [(1, "goes on")]
    assert a.attaches == 2
    assert a.activation.sockets == (1 if verb == "close" else 2)


async def test_an_attach_costs_the_guilty_socket_and_no_other(
    scene: Scene, bug: Bug
) -> None:
    a = await entered(scene, fresh_room(), "gA.1", "gA.2", "gA.3")
    bug("attach", lambda now, gateway, all_: "gA.2" in {each.conn for each in all_})
    a.activation.leave(a)
    a.come()
    await a.until(lambda: a.attaches == 3)
    a.say(a.chat("gA.1", "goes on"))
    await a.until_covered()
    assert a.closed == {"gA.2": 1011}
    assert a.chats("gA.1") == [(1, "goes on")]


@pytest.mark.parametrize("verb", ["attach", "missed", "events_after"])
async def test_who_can_never_attach_does_not_keep_a_room_busy_for_ever(
    scene: Scene, bug: Bug, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.faults.PAUSE_S", 0.001)
    a = await entered(scene, fresh_room(), "gA.1")
    # Not at a single socket alone, so nobody is to blame.
    b = Gateway(B, a.activation)
    b.held = {"gB.1": None, "gB.2": None}
    wants = {
        "attach": lambda now, gateway, all_: len(all_) == 2,
        "missed": lambda gateway: gateway == B,
        "events_after": lambda seq: True,
    }
    bug(verb, wants[verb])
    b.changes = {"rested": 77, "seq": 0}
    b.come()
    assert await scene.until_gone(a.activation) == "failed"
    assert b.attaches == FAULTS
    assert b.goodbyes[-1].reason == "failed"


async def test_a_dead_gateway_whose_leaving_fails_is_gone_all_the_same(
    scene: Scene, bug: Bug
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    b = Gateway(B, a.activation)
    b.come()
    b.say(b.opened("gB.1"))
    await b.until_covered()
    await settled(a.activation)
    bug("detach")
    b.dead = True
    await scene.aside.execute([("ZREM", keys.GATEWAYS, B)])
    a.activation.bury(B)
    await a.until(lambda: a.attaches == 2)
    a.say(a.chat("gA.1", "goes on"))
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "goes on")]
    assert B not in a.activation.gateways


async def test_wants_at_which_an_object_fails_cost_an_attach(
    scene: Scene, bug: Bug
) -> None:
    a = await entered(scene, fresh_room(), "gA.1")
    bug("want")
    wants = Wants(1, True, ["user_1"], [])
    said = a.chat("gA.1", "before")
    a.kept.append(said)
    a.activation.receive(a, link.Inputs(a.activation.name, [said], 0, wants))
    await a.until(lambda: a.attaches == 2)
    await a.until_covered()
    assert a.chats("gA.1") == [(1, "before")]


async def test_an_alarm_that_always_fails_ends_the_room_without_a_mirror(
    scene: Scene, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.faults.PAUSE_S", 0.001)
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    bug("alarm")
    a.say(a.opened("gA.2"))  # who is to be told who is here
    assert await scene.until_gone(a.activation) == "failed"
    assert a.attaches == FAULTS, "each attach tells the list of people, in vain"
    (mirrors,) = await scene.aside.execute([("EXISTS", keys.mirror(name))])
    assert mirrors == 0
    # Whoever speaks next finds it, until the bug is gone for as long as it lasts.
    again = scene.start(name)
    await scene.aside.epoch(name)
    assert again.state in (State.STARTING, State.RUNNING)


async def test_faults_that_are_far_apart_do_not_add_up(
    scene: Scene, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.faults.CALM_S", 0.0)
    a = await entered(scene, fresh_room(), "gA.1")
    bug("message", poisonous)
    for n in range(FAULTS + 2):
        a.say(a.chat("gA.1", "poison", f"p{n}"))
        await a.until_covered()
    await settled(a.activation)
    assert len(codes(a.seen("gA.1"))) == FAULTS + 2
    assert scene.reasons(a.activation) == []


@pytest.mark.parametrize("reason", ["idle", "shutting_down", "moved"])
async def test_a_room_that_cannot_be_mirrored_sleeps_without_a_mirror(
    scene: Scene, bug: Bug, reason: str
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    a.say(a.chat("gA.1", "one", "i1"))
    await a.until_covered()
    await settled(a.activation)
    bug("snapshot")
    assert await a.activation.hibernate(reason)
    assert scene.reasons(a.activation) == [reason]
    again = Gateway(A, scene.start(name))
    again.come()
    again.say(again.opened("gA.1"))
    await again.until_covered()
    assert again.activation.seq == 1


async def test_receipts_that_cannot_be_mirrored_disturb_nobody(
    scene: Scene, bug: Bug
) -> None:
    a = await entered(scene, fresh_room(), "gA.1", "gA.2")
    a.say(a.chat("gA.1", "one", "i1"))
    a.say(a.said("gA.2", b'{"type":"ack","ackId":"i1","status":"read"}'))
    await a.until_covered()
    await settled(a.activation)
    bug("snapshot")
    at = scene.loop.time() + 60
    assert a.activation.receipts_due(at)
    await a.activation.mirror_receipts(at)
    assert not a.activation.receipts_due(at)
    assert a.activation.state is State.RUNNING


async def test_a_mirror_at_which_restoring_fails_is_left_aside(
    scene: Scene, bug: Bug, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    a.say(a.chat("gA.1", "one", "i1"))
    await a.until_covered()
    await settled(a.activation)
    assert await a.activation.hibernate()

    def broken(*arguments: object, **named: object) -> Room:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Room, "restore", broken)
    again = Gateway(A, scene.start(name))
    again.come()
    again.say(again.opened("gA.1"))
    await again.until_covered()
    history = next(f for f in again.seen("gA.1") if f["type"] == "history")
    assert [m["content"] for m in history["messages"]] == ["one"]


async def test_what_cannot_be_shown_is_shown_after_a_reset(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await entered(scene, fresh_room(), "gA.1", "gA.2")
    shows, times = Release._broadcast, iter((True, True))

    def buggy(self: Release, *arguments: Any) -> None:
        shows(self, *arguments)
        if next(times, False):
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Release, "_broadcast", buggy)
    a.say(a.chat("gA.1", "one", "i1"))
    await a.until_covered()
    await settled(a.activation)
    assert set(a.chats("gA.1")) == {(1, "one")}
    assert [text for _, text in await scene.stored(a.activation.name)] == ["one"]


async def test_other_rooms_of_the_process_keep_their_links(
    launch: Launch, bug: Bug
) -> None:
    host = await launch()
    caller = await Caller.open(host.address("x"))
    one, two = fresh_room(), fresh_room()
    caller.enter(one, "gA.1")
    caller.enter(two, "gA.2")
    v = caller.visitor
    await v.until(lambda: {"gA.1", "gA.2"} <= set(v.members))
    bug("message", poisonous)
    caller.chat(one, "gA.1", "poison")
    caller.chat(two, "gA.2", "undisturbed")
    await v.until(lambda: bool(v.goodbyes) and bool(v.chats("gA.2")))
    assert not caller.ended.is_set()
    assert [(each.object, each.reason) for each in v.goodbyes] == [(one, "fault")]
    assert host.objects[two].epoch == 1
    assert v.chats("gA.2") == [(1, "undisturbed")]
    caller.close()


# What storage has lost.


async def test_numbers_go_on_above_what_a_gateway_has_shown(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    """The append-only file began anew, while gateways live on."""
    host = await launch()
    name = fresh_room()
    caller = await Caller.open(host.address("x"))
    v = caller.visitor
    # Of a life that nobody else remembers.
    caller.say(v.attach(name, "gA.1", seq=57, epoch=9))
    await v.until(lambda: [each.reason for each in v.goodbyes] == ["damage"])
    caller.say(v.attach(name, "gA.1", seq=57, epoch=9))
    caller.chat(name, "gA.1", "goes on")
    await v.until(lambda: bool(v.chats("gA.1")))
    assert v.chats("gA.1") == [(59, "goes on")]
    assert v.outputs[-1].epoch > 9, "a gateway believes no older life"
    assert f"{name} lost events 1 to 57" in caplog.messages
    assert [
        (f["seq"], f["from"], f["to"], f["era"])
        for f in v.seen("gA.1")
        if f["type"] == "lost"
    ] == [(58, 1, 57, 58)]
    # Whoever resumes below is told of the gap, and from the loss on of none.
    caller.say(link.Inputs(name, [v.opened("gA.2", since=57)]))
    caller.say(link.Inputs(name, [v.opened("gA.3", since=58)]))
    await v.until(lambda: "gA.3" in v.members)
    (old,) = [f for f in v.seen("gA.2") if f["type"] == "history"]
    assert [(m["type"], m["seq"]) for m in old["messages"]] == [
        ("lost", 58),
        ("chat", 59),
    ]
    lost, goes_on = old["messages"]
    assert (lost["from"], lost["to"], lost["era"]) == (1, 57, 58)
    assert (old["gap"], old["era"], goes_on["era"]) == (True, 58, 58)
    (new,) = [f for f in v.seen("gA.3") if f["type"] == "history"]
    assert ([m["seq"] for m in new["messages"]], new["gap"]) == ([59], False)
    caller.close()


async def test_whoever_knows_of_a_later_life_ends_an_earlier_one(
    scene: Scene,
) -> None:
    name = fresh_room()
    a = await entered(scene, name, "gA.1")
    await scene.aside.activate(name)  # elsewhere
    b = Visitor(B)
    a.activation.receive(b, b.attach(name, epoch=2, seq=5))
    assert await scene.until_gone(a.activation) == "duplicate_activation"
    assert await scene.aside.epoch(name) == 2, "it took no epoch from the later one"
    assert b.goodbyes[-1].reason == "duplicate_activation"


async def test_a_doubt_that_storage_does_not_settle_sends_everyone_away(
    proxy: Proxy,
) -> None:
    scene = Scene(proxy.url)
    await register(scene.aside, A, B)
    a = await entered(scene, fresh_room(), "gA.1")
    proxy.refusing = True
    proxy.cut()
    b = Visitor(B)
    a.activation.receive(b, b.attach(a.activation.name, epoch=2, seq=5))
    async with patience.within(PATIENCE_S):
        assert await scene.until_gone(a.activation) == "storage_failed"
    scene.close()


def losses(visitor: Visitor, conn: str) -> list[tuple[int, int, int]]:
    """What a socket was told to be lost: the number of that, from, to."""
    told = [f for f in visitor.seen(conn) if f["type"] == "lost"]
    return [(f["seq"], f["from"], f["to"]) for f in told]


async def test_what_a_gateway_has_shown_counts_though_its_sockets_have_left(
    launch: Launch,
) -> None:
    """Else those who come next would be shown nothing until numbers are above it."""
    host = await launch()
    name = fresh_room()
    caller = await Caller.open(host.address("x"))
    v = caller.visitor
    attach = replace(v.attach(name), epoch=1, before=5, shown_in=1, elsewhere=True)
    caller.say(attach)
    await v.until(lambda: [each.reason for each in v.goodbyes] == ["damage"])
    caller.say(attach)
    caller.say(link.Inputs(name, [v.opened("gA.1"), v.chat("gA.1", "on")]))
    await v.until(lambda: bool(v.chats("gA.1")))
    assert v.chats("gA.1") == [(7, "on")]
    (history,) = [f for f in v.seen("gA.1") if f["type"] == "history"]
    (lost,) = history["messages"]
    assert (lost["seq"], lost["from"], lost["to"]) == (6, 1, 5)


@pytest.mark.parametrize(("had", "told"), [(3, (4, 1, 3)), (2, (3, 1, 2))])
async def test_numbers_that_a_life_gave_anew_are_named_when_it_hears_of_them(
    launch: Launch, had: int, told: tuple[int, int, int]
) -> None:
    """Somebody was faster than the gateway that knew: the room has numbered on, as far
    as that gateway had seen or further, in an epoch that was taken before."""
    host = await launch()
    name = fresh_room()
    one, other = [await Caller.open(host.address("x"), g) for g in ("gA", "gB")]
    v, w = one.visitor, other.visitor
    one.enter(name, "gA.1")
    for n in (1, 2):
        one.chat(name, "gA.1", f"new {n}")
    await v.until(lambda: v.chats("gA.1") == [(1, "new 1"), (2, "new 2")])
    seen = replace(w.attach(name, "gB.1", seq=had, epoch=1), shown_in=1, elsewhere=True)
    other.say(seen)
    await v.until_goodbye("damage")
    one.say(replace(v.attach(name, "gA.1", seq=2, epoch=1), shown_in=1))
    other.say(seen)
    await w.until(lambda: bool(losses(w, "gB.1")))
    assert losses(w, "gB.1") == [told]
    await v.until(lambda: losses(v, "gA.1") == [told])
    # It is told once: whoever has seen as much, or less, is not another one to doubt.
    again = await Caller.open(host.address("x"), "gC")
    u = again.visitor
    again.say(
        replace(u.attach(name, "gC.1", seq=1, epoch=1), shown_in=1, elsewhere=True)
    )
    await u.until(lambda: bool(losses(u, "gC.1")))
    assert losses(u, "gC.1") == [told]
    assert not u.goodbyes
    for each in (one, other, again):
        each.close()
