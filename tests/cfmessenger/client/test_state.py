"""The client's room and presence machines: nothing twice, nothing missing."""

import ast
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cfmessenger.client
from cfmessenger.client import (
    Gap,
    Opened,
    OutboxFull,
    PresenceState,
    RateLimited,
    Recap,
    Rewound,
    RoomState,
    SendRejected,
)
from cfmessenger.client.events import Acknowledged, DirectMessage, Rejected
from cfmessenger.wire.events import Message, UnknownEvent
from cfmessenger.wire.protocol import ErrorFrame, Participants, PresenceUpdate
from tests.effort import tries


def message(seq: int, id: str = "", sender: str = "user_2") -> dict[str, Any]:  # noqa: A002
    return {
        "type": "chat",
        "id": id or f"m{seq}",
        "roomId": "general",
        "senderId": sender,
        "displayName": "Two",
        "content": f"text {seq}",
        "timestamp": 1000 + seq,
        "seq": seq,
        "isNudge": False,
        "isWink": False,
    }


def history(*seqs: int, last: int | None = None, gap: bool = False) -> dict[str, Any]:
    messages = [message(seq) for seq in seqs]
    last_seq = last if last is not None else seqs[-1]
    return {
        "type": "history",
        "messages": messages,
        "roomId": "general",
        "lastSeq": last_seq,
        "gap": gap,
    }


PARTICIPANTS = {"type": "participants", "roomId": "general", "participants": []}


def room(**options: Any) -> RoomState:
    return RoomState("general", "user_1", id_prefix="p", **options)


ALL = {"online": 2, "scope": "all"}


def hear(state: RoomState | PresenceState, *frames: dict[str, Any]) -> list[Any]:
    return [
        event
        for frame in frames
        for event in state.received(0.0, json.dumps(frame).encode())
    ]


def written(state: RoomState | PresenceState) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in state.take()]


def seqs_of(events: list[Any]) -> list[int]:
    found = []
    for event in events:
        found += [event.seq] if isinstance(event, Message) else []
        found += [m.seq for m in event.messages] if isinstance(event, Recap) else []
    return found


def test_the_first_page_starts_where_it_starts_and_is_no_gap() -> None:
    state = room()
    assert state.opened() == [Opened(None)]
    (recap,) = hear(state, history(41, 42))
    assert seqs_of([recap]) == [41, 42]
    assert state.since == 42


def test_an_empty_room_is_resumed_from_zero() -> None:
    state = room()
    state.opened()
    hear(state, PARTICIPANTS)
    assert state.since == 0


def test_what_was_seen_is_not_shown_again() -> None:
    state = room()
    state.opened()
    hear(state, history(1, 2), message(3))
    state.lost()
    state.opened()
    events = hear(state, history(2, 3, 4), message(4), message(5))
    assert seqs_of(events) == [4, 5]


def test_what_is_no_longer_kept_is_a_gap() -> None:
    state = room(since=3)
    state.opened()
    events = hear(state, history(7, 8, gap=True))
    assert events[0] == Gap(4, 6)
    assert seqs_of(events) == [7, 8]
    state.opened()
    assert hear(state, history(last=20, gap=True)) == [Gap(9, 20), Recap("general", ())]
    assert state.since == 20


def test_a_hole_between_live_messages_is_reported_once() -> None:
    state = room(since=1)
    state.opened()
    events = hear(state, history(last=1), message(2), message(4), message(5))
    assert [event for event in events if isinstance(event, Gap)] == [Gap(3, 3)]
    assert seqs_of(events) == [2, 4, 5]


def test_a_room_that_lost_its_data_is_followed_not_waited_for() -> None:
    state = room(since=90)
    state.opened()
    events = hear(state, history(last=5), message(6))
    assert events[0] == Rewound(90, 5)
    assert seqs_of(events) == [6]


def test_an_echo_acknowledges_and_another_users_equal_id_does_not() -> None:
    state = room()
    state.opened()
    sent = state.chat("hello")
    assert written(state) == [{"type": "chat", "content": "hello", "id": sent}]
    (foreign,) = hear(state, message(1, sent, "user_2"))
    assert isinstance(foreign, Message)
    events = hear(state, message(2, sent, "user_1"))
    assert isinstance(events[0], Acknowledged) and events[0].id == sent
    assert seqs_of(events) == [2]
    assert state.outbox == ()


def test_a_repeats_answer_acknowledges_without_showing_it_twice() -> None:
    state = room()
    state.opened()
    hear(state, history(1, 2))
    state.chat("hello", "mine")
    (event,) = hear(state, message(2, "mine", "user_1"))
    assert isinstance(event, Acknowledged)


def test_unanswered_messages_go_again_in_order_with_the_same_ids() -> None:
    state = room()
    state.opened()
    hear(state, history(1))
    first, second = state.chat("a"), state.nudge()
    before = written(state)
    state.lost()
    third = state.wink("heart")
    state.opened()
    assert written(state) == []  # their fate is not known before the history is
    hear(state, history(last=1))
    again = written(state)
    assert again[:2] == before
    assert [frame["id"] for frame in again] == [first, second, third]


def test_what_the_history_shows_as_accepted_is_not_said_again() -> None:
    state = room()
    state.opened()
    hear(state, history(1))
    first, second = state.chat("a"), state.chat("b")
    written(state)
    state.lost()
    state.opened()
    recovered = history(2, last=2)
    recovered["messages"] = [message(2, first, "user_1")]
    events = hear(state, recovered)
    assert [e.id for e in events if isinstance(e, Acknowledged)] == [first]
    assert [frame["id"] for frame in written(state)] == [second]


def test_a_long_history_is_complete_with_the_frame_that_reaches_last_seq() -> None:
    state = room(since=0)
    state.opened()
    state.chat("a")
    written(state)
    state.lost()
    state.opened()
    hear(state, history(1, 2, last=4))
    assert written(state) == []
    hear(state, history(3, 4, last=4))
    assert len(written(state)) == 1


def test_never_written_messages_need_not_wait_for_the_history() -> None:
    state = room(since=3)
    state.chat("a")
    state.opened()
    assert len(written(state)) == 1


def test_an_error_frame_answers_its_message_alone() -> None:
    state = room()
    state.opened()
    first, second = state.chat("a"), state.chat("b")
    error = {
        "type": "error",
        "code": "RATE_LIMITED",
        "message": "slow down",
        "content": "slow down",
        "retryable": True,
        "retryAfterMs": 250,
    }
    (rejected,) = hear(state, error | {"id": first})
    assert isinstance(rejected, Rejected) and rejected.id == first
    assert isinstance(rejected.error, RateLimited)
    assert (rejected.error.retry_after_ms, rejected.error.retryable) == (250, True)
    assert state.outbox == (second,)
    (event,) = hear(state, error)
    assert isinstance(event, ErrorFrame)


@pytest.mark.parametrize("content", ["", " \n", "x" * 2049, "\x1b[2J", "\ud800"])
def test_what_the_server_would_refuse_is_refused_before_it_is_sent(
    content: str,
) -> None:
    state = room()
    state.opened()
    with pytest.raises(SendRejected) as refusal:
        state.chat(content)
    assert refusal.value.code == "VALIDATION_ERROR"
    assert state.outbox == () and written(state) == []


def test_every_queue_is_bounded() -> None:
    state = room(outbox_limit=2)
    state.chat("a")
    state.chat("b")
    with pytest.raises(OutboxFull):
        state.chat("c")
    for n in range(1000):
        state.ack(f"m{n}", "read")
    state.opened()
    for _ in range(1000):
        state.typing(True)
        state.ping(1.0)
    frames = written(state)
    assert len(frames) <= 2 + 256 + 256
    assert frames[-1]["ackId"] == "m999"  # the latest receipts are what counts
    stuck = room(outbox_limit=2)
    stuck.opened()
    for _ in range(1000):
        stuck.forget(stuck.chat("a"))
    assert written(stuck) == []


def test_a_message_id_in_flight_cannot_be_used_again() -> None:
    state = room()
    state.chat("a", "mine")
    with pytest.raises(ValueError, match="mine"):
        state.chat("b", "mine")


def test_the_chosen_status_is_said_again_and_typing_is_not() -> None:
    state = room()
    state.opened()
    state.presence("away", "One")
    state.typing(True)
    written(state)
    state.lost()
    assert not state.typing(True)
    state.opened()
    # The name is the server's to remember: another device may have changed it since.
    assert written(state) == [{"type": "presence", "status": "away"}]


def test_what_another_device_chose_since_is_not_undone_by_a_reconnect() -> None:
    one = {"id": "user_1", "displayName": "One"}
    inside, watching = room(), PresenceState("user_1")
    update = {"type": "presence_update", "userId": "user_1", "displayName": "One"}
    for state in (inside, watching):
        state.opened()
        state.presence("busy")
        assert [frame["status"] for frame in written(state)] == ["busy"]
        # The first is from before ours, the last from after it.
        for status in ("online", "busy", "offline"):
            if state is inside:
                there = [one | {"status": status}]
                hear(state, PARTICIPANTS | {"participants": there})
            else:
                hear(state, update | {"status": status})
            state.lost()
            state.opened()
            expected = "offline" if status == "offline" else "busy"
            assert [frame["status"] for frame in written(state)] == [expected]


def test_a_choice_that_was_not_shown_yet_is_not_undone() -> None:
    state = PresenceState("user_1")
    update = {"type": "presence_update", "userId": "user_1", "displayName": "One"}
    hear(state, update | {"status": "away"})  # nothing was chosen here
    state.opened()
    assert written(state) == []


def test_the_roster_has_words_and_pictures() -> None:
    state = PresenceState("user_1")
    words = {"displayName": "Two", "personalMessage": "hi", "avatarId": "star"}
    other = {"displayName": "Duo", "personalMessage": "so", "avatarId": "sun"}
    silent = {"displayName": "Duo", "avatarId": "sun"}  # a message was taken away
    whole = {"type": "presence_full_sync", **ALL}
    for frame, said in (
        ({"type": "presence_join", "userId": "user_2"}, words),
        ({"type": "presence_update", "userId": "user_2", "status": "busy"}, other),
        ({"type": "presence_update", "userId": "user_2", "status": "busy"}, silent),
        (whole | {"partial": True}, words),
        (whole, other),
    ):
        someone = {"id": "user_2", "status": "away"} | said
        full = frame["type"] == "presence_full_sync"
        hear(state, frame | ({"participants": [someone]} if full else said))
        known = msgspec.to_builtins(state.roster["user_2"])
        assert {name: known[name] for name in known.keys() & words.keys()} == said


def test_acks_wait_for_the_next_socket() -> None:
    state = room()
    state.ack("m1", "delivered")
    assert written(state) == []
    state.opened()
    assert written(state) == [{"type": "ack", "ackId": "m1", "status": "delivered"}]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"type":"chat"}', b'{"type":"later"}', b"[" * 5000, b"\xff"],
)
def test_what_cannot_be_read_is_ignored(data: bytes) -> None:
    state = room()
    state.opened()
    assert state.received(0.0, data) == []


def test_the_offset_keeps_the_least_round_trip() -> None:
    state = room()
    state.opened()
    for sent, received, server in ((0, 100, 5090), (200, 204, 5202), (300, 380, 5399)):
        pong = {"type": "pong", "t": sent, "timestamp": server}
        state.received(float(received), json.dumps(pong).encode())
    assert state.offset.ms == 5000
    assert state.offset.delay(1000, 6500) == 500
    assert state.offset.delay(1000, 5000) == 0


def test_presence_keeps_the_roster() -> None:
    state = PresenceState("user_1")
    state.opened()
    one = {"id": "user_1", "displayName": "One", "status": "online"}
    two = {"id": "user_2", "displayName": "Two", "status": "busy"}
    whole = {"type": "presence_full_sync", **ALL}
    hear(state, whole | {"participants": [one]})
    hear(state, {"type": "presence_join", "userId": "user_3", "displayName": "Three"})
    hear(state, whole | {"participants": [two], "partial": True})
    assert sorted(state.roster) == ["user_1", "user_2", "user_3"]
    gone = {"userId": "user_3", "displayName": "Three", "status": "offline"}
    (event,) = hear(state, {"type": "presence_update"} | gone)
    assert isinstance(event, PresenceUpdate)
    assert sorted(state.roster) == ["user_1", "user_2"]
    note = {"type": "message_notification", "message": message(4)}
    (direct,) = hear(state, note)
    assert isinstance(direct, DirectMessage) and direct.message.seq == 4
    hear(state, whole | {"participants": [two]})
    assert sorted(state.roster) == ["user_2"]


def test_whom_it_watches_is_said_again_after_each_reconnect_and_in_parts() -> None:
    state = PresenceState("user_1")
    many = [f"{n:064}" for n in range(450)]
    state.watch(many)
    assert not state.has_output
    for _ in range(2):
        state.opened()
        assert state.has_output
        said = written(state)
        assert max(encode_len(each) for each in said) <= 16 * 1024
        assert {each["type"] for each in said} == {"watch"}
        assert [u for each in said for u in each["userIds"]] == many
        assert not state.has_output and written(state) == []
        state.lost()
    state.opened()
    state.take()
    state.unwatch(["user_9", many[0]])
    state.watch(["user_2"])
    assert written(state) == [
        {"type": "unwatch", "userIds": [many[0]]},
        {"type": "watch", "userIds": ["user_2"]},
    ]
    # What cancels out is not said.
    state.watch(["user_3"])
    state.unwatch(["user_3"])
    assert written(state) == []


def encode_len(frame: dict[str, Any]) -> int:
    return len(json.dumps(frame, separators=(",", ":")))


@pytest.mark.parametrize("bad", [[f"u{n}" for n in range(501)], ["No Id"], ["a" * 65]])
def test_more_than_500_and_what_is_no_id_are_refused(bad: list[str]) -> None:
    state = PresenceState("user_1")
    state.opened()
    with pytest.raises(SendRejected) as refused:
        state.watch(["user_2", *bad])
    assert refused.value.code == "VALIDATION_ERROR"
    assert state.watched == {} and not state.has_output


def test_the_roster_is_right_in_a_crowd_and_out_of_it() -> None:
    state = PresenceState("user_1")
    state.opened()
    people = [
        {"id": f"user_{n}", "displayName": f"{n}", "status": "online"}
        for n in range(1, 5)
    ]
    whole = {"type": "presence_full_sync", **ALL}
    crowd = whole | {"online": 4000, "scope": "watched"}
    hear(state, whole | {"participants": people, "online": 4})
    assert (state.online, state.scope, len(state.roster)) == (4, "all", 4)
    hear(state, crowd | {"participants": people[:1]})
    assert (state.online, state.scope, list(state.roster)) == (
        4000,
        "watched",
        ["user_1"],
    )
    state.watch(["user_2", "user_3"])
    gone = people[2] | {"status": "offline"}
    hear(state, crowd | {"participants": [people[1], gone], "partial": True})
    assert sorted(state.roster) == ["user_1", "user_2"]
    # Nobody would tell when they leave.
    state.unwatch(["user_2"])
    assert sorted(state.roster) == ["user_1"]
    hear(state, whole | {"participants": people, "online": 4})
    state.watch(["user_2"])
    state.unwatch(["user_2"])
    assert len(state.roster) == 4


def test_room_participants_are_yielded_as_they_are() -> None:
    state = room()
    state.opened()
    (event,) = hear(state, PARTICIPANTS)
    assert isinstance(event, Participants) and event.total is msgspec.UNSET


def test_of_a_crowd_the_number_is_told_and_ones_own_status_known() -> None:
    state = room()
    state.opened()
    state.presence("busy")
    me = {"id": "user_1", "displayName": "One", "status": "busy"}
    crowd = PARTICIPANTS | {"participants": [me], "total": 5_000}
    (event,) = hear(state, crowd)
    assert isinstance(event, Participants) and event.total == 5_000
    # Away on another device, and so here after the next reconnect.
    hear(state, crowd | {"participants": [me | {"status": "away"}]})
    state.lost()
    state.opened()
    assert [frame["status"] for frame in written(state)] == ["away"]


class Server:
    """A room as wire.md tells it. Unless it `remembers` ids, nothing it heard before a
    cut arrives after it, and the client alone must make a message one message."""

    def __init__(self, remembers: bool) -> None:
        self.remembers = remembers
        self.log: list[dict[str, Any]] = []
        self.to_client: list[dict[str, Any]] = []

    def connect(self, since: int | None) -> None:
        start = max(0, len(self.log) - 100) if since is None else since
        pages = [self.log[n : n + 3] for n in range(start, len(self.log), 3)]
        if since is not None and not pages:
            pages = [[]]
        self.to_client = [
            {
                "type": "history",
                "messages": page,
                "roomId": "general",
                "lastSeq": len(self.log),
                "gap": False,
            }
            for page in pages
        ]
        self.to_client.append(PARTICIPANTS)

    def accept(self, message_id: str, sender: str) -> None:
        for old in self.log if self.remembers else ():
            if old["id"] == message_id:
                self.to_client.append(old)
                return
        event = message(len(self.log) + 1, message_id, sender)
        self.log.append(event)
        self.to_client.append(event)


steps = st.lists(
    st.one_of(
        st.just(("say", 0)),
        st.just(("other", 0)),
        st.tuples(st.just("server hears"), st.integers(0, 4)),
        st.tuples(st.just("client hears"), st.integers(0, 6)),
        st.just(("cut", 0)),
    ),
    max_size=60,
)


@given(steps, st.booleans())
@settings(max_examples=tries(200))
def test_whatever_is_cut_everything_comes_once_and_in_order(
    plan: list[tuple[str, int]], remembers: bool
) -> None:
    server, state = Server(remembers), room()
    to_server: list[str] = []
    said: list[str] = []
    acked: list[str] = []
    shown: list[int] = []

    def connect() -> None:
        state.lost()
        if not remembers:
            to_server.clear()
        server.connect(state.since)
        state.opened()

    def client_hears(count: int) -> None:
        for frame in server.to_client[:count]:
            events = hear(state, frame)
            assert not [e for e in events if isinstance(e, Gap | Rewound)]
            acked.extend(e.id for e in events if isinstance(e, Acknowledged))
            shown.extend(seqs_of(events))
        del server.to_client[:count]

    def server_hears(count: int) -> None:
        to_server.extend(frame["id"] for frame in written(state))
        for message_id in to_server[:count]:
            server.accept(message_id, "user_1")
        del to_server[:count]

    connect()
    for step, count in plan:
        match step:
            case "say":
                said.append(state.chat("hello"))
            case "other":
                server.accept(f"o{len(server.log)}", "user_2")
            case "server hears":
                server_hears(count)
            case "client hears":
                client_hears(count)
            case "cut":
                connect()
    connect()
    client_hears(1000)
    server_hears(1000)
    client_hears(1000)

    assert acked == said == [m["id"] for m in server.log if m["senderId"] == "user_1"]
    assert state.outbox == ()
    first = shown[0] if shown else 1
    assert shown == list(range(first, len(server.log) + 1))


def test_the_machines_know_no_clock_no_loop_and_no_chance() -> None:
    folder = Path(cfmessenger.client.__file__).parent
    names = "state room_state events frames offset reconnect errors envelope urls"
    for name in names.split():
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else []
            )
            assert not {"asyncio", "time", "random", "secrets"} & set(modules)
            assert not isinstance(node, ast.AsyncFunctionDef)


def knock(seq: int) -> dict[str, Any]:
    """An event of a type that only a later release knows."""
    return {"type": "knock", "seq": seq, "door": 1}


def test_an_event_of_an_unknown_type_has_its_number_and_leaves_no_gap() -> None:
    state = room()
    state.opened()
    page = history(1, 3)
    page["messages"].insert(1, knock(2))
    assert [type(event) for event in hear(state, page)] == [Recap]
    live = hear(state, knock(4), message(5))
    assert live[0] == UnknownEvent("knock", 4)
    assert seqs_of(live) == [5]
    assert state.since == 5


def test_a_page_that_ends_with_an_unknown_event_is_the_end_of_the_history() -> None:
    state = room(since=1)
    state.opened()
    page = history(2, last=3)
    page["messages"].append(knock(3))
    assert [type(event) for event in hear(state, page)] == [Recap]
    assert state.since == 3


def test_an_unknown_direct_message_is_no_notification() -> None:
    told = {"type": "message_notification", "message": knock(1)}
    assert hear(PresenceState("user_1"), told) == []
