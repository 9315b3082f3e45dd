"""What holds for any life of a room: hypothesis against small models of the rules."""

from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import Life
from cfmessenger.chat.room import Room, RoomRules
from cfmessenger.wire.events import Event as DurableEvent
from tests.effort import tries

from .audience import Audience

decode_message = msgspec.json.Decoder(DurableEvent).decode

RULES = RoomRules(chat_rate=(3, 10), nudge_rate=(2, 5))
FIRST = Life(1)
CONNS = {
    "a.1": "user_1",
    "b.1": "user_1",
    "a.2": "user_2",
    "b.2": "user_2",
    "b.3": "user_3",
}
conns = st.sampled_from(sorted(CONNS))
ids = st.sampled_from(["m1", "m2", "m3", None])

Step = tuple[str, Any, Any]
waits = st.tuples(
    st.just("wait"),
    st.sampled_from([0, 1, 49, 50, 999, 1_000, 3_000, 5_000, 9_999, 10_000])
    | st.integers(0, 4_000),
    st.none(),
)
moves = st.tuples(st.sampled_from(["enter", "leave"]), conns, st.none())
says = st.tuples(st.sampled_from(["chat", "wink", "nudge"]), conns, ids)
acks = st.tuples(
    st.just("ack"),
    conns,
    st.tuples(st.sampled_from(["m1", "m2"]), st.sampled_from(["delivered", "read"])),
)
types = st.tuples(st.just("typing"), conns, st.booleans())
statuses = st.tuples(
    st.just("presence"), conns, st.sampled_from(["online", "busy", "offline"])
)
links = st.tuples(st.just("reattach"), st.sampled_from("ab"), st.none())
any_step = waits | moves | says | acks | types | statuses | links
talk = waits | moves | says | types


def life(step: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    # With a least size: hypothesis prefers lists of about five.
    return st.lists(step, min_size=15, max_size=60)


quick = settings(max_examples=tries(100))


def carry_out(there: Audience, step: Step) -> list[fx.Effect]:
    kind, what, more = step
    if kind == "wait":
        return there.wait(what)
    if kind == "reattach":
        return there.reattach(what)
    if kind == "enter":
        if what in there.attachments:
            return []
        return there.enter(what, CONNS[what])
    if kind == "leave":
        return there.leave(what) if what in there.attachments else []
    entered = there.enter(what, CONNS[what]) if what not in there.attachments else []
    frames: dict[str, dict[str, Any]] = {
        "chat": {"content": "hello"},
        "wink": {"winkId": "heart"},
        "nudge": {},
        "typing": {"isTyping": more},
        "presence": {"status": more},
        "ack": {},
    }
    frame = {"type": kind, **frames[kind]}
    if kind == "ack":
        frame |= {"ackId": more[0], "status": more[1]}
    elif kind in ("chat", "wink", "nudge") and more is not None:
        frame["id"] = more
    return entered + there.say(what, frame)


def fresh(room_id: str = "general") -> Audience:
    return Audience(Room(room_id, RULES, FIRST))


def lived(steps: list[Step], room_id: str = "general") -> Audience:
    there = fresh(room_id)
    for step in steps:
        carry_out(there, step)
    return there


@quick
@given(life(any_step))
def test_seq_has_no_holes_and_time_does_not_go_back(steps: list[Step]) -> None:
    there = fresh()
    for step in steps:
        carry_out(there, step)
    events = [decode_message(append.event) for append in there.appended]
    assert [append.seq for append in there.appended] == list(range(1, len(events) + 1))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    times = [event.timestamp for event in events]
    assert times == sorted(times)
    assert all(append.shown for append in there.appended)


@quick
@given(life(waits | says | moves))
def test_an_id_is_one_message_and_rates_are_exact(steps: list[Step]) -> None:
    there = fresh()
    for conn in CONNS:
        there.enter(conn, CONNS[conn])
    accepted: dict[tuple[str, bool], list[int]] = defaultdict(list)
    sent: dict[tuple[str, str], tuple[str, bytes]] = {}
    for step in steps:
        kind, conn, own_id = step
        if kind not in ("chat", "wink", "nudge"):
            carry_out(there, step)
            continue
        if conn not in there.attachments:
            there.enter(conn, CONNS[conn])
        effects = carry_out(there, step)
        user_id, nudge = CONNS[conn], kind == "nudge"
        count, seconds = RULES.nudge_rate if nudge else RULES.chat_rate
        log = accepted[user_id, nudge]
        recent = [at for at in log if at > there.now - seconds * 1_000]
        first = effects[0]
        if own_id is not None and (user_id, own_id) in sent:
            said, event = sent[user_id, own_id]
            *told, repeat = effects
            assert isinstance(repeat, fx.Repeat) and repeat.frame == event
            codes = [msgspec.json.decode(send.frame)["code"] for send in told]
            assert codes == ([] if kind == said else ["ID_REUSED"])
        elif len(recent) < count:
            assert isinstance(first, fx.Append)
            log.append(there.now)
            if own_id is not None:
                sent[user_id, own_id] = kind, first.event
        else:
            assert isinstance(first, fx.Send)
            error = msgspec.json.decode(first.frame)
            assert error["code"] == "RATE_LIMITED"
            assert there.now + error["retryAfterMs"] == recent[-count] + seconds * 1_000


@quick
@given(life(waits | types | moves))
def test_typing_never_outlives_its_three_seconds(steps: list[Step]) -> None:
    there = fresh()
    there.enter("z.9", "user_9")
    for conn in CONNS:
        there.enter(conn, CONNS[conn])
    there.rest()
    there.forget()
    last_true: dict[str, int] = {}
    shown: dict[str, bool] = {}
    changes: dict[str, list[int]] = defaultdict(list)

    def look() -> None:
        for frame in there.take("z.9"):
            if frame["type"] == "typing":
                user_id = frame["senderId"]
                assert shown.get(user_id, False) is not frame["isTyping"]
                shown[user_id] = frame["isTyping"]
                changes[user_id].append(there.now)

    for kind, what, more in steps:
        if kind == "wait":
            end = there.now + what
            while there.now < end:
                at = there.machine.alarm_at
                there.wait(min(at or end, end) - there.now)
                look()
            continue
        if kind == "typing" and more:
            last_true[CONNS[what]] = there.now
        carry_out(there, (kind, what, more))
        look()
        for user_id, on in shown.items():
            assert not on or there.now < last_true[user_id] + 3_000
    there.rest()
    look()
    assert not any(shown.values())
    for times in changes.values():
        assert all(b - a >= 1_000 for a, b in zip(times, times[5:], strict=False))


@quick
@given(life(acks | moves))
def test_receipts_only_go_up(steps: list[Step]) -> None:
    there = fresh()
    there.enter("z.9", "user_9")
    for own_id in ("m1", "m2"):
        there.chat("z.9", id=own_id)
    there.forget()
    for step in steps:
        carry_out(there, step)
    told: dict[str, list[str]] = defaultdict(list)
    for frame in there.take("z.9"):
        if frame["type"] == "delivery_status":
            told[frame["ackId"]].append(frame["status"])
    ladder = ["delivered", "read"]
    assert all(went in (ladder, ladder[:1], ladder[1:]) for went in told.values())
    there.enter("z.10", "user_9")
    (history,) = (f for f in there.take("z.10") if f["type"] == "history")
    for message in history["messages"]:
        assert message.get("status") == (told[message["id"]] or [None])[-1]


@quick
@given(life(waits | moves | links))
def test_people_join_and_leave_once_however_many_tabs(steps: list[Step]) -> None:
    there = fresh()
    there.enter("z.9", "user_9")
    there.rest()
    there.forget()
    told: set[str] = set()
    for step in steps:
        carry_out(there, step)
        for frame in there.take("z.9"):
            if frame["type"] == "system":
                user_id, did = frame["content"].split(" the")[0].rsplit(" ", 1)
                assert (user_id in told) == (did == "left")
                told.symmetric_difference_update({user_id})
            elif frame["type"] == "participants":
                last = {p["displayName"] for p in frame["participants"]}
                assert len(last) == len(frame["participants"])
                assert last == told | {"User 9"}
        present = {a.display_name for a in there.attachments.values()} - {"User 9"}
        assert told == present


def settle(there: Audience) -> None:
    """As before hibernation: no timer runs, and a second has passed for the acks."""
    there.rest()
    there.wait(1_000)


@quick
@given(
    st.sampled_from(["general", "dm_user_1__user_2"]),
    life(any_step),
    life(any_step),
)
def test_a_restored_room_behaves_as_the_room(
    room_id: str, before: list[Step], after: list[Step]
) -> None:
    there = lived(before, room_id)
    settle(there)
    room = there.machine
    assert isinstance(room, Room)
    twin_room = Room.restore(room_id, RULES, room.snapshot(), True, FIRST)
    assert (twin_room.seq, twin_room.gateways) == (room.seq, room.gateways)
    twin = Audience(twin_room, there.now)
    twin.attachments = dict(there.attachments)
    twin.subscribed = list(there.subscribed)
    twin._n = there._n
    for gateway in sorted(room.gateways):
        assert all(isinstance(e, fx.Subscribe) for e in twin.reattach(gateway))
    assert twin_room.alarm_at is None
    for step in after:
        assert carry_out(twin, step) == carry_out(there, step)
    assert twin_room.snapshot() == room.snapshot()


@quick
@given(
    st.sampled_from(["general", "dm_user_1__user_2"]),
    life(talk),
    st.integers(0, 40),
    life(talk),
)
def test_a_room_rebuilt_from_its_log_behaves_as_the_room(
    room_id: str, before: list[Step], mirrored: int, after: list[Step]
) -> None:
    there = fresh(room_id)
    snapshot: bytes | None = None
    for n, step in enumerate(before):
        if n == mirrored:
            snapshot = there.machine.snapshot()
        carry_out(there, step)
    twin_room = Room(room_id, RULES, FIRST)
    if snapshot is not None:
        # As after a crash: a mirror of some time ago, and the log above it.
        twin_room = Room.restore(room_id, RULES, snapshot, False, FIRST)
    for append in there.appended[twin_room.seq :]:
        twin_room.replay(there.now, 1, append.seq, append.event)
    # The crash took everyone along, and nobody is waited for.
    assert twin_room.give_up(there.now) == []
    there.detach("a")
    there.detach("b")
    settle(there)
    twin = Audience(twin_room, there.now)
    twin._n = there._n
    assert twin_room.seq == there.machine.seq
    for step in after:
        assert carry_out(twin, step) == carry_out(there, step)
