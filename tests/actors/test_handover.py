"""One Ray cluster hands its rooms to another, one by one: two hosts of one name, of
which one waits, and then the other lets go (design.md §13).

With real Rays, forth and back under load: tests/system/versions.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from actors import ownership
from actors.host import Host
from actors.pace import Pace
from cfmessenger.storage.generation import Generation
from cfmessenger.storage.log import Top, ValkeyLog
from tests.actors.caller import Caller
from tests.actors.scene import fresh_room
from tests.actors.test_pool import (
    POOL,
    Ends,
    Launch,
    ends,  # noqa: F401 - fixtures
    entered,
    generation_is,
    launch,  # noqa: F401
    log,  # noqa: F401
    room_of,
)

BLUE = replace(POOL, cluster="blue")
GREEN = replace(POOL, cluster="green", number=POOL.number + 1)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long after a start: a pool is looked at as a whole."""
    monkeypatch.setattr(ownership, "SPREADING_S", 0.0)


async def both(launch: Launch, log: ValkeyLog, actor: str) -> tuple[Host, Host]:  # noqa: F811
    """The host that has rooms, and the one that waits for them."""
    await generation_is(log, BLUE)
    blue = await launch(actor, BLUE, cluster="blue")
    return blue, await launch(actor, BLUE, cluster="green")


async def test_who_waits_takes_nothing_from_who_has_it(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
) -> None:
    """Neither the pool's marker nor a room."""
    name, marker = room_of(POOL, "rooms:0"), await log.epoch("rooms:0")
    blue, green = await both(launch, log, "rooms:0")
    assert await log.epoch("rooms:0") == marker + 1, "only one of the two took one"
    caller = await entered(blue, "gA", name)
    lost = await Caller.open(green.address("x"), "gB")
    lost.say(lost.visitor.attach(name, "gB.1"))
    goodbye = await lost.visitor.until_goodbye("moved")
    assert (goodbye.epoch, goodbye.covered) == (0, 0)
    caller.chat(name, "gA.0", "still here")
    await caller.visitor.until_covered()
    assert caller.visitor.goodbyes == [] and not green.objects
    for each in (caller, lost):
        each.close()


@pytest.mark.parametrize("told", ["told", "finds out"])
async def test_every_room_moves_with_its_mirror_and_is_activated_once(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
    ends: Ends,  # noqa: F811
    told: str,
) -> None:
    names = [room_of(POOL, "rooms:0") for _ in range(5)]
    blue, green = await both(launch, log, "rooms:0")
    caller = await entered(blue, "gA", *names)
    v = caller.visitor
    for n, name in enumerate(names):
        caller.chat(name, f"gA.{n}", "before")
    await v.until_covered()
    await generation_is(log, GREEN)
    if told == "told":
        green.place(GREEN)  # takes the pool's marker before the other looks
    await v.until(lambda: len(v.goodbyes) == len(names))
    assert {(each.epoch, each.reason) for each in v.goodbyes} == {(1, "moved")}
    await caller.until_ended()
    await ends.until("moved")
    there = await Caller.open(green.address("x"), "gA")
    w = there.visitor
    w.n = v.n
    for n, name in enumerate(names):
        w.rested = 1
        there.say(w.attach(name, f"gA.{n}", seq=1, epoch=1, covered=v.covered))
        there.chat(name, f"gA.{n}", "after")
    await w.until(lambda: len(w.chats("gA.0")) == len(names))  # it sees every room
    for name in names:
        entries = await log.after(name, 0, 10)
        assert [(e.epoch, e.seq) for e in entries] == [(1, 1), (2, 2)]
    assert not green.leaving and len(green.objects) == len(names)
    there.close()


async def test_a_room_with_an_actor_of_its_own_moves_at_once(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
    ends: Ends,  # noqa: F811
) -> None:
    """However long its new process takes to start: it is not waited for here."""
    name = fresh_room()
    before = replace(BLUE, mode="auto").promoted(name, "pinned", 0)
    assert before is not None
    await generation_is(log, before)
    blue = await launch(name, before, cluster="blue")
    caller = await entered(blue, "gA", name)
    await generation_is(log, before.handed_to("green"))
    assert (await caller.visitor.until_goodbye("moved")).epoch == 1
    await ends.until("moved")
    mirror = (await log.activate(name)).mirror
    assert mirror is not None and mirror.final


async def test_a_pool_that_reads_the_others_marker_first_asks_whose_it_is(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of several servers one may answer later than another, when both have changed."""
    looks, name = ValkeyLog.looks, room_of(POOL, "rooms:0")
    blue, green = await both(launch, log, "rooms:0")
    caller = await entered(blue, "gA", name)
    stale: list[Top] = await log.looks(["placement"])

    async def late(self: ValkeyLog, names: list[str]) -> list[Top]:
        found = await looks(self, names)
        if stale and self is blue._aside and found[1].epoch > blue._ownership._epoch:
            found[0] = stale.pop()
        return found

    monkeypatch.setattr(ValkeyLog, "looks", late)
    # A pool of this name that nobody tells apart by its marker.
    await Generation(log).hand_to("green")
    await log.activate("rooms:0")
    goodbye = await caller.visitor.until_goodbye("moved")
    assert goodbye.epoch == 1
    assert not green.leaving


async def test_it_goes_back_the_same_way(launch: Launch, log: ValkeyLog) -> None:  # noqa: F811
    name = room_of(POOL, "rooms:0")
    _, green = await both(launch, log, "rooms:0")
    await generation_is(log, GREEN)
    again = await launch("rooms:0", GREEN, cluster="blue")
    green.place(GREEN)
    caller = await entered(green, "gA", name)
    back = GREEN.handed_to("blue")
    await generation_is(log, back)
    assert (await caller.visitor.until_goodbye("moved")).epoch == 1
    again.place(back)
    there = await entered(again, "gA", name)
    assert {each.epoch for each in there.visitor.outputs} == {2}
    there.close()


async def test_a_host_that_is_made_too_late_ends(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
    ends: Ends,  # noqa: F811
) -> None:
    """By a namespace that did not know yet; one that waits was made by who did."""
    await generation_is(log, GREEN)
    marker = await log.epoch("rooms:0")
    await launch("rooms:0", BLUE, cluster="blue")
    await ends.until("moved")
    assert await log.epoch("rooms:0") == marker


async def test_a_room_that_waits_for_its_turn_is_given_up_once_the_other_has_it(
    launch: Launch,  # noqa: F811
    log: ValkeyLog,  # noqa: F811
) -> None:
    """However long it takes to let go of thousands: each one's own epoch counts."""
    await generation_is(log, BLUE)
    slow = Pace(tick_s=0.01, at_once=1)
    blue = await launch("rooms:0", BLUE, cluster="blue", pace=slow)
    names = [room_of(POOL, "rooms:0") for _ in range(40)]
    caller = await entered(blue, "gA", *names)
    await generation_is(log, GREEN)
    await caller.visitor.until(lambda: bool(caller.visitor.goodbyes))
    last = list(blue.objects)[-1]
    await log.activate(last)
    await caller.visitor.until(lambda: len(caller.visitor.goodbyes) == len(names))
    reasons = {each.object: each.reason for each in caller.visitor.goodbyes}
    assert reasons.pop(last) == "duplicate_activation"
    assert set(reasons.values()) == {"moved"}
