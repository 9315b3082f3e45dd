"""What presence sockets are told, by the registry and two gateways together."""

from copy import deepcopy
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import Life
from cfmessenger.chat.presence import Presence
from cfmessenger.ids import gateway_of
from cfmessenger.link.arrivals import Storm
from cfmessenger.link.onlookers import BURST
from cfmessenger.wire.protocol import Participant
from tests.cfmessenger.chat.audience import Audience, Frame
from tests.effort import tries

MOST = 5


def registry(epoch: int = 1, crashed: bool = False) -> Presence:
    return Presence(Life(epoch, epoch - 1, crashed), MOST)


def crowd(people: int = 6) -> Audience:
    """Two who watch, on a gateway each, and so many in rooms."""
    there = Audience(registry())
    for n in range(10, 10 + people):
        there.enter(f"b.{n}", f"user_{n}", watch=False)
    there.enter("a.1", "user_1")
    there.enter("b.2", "user_2")
    there.rest()
    there.forget()
    return there


def sync_of(frames: list[Frame]) -> dict[str, str]:
    (sync,) = frames
    assert sync["type"] == "presence_full_sync"
    return {who["id"]: who["status"] for who in sync["participants"]}


def heard(there: Audience, conn: str) -> list[str]:
    """Of whom it was told, one by one."""
    return [frame["userId"] for frame in there.take(conn)]


def busy(there: Audience, conn: str, status: str = "busy") -> None:
    there.say(conn, {"type": "presence_update", "status": status})


def test_a_watch_is_answered_and_then_every_change_comes() -> None:
    there = crowd()
    there.watch("a.1", "user_10", "user_3")
    busy(there, "b.10")  # between the question and the answer
    there.rest()
    assert sync_of(there.take("a.1")) == {"user_10": "busy", "user_3": "offline"}
    busy(there, "b.10", "away")
    there.enter("b.3", "user_3")
    there.rest()
    assert heard(there, "a.1") == ["user_10", "user_3"]
    assert there.take("b.2") == []


def test_what_is_known_here_is_answered_at_once() -> None:
    there = crowd()
    there.watch("a.1", "user_10")
    there.rest()
    there.enter("a.2", "user_3")
    there.rest()
    there.forget()
    there.watch("a.2", "user_10", "user_1")
    assert sync_of(there.take("a.2")) == {"user_10": "online", "user_1": "online"}
    assert there.machine.alarm_at is None


def test_several_questions_have_one_answer_behind_the_full_sync() -> None:
    there = crowd()
    there.enter("a.2", "user_3")
    there.watch("a.2", "user_10")
    there.watch("a.2", "user_11")
    there.unwatch("a.2", "user_10")
    there.rest()
    hello, full, partial = there.take("a.2")
    assert hello["type"] == "system"
    assert sync_of([full]) == {"user_3": "online", "user_11": "online"}
    assert sync_of([partial]) == {"user_11": "online"} and partial["partial"]


def test_an_unwatch_takes_nothing_from_others() -> None:
    there = crowd()
    there.enter("a.2", "user_3")
    for conn in ("a.1", "a.2"):
        there.watch(conn, "user_10")
    there.rest()
    there.unwatch("a.1", "user_10")
    there.sweep("a")
    there.rest()
    there.forget()
    busy(there, "b.10")
    there.rest()
    assert (heard(there, "a.1"), heard(there, "a.2")) == ([], ["user_10"])


def test_what_nobody_wants_any_more_is_not_told_to_the_gateway() -> None:
    there = crowd()
    there.watch("a.1", "user_10")
    there.rest()
    there.unwatch("a.1", "user_10")
    there.sweep("a")
    there.rest()
    busy(there, "b.10")
    told = {e.gateway: e.news for e in there.wait(50) if isinstance(e, fx.Tell)}
    assert told["a"].people == [] and told["b"].people == []
    # Watched again: as they are now, and not as they were.
    there.forget()
    there.watch("a.1", "user_10")
    there.rest()
    assert sync_of(there.take("a.1")) == {"user_10": "busy"}


def test_who_has_a_direct_room_is_told_of() -> None:
    there = crowd()
    there.enter("a.2", "user_3", friends=["user_10"])
    there.rest()
    assert sync_of(there.take("a.2")[1:]) == {"user_3": "online", "user_10": "online"}
    there.notify(fx.Acquainted("user_3", "user_11"))
    there.rest()
    assert heard(there, "a.2") == ["user_11"]
    message = b'{"type":"chat","id":"m1"}'
    there.notify(fx.DirectMessage(("user_2", "user_3"), message))
    there.rest()
    types = ["message_notification", "presence_join"]
    assert there.take_types("a.2") == there.take_types("b.2") == types
    busy(there, "b.2")
    there.rest()
    assert heard(there, "a.2") == heard(there, "b.2") == ["user_2"]


def test_bots_are_told_of_to_everybody() -> None:
    there = crowd()
    bot = Participant("bot", "Bot", "online")
    there.notify(fx.Published("bots", (bot,)))
    there.rest()
    assert heard(there, "a.1") == heard(there, "b.2") == ["bot"]
    there.enter("a.2", "user_3")
    there.rest()
    assert set(sync_of(there.take("a.2")[1:])) == {"user_3", "bot"}
    there.forget()
    there.notify(fx.Published("bots", ()))
    there.rest()
    assert heard(there, "a.1") == heard(there, "b.2") == heard(there, "a.2") == ["bot"]


def test_a_crossing_gives_each_socket_one_full_sync_in_its_turn() -> None:
    there = Audience(registry())
    for n in range(1, 6):
        there.enter(f"a.{n}", f"user_{n}")
    there.watch("a.1", "user_2")
    there.rest()
    there.forget()
    there.enter("b.6", "user_6")
    there.rest()
    assert there.take("a.1") == [] and there.take_types("b.6")[1:] == [
        "presence_full_sync"
    ]
    there.resync("a", 2)
    assert sync_of(there.take("a.1")) == {"user_1": "online", "user_2": "online"}
    assert sync_of(there.take("a.2")) == {"user_2": "online"}
    assert there.take("a.3") == []
    busy(there, "a.2")  # told to whoever is to hear of it, synced or not
    there.rest()
    assert heard(there, "a.1") == ["user_2"]
    there.resync("a")
    assert sync_of(there.take("a.3")[-1:]) == {"user_3": "online"}
    assert not there.crowds["a"].stale
    there.forget()
    # Back: everybody again.
    for conn in ("a.4", "a.5"):
        there.leave(conn)
    there.rest()
    for gateway in ("a", "b"):
        there.resync(gateway)
    for conn in ("a.1", "a.2", "a.3", "b.6"):
        (sync,) = there.take(conn)[-1:]
        assert (sync["scope"], sync["online"]) == ("all", 4)
        assert set(sync_of([sync])) == {"user_1", "user_2", "user_3", "user_6"}


def test_more_than_eight_changes_of_a_scope_are_one_partial_sync() -> None:
    there = crowd(12)
    nine = [f"user_{n}" for n in range(10, 10 + BURST + 1)]
    there.watch("a.1", *nine)
    there.enter("a.2", "user_3")
    there.watch("a.2", *nine[:2])
    there.rest()
    there.forget()
    for n in range(10, 10 + BURST + 1):
        busy(there, f"b.{n}")
    there.rest()
    (sync,) = there.take("a.1")
    assert sync["partial"] and sync_of([sync]) == dict.fromkeys(nine, "busy")
    assert heard(there, "a.2") == nine[:2]


def test_bytes_of_a_mass_arrival_do_not_depend_on_how_many_come() -> None:
    def costs(people: int) -> tuple[int, int]:
        there = Audience(registry())
        for n in range(people):
            there.enter(f"a.{n}", f"user_{n}")
            near = [f"user_{m % people}" for m in range(n, n + 50)]
            there.watch(f"a.{n}", *near)
            if n % 50 == 49:
                there.wait(50)
                there.resync("a", 200)
        there.rest()
        sizes = [len(msgspec.json.encode(f)) for f in there.seen.values()]
        return max(sizes), sum(sizes) // people

    few, many = costs(300), costs(1200)
    assert many[0] < 20 * 1024 and abs(many[1] - few[1]) < 1024


# Storms.

SOON = Storm(above=3, burst=1, most=1, rounds=4)


def stormy(people: int = 4) -> Audience:
    """Few enough are online, with a socket each, that all hear of all."""
    there = Audience(Presence(Life(1), 50))
    there.storm = SOON
    for n in range(1, people + 1):
        there.enter(f"a.{n}", f"user_{n}")
        there.rest()
    there.forget()
    return there


def come(there: Audience, *numbers: int) -> None:
    """They come within one tick."""
    for n in numbers:
        there.enter(f"a.{n}", f"user_{n}")
    there.rest()


def test_who_comes_in_a_storm_is_told_of_when_it_is_over_and_once() -> None:
    there = stormy()
    come(there, 5, 6)
    everybody = {f"user_{n}": "online" for n in range(1, 7)}
    for conn in ("a.5", "a.6"):
        assert sync_of(there.take(conn)[1:]) == everybody, "a full sync is whole"
    come(there, 7)
    assert set(sync_of(there.take("a.7")[1:])) == {*everybody, "user_7"}
    assert there.take("a.1") == []
    there.calm("a")  # three have come in this round
    assert there.take("a.1") == []
    there.calm("a")
    assert heard(there, "a.1") == ["user_5", "user_6", "user_7"]
    assert heard(there, "a.5") == heard(there, "a.6") == ["user_7"]
    assert there.take("a.7") == []
    come(there, 8)  # one at a time is no storm
    assert heard(there, "a.1") == ["user_8"]


def test_a_storm_that_lasts_is_told_of_all_the_same() -> None:
    there = stormy()
    for n in range(5, 13, 2):
        come(there, n, n + 1)
        assert there.take("a.1") == []
        there.calm("a")
    assert heard(there, "a.1") == [f"user_{n}" for n in range(5, 13)]


def test_few_are_no_storm_however_fast_they_come() -> None:
    there = stormy(1)
    come(there, 2, 3)
    assert heard(there, "a.1") == ["user_2", "user_3"]


def test_in_a_storm_whom_one_watches_or_knows_is_told_of_at_once() -> None:
    there = stormy()
    there.watch("a.1", "user_5")
    there.notify(fx.Acquainted("user_2", "user_6"))
    there.rest()
    there.forget()
    come(there, 5, 6)
    assert heard(there, "a.1") == ["user_5"]
    assert heard(there, "a.2") == ["user_6"]
    assert there.take("a.3") == []
    # Who comes to know one then hears of them at once, too.
    there.notify(fx.Acquainted("user_3", "user_6"))
    assert heard(there, "a.3") == ["user_6"]
    there.calm("a")
    there.calm("a")
    assert heard(there, "a.1") == ["user_6"]
    assert heard(there, "a.2") == heard(there, "a.3") == ["user_5"]
    assert heard(there, "a.4") == ["user_5", "user_6"]


def test_what_changes_in_a_storm_is_told_to_those_who_know() -> None:
    there = stormy()
    come(there, 5, 6)
    come(there, 7)
    there.forget()
    busy(there, "a.5")
    there.leave("a.6")
    busy(there, "a.2")  # who has been there all along
    there.rest()
    assert heard(there, "a.7") == ["user_2", "user_5", "user_6"]
    assert heard(there, "a.1") == ["user_2"]
    there.calm("a")
    there.calm("a")
    told = [(f["type"], f["userId"], f.get("status")) for f in there.take("a.1")]
    assert told == [
        ("presence_join", "user_5", None),
        ("presence_update", "user_5", "busy"),
        ("presence_join", "user_7", None),
    ]
    assert there.take("a.7") == []


def test_of_a_storm_that_makes_a_crowd_who_was_there_is_told_nothing_else() -> None:
    there = Audience(Presence(Life(1), 50))
    there.storm = SOON
    for tick in range(10):
        for n in range(10):
            there.enter(f"a.{tick}{n}", f"user_{tick}{n}")
        there.wait(50)
    there.resync("a")
    assert not there.crowds["a"].holds_back
    hello, full, crossed = there.take("a.00")
    assert set(sync_of([full])) == {f"user_0{n}" for n in range(10)}
    assert (crossed["scope"], sync_of([crossed])) == ("watched", {"user_00": "online"})


# Any course of things: in the end each socket shows its scope, as the registry has it.

USERS = [f"user_{n}" for n in range(1, 10)]
CONNS = {
    f"{gateway}.{n}": (user, n % 3 > 0)
    for n, user in enumerate(USERS, 1)
    for gateway in "ab"
}
conns = st.sampled_from(sorted(CONNS))
gateways = st.sampled_from("ab")
ids = st.lists(st.sampled_from(USERS), min_size=1, max_size=4)
Step = tuple[Any, ...]
steps_of = st.lists(
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 50, 600]))
    | st.tuples(st.sampled_from(["enter", "leave"]), conns)
    | st.tuples(st.just("wait"), st.just(50))
    | st.tuples(
        st.just("choose"), conns, st.sampled_from(["online", "busy", "offline"])
    )
    | st.tuples(st.sampled_from(["watch", "unwatch"]), conns, ids)
    | st.tuples(st.just("meet"), st.sampled_from(USERS), st.sampled_from(USERS))
    | st.tuples(st.just("publish"), st.booleans())
    | st.tuples(st.sampled_from(["attach", "cut", "sweep", "resync"]), gateways)
    | st.tuples(st.just("calm"), gateways)
    | st.tuples(st.sampled_from(["sleep", "crash"])),
    min_size=10,
    max_size=60,
)


class Course:
    """An audience whose gateways may be cut off, and what its clients show."""

    def __init__(self) -> None:
        self.there = Audience(registry())
        self.there.storm = Storm(above=1, burst=0, most=1, rounds=3)
        self.epoch = 1
        self.cut: dict[str, Any] = {}  # the crowds of gateways without a link
        self.views: dict[str, dict[str, str]] = {}
        for conn in ("a.1", "a.2", "b.2", "b.3", "b.4", "a.5", "b.6"):
            self._enter(conn)
        self._wait(50)

    def do(self, step: Step) -> None:
        getattr(self, f"_{step[0]}")(*step[1:])

    def _wait(self, ms: int) -> None:
        self.there.wait(ms)

    def _here(self, conn: str) -> bool:
        return conn in self.there.attachments and gateway_of(conn) not in self.cut

    def _enter(self, conn: str) -> None:
        user_id, watch = CONNS[conn]
        if conn not in self.there.attachments and gateway_of(conn) not in self.cut:
            self.views[conn] = {}
            self.there.seen.pop(conn, None)
            self.there.enter(conn, user_id, watch=watch)

    def _leave(self, conn: str) -> None:
        if self._here(conn):
            self._catch_up()
            self.there.leave(conn)
            self.views.pop(conn, None)

    def _choose(self, conn: str, status: str) -> None:
        if self._here(conn):
            busy(self.there, conn, status)

    def _watch(self, conn: str, ids: list[str]) -> None:
        if self._here(conn) and CONNS[conn][1]:
            self.there.watch(conn, *ids)

    def _unwatch(self, conn: str, ids: list[str]) -> None:
        if self._here(conn) and CONNS[conn][1]:
            self.there.unwatch(conn, *ids)

    def _meet(self, one: str, other: str) -> None:
        if one != other:
            gone = [c for c in self.there.attachments if gateway_of(c) in self.cut]
            if not gone:
                self.there.notify(fx.Acquainted(one, other))

    def _publish(self, on: bool) -> None:
        bot = Participant("bot", "Bot", "online")
        self.there.notify(fx.Published("bots", (bot,) if on else ()))

    def _cut(self, gateway: str) -> None:
        if gateway in self.there.crowds:
            self.cut[gateway] = self.there.crowds.pop(gateway)

    def _attach(self, gateway: str) -> None:
        if gateway in self.cut:
            self.there.crowds[gateway] = self.cut.pop(gateway)
        self.there.reattach(gateway)

    def _sweep(self, gateway: str) -> None:
        if gateway in self.there.crowds:
            self.there.sweep(gateway)

    def _resync(self, gateway: str) -> None:
        if gateway in self.there.crowds:
            self.there.resync(gateway, 2)

    def _calm(self, gateway: str) -> None:
        if gateway in self.there.crowds:
            self.there.calm(gateway)

    def _sleep(self) -> None:
        self._again(clean=True)

    def _crash(self) -> None:
        self._again(clean=False)

    def _again(self, clean: bool) -> None:
        saved = self.there.machine.snapshot()
        self.epoch += 1
        life = Life(self.epoch, self.epoch - 1, not clean)
        again = Presence.restore(saved, clean, ["bots"], life, MOST)
        self.there.machine = again
        for gateway in "ab":
            if gateway not in self.cut:
                self.there.reattach(gateway)

    def _catch_up(self) -> None:
        for conn, frames in self.there.seen.items():
            view = self.views.setdefault(conn, {})
            for frame in frames:
                kind = frame["type"]
                if kind == "presence_full_sync":
                    if "partial" not in frame:
                        view.clear()
                    for who in frame["participants"]:
                        view[who["id"]] = who["status"]
                elif kind == "presence_join":
                    view[frame["userId"]] = "online"
                elif kind == "presence_update":
                    view[frame["userId"]] = frame["status"]
        self.there.forget()

    def settle(self) -> None:
        for gateway in list(self.cut):  # no others: an attach heals all that was missed
            self._attach(gateway)
        for _ in range(3):
            self.there.rest()
            for gateway in self.there.crowds:
                self.there.sweep(gateway)
                self.there.resync(gateway)
                self.there.calm(gateway)
        self.there.rest()
        self._catch_up()


@settings(max_examples=tries(150))
@given(steps_of)
def test_in_the_end_every_socket_shows_its_scope(steps: list[Step]) -> None:
    course = Course()
    for step in steps:
        course.do(step)
    course.settle()
    there = course.there
    machine = there.machine
    assert isinstance(machine, Presence)
    shown = {u: each.status for u, each in machine._watchers.shown.items()}
    for conn, attachment in there.attachments.items():
        if not attachment.watch:
            continue
        crowded = there.crowds[gateway_of(conn)]
        assert crowded.crowded == machine._interests.crowded
        assert crowded.online == len(shown)
        watcher = crowded._watchers[conn]
        circles = (*watcher.always, *watcher.watched)
        assert all(crowded.wanted.circles[e.user_id] is e for e in circles)
        scope = {each.user_id for each in circles} | {"bot"}
        if not machine._interests.crowded:
            scope = set(shown) | scope
        view = course.views[conn]
        assert {u: view.get(u, "offline") for u in scope} == {
            u: shown.get(u, "offline") for u in scope
        }
        # And another socket of that user would be shown just that.
        again = deepcopy(crowded)._full_sync(watcher)
        names = {who["id"] for who in msgspec.json.decode(again)["participants"]}
        assert names == scope & set(shown)
    for gateway, each in there.crowds.items():
        wanted = {u for u, circle in each.wanted.circles.items() if circle.watchers}
        known = machine._interests._by_gateway.get(gateway)
        assert (set(known.users) if known else set()) == wanted
