"""Presence, row by row of wire.md §4, as its sockets see it."""

from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cfmessenger.chat import effects as fx
from cfmessenger.chat.machine import Life
from cfmessenger.chat.presence import Presence
from cfmessenger.chat.watchers import RETURN_MS
from cfmessenger.link.onlookers import BURST
from tests.effort import tries

from .audience import Audience


def audience() -> Audience:
    return Audience(Presence())


def watching() -> Audience:
    """User 1 and user 2 watch on one gateway each, and everything is told."""
    there = audience()
    there.enter("a.1", "user_1")
    there.enter("b.1", "user_2")
    there.rest()
    there.forget()
    there.records.clear()
    return there


def choose(there: Audience, conn: str, status: str, **more: str) -> list[fx.Effect]:
    return there.say(conn, {"type": "presence_update", "status": status, **more})


def shown(there: Audience, conn: str) -> list[dict[str, Any]]:
    (sync,) = there.take(conn)
    assert sync["type"] == "presence_full_sync"
    participants: list[dict[str, Any]] = sync["participants"]
    return participants


# Watching.


def test_a_watcher_is_greeted_at_once_and_synced_within_50_ms() -> None:
    there = audience()
    there.enter("a.1", "user_1")
    assert there.take("a.1") == [
        {
            "type": "system",
            "content": "Connected to Global Presence",
            "timestamp": there.now,
        }
    ]
    there.wait(49)
    assert there.take("a.1") == []
    there.wait(1)
    assert there.take("a.1") == [
        {
            "type": "presence_full_sync",
            "participants": [
                {"id": "user_1", "displayName": "User 1", "status": "online"}
            ],
            "online": 1,
            "scope": "all",
        }
    ]


def test_the_others_hear_of_a_join() -> None:
    there = watching()
    there.enter("b.2", "user_3")
    there.rest()
    joined = {"type": "presence_join", "userId": "user_3", "displayName": "User 3"}
    assert there.take("a.1") == there.take("b.1") == [joined]
    assert there.take_types("b.2") == ["system", "presence_full_sync"]


def test_newcomers_of_one_tick_share_what_the_registry_tells() -> None:
    there = audience()
    for n in range(20):
        there.enter(f"a.{n}", f"user_{n}")
        assert there.take_types(f"a.{n}") == ["system"]
    (tell,) = there.wait(50)
    assert isinstance(tell, fx.Tell)
    assert (tell.gateway, len(tell.news.people), tell.news.whole) == ("a", 20, True)
    assert all(len(shown(there, f"a.{n}")) == 20 for n in range(20))


def test_a_join_storm_costs_each_socket_a_frame_a_tick() -> None:
    there = audience()
    for n in range(1_000):
        there.enter(f"a.{n}", f"user_{n}")
        if n % 100 == 99:
            there.wait(50)
    there.rest()
    # A greeting, a full sync, and at most one burst for each of the 10 ticks.
    assert there.deliveries <= 1_000 * (2 + 10)
    assert len(there.seen["a.999"]) == 2


def test_a_join_that_is_not_online_says_so() -> None:
    there = watching()
    there.enter("b.2", "user_3", status="busy")
    there.rest()
    assert there.take_types("a.1") == ["presence_join", "presence_update"]


# Who is online.


def test_a_user_is_online_while_any_socket_is_open() -> None:
    there = watching()
    there.enter("b.2", "user_1", watch=False)
    there.leave("a.1")
    there.rest()
    assert there.take("b.1") == [] and there.records == []
    there.leave("b.2")
    assert there.records == [("user_1", None)]
    there.rest()
    assert there.take("b.1") == [
        {
            "type": "presence_update",
            "userId": "user_1",
            "displayName": "User 1",
            "status": "offline",
        }
    ]


def test_a_room_socket_counts_and_is_sent_nothing() -> None:
    there = watching()
    there.enter("b.2", "user_3", watch=False)
    there.rest()
    assert there.take_types("a.1") == ["presence_join"]
    assert there.take("b.2") == []
    assert there.records == [("user_3", "online")]


def test_coming_and_going_within_a_tick_is_no_news() -> None:
    there = watching()
    there.enter("b.2", "user_3")
    there.leave("b.2")
    there.rest()
    assert there.take("a.1") == []
    assert there.take_types("b.2") == ["system"]
    there.leave("b.1")
    there.enter("b.1", "user_2")
    there.rest()
    assert there.take("a.1") == []


# Statuses.


def test_a_status_is_told_kept_and_recorded() -> None:
    there = watching()
    there.enter("b.2", "user_1", watch=False)
    choose(there, "a.1", "busy", displayName="not its business")
    there.rest()
    assert there.take("b.1") == [
        {
            "type": "presence_update",
            "userId": "user_1",
            "displayName": "User 1",
            "status": "busy",
        }
    ]
    for conn in ("a.1", "b.2"):
        attachment = there.attachments[conn]
        assert (attachment.display_name, attachment.status) == ("User 1", "busy")
    assert there.records == [("user_1", "busy")]
    assert choose(there, "a.1", "busy") == []


def test_the_newest_words_are_shown_whichever_gateway_brings_them() -> None:
    there = watching()
    there.enter("b.2", "user_1", watch=False)
    new = {"display_name": "Uno", "personal_message": "hi", "avatar_id": "star"}
    there.change("a.1", **new, words_at=2)
    there.rest()
    words = {"displayName": "Uno", "personalMessage": "hi", "avatarId": "star"}
    update = {"type": "presence_update", "userId": "user_1", "status": "online"}
    assert there.take("b.1") == [{**update, **words}]
    assert there.attachments["b.2"].display_name == "Uno"
    # What another gateway knew before is no news.
    assert there.change("b.2", display_name="Old", words_at=1) == []
    there.enter("c.1", "user_1")
    assert there.attachments["c.1"].display_name == "Uno"


def test_new_words_of_somebody_hidden_do_not_show_them() -> None:
    there = watching()
    choose(there, "a.1", "offline")
    there.rest()
    there.forget()
    there.change("a.1", display_name="Uno", words_at=2)
    there.rest()
    assert there.take("b.1") == []
    choose(there, "a.1", "online")
    there.rest()
    (join,) = there.take("b.1")
    assert (join["type"], join["displayName"]) == ("presence_join", "Uno")


def test_a_choice_is_newer_than_those_of_earlier_lives() -> None:
    there = watching()
    choose(there, "a.1", "busy")
    twin = Audience(Presence(Life(7)), there.now)  # which knows nothing of it
    twin.notify(fx.StatusChanged("user_1", "away"))
    # An attachment of the life before comes back only now.
    twin.attachments["a.1"] = there.attachments["a.1"]
    twin.reattach("a")
    assert twin.attachments["a.1"].status == "away"


def test_a_choice_that_only_a_gateway_remembers_holds() -> None:
    there = watching()
    busy = replace(there.attachments["a.1"], status="busy", status_at=5)
    there.attachments["a.1"] = busy
    fresh = Audience(Presence(), there.now)
    fresh.attachments = dict(there.attachments)
    fresh.enter("c.1", "user_1")
    assert fresh.attachments["c.1"].status == "online"
    fresh.reattach("a")
    assert fresh.attachments["c.1"].status == "busy"
    assert fresh.records[-1] == ("user_1", "busy")


def test_http_tells_a_status_too() -> None:
    there = watching()
    there.notify(fx.StatusChanged("user_1", "away"))
    there.rest()
    assert there.take_types("b.1") == ["presence_update"]
    assert there.attachments["a.1"].status == "away"


def test_a_status_that_is_said_again_is_written_again_and_told_to_nobody() -> None:
    there = watching()
    choose(there, "a.1", "busy")
    there.rest()
    there.take("b.1")
    there.records.clear()
    there.notify(fx.StatusChanged("user_1", "busy"))
    there.rest()
    assert there.records == [("user_1", "busy")]
    assert there.take("b.1") == []


def test_offline_by_choice_is_shown_offline() -> None:
    there = watching()
    choose(there, "a.1", "offline")
    there.rest()
    (update,) = there.take("b.1")
    assert (update["type"], update["status"]) == ("presence_update", "offline")
    assert there.records == [("user_1", "offline")]
    there.enter("b.2", "user_3")
    there.rest()
    assert [p["id"] for p in there.take("b.2")[1]["participants"]] == [
        "user_2",
        "user_3",
    ]
    there.forget()
    there.leave("a.1")  # nobody could see it
    there.wait(50)
    assert there.take("b.1") == []


def test_up_to_eight_changes_are_told_one_by_one_and_more_as_one() -> None:
    there = audience()
    for n in range(BURST + 1):
        there.enter(f"a.{n}", f"user_{n}")
    there.rest()
    there.forget()
    for n in range(BURST):
        choose(there, f"a.{n}", "busy")
    (tell,) = there.wait(50)
    assert there.take_types("a.0") == ["presence_update"] * BURST
    assert isinstance(tell, fx.Tell) and len(tell.news.people) == BURST
    for n in range(BURST):
        choose(there, f"a.{n}", "away")
    there.leave(f"a.{BURST}")
    there.wait(50)
    (sync,) = there.take("a.0")
    assert (sync["type"], sync["partial"]) == ("presence_full_sync", True)
    assert {p["id"]: p["status"] for p in sync["participants"]} == {
        **{f"user_{n}": "away" for n in range(BURST)},
        f"user_{BURST}": "offline",
    }


def test_a_chosen_status_outlives_the_sockets_by_90_s() -> None:
    there = watching()
    choose(there, "a.1", "busy")
    there.leave("a.1")
    there.rest()
    assert there.machine.alarm_at is None  # nobody stays awake for it
    there.wait(89_999 - 50)
    there.enter("a.2", "user_1")
    assert there.attachments["a.2"].status == "busy"
    there.leave("a.2")
    there.wait(90_000)
    there.enter("a.3", "user_1")
    assert there.attachments["a.3"].status == "online"


def test_a_status_can_be_chosen_before_connecting() -> None:
    there = watching()
    (record,) = there.notify(fx.StatusChanged("user_3", "away"))
    assert record == fx.Record("user_3", "away", 1, here=False)
    there.wait(1_000)
    there.notify(fx.StatusChanged("user_4", "away"))
    there.wait(1_000)
    there.notify(fx.StatusChanged("user_3", "busy"))
    assert there.machine.alarm_at is None
    there.records.clear()
    there.enter("b.2", "user_3")
    assert there.records == [("user_3", "busy")]
    there.rest()
    assert there.take_types("a.1") == ["presence_join", "presence_update"]


def test_choices_that_are_over_do_not_pile_up() -> None:
    there = watching()
    for n in range(10, 20):
        there.notify(fx.StatusChanged(f"user_{n}", "away"))
        there.wait(30_000)
    presence = there.machine
    assert isinstance(presence, Presence)
    assert len(presence._choices) == 3


# Direct messages.


def note(there: Audience) -> list[fx.Effect]:
    message = b'{"type":"chat","id":"m1"}'
    return there.notify(fx.DirectMessage(("user_1", "user_2"), message))


def test_a_direct_message_is_told_to_every_watcher_of_both_once() -> None:
    there = watching()
    there.enter("b.2", "user_1")
    there.enter("b.3", "user_1", watch=False)
    there.enter("b.4", "user_3")
    there.rest()
    there.forget()
    send, meet = note(there)
    assert isinstance(send, fx.Send) and send.conns == ("a.1", "b.2", "b.1")
    assert meet == fx.Meet(send.conns, ("user_1", "user_2"))
    expected = {
        "type": "message_notification",
        "message": {"type": "chat", "id": "m1"},
    }
    assert there.take("a.1") == there.take("b.2") == there.take("b.1") == [expected]
    assert there.take("b.4") == there.take("b.3") == []


def test_a_direct_message_to_nobody_online_is_told_to_nobody() -> None:
    assert note(audience()) == []


def test_a_newcomer_hears_of_a_direct_message_after_its_full_sync() -> None:
    there = watching()
    there.enter("b.2", "user_1")
    there.enter("b.3", "user_1")
    note(there)
    there.leave("b.3")
    there.rest()
    assert there.take_types("b.2") == [
        "system",
        "presence_full_sync",
        "message_notification",
    ]
    assert there.take_types("b.3") == ["system"]


def test_a_notification_of_another_version_is_ignored() -> None:
    there = watching()
    assert there.machine.notify(there.now, b"\xc0") == []


# Frames.


def test_faults_and_pings_are_answered() -> None:
    there = watching()
    (fault,) = there.say("a.1", {"type": "chat", "content": "here?"})
    assert isinstance(fault, fx.Send) and fault.fault
    (pong,) = there.say("a.1", {"type": "ping", "t": 5})
    assert isinstance(pong, fx.Send) and not pong.fault
    error, answer = there.take("a.1")
    assert (error["code"], answer["t"]) == ("UNKNOWN_TYPE", 5)
    assert there.take("b.1") == []


def test_who_is_unknown_is_not_heard() -> None:
    there = watching()
    assert choose(there, "z.9", "busy") == []
    assert there.machine.close(there.now, "z.9") == []


# Gateways.


def restored(there: Audience, clean: bool = True) -> Audience:
    life, saved = Life(2, 1, crashed=not clean), there.machine.snapshot()
    twin = Audience(Presence.restore(saved, clean, (), life), there.now)
    twin.attachments = dict(there.attachments)
    twin.crowds = deepcopy(there.crowds)
    return twin


def test_after_sleep_reattaching_is_no_news() -> None:
    there = watching()
    there.enter("a.2", "user_3", watch=False)
    there.rest()
    there = restored(there)
    assert there.reattach("a") == there.reattach("b") == []
    there.rest()
    assert there.seen == {} and there.records == []


def test_after_sleep_the_difference_is_told() -> None:
    there = restored(watching())
    del there.attachments["a.1"]
    there.attachments["a.2"] = fx.Attachment("a.2", "user_3", "User 3", "online")
    there.crowds["a"].leave("a.1")
    there.crowds["a"].enter("a.2", "user_3", ())
    there.reattach("b")
    there.reattach("a")
    assert there.records == [("user_3", "online"), ("user_1", None)]
    there.rest()
    assert there.take_types("b.1") == ["presence_join", "presence_update"]
    assert [p["id"] for p in shown(there, "a.2")] == ["user_2", "user_3"]


def test_after_a_crash_nobody_seems_to_have_left() -> None:
    there = watching()
    choose(there, "a.1", "busy")
    there.rest()
    there = restored(there, clean=False)
    there.reattach("a")
    there.wait(RETURN_MS - 1)
    there.reattach("b")
    there.rest()
    assert there.seen == {}
    assert there.records == [("user_1", "busy"), ("user_2", "online")]
    # Who came or went meanwhile is news, and so is who comes now, as ever.
    there.enter("a.2", "user_3")
    there.wait(50)
    assert there.take_types("b.1") == ["presence_join"]


def test_a_gateway_that_died_with_the_registry_is_missed() -> None:
    there = watching()
    there = restored(there, clean=False)
    there.reattach("a")
    there.rest()
    (update,) = there.take("a.1")
    assert (update["userId"], update["status"]) == ("user_2", "offline")


def test_after_a_broken_link_its_watchers_are_told_what_they_missed() -> None:
    there = watching()
    crowd = there.crowds.pop("a")  # what is told it is lost on the way
    there.enter("b.2", "user_3")
    there.rest()
    there.crowds["a"] = crowd
    there.forget()
    there.reattach("a")
    there.rest()
    assert there.take_types("a.1") == ["presence_join"]
    assert there.take("b.1") == []


def test_a_dead_gateways_users_go() -> None:
    there = watching()
    there.enter("a.2", "user_2")
    there.rest()
    there.forget()
    there.detach("a")
    there.rest()
    (update,) = there.take("b.1")
    assert (update["userId"], update["status"]) == ("user_1", "offline")
    presence = there.machine
    assert isinstance(presence, Presence)
    assert (presence.gateways, presence.sockets) == ({"b"}, 1)


def test_what_is_untold_survives_the_snapshot() -> None:
    there = watching()
    there.enter("b.2", "user_3")
    twin = restored(there)
    twin.reattach("a")
    twin.reattach("b")
    twin.rest()
    assert twin.take_types("a.1") == ["presence_join"]
    assert twin.take_types("b.2") == ["presence_full_sync"]


def test_a_snapshot_of_another_version_remembers_nobody() -> None:
    presence = Presence.restore(b"\xc0", clean=True)
    assert (presence.sockets, presence.gateways) == (0, set())


# Any life.

CONNS = {
    "a.1": ("user_1", True),
    "b.1": ("user_1", False),
    "a.2": ("user_2", True),
    "b.2": ("user_2", True),
    **{f"b.{n}": (f"user_{n}", n % 2 == 0) for n in range(3, 15)},
}
conns = st.sampled_from(sorted(CONNS))
Step = tuple[str, Any, str]
steps_of = st.lists(
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 49, 50, 90_000]), st.just(""))
    | st.tuples(st.sampled_from(["enter", "leave"]), conns, st.just(""))
    | st.tuples(
        st.just("choose"), conns, st.sampled_from(["online", "busy", "offline"])
    )
    | st.tuples(st.just("reattach"), st.sampled_from("ab"), st.just("")),
    min_size=15,
    max_size=60,
)


def carry_out(there: Audience, step: Step) -> list[fx.Effect]:
    kind, what, status = step
    if kind == "wait":
        return there.wait(what)
    if kind == "reattach":
        return there.reattach(what)
    if kind == "enter" and what not in there.attachments:
        user_id, watch = CONNS[what]
        return there.enter(what, user_id, watch=watch)
    if what not in there.attachments:
        return []
    if kind == "leave":
        return there.leave(what)
    return choose(there, what, status) if kind == "choose" else []


def view(frames: list[dict[str, Any]], before: dict[str, str]) -> dict[str, str]:
    """Who a client that got these frames shows, with which status."""
    seen = dict(before)
    for frame in frames:
        if frame["type"] == "presence_full_sync":
            seen = {**seen} if frame.get("partial") else {}
            seen |= {p["id"]: p["status"] for p in frame["participants"]}
        elif frame["type"] == "presence_join":
            seen[frame["userId"]] = "online"
        elif frame["type"] == "presence_update":
            seen[frame["userId"]] = frame["status"]
    return {user_id: status for user_id, status in seen.items() if status != "offline"}


@settings(max_examples=tries(100))
@given(steps_of)
def test_every_watcher_converges_to_who_is_online(steps: list[Step]) -> None:
    there = audience()
    there.enter("z.9", "user_99")
    there.rest()
    shown_to = {"z.9": view(there.take("z.9"), {})}
    recorded: dict[str, str] = {}
    for step in steps:
        carry_out(there, step)
    there.wait(50)
    for conn in there.seen:
        shown_to[conn] = view(there.take(conn), shown_to.get(conn, {}))
    everyone = {a.user_id: a.status for a in there.attachments.values()}
    online = {u: s for u, s in everyone.items() if s != "offline"}
    for conn, attachment in there.attachments.items():
        if attachment.watch:
            assert shown_to[conn] == online
    for user_id, status in there.records:
        recorded.pop(user_id, None)
        if status is not None:
            recorded[user_id] = status
    assert recorded == everyone


@settings(max_examples=tries(100))
@given(steps_of, steps_of)
def test_a_restored_registry_behaves_as_the_registry(
    before: list[Step], after: list[Step]
) -> None:
    there = audience()
    for step in before:
        carry_out(there, step)
    there.wait(50)
    there.forget()
    twin = restored(there)
    assert isinstance(there.machine, Presence)
    for gateway in sorted(there.machine.gateways):
        assert twin.reattach(gateway) == []
    twin.wait(50)
    there.wait(50)
    assert twin.seen == {}
    there.records.clear()
    for step in after:
        carry_out(twin, step)
        carry_out(there, step)
        assert (twin.seen, twin.records) == (there.seen, there.records)
