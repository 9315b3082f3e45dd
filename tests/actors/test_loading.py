"""What an activation finds: mirror and log, believed as far as they may be."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import valkey

from actors.loading import load, take
from cfmessenger.chat.effects import Effect, Send
from cfmessenger.chat.machine import Machine
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.clock import Clock
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.log import (
    ASIDE_FOR_S,
    Activated,
    Commit,
    Fenced,
    Mirror,
    ValkeyLog,
)
from cfmessenger.wire import protocol
from cfmessenger.wire.events import ChatMessage
from tests.actors.scene import UNLIMITED, attachment, chat, fresh_room, kind_of
from tests.valkey_proxy import proxied

NOW = time.time_ns() // 1_000_000
OLD = NOW - 120_000


@pytest.fixture
async def log(valkey_url: str) -> AsyncIterator[ValkeyLog]:
    log = ValkeyLog(valkey_url, 10_000)
    yield log
    log.close()


def event(name: str, seq: int, at: int) -> bytes:
    room_id, text = name.removeprefix("room:"), f"number {seq}"
    message = ChatMessage(
        f"m{seq}", room_id, "user_1", "One", text, at, seq, False, False
    )
    return protocol.encode(message)


async def write(log: ValkeyLog, name: str, epoch: int, seqs: range, at: int) -> None:
    for start in range(seqs.start, seqs.stop, 500):
        part = range(start, min(start + 500, seqs.stop))
        rows = [(seq, event(name, seq, at)) for seq in part]
        assert await log.commit([Commit(name, epoch, rows)]) == [None]


async def told(log: ValkeyLog, name: str) -> list[tuple[int, int, int, int]]:
    """The events that tell of a loss: seq, from, to, era."""
    found = [msgspec.json.decode(each.event) for each in await log.after(name, 0, 100)]
    lost = [each for each in found if each["type"] == "lost"]
    return [(each["seq"], each["from"], each["to"], each["era"]) for each in lost]


class Still(Clock):
    """It is `NOW`, however long the tests take."""

    def now(self) -> int:
        return NOW


async def loaded(name: str, log: ValkeyLog) -> Machine:
    found = await take(name, log)
    loaded = await load(name, kind_of(name, UNLIMITED), log, Still(), found)
    return loaded.machine


def room_at(name: str, seq: int) -> Room:
    """A room that said `seq` messages, with one socket in it."""
    room = Room(name.removeprefix("room:"), UNLIMITED)
    room.connect(NOW, attachment("g1.1", "user_1"), None)
    for n in range(1, seq + 1):
        room.message(NOW, "g1.1", chat(f"number {n}", f"m{n}"), "")
    return room


def repeated(machine: Machine, id: str) -> bool:  # noqa: A002
    """Whether user_1 saying this id again is known for a repetition."""
    machine.connect(NOW, attachment("g9.9", "user_1"), None)
    before = machine.seq
    machine.message(NOW, "g9.9", chat("again", id), "fresh")
    return machine.seq == before


def shown(effects: list[Effect]) -> tuple[list[int], bool]:
    """The seqs in the `history` of a connect, and whether it tells of a gap."""
    frames = [msgspec.json.decode(e.frame) for e in effects if type(e) is Send]
    (history,) = [frame for frame in frames if frame["type"] == "history"]
    return [message["seq"] for message in history["messages"]], history["gap"]


async def test_an_object_that_never_lived_starts_with_nothing(log: ValkeyLog) -> None:
    machine = await loaded(fresh_room(), log)
    assert (machine.epoch, machine.seq, machine.sockets) == (1, 0, 0)


async def test_a_clean_mirror_is_the_object_as_it_was(log: ValkeyLog) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 4), NOW)
    await log.save(name, 1, room_at(name, 3).snapshot(), final=True)
    machine = await loaded(name, log)
    assert (machine.epoch, machine.seq, machine.sockets) == (2, 3, 1)
    assert machine.gateways == {"g1"}
    assert (machine.previous_epoch, machine.crashed) == (1, False)


async def test_a_life_that_left_no_final_mirror_has_crashed(log: ValkeyLog) -> None:
    name = fresh_room()
    first = await loaded(name, log)
    assert (first.epoch, first.previous_epoch, first.crashed) == (1, 0, False)
    second = await loaded(name, log)
    assert (second.epoch, second.previous_epoch, second.crashed) == (2, 1, True)
    await log.save(name, 2, room_at(name, 0).snapshot(), final=False)
    third = await loaded(name, log)
    assert (third.epoch, third.previous_epoch, third.crashed) == (3, 2, True)


def unknown(name: str, seq: int, at: int) -> bytes:
    """An event of a type that only a later release knows."""
    known = event(name, seq, at)
    return known.replace(b'"chat"', b'"knock"').replace(b"}", b',"door":[1, 2]}')


async def test_what_a_later_release_said_is_kept_and_shown_as_it_stands(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture
) -> None:
    """From the log, and from the mirror after one more sleep."""
    name = fresh_room()
    await log.activate(name)
    rows = [
        (seq, (unknown if seq == 2 else event)(name, seq, NOW)) for seq in range(1, 4)
    ]
    await log.commit([Commit(name, 1, rows)])
    for epoch in (2, 3):
        machine = await loaded(name, log)
        assert (machine.epoch, machine.seq) == (epoch, 3)
        assert machine.events_after(0) == [data for _, data in rows]
        assert repeated(machine, "m2")
        await log.save(name, epoch, machine.snapshot(), final=True)
    told = machine.connect(NOW, attachment("g1.1", "user_2"), None)
    assert shown(told) == ([1, 2, 3], False)
    assert not caplog.records


async def test_who_is_overtaken_while_it_reads_calls_that_no_damage(
    log: ValkeyLog, valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest entries are then more than it knows of, and it reads too few."""

    class Overtaken(ValkeyLog):
        async def activate(self, name: str, above: int = 0) -> Activated:
            found = await super().activate(name, above)
            later = (await log.activate(name)).epoch
            await write(log, name, later, range(found.seq + 1, found.seq + 4), NOW)
            return found

    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 4), NOW)
    late = Overtaken(valkey_url, 10_000)
    with pytest.raises(Fenced):
        await loaded(name, late)
    late.close()
    assert "lost events" not in caplog.text


@pytest.mark.parametrize("how", ["lived since", "live", "another epoch"])
async def test_an_unclean_mirror_is_not_believed_about_who_is_here(
    log: ValkeyLog, how: str
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 4), NOW)
    await log.save(name, 1, room_at(name, 3).snapshot(), final=how != "live")
    if how != "live":
        await log.activate(name)
    if how == "lived since":
        await write(log, name, 2, range(4, 6), NOW)
    machine = await loaded(name, log)
    assert machine.seq == (5 if how == "lived since" else 3)
    assert (machine.sockets, machine.gateways) == (0, set())
    found = machine.events_after(0)
    assert found is not None
    assert len(found) == machine.seq, "the history of before and since"


async def test_without_a_mirror_the_last_thousand_are_loaded(log: ValkeyLog) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 2301), OLD)
    machine = await loaded(name, log)
    assert machine.seq == 2300
    recent = machine.events_after(2200)
    assert recent == [event(name, n, OLD) for n in range(2201, 2301)]
    assert repeated(machine, "m1301")
    assert not repeated(machine, "m1200")


async def test_without_a_mirror_the_last_minute_is_loaded(log: ValkeyLog) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 501), OLD)
    await write(log, name, 1, range(501, 2801), NOW - 30_000)
    machine = await loaded(name, log)
    # "within the last 1,000 messages or 60 s, whichever is more"
    assert repeated(machine, "m501")
    assert repeated(machine, "m2800")
    assert not repeated(machine, "m1")


async def test_a_short_log_is_loaded_whole_over_all_its_epochs(log: ValkeyLog) -> None:
    name = fresh_room()
    for epoch in range(1, 6):
        await log.activate(name)
        await write(log, name, epoch, range(epoch * 3 - 2, epoch * 3 + 1), OLD)
    machine = await loaded(name, log)
    assert (machine.epoch, machine.seq) == (6, 15)
    assert machine.events_after(0) == [event(name, n, OLD) for n in range(1, 16)]


async def test_a_mirror_from_before_the_log_was_trimmed_is_left_aside(
    log: ValkeyLog, admin_valkey: valkey.Valkey
) -> None:
    name = fresh_room()
    await log.activate(name)
    await log.save(name, 1, room_at(name, 10).snapshot(), final=False)
    await write(log, name, 1, range(1, 301), NOW)
    admin_valkey.xtrim(keys.log(name), maxlen=50, approximate=False)
    machine = await loaded(name, log)
    assert machine.seq == 300
    found = machine.events_after(250)
    assert found is not None
    assert len(found) == 50
    assert machine.events_after(249) is None, "there is a hole, and it is known"


async def test_a_mirror_nobody_can_read_is_left_aside(log: ValkeyLog) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 6), NOW)
    await log.save(name, 1, b"\x81of another version", final=True)
    machine = await loaded(name, log)
    assert (machine.seq, machine.sockets, machine.crashed) == (5, 0, True)
    assert repeated(machine, "m1")


def of_the_version_after(snapshot: bytes) -> bytes:
    """The same, as if a later release had written it in a form of its own."""
    fields = msgspec.msgpack.decode(snapshot)
    return msgspec.msgpack.encode({**fields, "type": fields["type"] + 1, "moods": [1]})


async def test_a_mirror_of_the_version_after_is_put_aside_and_the_log_is_the_truth(
    log: ValkeyLog, admin_valkey: valkey.Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 6), NOW)
    later = of_the_version_after(room_at(name, 5).snapshot())
    await log.save(name, 1, later, final=True)
    found = await take(name, log)
    done = await load(name, kind_of(name, UNLIMITED), log, Still(), found)
    machine = done.machine
    assert done.aside and (machine.seq, machine.sockets) == (5, 0)
    assert machine.events_after(0) == [event(name, n, NOW) for n in range(1, 6)]
    assert repeated(machine, "m1"), "ids, and so rates, come from the log"
    assert machine.crashed, "nobody knows who held sockets: all gateways are called"
    assert [each.message for each in caplog.records] == [
        f"the mirror of {name} is a later release's: put aside"
    ]
    await log.save(name, 2, machine.snapshot(), final=True)
    ((_, kept),) = admin_valkey.xrange(keys.aside(name))
    assert kept == {b"final": later}
    assert 0 < admin_valkey.ttl(keys.aside(name)) <= ASIDE_FOR_S
    again = await take(name, log)
    assert again.aside == later
    third = await load(name, kind_of(name, UNLIMITED), log, Still(), again)
    assert not third.aside and not third.machine.crashed


async def test_nothing_is_loaded_while_a_later_mirror_cannot_be_put_aside(
    log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the next sleep would replace it."""

    async def refused(self: ValkeyLog, *_: object) -> None:
        raise Unavailable

    name = fresh_room()
    await log.activate(name)
    await log.save(
        name, 1, of_the_version_after(room_at(name, 1).snapshot()), final=True
    )
    monkeypatch.setattr(ValkeyLog, "put_aside", refused)
    with pytest.raises(Unavailable):
        await loaded(name, log)


async def test_of_two_mirrors_put_aside_the_newer_stays(log: ValkeyLog) -> None:
    name = fresh_room()
    lineage = (await log.activate(name)).lineage
    for epoch, data in ((3, b"three"), (2, b"two")):
        await log.put_aside(name, Mirror(epoch, False, data), lineage)
    assert (await log.activate(name)).aside == b"three"


async def test_statuses_that_were_put_aside_are_there_again_with_their_release(
    log: ValkeyLog,
) -> None:
    """They only rise: what was acknowledged meanwhile stays, and so do others' ids."""
    name = fresh_room()
    before = room_at(name, 3)
    before.connect(NOW, attachment("g1.2", "user_2"), None)
    ack(before, "m1", "read"), ack(before, "m2", "delivered")
    lineage = (await log.activate(name)).lineage
    await write(log, name, 1, range(1, 4), NOW)
    await log.put_aside(name, Mirror(1, True, before.snapshot()), lineage)
    between = room_at(name, 3)
    between.connect(NOW, attachment("g1.2", "user_2"), None)
    ack(between, "m2", "read")
    await log.save(name, 1, between.snapshot(), final=True)
    machine = await loaded(name, log)
    assert statuses(machine) == ["read", "read", None]
    assert machine.receipts_changed, "they are in the next mirror"


def ack(room: Room, id: str, status: str) -> None:  # noqa: A002
    told = {"type": "ack", "ackId": id, "status": status}
    assert room.message(NOW, "g1.2", msgspec.json.encode(told), "fresh")


def statuses(machine: Machine) -> list[str | None]:
    told = machine.connect(NOW, attachment("g8.8", "user_2"), None)
    frames = [msgspec.json.decode(e.frame) for e in told if type(e) is Send]
    (history,) = [frame for frame in frames if frame["type"] == "history"]
    return [message.get("status") for message in history["messages"]]


async def test_a_mirror_above_the_log_is_believed_and_the_loss_is_told(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture
) -> None:
    # Nothing is mirrored before it is confirmed, so it is the log that lost some.
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 3), NOW)
    await log.save(name, 1, room_at(name, 5).snapshot(), final=True)
    machine = await loaded(name, log)
    assert machine.seq == 6, "no number is given twice, and one tells what is lost"
    assert await told(log, name) == [(6, 3, 5, 6)]
    assert repeated(machine, "m3"), "it was said"
    again = await loaded(name, log)
    assert again.seq == 6, "it is told once"
    assert f"{name} lost events 3 to 5" in caplog.messages


# What storage has lost.


async def test_an_entry_that_is_gone_from_the_middle_is_told_and_shown_as_a_gap(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 8), NOW)
    await log.execute(
        [("XDEL", keys.log(name), "1-3"), ("XDEL", keys.log(name), "1-4")]
    )
    machine = await loaded(name, log)
    assert isinstance(machine, Room)
    assert machine.seq == 8
    assert f"{name} lost events 3 to 4" in caplog.messages
    assert await told(log, name) == [(8, 3, 4, 8)]
    everything = ([1, 2, 5, 6, 7, 8], True)
    for since, era in ((1, None), (4, None), (7, 5)):
        resumed = machine.connect(NOW, attachment("g1.1"), since, era=era)
        assert shown(resumed) == everything, "what it has may be of another log"
    for since, era in ((8, None), (8, 8)):
        resumed = machine.connect(NOW, attachment("g1.1"), since, era=era)
        assert shown(resumed) == ([], False)
    resumed = machine.connect(NOW, attachment("g1.2"), 4, era=8)
    assert shown(resumed) == ([5, 6, 7, 8], False)
    # A gateway that comes back across it shows its sockets that there is a gap.
    missed = [msgspec.json.decode(each) for each in machine.events_after(1) or ()]
    assert [m.get("seq") or (m["lastSeq"], m["gap"]) for m in missed] == [
        *(2, (4, True), 5, 6, 7, 8)
    ]
    after = machine.events_after(4)
    assert after is not None
    assert after[:-1] == [event(name, n, NOW) for n in (5, 6, 7)]
    assert (await loaded(name, log)).seq == 8, "it is told once"


@pytest.mark.parametrize("final", [True, False])
async def test_an_entry_above_the_mirror_that_is_gone_does_not_cost_the_mirror(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture, final: bool
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 8), NOW)
    await log.save(name, 1, room_at(name, 3).snapshot(), final=final)
    await log.execute([("XDEL", keys.log(name), "1-4")])
    machine = await loaded(name, log)
    assert machine.seq == 8
    assert await told(log, name) == [(8, 4, 4, 8)]
    assert repeated(machine, "m2"), "out of the mirror"
    assert f"{name} lost events 4 to 4" in caplog.messages


async def test_the_newest_entry_that_is_gone_keeps_its_number(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 5), NOW)
    await log.execute([("XDEL", keys.log(name), "1-4")])
    machine = await loaded(name, log)
    assert machine.seq == 5
    assert f"{name} lost events 4 to 4" in caplog.messages
    assert machine.events_after(3) != []


@pytest.mark.parametrize("final", [True, False])
async def test_what_was_trimmed_is_no_loss(
    log: ValkeyLog,
    admin_valkey: valkey.Valkey,
    caplog: pytest.LogCaptureFixture,
    final: bool,
) -> None:
    name = fresh_room()
    await log.activate(name)
    await log.save(name, 1, room_at(name, 10).snapshot(), final=final)
    await write(log, name, 1, range(1, 301), NOW)
    admin_valkey.xtrim(keys.log(name), maxlen=50, approximate=False)
    await loaded(name, log)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


DAMAGED = {
    "cut short": event("room:x", 3, NOW)[:-9],
    "no JSON": b"\xff\x00garbage",
    "of another version": b'{"kind":"poll","seq":3}',
    "another's": event("room:x", 4, NOW),
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_an_event_that_nobody_can_read_is_told_and_skipped(
    log: ValkeyLog, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 3), NOW)
    assert await log.commit([Commit(name, 1, [(3, DAMAGED[damage])])]) == [None]
    await write(log, name, 1, range(4, 6), NOW)
    machine = await loaded(name, log)
    assert machine.seq == 5
    assert f"{name}: event 3 cannot be read" in caplog.messages
    assert shown(machine.connect(NOW, attachment("g1.1"), 1)) == ([2, 4, 5], True)
    assert shown(machine.connect(NOW, attachment("g1.2"), None)) == (
        [1, 2, 4, 5],
        False,
    )
    machine.connect(NOW, attachment("g1.3", "user_3"), None)
    machine.message(NOW, "g1.3", chat("goes on", "new"), "")
    assert machine.seq == 6


async def test_a_log_that_begins_with_an_unreadable_event_is_loaded(
    log: ValkeyLog,
) -> None:
    # The oldest of a page says how far back the page goes.
    name = fresh_room()
    await log.activate(name)
    assert await log.commit([Commit(name, 1, [(1, b"?")])]) == [None]
    await write(log, name, 1, range(2, 1001), OLD)
    assert (await loaded(name, log)).seq == 1000


async def test_the_clock_of_a_machine_that_is_ahead_dates_nothing(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "_wall", staticmethod(lambda: NOW + 3_600_000))
    clock = Clock()
    ahead = ValkeyLog(valkey_url, 1000, clock)
    found = await take("room:any", ahead)
    await load("room:any", kind_of("room:any", UNLIMITED), ahead, clock, found)
    ahead.close()
    assert abs(clock.now() - time.time_ns() // 1_000_000) < 60_000


async def test_messages_of_a_time_to_come_do_not_use_up_a_rate(log: ValkeyLog) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 6), NOW + 3_600_000)
    rules = RoomRules(chat_rate=(5, 10), nudge_rate=(0, 1))
    found = await take(name, log)
    machine = (await load(name, kind_of(name, rules), log, Still(), found)).machine
    machine.connect(NOW, attachment("g1.1", "user_1"), None)
    machine.message(NOW + 11_000, "g1.1", chat("after ten seconds", "new"), "")
    assert machine.seq == 6


async def test_ids_of_before_are_known_with_the_epoch_that_wrote_them(
    log: ValkeyLog,
) -> None:
    name = fresh_room()
    await log.activate(name)
    await write(log, name, 1, range(1, 3), NOW)
    await log.activate(name)
    await write(log, name, 2, range(3, 5), NOW)
    machine = await loaded(name, log)
    assert isinstance(machine, Room)
    kept = {row.id: row.epoch for row in machine._history.snapshot()}
    assert kept == {"m1": 1, "m2": 1, "m3": 2, "m4": 2}


async def test_presence_has_no_log_but_epochs(log: ValkeyLog) -> None:
    name = "presence:global"
    first = await loaded(name, log)
    first.connect(NOW, attachment("g1.1"), None)
    await log.save(name, first.epoch, first.snapshot(), final=True)
    second = await loaded(name, log)
    assert second.epoch == first.epoch + 1
    assert (second.seq, second.sockets) == (0, 1)


async def test_the_epoch_comes_before_anything_is_read(valkey_url: str) -> None:
    name = fresh_room()
    async with proxied(valkey_url) as proxy:
        log = ValkeyLog(proxy.url, 1000)
        await log.activate(name)
        await write(log, name, 1, range(1, 3), NOW)
        before = len(proxy.sent)
        await loaded(name, log)
        reads = [n for n, c in enumerate(proxy.sent[before:]) if b"RANGE" in c]
        marker = next(n for n, c in enumerate(proxy.sent[before:]) if b"XDEL" in c)
        assert marker <= min(reads)
        pipeline = proxy.sent[before:][marker]
        assert pipeline.index(b"XADD") < pipeline.index(b"XREVRANGE")
        log.close()


async def test_who_comes_second_loads_nothing(log: ValkeyLog, valkey_url: str) -> None:
    name = fresh_room()
    async with proxied(valkey_url) as proxy:
        slow = ValkeyLog(proxy.url, 1000)
        await slow.epoch(name)
        proxy.stall()
        loading = asyncio.create_task(loaded(name, slow))
        await proxy.until_kept()
        await log.activate(name)
        proxy.flow()
        with pytest.raises(Fenced):
            await loading
        slow.close()
