"""The verdict: which promises of wire.md a history breaks.

Owns the rules, each a function from a history to anomalies (design.md §11, C1-C7;
wire.md §2-§6). Must not know how the history came to be: no process, no socket, no
clock. What it claims to find, test_checker.py shows it by hand-made bad histories.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise

import msgspec

from tests.system.chaos import history as h
from tests.system.chaos.history import History

ANSWER_S = 5.0
"""wire.md §5: answered "at the latest after 5 s"."""

_DEFINITE = frozenset({"RATE_LIMITED", "VALIDATION_ERROR", "INVALID_JSON", "TOO_LARGE"})


class Limits(msgspec.Struct, frozen=True):
    """What is forgiven, and the rate that was set."""

    nudge_rate: tuple[int, int] = (3, 10)
    # Beyond our own loop's lag, for two processes that share two cores with others.
    answer_slack_s: float = 2.5
    # Frames of two sockets may be read in another order than they were written.
    skew_s: float = 0.5
    # Valkey, ended or stopped, answers again so long after that.
    storage_back_s: float = 2.5
    # How long after a socket's end, or before its start was seen here, a "left" or
    # "joined" may be caused by it: sleeping rooms notice at their next wake.
    line_s: float = 30.0
    # A gateway that ends takes its sockets with it within this.
    close_s: float = 20.0


class Anomaly(msgspec.Struct, frozen=True):
    """A broken promise, with what is needed to look it up in the history."""

    rule: str
    text: str
    room: str = ""
    seqs: list[int] = []
    clients: list[str] = []
    t: float | None = None


Rule = Callable[[History, Limits], Iterable[Anomaly]]
_Times = defaultdict[tuple[str, str], list[float]]


def check(history: History, limits: Limits | None = None) -> list[Anomaly]:
    """Every anomaly in the history; an empty list is the good verdict."""
    limits = limits or Limits()
    return [anomaly for rule in RULES for anomaly in rule(history, limits)]


# What the log holds.


def holes(history: History, limits: Limits) -> Iterator[Anomaly]:
    """ "`seq` starts at 1 in each room and has no holes and no repeats, ever"."""
    for room, log in history.logs.items():
        expected = 1
        for event in log:
            if event.seq != expected:
                kind = "hole" if event.seq > expected else "repeat"
                text = f"the log goes from {expected - 1} to {event.seq}"
                yield Anomaly(f"log_{kind}", text, room, [expected, event.seq])
            expected = event.seq + 1


def backwards(history: History, limits: Limits) -> Iterator[Anomaly]:
    """ "`timestamp` never goes backwards within a room"."""
    for room, log in history.logs.items():
        for one, two in pairwise(log):
            if two.timestamp < one.timestamp:
                text = f"{one.timestamp} then {two.timestamp}"
                yield Anomaly("time_backwards", text, room, [one.seq, two.seq])


def lost(history: History, limits: Limits) -> Iterator[Anomaly]:
    """An acknowledged message is in the log, where its acknowledgement said (C1)."""
    at = {(room, e.seq): e for room, log in history.logs.items() for e in log}
    for ok in history.all(h.Ok):
        event = at.get((ok.room, ok.seq))
        if ok.room in history.logs and (event is None or event.id != ok.id):
            found = "nothing" if event is None else f"{event.id} of {event.sender}"
            text = f"{ok.id} was acknowledged, the log has {found} there"
            yield Anomaly("lost", text, ok.room, [ok.seq], [ok.client], ok.t)


def unexpected(history: History, limits: Limits) -> Iterator[Anomaly]:
    """The log holds only what somebody said (C2), and each of it once (C3)."""
    said = {(i.room, i.user, i.id) for i in history.all(h.Invoke)}
    for room, log in history.logs.items():
        seen: dict[tuple[str, str], int] = {}
        for event in log:
            if (room, event.sender, event.id) not in said:
                text = f"{event.id} of {event.sender} was never said"
                yield Anomaly("unexpected", text, room, [event.seq])
            before = seen.setdefault((event.sender, event.id), event.seq)
            if before != event.seq:
                text = f"{event.id} of {event.sender} is there twice"
                yield Anomaly("duplicate_id", text, room, [before, event.seq])


def order(history: History, limits: Limits) -> Iterator[Anomaly]:
    """What is said after an acknowledgement was read comes after it in the log (C6)."""
    oks: dict[str, list[h.Ok]] = defaultdict(list)
    for ok in history.all(h.Ok):
        oks[ok.room].append(ok)
    said = {(i.room, i.id): i for i in history.all(h.Invoke)}
    for room, acknowledged in oks.items():
        times = [ok.t for ok in acknowledged]
        highest = list(accumulate((ok.seq for ok in acknowledged), max))
        for ok in acknowledged:
            invoke = said.get((room, ok.id))
            before = bisect_left(times, invoke.t) if invoke is not None else 0
            if before and highest[before - 1] >= ok.seq:
                text = f"{ok.id} was said after {highest[before - 1]} was acknowledged"
                seqs = [highest[before - 1], ok.seq]
                yield Anomaly("real_time_order", text, room, seqs, [ok.client], ok.t)


def nudges(history: History, limits: Limits) -> Iterator[Anomaly]:
    """At most `nudge_rate` nudges of a user in a room in any window, server time."""
    count, seconds = limits.nudge_rate
    if not count:
        return
    for room, log in history.logs.items():
        times: dict[str, list[h.Event]] = defaultdict(list)
        for event in log:
            if event.kind == "nudge":
                times[event.sender].append(event)
        for sender, events in times.items():
            for first, over in zip(events, events[count:], strict=False):
                took = over.timestamp - first.timestamp
                if took < seconds * 1000:
                    text = f"{count + 1} nudges of {sender} within {took} ms"
                    yield Anomaly("nudge_rate", text, room, [first.seq, over.seq])


# What the sockets showed.


def streams(history: History, limits: Limits) -> Iterator[Anomaly]:
    """Each socket's stream starts where it asked and goes on by one (C5).

    What comes again is allowed to one socket alone: the sender's, as the answer to a
    message it wrote again.
    """
    written = Counter((w.client, w.id) for w in history.all(h.Written))
    at: dict[tuple[str, int], int | None] = {}
    for opened in history.all(h.Opened):
        if opened.room:
            at[opened.client, opened.socket] = opened.since
    for record in _stream_records(history):
        key = record.client, record.socket
        last = at.get(key)
        if isinstance(record, h.Recap):
            yield from _recap(record, last)
            at[key] = _after_recap(record, last)
        elif last is None and record.seq != 1:
            yield _skip(record, 0)
            at[key] = record.seq
        elif record.seq <= (last or 0):
            if written[record.client, record.id] < 2:
                yield _again(record, last or 0)
        else:
            if record.seq > (last or 0) + 1:
                yield _skip(record, last or 0)
            at[key] = record.seq


def _stream_records(history: History) -> list[h.Recap | h.Shown]:
    found: list[h.Recap | h.Shown] = [*history.all(h.Recap), *history.all(h.Shown)]
    # A frame's own record comes before its messages, which have the same time.
    return sorted(found, key=lambda record: (record.t, isinstance(record, h.Shown)))


def _recap(recap: h.Recap, last: int | None) -> Iterator[Anomaly]:
    where = recap.room, [last or 0, recap.last_seq], [recap.client], recap.t
    if last is not None and recap.last_seq < last:
        yield Anomaly("rewound", "the room is behind what it had shown", *where)
    if recap.gap:
        return  # announced; whether that is true is `gaps`' question
    if not recap.first and last is not None and recap.last_seq > last:
        yield Anomaly("stream_skip", "an empty history jumps", *where)


def _after_recap(recap: h.Recap, last: int | None) -> int | None:
    if recap.gap:
        # What is missing ends before its first message, or all of it is.
        return recap.first - 1 if recap.first else recap.last_seq
    if last is None and recap.first:
        return recap.first - 1  # a first look begins anywhere
    return last if last is not None else recap.last_seq


def _skip(shown: h.Shown, last: int) -> Anomaly:
    text = f"from {last} to {shown.seq} without a gap told"
    where = shown.room, [last, shown.seq], [shown.client], shown.t
    return Anomaly("stream_skip", text, *where)


def _again(shown: h.Shown, last: int) -> Anomaly:
    text = f"{shown.id} came again after {last}, socket {shown.socket}"
    where = shown.room, [shown.seq, last], [shown.client], shown.t
    return Anomaly("stream_repeat", text, *where)


def gaps(history: History, limits: Limits) -> Iterator[Anomaly]:
    """ "`gap: true` if some of it is no longer kept": never while the log is whole."""
    for recap in history.all(h.Recap):
        log = history.logs.get(recap.room)
        if recap.gap and log and log[0].seq == 1:
            where = recap.room, [recap.first, recap.last_seq], [recap.client], recap.t
            yield Anomaly("false_gap", "a gap was told, the log is whole", *where)


def content(history: History, limits: Limits) -> Iterator[Anomaly]:
    """The same message at the same `seq` for everyone, and it is in the log."""
    logs = {room: {e.seq: e for e in log} for room, log in history.logs.items()}
    seen: dict[tuple[str, int], h.Shown] = {}
    for shown in history.all(h.Shown):
        first = seen.setdefault((shown.room, shown.seq), shown)
        where = shown.room, [shown.seq], sorted({first.client, shown.client}), shown.t
        if first.content != shown.content or first.id != shown.id:
            text = f"{first.id} of {first.sender}, but {shown.id} of {shown.sender}"
            yield Anomaly("two_at_one_seq", text, *where)
        log = logs.get(shown.room)
        if log is None or first is not shown:
            continue
        event = log.get(shown.seq)
        if event is None:
            if shown.seq > 0 and (not log or shown.seq >= min(log)):
                yield Anomaly("shown_not_kept", f"{shown.id} is not in the log", *where)
        elif event.content != shown.content:
            text = f"shown {shown.id}, but the log has {event.id}"
            yield Anomaly("two_at_one_seq", text, *where)


def tails(history: History, limits: Limits) -> Iterator[Anomaly]:
    """A socket that is still open at the end has seen all of the log (C7)."""
    closed = {(c.client, c.socket) for c in history.all(h.Closed)}
    last: dict[tuple[str, int], int] = {}
    for record in _stream_records(history):
        seq = record.last_seq if isinstance(record, h.Recap) else record.seq
        key = record.client, record.socket
        last[key] = max(last.get(key, 0), seq)
    for opened in history.all(h.Opened):
        key = opened.client, opened.socket
        log = history.logs.get(opened.room)
        if not log or key in closed:
            continue
        seen = last.get(key, opened.since or 0)
        if seen < log[-1].seq:
            text = f"socket {opened.socket} is open and ends at {seen}"
            where = opened.room, [seen, log[-1].seq], [opened.client], opened.t
            yield Anomaly("tail_missing", text, *where)


# What senders were answered.


def echoes(history: History, limits: Limits) -> Iterator[Anomaly]:
    """ "The sender receives its own message too": in its own stream, at that seq."""
    own = {(s.client, s.id, s.seq) for s in history.all(h.Shown)}
    for ok in history.all(h.Ok):
        if (ok.client, ok.id, ok.seq) not in own:
            where = ok.room, [ok.seq], [ok.client], ok.t
            yield Anomaly("echo_missing", f"{ok.id} has no echo", *where)


def refusals(history: History, limits: Limits) -> Iterator[Anomaly]:
    """What was refused is shown to nobody; what was not confirmed, not before."""
    written = Counter((w.client, w.id) for w in history.all(h.Written))
    sender = {(i.room, i.id): i.user for i in history.all(h.Invoke)}
    shown: dict[tuple[str, str, str], float] = {}
    for s in history.all(h.Shown):
        shown.setdefault((s.room, s.sender, s.id), s.t)
    logged = {(r, e.sender, e.id) for r, log in history.logs.items() for e in log}
    away = [f for f in history.all(h.Fault) if f.kind.endswith("-valkey")]
    blind = [(f.t, f.until + limits.storage_back_s) for f in away]
    for no in history.all(h.Refused):
        key = no.room, sender.get((no.room, no.id), ""), no.id
        at = shown.get(key)
        where = no.room, list[int](), [no.client], no.t
        if no.code in _DEFINITE:
            # Written twice, an earlier copy may have been taken.
            if written[no.client, no.id] < 2 and (at is not None or key in logged):
                yield Anomaly("refused_but_shown", f"{no.id}: {no.code}", *where)
        elif any(start <= no.t <= end for start, end in blind):
            pass  # neither storage nor, as it may be, the room could be asked
        elif at is not None and at < no.t - limits.skew_s:
            text = f"{no.id}: {no.code} {no.t - at:.1f} s after it was shown"
            yield Anomaly("shown_then_refused", text, *where)


def answers(history: History, limits: Limits) -> Iterator[Anomaly]:
    """Every message on a socket that lives is answered within 5 s."""
    answered: dict[tuple[str, str], list[float]] = defaultdict(list)
    both: list[h.Ok | h.Refused] = [*history.all(h.Ok), *history.all(h.Refused)]
    for answer in both:
        answered[answer.client, answer.id].append(answer.t)
    ends = {(c.client, c.socket): c.t for c in history.all(h.Closed)}
    allowed = ANSWER_S + limits.answer_slack_s + history.lag_s
    rooms = {(i.client, i.id): i.room for i in history.all(h.Invoke)}
    for w in history.all(h.Written):
        end = ends.get((w.client, w.socket), history.ended)
        # Answered on an earlier socket counts: that answer was on its way.
        first = min((t for t in answered[w.client, w.id]), default=end)
        waited = min(first, end) - w.t
        if waited > allowed:
            how = "late" if first <= end and answered[w.client, w.id] else "never"
            text = f"{w.id} was answered {how}, waited {waited:.1f} s"
            where = rooms.get((w.client, w.id), ""), list[int](), [w.client], w.t
            yield Anomaly("unanswered", text, *where)


# Who is there.


def presence(history: History, limits: Limits) -> Iterator[Anomaly]:
    """After quiet everyone knows who is connected."""
    for sample in history.all(h.PresenceSample):
        if not sample.judged:
            continue
        online, truth = set(sample.online), set(sample.truth)
        if online != truth:
            text = (
                f"{sample.source}: ghosts {sorted(online - truth)}, "
                f"missing {sorted(truth - online)}"
            )
            yield Anomaly("presence", text, t=sample.t)


def lines(history: History, limits: Limits) -> Iterator[Anomaly]:
    """Nobody joins or leaves whose sockets in the room came and went not at all.

    A line needs a cause not long before it, and no socket may be told of more arrivals
    (or departures) than there were since a while before it opened.
    """
    came, went = _changes(history)
    opened = {(o.client, o.socket): o.t for o in history.all(h.Opened)}
    told: Counter[tuple[str, int, str, bool]] = Counter()
    for line in history.all(h.Line):
        causes = (came if line.joined else went)[line.user, line.room]
        told[line.client, line.socket, line.user, line.joined] += 1
        count = told[line.client, line.socket, line.user, line.joined]
        first = opened[line.client, line.socket] - limits.line_s
        # Seen here up to a second later than by the server.
        known = [t for t in causes if first <= t <= line.t + 1.0]
        near = any(t >= line.t - limits.line_s for t in known)
        if near and count <= len(known):
            continue
        did = "joined" if line.joined else "left"
        text = f"{line.user} {did}, told {count} times, happened {len(known)} times"
        where = line.room, list[int](), [line.client], line.t
        yield Anomaly("phantom_line", text, *where)


def _changes(history: History) -> tuple[_Times, _Times]:
    """When each user's first socket in a room opened, and when their last one ended."""
    came: _Times = defaultdict(list)
    went: _Times = defaultdict(list)
    who = {(o.client, o.socket): (o.user, o.room) for o in history.all(h.Opened)}
    here: Counter[tuple[str, str]] = Counter()
    both: list[h.Opened | h.Closed] = [*history.all(h.Opened), *history.all(h.Closed)]
    for record in sorted(both, key=lambda record: record.t):
        key = who[record.client, record.socket]
        if isinstance(record, h.Opened):
            here[key] += 1
            if here[key] == 1:
                came[key].append(record.t)
        else:
            here[key] -= 1
            if here[key] == 0:
                went[key].append(record.t)
    return came, went


def closes(history: History, limits: Limits) -> Iterator[Anomaly]:
    """A socket outlives everything but its own gateway (and our wish)."""
    faults = history.all(h.Fault)
    bound = {s: f.t for f in faults for s in f.sockets}
    valkey = [f for f in faults if "valkey" in f.kind]
    rooms = {(o.client, o.socket): o.room for o in history.all(h.Opened)}
    for closed in history.all(h.Closed):
        since = bound.get(f"{closed.client}/{closed.socket}")
        expected = since is not None and -0.5 <= closed.t - since <= limits.close_s
        # Still catching up when storage went away: told to come again (1013).
        expected |= closed.code == 1013 and any(
            f.t <= closed.t <= f.until + 5 for f in valkey
        )
        if not closed.ours and not expected:
            text = f"socket {closed.socket}: {closed.code} {closed.reason}".rstrip()
            room = rooms.get((closed.client, closed.socket), "")
            yield Anomaly("unexpected_close", text, room, [], [closed.client], closed.t)


RULES: tuple[Rule, ...] = (
    lost,
    unexpected,
    holes,
    backwards,
    order,
    nudges,
    streams,
    gaps,
    content,
    tails,
    echoes,
    refusals,
    answers,
    presence,
    lines,
    closes,
)
