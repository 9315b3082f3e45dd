"""The checker sees what it claims to see: each rule, and a bad history for it.

Every test starts from the same good history and spoils one thing in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.system.sim.checker import RULES, check
from tests.system.sim.history import (
    GUEST,
    Frame,
    Gazed,
    Gone,
    Heard,
    History,
    Logged,
    Online,
    Owed,
    Refused,
    Sent,
    Shown,
    Socket,
)
from tests.system.sim.sim_loop import EPOCH_MS

ROOM = "general"


def message(seq: int, user: str, own_id: str, serial: int, at: float) -> Frame:
    return {
        "type": "chat",
        "id": own_id,
        "roomId": ROOM,
        "senderId": user,
        "displayName": user,
        "content": f"said #{serial}",
        "timestamp": EPOCH_MS + int(at * 1000),
        "seq": seq,
    }


def person(user: str, **now: str) -> Frame:
    return {"id": user, "displayName": user.title(), "status": "online", **now}


class Story:
    """Two people: alice says three things, bob hears them and says one."""

    def __init__(self) -> None:
        self.history = History(chat_rate=(3, 10), nudge_rate=(3, 10), ended_at=60.0)
        self.alice = Socket(1, "alice", ROOM, None, 0.0)
        self.bob = Socket(2, "bob", ROOM, 0, 0.0)
        self.history.sockets = [self.alice, self.bob]
        self.messages: list[Frame] = []
        self.log = self.history.logs[ROOM] = []
        for n, at in enumerate((1.0, 2.0, 3.0), 1):
            self.say(self.alice, n, f"m{n}", at)
        self.say(self.bob, 4, "m1", 4.0)
        people = [person("alice"), person("bob")]
        for place in ("row", "registry", "gateway g1"):
            for user in ("alice", "bob"):
                shown = Shown(user, "words", place, (user.title(), None))
                self.history.held.append(shown)
        for socket in self.history.sockets:
            frame = {"type": "participants", "participants": people}
            socket.heard.append(Heard(5.0, frame))

    def say(self, socket: Socket, seq: int, own_id: str, at: float) -> None:
        said = message(seq, socket.user, own_id, seq, at)
        sent = Sent(seq, socket.number, socket.user, ROOM, "chat", own_id, at)
        socket.sent.append(sent)
        self.messages.append(said)
        self.log.append(Logged(1, seq, "h1", said))
        for each in self.history.sockets:
            each.heard.append(Heard(at + 0.1, said))

    def drop(self, socket: Socket, seq: int) -> None:
        """This socket never heard of it."""
        socket.heard[:] = [h for h in socket.heard if h.frame.get("seq") != seq]

    def change(self, seq: int, **fields: Any) -> None:
        """The log has something else there."""
        kept = self.log[seq - 1]
        self.log[seq - 1] = kept._replace(message={**kept.message, **fields})

    @property
    def broken(self) -> set[str]:
        return {violation.rule for violation in check(self.history)}


@pytest.fixture
def story() -> Story:
    return Story()


def flags(story: Story, *rules: str) -> None:
    """All of these are flagged; others may be, for one thing seldom breaks alone."""
    assert set(rules) <= story.broken


def test_a_good_history_is_good(story: Story) -> None:
    assert check(story.history) == []


def test_an_acknowledged_message_that_the_log_has_lost(story: Story) -> None:
    del story.log[3]
    flags(story, "lost")


def test_a_message_that_was_shown_otherwise_than_it_is_kept(story: Story) -> None:
    story.change(2, displayName="mallory")
    flags(story, "lost")


def test_one_seq_that_two_people_saw_differently(story: Story) -> None:
    other = {**story.messages[1], "content": "said #9"}
    story.bob.heard[1] = Heard(2.1, other)
    flags(story, "lost")


def test_a_status_that_came_later_is_no_difference(story: Story) -> None:
    story.bob.heard[1] = Heard(2.1, {**story.messages[1], "status": "read"})
    assert story.broken == set()


def test_a_message_shown_before_it_was_durable(story: Story) -> None:
    story.history.early.append("general 3")
    flags(story, "early")


def test_a_hole_in_the_log(story: Story) -> None:
    del story.log[1]
    flags(story, "hole")


def test_a_seq_given_twice(story: Story) -> None:
    story.log.insert(2, story.log[1]._replace(epoch=2))
    flags(story, "hole", "duplicate")


def test_an_entry_whose_message_says_another_seq(story: Story) -> None:
    story.log[1].message["seq"] = 7
    flags(story, "hole")


def test_one_id_that_became_two_messages(story: Story) -> None:
    story.say(story.alice, 5, "m3", 20.0)
    flags(story, "duplicate")


def test_one_thing_said_that_became_two_messages(story: Story) -> None:
    again = message(5, "alice", "g1.77", 3, 20.0)
    story.log.append(Logged(1, 5, "h1", again))
    flags(story, "duplicate")


def test_an_equal_id_of_somebody_else_is_no_duplicate(story: Story) -> None:
    assert [m["id"] for m in story.messages].count("m1") == 2
    assert "duplicate" not in story.broken


def test_a_message_that_nobody_sent(story: Story) -> None:
    story.change(2, content="said #99")
    flags(story, "unexpected")


def test_a_message_under_anothers_name(story: Story) -> None:
    story.change(2, senderId="bob")
    flags(story, "unexpected")


def test_a_nudge_that_nobody_sent(story: Story) -> None:
    story.log[1] = story.log[1]._replace(
        message={**story.messages[1], "type": "nudge", "content": "sent a nudge."}
    )
    flags(story, "unexpected")


def test_two_processes_under_one_epoch(story: Story) -> None:
    story.log[2] = story.log[2]._replace(writer="h2")
    flags(story, "writer")


def test_an_epoch_that_goes_back(story: Story) -> None:
    story.log[1] = story.log[1]._replace(epoch=2)
    flags(story, "writer")


def test_a_socket_that_skips_a_message(story: Story) -> None:
    story.drop(story.bob, 2)
    flags(story, "stream", "alive")


def test_a_socket_that_sees_messages_in_another_order(story: Story) -> None:
    heard = story.bob.heard
    heard[0], heard[1] = heard[1], heard[0]
    flags(story, "stream")


def test_a_socket_that_sees_another_persons_message_twice(story: Story) -> None:
    story.bob.heard.append(Heard(9.0, story.messages[1]))
    flags(story, "stream", "twice")


def test_an_echo_told_twice_for_one_send(story: Story) -> None:
    story.alice.heard.append(Heard(9.0, story.messages[1]))
    flags(story, "twice")


def test_an_echo_told_again_for_a_repeat_is_right(story: Story) -> None:
    story.alice.sent.append(Sent(9, 1, "alice", ROOM, "chat", "m2", 8.0))
    story.alice.heard.append(Heard(9.0, story.messages[1]))
    assert story.broken == set()


def test_a_repeat_in_another_tab_is_answered_there_once(story: Story) -> None:
    tab = Socket(3, "alice", ROOM, 4, 7.0)
    story.history.sockets.append(tab)
    tab.sent.append(Sent(9, 3, "alice", ROOM, "chat", "m2", 8.0))
    tab.heard.append(Heard(8.1, story.messages[1]))
    assert story.broken == set()
    tab.heard += [Heard(8.2, story.messages[1]), Heard(8.3, story.messages[1])]
    flags(story, "twice")


def test_other_words_under_an_id_are_told_of(story: Story) -> None:
    error = {"type": "error", "code": "ID_REUSED", "id": "m2"}
    story.alice.sent.append(Sent(9, 1, "alice", ROOM, "chat", "m2", 8.0))
    story.alice.heard += [Heard(9.0, error), Heard(9.1, story.messages[1])]
    assert story.broken == set()
    story.alice.heard.pop()  # the echo is owed all the same
    flags(story, "unanswered")


@pytest.mark.parametrize("own_id", ["m2", "m9"])
def test_the_same_words_under_an_id_are_nothing_to_tell_of(
    story: Story, own_id: str
) -> None:
    error = {"type": "error", "code": "ID_REUSED", "id": own_id}
    story.alice.heard.append(Heard(9.0, error))
    flags(story, "reused")


def test_an_echo_ahead_of_its_turn(story: Story) -> None:
    # The answer to a repeat, but to a socket that has not come so far.
    tab = Socket(3, "alice", ROOM, 1, 7.0)
    story.history.sockets.append(tab)
    tab.sent.append(Sent(9, 3, "alice", ROOM, "chat", "m3", 8.0))
    tab.heard += [Heard(8.1, story.messages[2]), Heard(8.2, story.messages[1])]
    flags(story, "stream")


def test_a_resume_that_misses_what_it_asked_for(story: Story) -> None:
    tab = Socket(3, "bob", ROOM, 1, 7.0)
    story.history.sockets.append(tab)
    frame = {"type": "history", "messages": story.messages[2:], "lastSeq": 4}
    tab.heard.append(Heard(7.1, {**frame, "gap": False}))
    flags(story, "stream", "alive")


def test_a_gap_that_is_announced_though_nothing_is_gone(story: Story) -> None:
    frame = {"type": "history", "messages": [], "lastSeq": 4, "gap": True}
    story.bob.heard.append(Heard(7.1, frame))
    flags(story, "stream")


def test_an_order_that_contradicts_an_acknowledgement(story: Story) -> None:
    # Alice had her second echo before she sent what the log has first.
    story.alice.sent[0].at = 2.5
    flags(story, "order")


def test_a_sender_who_never_sees_the_echo(story: Story) -> None:
    story.drop(story.alice, 2)
    flags(story, "echo", "unanswered")


def test_no_answer_at_all(story: Story) -> None:
    story.bob.sent.append(Sent(9, 2, "bob", ROOM, "chat", "m9", 20.0))
    flags(story, "unanswered")


def test_an_answer_that_comes_too_late(story: Story) -> None:
    story.bob.sent.append(Sent(9, 2, "bob", ROOM, "chat", "m9", 20.0))
    refused = {"type": "error", "code": "STORAGE_UNAVAILABLE", "id": "m9"}
    story.bob.heard.append(Heard(32.0, refused))
    flags(story, "unanswered")
    story.history.lame.append((21.0, 26.0))  # its gateway stood still
    assert story.broken == set()


def test_an_error_under_a_used_id_may_be_the_answer_to_other_words(
    story: Story,
) -> None:
    # The first words became a message, whose echo came late; the second were refused in
    # time, and so was what was said again after that.
    refused = {"type": "error", "code": "STORAGE_UNAVAILABLE", "id": "m9"}
    for serial, at in ((5, 20.0), (6, 20.0), (7, 24.9)):
        story.bob.sent.append(Sent(serial, 2, "bob", ROOM, "chat", "m9", at))
    said = message(5, "bob", "m9", 5, 20.1)
    story.log.append(Logged(1, 5, "h1", said))
    story.bob.heard += [Heard(24.9, refused), Heard(29.8, refused), Heard(31.0, said)]
    assert "unanswered" not in story.broken
    story.change(5, content="said #6")  # the refusal was of the first words then
    story.bob.heard[-1] = Heard(31.0, story.log[4].message)
    story.bob.heard.pop(-3)
    flags(story, "unanswered")


def test_who_is_gone_needs_no_answer(story: Story) -> None:
    story.bob.sent.append(Sent(9, 2, "bob", ROOM, "chat", "m9", 20.0))
    story.bob.closed_at = 22.0
    assert "unanswered" not in story.broken


def test_a_rate_that_is_exceeded(story: Story) -> None:
    story.say(story.alice, 5, "m5", 10.9)
    flags(story, "rate")


def test_a_rate_that_is_used_up_is_not_exceeded(story: Story) -> None:
    story.say(story.alice, 5, "m5", 11.0)
    assert story.broken == set()


def test_a_refusal_of_somebody_within_the_rate(story: Story) -> None:
    story.bob.sent.append(Sent(9, 2, "bob", ROOM, "chat", "m9", 20.0))
    refused = {"type": "error", "code": "RATE_LIMITED", "id": "m9"}
    story.bob.heard.append(Heard(20.1, refused))
    flags(story, "refused")


def refused(story: Story, at: float) -> None:
    """Alice is told that her second message was not confirmed; bob saw it at 2.1."""
    story.history.shown[ROOM, "alice", "m2"] = Heard(2.1, story.messages[1])
    story.history.refusals.append(Refused(at, ROOM, "alice", "m2"))


def test_a_refusal_of_what_was_shown(story: Story) -> None:
    refused(story, 2.4)
    assert story.broken == set()  # it was not when the gateway looked
    refused(story, 5.9)
    story.history.blind.append(5.9)
    assert story.broken == set()  # the log did not answer
    refused(story, 6.9)
    flags(story, "shown_then_refused")
    story.history.unsure.append((6.8, 6.9))
    assert story.broken == set()  # memory was full
    story.history.unsure[:] = [(6.0, 6.8)]
    flags(story, "shown_then_refused")


@pytest.mark.parametrize("serial", [2, 9], ids=["seen and said again", "other words"])
def test_a_refusal_of_something_else(story: Story, serial: int) -> None:
    again = Sent(serial, 1, "alice", ROOM, "chat", "m2", 5.0)
    story.alice.sent.append(again)
    refused(story, 9.9)
    assert "shown_then_refused" not in story.broken


def test_a_time_that_goes_back(story: Story) -> None:
    story.change(2, timestamp=EPOCH_MS)
    flags(story, "timestamp")


def test_a_socket_that_never_catches_up(story: Story) -> None:
    story.drop(story.bob, 3)
    story.drop(story.bob, 4)
    flags(story, "alive")


def test_a_roster_with_somebody_who_left(story: Story) -> None:
    story.bob.closed_at = 6.0
    flags(story, "roster")


def test_a_roster_without_somebody_who_is_there(story: Story) -> None:
    frame = {"type": "participants", "participants": [person("alice")]}
    story.alice.heard.append(Heard(6.0, frame))
    flags(story, "roster")


def test_a_room_that_shows_an_older_name(story: Story) -> None:
    people = [person("alice", displayName="Alicia"), person("bob")]
    frame = {"type": "participants", "participants": people}
    story.bob.heard.append(Heard(6.0, frame))
    flags(story, "agree")


def test_a_room_that_shows_an_older_message(story: Story) -> None:
    people = [person("alice", personalMessage="brb"), person("bob")]
    frame = {"type": "participants", "participants": people}
    story.bob.heard.append(Heard(6.0, frame))
    flags(story, "agree")


def told(story: Story, socket: Socket, *users: str, **fields: int) -> None:
    people = [person(user) for user in users]
    frame = {"type": "participants", "participants": people, **fields}
    socket.heard.append(Heard(6.0, frame))


def test_a_crowd_that_is_told_as_it_should_be(story: Story) -> None:
    story.history.crowd = 1
    for socket in story.history.sockets:
        del socket.heard[-1]
        told(story, socket, socket.user, total=2)
    assert check(story.history) == []


def test_a_crowd_in_which_somebody_does_not_find_themselves(story: Story) -> None:
    story.history.crowd = 1
    told(story, story.bob, "alice", total=2)
    flags(story, "crowd", "roster")


def test_a_crowd_whose_list_names_everybody(story: Story) -> None:
    story.history.crowd = 1
    flags(story, "crowd", "roster")


def test_a_crowd_that_is_told_another_number_in_the_end(story: Story) -> None:
    story.history.crowd = 1
    for socket in story.history.sockets:
        del socket.heard[-1]
        told(story, socket, socket.user, total=3)
    flags(story, "roster")


def test_a_room_that_is_no_crowd_and_has_a_total(story: Story) -> None:
    told(story, story.bob, "alice", "bob", total=2)
    flags(story, "crowd", "roster")


def test_a_crowd_that_is_told_who_comes(story: Story) -> None:
    story.history.crowd = 1
    for socket in story.history.sockets:
        del socket.heard[-1]
        told(story, socket, socket.user, total=2)
    line = {"type": "system", "content": "alice joined the room."}
    story.bob.heard.append(Heard(6.1, line))
    flags(story, "crowd")


def test_a_registry_that_knows_another_status_than_the_rooms(story: Story) -> None:
    story.history.held.append(Shown("alice", "status", "registry", "away"))
    flags(story, "agree")


def test_a_gateway_that_knows_another_name_than_the_row(story: Story) -> None:
    story.history.held.append(Shown("bob", "words", "gateway g2", ("Rob", None)))
    flags(story, "agree")


def test_two_that_may_speak_for_a_room(story: Story) -> None:
    story.history.two["room:general", 1] = "room:general: h1 may speak in epoch 1"
    flags(story, "two")


def test_an_exception_without_a_room(story: Story) -> None:
    story.history.outlived.append("room:general")
    flags(story, "outlived")


def test_inputs_that_are_never_covered(story: Story) -> None:
    story.history.unsettled.append("g1 holds 1 inputs for room:general")
    flags(story, "alive")


def test_a_poison_that_is_answered_twice(story: Story) -> None:
    story.alice.sent[0].poison = True
    frame = {"type": "error", "code": "INTERNAL_ERROR", "id": "m1"}
    story.alice.heard += [Heard(1.2, frame), Heard(1.3, frame)]
    flags(story, "poison")


def test_a_poison_that_is_kept(story: Story) -> None:
    story.change(1, content="a poison #1")
    flags(story, "poison", "lost")


def test_an_exception_that_nobody_caught(story: Story) -> None:
    story.history.failures.append("KeyError")
    flags(story, "failure")


def gaze(story: Story, scope: str, *people: Frame, watched: str = "") -> Gazed:
    """Alice's, in a crowd of three: bob is busy, and carol is online."""
    statuses = {"alice": "online", "bob": "busy", "carol": "online"}
    story.history.online = Online(statuses, crowded=True)
    sync = {"type": "presence_full_sync", "participants": people, "scope": scope}
    found = Gazed("alice", 1.0, None, [Heard(1.1, sync)], set(watched.split()))
    story.history.gazes.append(found)
    return found


def test_a_gaze_that_shows_its_scope_is_good(story: Story) -> None:
    seen = gaze(story, "watched", person("alice"), watched="bob dave")
    update = {"type": "presence_update", "userId": "bob", "status": "busy"}
    seen.heard += [Heard(2.0, {**update, "type": "presence_join"}), Heard(2.1, update)]
    seen.heard.append(Heard(3.0, {**update, "userId": "carol", "status": "offline"}))
    assert check(story.history) == []


@pytest.mark.parametrize(
    ("scope", "people", "watched"),
    [
        ("all", [person("alice"), person("bob", status="busy"), person("carol")], ""),
        ("watched", [person("alice")], "bob"),  # who is not shown
        ("watched", [person("alice"), person("bob")], "bob"),  # who is busy
        ("watched", [], ""),  # itself
        ("watched", [person("alice"), person("carol")], ""),  # whom it never watched
    ],
)
def test_a_gaze_that_shows_something_else(
    story: Story, scope: str, people: list[Frame], watched: str
) -> None:
    gaze(story, scope, *people, watched=watched)
    flags(story, "scope")


@pytest.mark.parametrize(
    ("own_id", "content"),
    [
        ("re.3", "alice said m2"),  # other words than were said
        ("re.6", "alice said m1"),  # nobody has said that yet
        ("re.0", "alice said m0"),
    ],
)
def test_a_guest_that_answers_what_was_not_said(
    story: Story, own_id: str, content: str
) -> None:
    answer(story, 5, "re.2", "alice said m2")
    assert check(story.history) == []
    answer(story, 6, own_id, content)
    flags(story, "guest")


def test_a_guest_that_answers_twice(story: Story) -> None:
    answer(story, 5, "re.2", "alice said m2")
    answer(story, 6, "re.2", "alice said m2")
    flags(story, "duplicate")


def answer(story: Story, seq: int, own_id: str, content: str) -> None:
    said = {**message(seq, GUEST, own_id, 0, float(seq)), "content": content}
    story.log.append(Logged(1, seq, "h1", said))
    for each in story.history.sockets:
        each.heard.append(Heard(seq + 0.1, said))


class Loss(Story):
    """A failover takes what was said last, and the process dies that said it: that is
    told, and bob comes again and says one more."""

    def __init__(self) -> None:
        super().__init__()
        kept = self.log.pop()
        self.history.gone.append(Gone(5.0, ROOM, kept.message))
        lost = message(5, "", "lost.5", 0, 6.0)
        lost |= {"type": "lost", "from": 4, "to": 4, "era": 5, "content": "one is lost"}
        self.log.append(Logged(2, 5, "h2", lost))
        self.alice.heard.append(Heard(6.1, lost))
        self.bob.closed_at = 5.5
        self.again = Socket(3, "bob", ROOM, 4, 7.0)
        self.history.sockets.append(self.again)
        self.resumes = {
            "type": "history",
            "messages": [*self.messages[:3], lost],
            "lastSeq": 5,
            "gap": True,
            "era": 5,
        }
        self.again.heard.append(Heard(7.1, self.resumes))
        self.again.heard.append(self.alice.heard[4])
        said = message(6, "bob", "m2", 6, 8.0) | {"era": 5}
        self.again.sent.append(Sent(6, 3, "bob", ROOM, "chat", "m2", 8.0))
        self.log.append(Logged(2, 6, "h2", said))
        for each in (self.alice, self.again):
            each.heard.append(Heard(8.1, said))

    def tells(self, **fields: object) -> None:
        """The log tells something else of the loss."""
        told = self.log[3]
        self.log[3] = told._replace(message={**told.message, **fields})


def test_a_loss_that_is_named_is_good() -> None:
    assert check(Loss().history) == []


def test_a_loss_that_nobody_names() -> None:
    story = Loss()
    for socket in story.history.sockets:
        socket.heard = [h for h in socket.heard if h.frame.get("type") != "lost"]
    del story.log[3]
    flags(story, "lost", "hole")


def test_a_loss_that_is_told_of_what_is_there() -> None:
    story = Loss()
    story.tells(**{"from": 3})
    flags(story, "told")


def test_a_loss_that_begins_no_era() -> None:
    story = Loss()
    del story.log[4].message["era"]
    flags(story, "era")


@pytest.mark.parametrize("era", [None, 3])
def test_who_comes_from_another_era_and_hears_of_no_gap(era: int | None) -> None:
    story = Loss()
    story.again.era = era
    story.resumes |= {"gap": False, "messages": story.resumes["messages"][3:]}
    flags(story, "resumed")


def test_who_has_more_than_the_room_and_hears_of_no_gap() -> None:
    story = Loss()
    story.again.since = story.again.era = 9
    story.resumes |= {"gap": False, "messages": []}
    flags(story, "resumed")


def test_a_number_that_stands_for_two_things_in_one_era() -> None:
    story = Loss()
    story.tells(to=3, **{"from": 3})
    other = message(4, "alice", "m9", 9, 5.0)
    story.again.heard.append(Heard(5.2, other))
    flags(story, "numbers")


def test_a_living_process_that_does_not_give_back_what_it_has() -> None:
    story = Loss()
    gone = story.history.gone[0]
    story.history.owed.append(Owed(ROOM, "h1", gone.message))
    flags(story, "healed")


def test_every_rule_has_its_bad_history() -> None:
    calls = re.findall(r"^    flags\(story, (.+)\)$", Path(__file__).read_text(), re.M)
    assert {rule for call in calls for rule in re.findall(r"\w+", call)} == set(RULES)
