"""The checker flags each anomaly that it claims to find, and nothing else.

Every bad history is the good one with a single thing changed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.system.chaos import history as h
from tests.system.chaos.checker import Anomaly, check
from tests.system.chaos.history import Event, History

ROOM = "general"


class Script:
    """Writes a history: `a` and `b` are clients of users `ann` and `ben` in a room."""

    def __init__(self) -> None:
        self.records: list[h._Record] = []
        self.log: list[Event] = []
        self.t = 0.0
        self.sockets = {"a": 0, "b": 0, "p": 0}

    def _tick(self) -> float:
        self.t += 0.1
        return self.t

    def add(self, record: h._Record) -> None:
        self.records.append(record)

    def opened(self, client: str, since: int | None = None) -> None:
        self.sockets[client] += 1
        socket, user = self.sockets[client], USERS[client]
        self.add(h.Opened(self._tick(), client, socket, user, ROOM, since))

    def closed(self, client: str, code: int = 1000, ours: bool = True) -> None:
        socket = self.sockets[client]
        self.add(h.Closed(self._tick(), client, socket, code, "", ours))

    def recap(self, client: str, first: int, last: int, gap: bool = False) -> None:
        t, socket = self._tick(), self.sockets[client]
        top = max(last, len(self.log))
        self.add(h.Recap(t, client, socket, ROOM, first, last, top, gap))
        for seq in range(first, last + 1) if first else ():
            self.show(client, seq, t, live=False)

    def say(self, client: str, id: str, kind: str = "chat") -> None:  # noqa: A002
        self.add(h.Invoke(self._tick(), client, USERS[client], ROOM, kind, id))
        self.write(client, id)

    def write(self, client: str, id: str) -> None:  # noqa: A002
        self.add(h.Written(self._tick(), client, self.sockets[client], id))

    def commit(self, client: str, id: str, kind: str = "chat") -> int:  # noqa: A002
        at = int(self.t * 1000)
        seq = len(self.log) + 1
        self.log.append(Event(seq, USERS[client], id, kind, at, hash(id)))
        return seq

    def show(
        self, client: str, seq: int, t: float | None = None, live: bool = True
    ) -> None:
        event, socket = self.log[seq - 1], self.sockets[client]
        t = t if t is not None else self._tick()
        where = client, socket, ROOM
        self.add(
            h.Shown(t, *where, seq, event.sender, event.id, event.content, live=live)
        )

    def ok(self, client: str, seq: int) -> None:
        self.show(client, seq)
        self.add(h.Ok(self.t, client, ROOM, self.log[seq - 1].id, seq))

    def refused(self, client: str, id: str, code: str) -> None:  # noqa: A002
        socket = self.sockets[client]
        self.add(h.Refused(self._tick(), client, socket, ROOM, id, code))

    def history(self, log: Iterable[Event] | None = None) -> History:
        history = History()
        for record in sorted(self.records, key=lambda record: record.t):
            history.add(record)
        history.logs[ROOM] = list(self.log if log is None else log)
        return history


USERS = {"a": "ann", "b": "ben", "p": "pam"}


def good() -> Script:
    """Two people talk; one loses its socket, resumes, and asks again for an answer."""
    s = Script()
    s.opened("a")
    s.opened("b")
    for n in range(1, 4):
        s.say("a", f"a{n}")
        s.commit("a", f"a{n}")
        s.ok("a", n)
        s.show("b", n)
    s.say("b", "b1")
    s.closed("b", 1006)
    s.commit("b", "b1")
    s.show("a", 4)
    s.opened("b", since=3)
    s.recap("b", 4, 4)
    s.add(h.Ok(s.t, "b", ROOM, "b1", 4))
    s.write("b", "b1")
    s.show("b", 4)  # the answer to the repeat
    s.say("b", "bn", "nudge")
    s.refused("b", "bn", "RATE_LIMITED")
    s.say("a", "a4")
    s.refused("a", "a4", "STORAGE_UNAVAILABLE")
    s.commit("a", "a4")  # "without a retry it may still appear, once"
    s.show("a", 5)
    s.show("b", 5)
    return s


def rules(found: list[Anomaly]) -> set[str]:
    return {anomaly.rule for anomaly in found}


def test_a_good_history_has_no_anomaly(tmp_path: Path) -> None:
    history = good().history()
    assert check(history) == []
    history.save(tmp_path / "history.jsonl")
    again = History.load(tmp_path / "history.jsonl")
    assert check(again) == []
    assert list(again) == list(history)
    assert again.logs == history.logs


Change = Callable[[Script], None]


def lost(s: Script) -> None:
    s.say("a", "gone")
    s.add(h.Ok(s._tick(), "a", ROOM, "gone", 6))


def lost_to_another(s: Script) -> None:
    """Acknowledged at a seq that the log gives to somebody else."""
    s.say("a", "gone")
    s.say("b", "other")
    s.commit("b", "other")
    for client in "ab":
        s.show(client, 6)
    s.add(h.Ok(s.t, "a", ROOM, "gone", 6))


def unexpected(s: Script) -> None:
    s.commit("a", "nobody said this")
    for client in "ab":
        s.show(client, 6)


def duplicate_id(s: Script) -> None:
    s.commit("a", "a1")
    for client in "ab":
        s.show(client, 6)


def skip(s: Script) -> None:
    for n in (6, 7):
        s.say("a", f"x{n}")
        s.commit("a", f"x{n}")
    s.show("a", 6)
    s.show("a", 7)
    s.show("b", 7)


def skip_at_the_start(s: Script) -> None:
    s.opened("p")
    s.show("p", 5)


def skip_in_resume(s: Script) -> None:
    s.opened("p", since=2)
    s.recap("p", 4, 5)


def empty_resume_that_jumps(s: Script) -> None:
    s.opened("p", since=2)
    s.recap("p", 0, 0)


def swapped(s: Script) -> None:
    for n in (6, 7):
        s.say("a", f"x{n}")
        s.commit("a", f"x{n}")
    for client, seqs in (("a", (6, 7)), ("b", (7, 6))):
        for seq in seqs:
            s.show(client, seq)


def repeated(s: Script) -> None:
    s.show("a", 5)


def repeated_to_another(s: Script) -> None:
    """The answer to a repeat is for its sender alone."""
    s.write("b", "b1")
    s.show("a", 4)


def rewound(s: Script) -> None:
    s.opened("p", since=9)
    s.recap("p", 0, 0)


def false_gap(s: Script) -> None:
    s.opened("p", since=1)
    s.recap("p", 4, 5, gap=True)


def two_at_one_seq(s: Script) -> None:
    where = "p", 1, ROOM
    s.opened("p")
    s.add(h.Recap(s._tick(), *where, 5, 5, 5, gap=False))
    s.add(h.Shown(s.t, *where, 5, "ann", "a4", 12345, live=False))


def shown_not_kept(s: Script) -> None:
    s.say("a", "dirty")
    s.commit("a", "dirty")
    for client in "ab":
        s.show(client, 6)
    s.log.pop()


def tail_missing(s: Script) -> None:
    s.say("a", "a5")
    s.commit("a", "a5")
    s.show("a", 6)


def echo_missing(s: Script) -> None:
    s.say("a", "a5")
    s.commit("a", "a5")
    s.show("b", 6)
    s.opened("p", since=6)
    s.closed("a")
    s.add(h.Ok(s.t, "a", ROOM, "a5", 6))


def refused_but_shown(s: Script) -> None:
    s.say("a", "n1", "nudge")
    s.refused("a", "n1", "RATE_LIMITED")
    s.commit("a", "n1", "nudge")
    for client in "ab":
        s.show(client, 6)


def shown_then_refused(s: Script) -> None:
    s.say("a", "a5")
    s.commit("a", "a5")
    s.show("b", 6)
    s.t += 2
    s.show("a", 6)
    s.refused("a", "a5", "STORAGE_UNAVAILABLE")


def unanswered(s: Script) -> None:
    s.say("a", "a5")
    s.t += 10
    s.say("b", "b5")
    s.commit("b", "b5")
    for client in "ab":
        s.show(client, 6)


def order(s: Script) -> None:
    """`b5` was said after `a5` was acknowledged as 7, and became 6."""
    s.say("a", "a5")
    s.say("b", "b5")
    s.log += [
        Event(6, "ben", "b5", "chat", int(s.t * 1000), hash("b5")),
        Event(7, "ann", "a5", "chat", int(s.t * 1000), hash("a5")),
    ]
    s.records.pop()  # `b5` written, and before it said
    s.records.pop()
    s.show("a", 6)
    s.ok("a", 7)
    s.say("b", "b5")
    s.ok("b", 6)
    s.show("b", 7)


def nudge_rate(s: Script) -> None:
    for n in range(4):
        s.say("a", f"n{n}", "nudge")
        seq = s.commit("a", f"n{n}", "nudge")
        for client in "ab":
            s.show(client, seq)


def hole(s: Script) -> None:
    s.say("a", "a5")
    s.log.append(Event(7, "ann", "a5", "chat", int(s.t * 1000), hash("a5")))
    s.add(h.Recap(s._tick(), "a", 1, ROOM, 7, 7, 7, gap=False))
    s.add(h.Recap(s._tick(), "b", 2, ROOM, 7, 7, 7, gap=False))


def log_repeat(s: Script) -> None:
    s.log.append(s.log[-1])


def time_backwards(s: Script) -> None:
    s.log[3] = s.log[3]._replace(timestamp=1)


def presence_ghost(s: Script) -> None:
    s.add(h.PresenceSample(s._tick(), "users", ["ann", "ben"], ["ann"], judged=True))


def presence_missing(s: Script) -> None:
    s.add(h.PresenceSample(s._tick(), "users", ["ann"], ["ann", "ben"], judged=True))


def phantom_line(s: Script) -> None:
    s.t += 60
    s.add(h.Line(s._tick(), "b", 2, ROOM, "ann", joined=False))


def joined_again(s: Script) -> None:
    """`ann` came once, and `ben` is told twice (as after a crash)."""
    for _ in range(2):
        s.add(h.Line(s._tick(), "b", 2, ROOM, "ann", joined=True))


def unexpected_close(s: Script) -> None:
    s.opened("p", since=5)
    s.closed("p", 1006, ours=False)


def close_of_another_gateway(s: Script) -> None:
    s.opened("p", since=5)
    s.add(h.Fault(s._tick(), s.t, "kill-gateway", "gateway-0", sockets=["a/1"]))
    s.closed("p", 1006, ours=False)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lost, "lost"),
        (lost_to_another, "lost"),
        (unexpected, "unexpected"),
        (duplicate_id, "duplicate_id"),
        (skip, "stream_skip"),
        (skip_at_the_start, "stream_skip"),
        (skip_in_resume, "stream_skip"),
        (empty_resume_that_jumps, "stream_skip"),
        (swapped, "stream_skip"),
        (swapped, "stream_repeat"),
        (repeated, "stream_repeat"),
        (repeated_to_another, "stream_repeat"),
        (rewound, "rewound"),
        (false_gap, "false_gap"),
        (two_at_one_seq, "two_at_one_seq"),
        (shown_not_kept, "shown_not_kept"),
        (tail_missing, "tail_missing"),
        (echo_missing, "echo_missing"),
        (refused_but_shown, "refused_but_shown"),
        (shown_then_refused, "shown_then_refused"),
        (unanswered, "unanswered"),
        (order, "real_time_order"),
        (nudge_rate, "nudge_rate"),
        (hole, "log_hole"),
        (log_repeat, "log_repeat"),
        (time_backwards, "time_backwards"),
        (presence_ghost, "presence"),
        (presence_missing, "presence"),
        (phantom_line, "phantom_line"),
        (joined_again, "phantom_line"),
        (unexpected_close, "unexpected_close"),
        (close_of_another_gateway, "unexpected_close"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_bad_history_is_flagged(change: Change, rule: str) -> None:
    script = good()
    change(script)
    found = check(script.history())
    assert rule in rules(found), found


def resumed_with_a_gap_that_is_true(s: Script) -> None:
    """The log was trimmed: it begins at 3."""
    s.opened("p", since=1)
    s.recap("p", 3, 5, gap=True)
    s.log = s.log[2:]
    s.records = [r for r in s.records if not (isinstance(r, h.Ok) and r.seq in (1, 2))]


def several_frames(s: Script) -> None:
    s.opened("p", since=0)
    s.recap("p", 1, 3)
    s.recap("p", 4, 5)


def history_without_since(s: Script) -> None:
    s.opened("p")
    s.recap("p", 3, 5)


def killed_gateway(s: Script) -> None:
    s.opened("p", since=5)
    s.add(h.Fault(s._tick(), s.t, "kill-gateway", "gateway-0", sockets=["p/1"]))
    s.closed("p", 1006, ours=False)


def three_nudges_and_a_fourth_at_the_edge(s: Script) -> None:
    for n in range(4):
        s.say("a", f"n{n}", "nudge")
        seq = s.commit("a", f"n{n}", "nudge")
        s.log[-1] = s.log[-1]._replace(timestamp=10_000 + (10_000 if n == 3 else 0))
        for client in "ab":
            s.show(client, seq)


def a_line_of_somebody_who_left(s: Script) -> None:
    s.closed("a")
    s.t += 10
    s.add(h.Line(s._tick(), "b", 2, ROOM, "ann", joined=False))


def gave_up_and_it_appeared(s: Script) -> None:
    s.say("a", "a5")
    s.closed("a", 1006, ours=True)
    s.add(h.GaveUp(s._tick(), "a", ROOM, "a5"))
    s.commit("a", "a5")
    s.show("b", 6)


@pytest.mark.parametrize(
    "change",
    [
        several_frames,
        history_without_since,
        killed_gateway,
        three_nudges_and_a_fourth_at_the_edge,
        a_line_of_somebody_who_left,
        gave_up_and_it_appeared,
    ],
)
def test_what_is_allowed_is_not_flagged(change: Change) -> None:
    script = good()
    change(script)
    assert check(script.history()) == []


def test_a_true_gap_is_not_a_skip() -> None:
    script = good()
    resumed_with_a_gap_that_is_true(script)
    # `holes` wants a whole log, which a trimmed one is not: nothing else is wrong.
    assert rules(check(script.history())) <= {"log_hole"}
