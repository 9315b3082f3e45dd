"""A crowd: what its sockets are told of each other, and what each arrival costs."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.chat import effects as fx
from cfmessenger.chat.crowd import USUAL, Crowd
from cfmessenger.chat.machine import Life
from cfmessenger.chat.room import Room, RoomRules
from tests.cfmessenger.chat.audience import Audience, Frame
from tests.effort import tries

SMALL = Crowd(above=4, tick_ms=2_000, vast=20, vast_tick_ms=5_000, typists=2)
RULES = RoomRules(chat_rate=(0, 1), crowd=SMALL)


def hall(people: int, room: Room | None = None) -> Audience:
    """So many are in, each with one socket, and have been told."""
    there = Audience(room or Room("general", RULES))
    for n in range(people):
        there.enter(f"g.{n}", f"user_{n}")
    there.rest()
    there.forget()
    return there


def lists(there: Audience, conn: str) -> list[Frame]:
    return [each for each in there.take(conn) if each["type"] == "participants"]


def named(frame: Frame) -> list[int]:
    return [int(each["id"].removeprefix("user_")) for each in frame["participants"]]


def lines(there: Audience, conn: str) -> list[str]:
    system = [each for each in there.take(conn) if each["type"] == "system"]
    return [each["content"] for each in system]


def test_who_comes_into_a_crowd_is_told_at_once_and_the_others_by_the_tick() -> None:
    there = hall(5)
    there.wait(10_000)
    there.enter("g.5", "user_5")
    there.wait(50)  # the tick was due long ago
    assert [named(each) for each in lists(there, "g.5")] == [[2, 3, 4, 5]]
    assert [named(each) for each in lists(there, "g.4")] == [[2, 3, 4, 5]]
    there.enter("g.6", "user_6")
    there.wait(50)
    [first] = lists(there, "g.6")
    assert (named(first), first["total"]) == ([3, 4, 5, 6], 7)
    assert lists(there, "g.4") == lists(there, "g.5") == []
    there.wait(1_949)
    assert lists(there, "g.4") == []
    there.wait(1)
    [told] = lists(there, "g.4")
    assert (named(told), told["total"]) == ([3, 4, 5, 6], 7)


def test_the_receiver_is_always_among_them() -> None:
    there = hall(7)
    there.change("g.1", display_name="Uno", words_at=1, personal_message="hi")
    there.rest()
    seen = {n: lists(there, f"g.{n}")[-1] for n in range(7)}
    assert {n: named(frame) for n, frame in seen.items()} == {
        **{n: [n, 4, 5, 6] for n in range(3)},
        **{n: [3, 4, 5, 6] for n in range(3, 7)},
    }
    assert {frame["total"] for frame in seen.values()} == {7}
    [me] = [each for each in seen[1]["participants"] if each["id"] == "user_1"]
    assert (me["displayName"], me["personalMessage"]) == ("Uno", "hi")


def test_who_was_told_alone_is_passed_by_and_told_by_the_tick_after() -> None:
    there = hall(6)
    there.wait(10_000)
    there.change("g.0", status="busy", status_at=1)
    there.wait(50)  # a tick
    there.forget()
    there.wait(1_000)
    there.enter("g.6", "user_6")
    there.wait(100)
    there.leave("g.0")
    there.wait(900)  # the next tick
    assert [each["total"] for each in lists(there, "g.1")] == [6]
    assert [each["total"] for each in lists(there, "g.6")] == [7]
    there.wait(1_999)
    assert lists(there, "g.6") == []
    there.wait(1)
    assert [each["total"] for each in lists(there, "g.6")] == [6]
    assert lists(there, "g.1") == []  # to whom that is no news
    there.rest()
    assert there.machine.alarm_at is None


def test_changes_and_who_leaves_travel_in_the_tick_and_no_line_tells_it() -> None:
    there = hall(7)
    there.change("g.6", display_name="Sechs", words_at=1)
    there.change("g.5", status="away", status_at=1)
    there.leave("g.4")
    there.enter("g.7", "user_7")
    there.rest()
    assert "system" not in [each["type"] for each in there.seen["g.3"]]
    [told] = lists(there, "g.3")
    assert told["total"] == 7
    assert [(each["displayName"], each["status"]) for each in told["participants"]] == [
        ("User 3", "online"),
        ("User 5", "away"),
        ("Sechs", "online"),
        ("User 7", "online"),
    ]


def test_a_vast_crowd_is_told_more_seldom() -> None:
    there = hall(20)
    there.wait(60_000)
    for n in range(4):
        there.change("g.0", status="busy" if n % 2 else "away", status_at=n + 1)
        there.wait(3_000)
    there.rest()
    # At once, as the last time was long ago; then after 5 and 10 s.
    assert len(lists(there, "g.8")) == 3


def test_the_wait_grows_to_that_of_a_vast_crowd_without_a_jump() -> None:
    waits = [USUAL.interval_ms(n) for n in (201, 800, 1_200, 2_000, 2_001, 9_000)]
    assert waits == [2_000, 2_000, 3_000, 5_000, 5_000, 5_000]


def test_a_room_that_grows_into_a_crowd_falls_silent_and_one_that_shrinks_speaks() -> (
    None
):
    there = hall(4)
    there.enter("g.4", "user_4")  # the fifth: a crowd
    there.wait(100)
    assert there.take("g.0") == []
    there.rest()
    assert [each["total"] for each in lists(there, "g.0")] == [5]
    there.leave("g.4")  # came without a line, and goes without one
    there.wait(50)
    [small] = there.take("g.0")
    assert "total" not in small
    assert named(small) == [0, 1, 2, 3]
    there.leave("g.3")
    assert lines(there, "g.0") == ["User 3 left the room."]
    there.rest()
    assert named(there.take("g.0")[-1]) == [0, 1, 2]


def test_a_room_that_fills_is_told_by_the_wait_of_as_many_as_it_has_by_then() -> None:
    there = Audience(Room("general", RoomRules()))
    times = []
    for n in range(200):  # 500 in a second
        there.enter(f"g.{n}", f"user_{n}")
        there.wait(2)
        times += [there.now] * len(lists(there, "g.0"))
    there.rest()
    [last] = lists(there, "g.0")
    assert named(last) == list(range(200))
    # With 25 people, with 50, and with 200 some 0.8 s after the first of the others.
    assert len(times) == 2
    assert 0 <= there.now - times[1] - USUAL.coalesce_ms(200) <= 2


def test_a_second_tab_in_a_room_that_fills_waits_no_longer_for_that() -> None:
    there = Audience(Room("general", RoomRules()))
    for n in range(150):
        there.enter(f"g.{n}", f"user_{n}")
    there.rest()
    there.enter("g.900", "user_900")
    there.wait(10)
    there.enter("g.901", "user_1")
    for n in range(150, 165):
        there.enter(f"g.{n}", f"user_{n}")
        there.wait(3)
    assert lists(there, "g.901") == []
    there.wait(5)
    assert len(lists(there, "g.901")) == 1


# After a crash.


def crashed(a: int, b: int) -> Audience:
    """Where so many were at two gateways each, in a new life that knows of nobody."""
    before = hall(0)
    for n in range(a + b):
        before.enter(f"{'a' if n < a else 'b'}.{n}", f"user_{n}")
    data, life = before.machine.snapshot(), Life(2, 1, crashed=True)
    room = Room.restore("general", RULES, data, clean=False, life=life)
    there = Audience(room, before.now)
    there.attachments = dict(before.attachments)
    return there


def test_no_line_is_told_before_a_room_knows_again_whether_it_is_a_crowd() -> None:
    there = crashed(2, 3)
    there.reattach("a")
    there.enter("a.8", "user_8")  # of three that it knows
    there.leave("a.0")
    there.wait(1_000)
    there.reattach("b")  # now it knows of five, a crowd
    there.rest()
    conns = ("a.1", "a.8", "b.2", "b.3", "b.4")
    told = [line for conn in conns for line in lines(there, conn)]
    assert told == ["Connected to ChatRoom"]


@pytest.mark.parametrize("how", ["reattach", "detach", "give_up"])
def test_lines_that_waited_are_told_when_it_turns_out_to_be_none(how: str) -> None:
    there = crashed(2, 1)
    there.reattach("a")
    there.enter("a.8", "user_8")
    there.leave("a.8")
    there.enter("a.9", "user_9")
    there.wait(1_000)
    assert lines(there, "a.0") == []
    if how == "give_up":
        there._see(there.machine.give_up(there.now))
    else:
        getattr(there, how)("b")
    came = ["User 8 joined the room.", "User 8 left the room."]
    assert lines(there, "a.0") == [*came, "User 9 joined the room."]
    assert lines(there, "a.9") == [
        *("Connected to ChatRoom", *came, "User 9 joined the room.")
    ]
    there.leave("a.9")
    assert lines(there, "a.0") == ["User 9 left the room."]


def test_of_lines_that_waited_those_of_the_crowd_stay_unsaid() -> None:
    there = crashed(2, 2)
    there.reattach("a")
    there.enter("a.8", "user_8")  # the fifth, as will turn out
    there.leave("a.8")
    there.leave("a.0")  # of four
    there.enter("a.9", "user_9")
    there.reattach("b")
    assert lines(there, "b.3") == ["User 0 left the room.", "User 9 joined the room."]


def test_lines_that_waited_are_not_told_to_what_has_become_a_crowd_meanwhile() -> None:
    there = crashed(2, 1)
    there.reattach("a")
    for n in range(6, 10):
        there.enter(f"a.{n}", f"user_{n}")  # two of them before it was one
    there._see(there.machine.give_up(there.now))
    assert lines(there, "a.0") == []
    there.leave("a.9")
    there.leave("a.8")
    assert lines(there, "a.0") == []
    there.leave("a.7")
    assert lines(there, "a.0") == ["User 7 left the room."]


def test_who_was_here_all_along_has_neither_come_nor_gone() -> None:
    there = crashed(1, 1)
    there.reattach("a")
    there.enter("a.8", "user_1")  # a second tab, of whom is at b
    there.leave("a.8")
    there.reattach("b")
    assert lines(there, "a.0") == lines(there, "b.1") == []


def test_who_comes_and_catches_up_after_a_crash_sees_its_own_line_behind_that() -> None:
    there = crashed(1, 1)
    there.reattach("a")
    for _ in range(120):
        there.chat("a.0")
    there.enter("a.8", "user_8", since=1)  # of more than the buffer holds
    there.reattach("b")
    joined = ["User 8 joined the room."]
    assert lines(there, "b.1") == lines(there, "a.0") == joined
    assert lines(there, "a.8") == ["Connected to ChatRoom"]
    there.enter("a.8", "user_8", since=120, greeted=True)
    assert lines(there, "a.8") == joined


def test_a_change_that_was_to_wait_for_the_tick_is_told_at_once_when_it_shrinks() -> (
    None
):
    there = hall(5)
    there.change("g.0", status="busy", status_at=1)
    there.wait(60)
    assert there.take("g.1") == []
    there.leave("g.4")
    there.wait(50)
    [small] = there.take("g.1")
    assert small["participants"][0]["status"] == "busy"
    assert there.machine.alarm_at is None


def test_a_second_tab_is_told_alone_and_is_nobody_new() -> None:
    there = hall(6)
    there.enter("g.9", "user_1")
    there.wait(50)
    [told] = lists(there, "g.9")
    assert (named(told), told["total"]) == ([1, 3, 4, 5], 6)
    there.rest()
    assert lists(there, "g.0") == []
    there.machine.connect(
        there.now,
        fx.Attachment("g.10", "user_1", "Uno", "online", words_at=1),
        None,
    )
    [alone, *_] = there.machine.alarm(there.now + 50)
    assert isinstance(alone, fx.Roll) and alone.conns == ("g.10",)


def test_a_clock_that_goes_back_costs_a_crowd_one_interval() -> None:
    there = hall(6)
    there.wait(10_000)
    there.change("g.0", status="busy", status_at=1)
    there.wait(50)
    there.forget()
    there.now -= 3_600_000
    there.change("g.0", status="away", status_at=2)
    there.wait(2_100)
    assert [each["total"] for each in lists(there, "g.5")] == [6]


def test_who_has_to_catch_up_first_is_told_after_that() -> None:
    there = hall(6)
    for n in range(150):
        there.chat("g.0", id=f"m{n}")
    there.rest()
    assert type(there.enter("g.6", "user_6", since=1)[1]) is fx.Behind
    there.enter("g.7", "user_1", since=1)
    there.wait(10_000)
    assert lists(there, "g.6") == lists(there, "g.7") == []
    there.enter("g.6", "user_6", since=150, greeted=True)
    there.enter("g.7", "user_1", since=150, greeted=True)
    there.wait(50)
    assert named(lists(there, "g.6")[0]) == [3, 4, 5, 6]
    assert named(lists(there, "g.7")[0]) == [1, 4, 5, 6]


def test_a_link_that_broke_costs_a_crowd_one_tick() -> None:
    there = hall(7)
    there.wait(10_000)
    there.reattach("g")
    there.wait(50)
    assert all(len(lists(there, f"g.{n}")) == 1 for n in range(7))
    there.rest()
    there.reattach("g")
    there.wait(50)
    assert not any(lists(there, f"g.{n}") for n in range(7))
    there.rest()
    assert all(len(lists(there, f"g.{n}")) == 1 for n in range(7))


def test_who_has_just_come_as_a_link_breaks_is_told_once() -> None:
    there = hall(6)
    there.wait(10_000)
    there.enter("g.9", "user_1")  # a second tab, which is news to nobody
    there.reattach("g")
    there.wait(50)
    assert [len(lists(there, conn)) for conn in ("g.9", "g.1")] == [1, 1]


def test_after_a_crash_a_crowd_is_told_when_all_may_be_back() -> None:
    there = hall(7)
    there.machine = Room("general", RULES)
    there.reattach("g")
    there.wait(1_900)
    assert not there.seen
    there.rest()
    assert [each["total"] for each in lists(there, "g.0")] == [7]


def test_what_was_to_be_told_at_the_tick_is_told_after_sleep_and_not_too_soon() -> None:
    there = hall(7)
    there.change("g.0", status="busy", status_at=1)
    there.wait(1_000)
    saved = there.machine.snapshot()
    there.machine = Room.restore("general", RULES, saved, clean=True)
    there.reattach("g")
    there.wait(1_950)
    assert not there.seen
    there.rest()
    assert lists(there, "g.0")[0]["participants"][0]["status"] == "busy"


def test_of_a_crowd_few_are_shown_as_typing_and_the_others_are_forgotten() -> None:
    there = hall(6)
    for n in range(1, 6):
        there.say(f"g.{n}", {"type": "typing", "isTyping": True})
    assert [each["senderId"] for each in there.take("g.0")] == ["user_1", "user_2"]
    assert len(there.machine._typing.typists._typists) == 2  # type: ignore[attr-defined]
    there.say("g.1", {"type": "typing", "isTyping": False})
    there.say("g.4", {"type": "typing", "isTyping": True})
    assert [each["isTyping"] for each in there.take("g.0")] == [False]  # two a second
    there.wait(1_000)
    there.say("g.4", {"type": "typing", "isTyping": True})
    assert [each["senderId"] for each in there.take("g.0")] == ["user_4"]
    there.rest()
    shown = [(e["senderId"], e["isTyping"]) for e in there.take("g.0")]
    assert shown == [("user_2", False), ("user_4", False)]


def test_direct_rooms_are_no_crowds() -> None:
    crowd = Crowd(above=1)
    there = Audience(Room("dm_user_1__user_2", RoomRules(crowd=crowd)))
    there.enter("g.1", "user_1")
    there.enter("g.2", "user_2")
    there.wait(50)
    [told] = lists(there, "g.1")
    assert "total" not in told


def _steps(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    verb = st.sampled_from(
        ("enter", "enter", "enter", "leave", "change", "tab", "reattach", "sleep")
    )
    waits = st.sampled_from((0, 0, 10, 50, 400, 2_000, 7_000))
    return draw(st.lists(st.tuples(verb, st.integers(0, 30), waits), max_size=60))


@settings(max_examples=tries(200))
@given(st.composite(_steps)())
def test_whoever_comes_and_goes_every_socket_is_told_and_none_too_often(
    steps: list[tuple[str, int, int]],
) -> None:
    there = Audience(Room("general", RULES))
    told_at: dict[str, int] = {}
    last: dict[str, Frame] = {}
    conns = 0

    def look() -> None:
        people = {each.user_id for each in there.attachments.values()}
        for conn, frames in there.seen.items():
            for frame in frames:
                if frame["type"] != "participants" or conn not in there.attachments:
                    continue
                ids = [each["id"] for each in frame["participants"]]
                assert len(set(ids)) == len(ids)
                assert there.attachments[conn].user_id in ids
                assert ("total" in frame) == (len(people) > SMALL.above)
                last[conn] = frame
                if "total" not in frame:
                    told_at.pop(conn, None)
                    continue
                assert frame["total"] == len(people) and len(ids) == SMALL.above
                least = SMALL.interval_ms(len(people))
                assert there.now - told_at.get(conn, -least) >= least
                told_at[conn] = there.now
        there.forget()

    def wait(ms: int) -> None:
        end = there.now + ms
        while (at := there.machine.alarm_at) is not None and at <= end:
            there.wait(max(0, at - there.now))
            look()
        there.wait(end - there.now)

    for verb, n, ms in steps:
        here = list(there.attachments)
        if verb == "enter" or not here:
            conns += 1
            there.enter(f"g{n % 2}.{conns}", f"user_{n}")
        elif verb == "tab":
            conns += 1
            user_id = there.attachments[here[n % len(here)]].user_id
            there.enter(f"g{n % 2}.{conns}", user_id)
        elif verb == "leave":
            there.leave(here[n % len(here)])
        elif verb == "change":
            status = ("busy", "away")[ms % 3 % 2]
            there.change(here[n % len(here)], status=status, status_at=there.now)
        elif verb == "reattach":
            there.reattach(f"g{n % 2}")
        else:
            saved = there.machine.snapshot()
            there.machine = Room.restore("general", RULES, saved, clean=True)
            for gateway in ("g0", "g1"):
                there.reattach(gateway)
        there.forget()
        wait(ms)
    while there.machine.alarm_at is not None:
        wait(max(0, there.machine.alarm_at - there.now))
    people = {each.user_id: each for each in there.attachments.values()}
    for conn in there.attachments:
        if len(people) > SMALL.above:
            assert last[conn]["total"] == len(people)
        else:
            assert {e["id"] for e in last[conn]["participants"]} == people.keys()


class Costs:
    """What a room asks of the link and of the sockets, without showing it to any."""

    def __init__(self) -> None:
        self.frames = Counter[str]()  # by socket
        self.bytes = Counter[str]()
        self.effects = Counter[str]()
        self.on_link = 0
        self.subscribed: list[str] = []

    def take(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            self.effects[type(effect).__name__] += 1
            if isinstance(effect, fx.Send | fx.Broadcast):
                conns = effect.conns if isinstance(effect, fx.Send) else self.subscribed
                self._show(conns, effect.frame)
            elif isinstance(effect, fx.Roll):
                but = set(effect.but)
                to = self.subscribed if effect.conns is None else effect.conns
                self._show([conn for conn in to if conn not in but], effect.frame)
                self.on_link += sum(map(len, effect.but)) + len(effect.users) * 12
            elif isinstance(effect, fx.Subscribe):
                self.subscribed += effect.conns

    def _show(self, conns: object, frame: bytes) -> None:
        self.on_link += len(frame)
        for conn in conns:  # type: ignore[attr-defined]
            self.frames[conn] += 1
            self.bytes[conn] += len(frame)


@pytest.mark.parametrize("people", [1_000, 5_000])
def test_each_arrival_costs_the_same_however_many_are_in(people: int) -> None:
    # The issue's goal: 5,000 within 10 s, ticks' frames and 100 KiB for each socket.
    room, costs = Room("general", RoomRules()), Costs()
    rng, spread_ms = Random(1), 10_000
    arrivals = sorted(rng.randrange(spread_ms) for _ in range(people))

    def ring(until: int) -> None:
        while room.alarm_at is not None and room.alarm_at <= until:
            costs.take(room.alarm(room.alarm_at))

    for n, at in enumerate(arrivals):
        ring(at)
        attachment = fx.Attachment(f"g.{n}", f"user_{n:05}", f"User {n:05}", "online")
        costs.take(room.connect(at, attachment, None))
    ring(60_000)
    assert room.alarm_at is None and len(costs.subscribed) == people
    # A greeting, its own list, and those of ticks; who was first also saw each of the
    # others come, as long as it was no crowd.
    ticks = spread_ms // USUAL.tick_ms + 2
    late = [f"g.{n}" for n in range(USUAL.above + 50, people)]
    assert max(costs.frames[conn] for conn in late) <= 2 + ticks
    assert max(costs.frames.values()) <= 2 + ticks + USUAL.above + 20
    mean = sum(costs.bytes.values()) / people
    # As long as it grows slowly it is no crowd.
    usual, most = (45, 70) if people == 5_000 else (55, 160)
    assert mean < usual * 1024 and max(costs.bytes.values()) < most * 1024
    # On the link: one list for each 50 ms in which somebody came.
    assert costs.effects["Roll"] <= spread_ms // 50 + ticks + 1
    assert costs.on_link < 8 * 2**20
