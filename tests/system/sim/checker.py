"""The checker: reads a history and says what must not be in it.

Each rule is one function and one name; design.md §11's numbers are in brackets. It
knows nothing of the product and trusts nobody: only what clients sent and saw, and what
the log holds in the end. `tests/system/sim/test_checker.py` shows each rule a bad
history.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.system.sim.history import (
    CHAT,
    GUEST,
    LATER,
    MESSAGES,
    NOBODY,
    NUDGE,
    POISON,
    Frame,
    Gazed,
    Heard,
    History,
    Sent,
    Shown,
    Socket,
    serial_of,
)
from tests.system.sim.losses import (
    eras,
    numbers,
    resumed,
    told_wrongly,
    unhealed,
)
from tests.system.sim.reading import (
    bare,
    between_gaps,
    durable,
    is_gone,
    logged,
    loses,
    named,
    sends_of,
    shown_to,
    told_lost,
    unknowable,
    what_of,
    who,
)
from tests.system.sim.sim_loop import EPOCH_MS

ANSWERS = {"STORAGE_UNAVAILABLE", "RATE_LIMITED", "INTERNAL_ERROR"}
"""The errors with which a durable frame is answered."""
ANSWER_S = 5.0
"""wire.md §5: STORAGE_UNAVAILABLE "at the latest after 5 s"."""

LOOK_S = 0.5
"""What a gateway found in the log is so old when it says it, at most."""

SLACK_S = 4.0
"""A gateway's tick, a slow way to it and back, and an echo read from the log."""


class Violation(NamedTuple):
    """A broken rule."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def check(history: History) -> list[Violation]:
    """Everything that is wrong with it, by rule."""
    return [
        Violation(name, text) for name, rule in RULES.items() for text in rule(history)
    ]


# Rules about the log.


def _holes(history: History) -> Iterator[str]:
    """[C4] `seq` starts at 1 and has no repeats, and no holes but those that are told
    to be lost."""
    for room, entries in history.logs.items():
        told, next_one = told_lost(history, room), 1
        for entry in entries:
            if entry.seq < next_one or not told.issuperset(range(next_one, entry.seq)):
                yield f"{room} has {entry.seq} where {next_one} belongs"
            next_one = entry.seq + 1
            if entry.message["seq"] != entry.seq:
                yield f"{room}: entry {entry.seq} says {entry.message['seq']}"


def _duplicates(history: History) -> Iterator[str]:
    """[C3] One user's one id, and one thing sent, is one message."""
    ids: Counter[tuple[str, str, str]] = Counter()
    serials: Counter[int] = Counter()
    for room, entry in logged(history):
        message = entry.message
        ids[room, message["senderId"], message["id"]] += 1
        serial = serial_of(message)
        if serial is not None:
            serials[serial] += 1
    yield from (f"{key} is there {n} times" for key, n in ids.items() if n > 1)
    yield from (
        f"#{serial} is there {n} times" for serial, n in serials.items() if n > 1
    )


def _unexpected(history: History) -> Iterator[str]:
    """[C2] Nothing is in the log that nobody sent."""
    sends = sends_of(history)
    nudges: Counter[str] = Counter()
    for sent in sends.values():
        nudges[sent.user] += sent.kind == NUDGE
    for room, entry in logged(history):
        message, user = entry.message, entry.message["senderId"]
        if user in (LATER, GUEST, NOBODY):
            continue
        serial = serial_of(message)
        if serial is None:
            nudges[user] -= 1
            if nudges[user] < 0:
                yield f"{room} {entry.seq}: {user} never sent this nudge"
            continue
        found = sends.get(serial)
        if found is None or found.user != user or found.room != room:
            yield f"{room} {entry.seq}: {user} never sent #{serial}"
        elif found.id is not None and found.id != message["id"]:
            yield f"{room} {entry.seq}: sent as {found.id}, logged as {message['id']}"


def _writers(history: History) -> Iterator[str]:
    """[C9] Epochs rise with seqs, and each is one process's."""
    for room, entries in history.logs.items():
        owner: dict[int, str] = {}
        newest = 0
        for entry in entries:
            if entry.epoch < newest:
                yield f"{room} {entry.seq}: epoch {entry.epoch} after {newest}"
            newest = max(newest, entry.epoch)
            first = owner.setdefault(entry.epoch, entry.writer)
            if first != entry.writer:
                yield f"{room}: {first} and {entry.writer} share epoch {entry.epoch}"


def _rates(history: History) -> Iterator[str]:
    """No user exceeds a rate, whatever dies or sleeps meanwhile."""
    times: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for room, entry in logged(history):
        message = entry.message
        if message["senderId"] in (LATER, GUEST, NOBODY):
            continue
        key = (room, message["senderId"], message["type"] == NUDGE)
        times[key].append(message["timestamp"])
    for (room, user, nudge), stamps in times.items():
        count, seconds = history.nudge_rate if nudge else history.chat_rate
        if count:
            for first, next_one in zip(stamps, stamps[count:], strict=False):
                if next_one - first < seconds * 1000:
                    what = "nudges" if nudge else "messages"
                    span = next_one - first
                    yield f"{room}: {count + 1} {what} of {user} in {span} ms"
                    break


def _timestamps(history: History) -> Iterator[str]:
    """wire.md §3: "`timestamp` never goes backwards within a room"."""
    for room, entries in history.logs.items():
        stamps = [entry.message["timestamp"] for entry in entries]
        if stamps != sorted(stamps):
            yield f"{room}: the time goes back"


# Rules about what people saw.


def _lost(history: History) -> Iterator[str]:
    """[C1] What was shown to anyone is in the log, for ever, as it was shown; or it is
    told to be lost, if anybody who lives can know."""
    for socket in history.sockets:
        log = {e.seq: e.message for e in history.logs.get(socket.room, [])}
        told = told_lost(history, socket.room)
        for at, message in shown_to(socket):
            kept = log.get(message["seq"])
            if message["seq"] in told and is_gone(history, socket.room, message):
                continue
            if unknowable(history, socket.room, message):
                continue
            if kept is None:
                yield f"{who(socket, at)} saw {what_of(message)}, which is lost"
            elif bare(kept) != bare(message):
                yield f"{who(socket, at)} saw {what_of(message)}, kept {what_of(kept)}"


def _early(history: History) -> Iterator[str]:
    """[C8] Nothing is shown before the log holds it for good."""
    yield from history.early


def _streams(history: History) -> Iterator[str]:
    """[C5] A socket sees each next message and skips none; a repeat is no news."""
    for socket in history.sockets:
        last, told = socket.since, told_lost(history, socket.room)
        tried = {sent.id or sent.serial for sent in socket.sent}
        for heard in socket.heard:
            kind = heard.frame["type"]
            if kind == "history":
                gap, messages = heard.frame["gap"], heard.frame["messages"]
                # It came to a room that knows not yet that it is superseded, or to one
                # that lost what this client has: either has never been where it was.
                beyond = (socket.since or 0) > heard.frame["lastSeq"]
                if gap and not beyond and not loses(history, socket.room):
                    yield f"{who(socket, heard.at)} is told of a gap there is not"
                if gap:  # it goes on from here
                    last = heard.frame["lastSeq"]
                if messages and (gap or last is None):
                    last = messages[0]["seq"] - 1
                last = last or 0
            elif kind in MESSAGES:
                messages, last = [heard.frame], last or 0
            else:
                continue
            for message in messages:
                seq = message["seq"]
                if kind == "history" and told.issuperset(range(last + 1, seq)):
                    last = max(last, seq - 1)
                own = message["senderId"] == socket.user and not tried.isdisjoint(
                    (message["id"], serial_of(message))
                )
                if seq == last + 1:
                    last = seq
                elif seq > last or not own:
                    # What is not new must be the answer to a repeat of its own.
                    since = f"since {socket.since}"
                    yield f"{who(socket, heard.at)} saw {seq} after {last}, {since}"
                    last = max(last, seq)


def _twice(history: History) -> Iterator[str]:
    """Each message comes once to a socket, and once more for each time it repeats."""
    sends = sends_of(history)
    by_id: dict[tuple[str, str, str], list[Sent]] = defaultdict(list)
    for sent in sends.values():
        if sent.id is not None:
            by_id[sent.room, sent.user, sent.id].append(sent)
    for socket in history.sockets:
        for shown in between_gaps(socket):
            times = Counter(message["seq"] for message in shown)
            if max(times.values(), default=0) < 2:
                continue
            messages = {message["seq"]: message for message in shown}
            for seq, n in times.items():
                if n > 1 and n > _allowed(socket, messages[seq], sends, by_id):
                    yield f"{who(socket)} saw {what_of(messages[seq])} {n} times"


def _allowed(
    socket: Socket,
    message: Frame,
    sends: dict[int, Sent],
    by_id: dict[tuple[str, str, str], list[Sent]],
) -> int:
    if message["senderId"] != socket.user:
        return 1
    tries = by_id[socket.room, socket.user, message["id"]]
    here = sum(sent.socket == socket.number for sent in tries)
    serial = serial_of(message)
    if serial is not None and serial in sends:
        elsewhere = sends[serial].socket != socket.number
    else:
        elsewhere = here < len(tries)
    return max(1, here + elsewhere)


def _order(history: History) -> Iterator[str]:
    """[C6] What was acknowledged before another was sent comes before it."""
    sends = sends_of(history)
    acknowledged: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for socket in history.sockets:
        for at, message in shown_to(socket):
            if message["senderId"] == socket.user and not is_gone(
                history, socket.room, message
            ):
                acknowledged[socket.room].append((at, message["seq"]))
    for room, entries in history.logs.items():
        moments = sorted(acknowledged[room])
        for entry in entries:
            found = sends.get(serial_of(entry.message) or -1)
            if found is None:
                continue
            for at, seq in moments:
                if at >= found.at:
                    break
                if seq > entry.seq:
                    yield f"{room}: {seq} was acknowledged before {entry.seq} was sent"
                    break


def _echoes(history: History) -> Iterator[str]:
    """The sender's own echo comes, if its socket is there to the end."""
    sends = sends_of(history)
    sockets = {socket.number: socket for socket in history.sockets}
    seen: dict[int, set[tuple[int, str]]] = {}
    for _, entry in logged(history):
        found = sends.get(serial_of(entry.message) or -1)
        if found is None or sockets[found.socket].closed_at is not None:
            continue
        socket = sockets[found.socket]
        if socket.number not in seen:
            seen[socket.number] = _ids(socket)
        # One that was refused after 5 s may be older than the history it came to.
        known = entry.seq, entry.message["id"]
        if _begin(socket) <= entry.seq and known not in seen[socket.number]:
            yield f"{who(socket)} never saw its own {what_of(entry.message)}"


def _ids(socket: Socket) -> set[tuple[int, str]]:
    """Numbers may stand for something else after a loss."""
    return {(message["seq"], message["id"]) for _, message in shown_to(socket)}


def _unanswered(history: History) -> Iterator[str]:
    """wire.md §5: an echo or an error, at the latest after 5 s; the echo of what is
    durable by then may wait for a gateway that reaches neither object nor storage.

    An error names an id, and not which of the words it was that were said under it: it
    may as well be the answer to others than the oldest, if these need none yet.
    """
    dated: dict[tuple[str, int | None], int] = {}
    became: dict[tuple[str, str, str | None, int | None], int] = {}
    for room, entry in logged(history):
        said, at = entry.message, entry.message["timestamp"]
        dated[room, entry.seq] = at
        became[room, said["senderId"], said["id"], serial_of(said)] = at
    for socket in history.sockets:
        waiting = list(socket.sent)
        spare: list[tuple[str | None, float]] = []  # errors that may be another's
        for sent, heard in _answers(socket):
            words = (socket.room, socket.user, sent.id, sent.serial)
            if heard.frame["type"] == "error" and (
                became.get(words, math.inf) <= _ms(_due(history, sent))
            ):
                spare.append((sent.id, heard.at))
            waiting.remove(sent)
            # Who catches up is shown its own in turn, however long that takes.
            seq, due = heard.frame.get("seq"), _due(history, sent)
            if dated.get((socket.room, seq), math.inf) <= _ms(due):
                continue
            if heard.frame["type"] != "history" and heard.at > due:
                others = [
                    each for each in spare if each[0] == sent.id and each[1] <= due
                ]
                if others:
                    spare.remove(others[0])
                    continue
                late = heard.at - sent.at
                yield f"{who(socket, sent.at)} waited {late:.2f} s for {named(sent)}"
        end = history.ended_at if socket.closed_at is None else socket.closed_at
        for sent in waiting:
            if _due(history, sent) < end and not _in_its_turn(history, socket, sent):
                yield f"{who(socket, sent.at)} got no answer to {named(sent)}"


def _in_its_turn(history: History, socket: Socket, sent: Sent) -> bool:
    """Whether a socket that catches up has had the echo, or is still to have it."""
    pages = [h for h in socket.heard if h.frame["type"] == "history"]
    if any(_is(sent, m) for h in pages if h.at < sent.at for m in h.frame["messages"]):
        return True
    last = max((m["seq"] for _, m in shown_to(socket)), default=socket.since or 0)
    log = history.logs.get(socket.room, [])
    return any(entry.seq > last and _is(sent, entry.message) for entry in log)


def _due(history: History, sent: Sent) -> float:
    due = sent.at + ANSWER_S + SLACK_S
    for start, end in history.lame:
        # Who stands still answers nobody; with its first breath it does.
        if start < due and end > sent.at:
            due = max(due, end + ANSWER_S + SLACK_S)
    return due


def _answers(socket: Socket) -> Iterator[tuple[Sent, Heard]]:
    """What each frame of a client was answered with, the oldest first."""
    waiting: list[Sent] = []
    fresh = iter(socket.sent)
    upcoming = next(fresh, None)
    for heard in socket.heard:
        while upcoming is not None and upcoming.at <= heard.at:
            waiting.append(upcoming)
            upcoming = next(fresh, None)
        frame = heard.frame
        kind = frame["type"]
        if kind == "error":
            if frame["code"] not in ANSWERS:
                continue  # to a frame of another kind
            found = [s for s in waiting if s.id == frame.get("id")][:1]
        elif kind in MESSAGES or kind == "history":
            own = [frame] if kind in MESSAGES else frame["messages"]
            found = []
            for message in own:
                if message["senderId"] == socket.user:
                    found += [s for s in waiting if _is(s, message)]
        else:
            continue
        for sent in found:
            if sent in waiting:
                waiting.remove(sent)
                yield sent, heard


def _is(sent: Sent, message: Frame) -> bool:
    if sent.user != message["senderId"]:
        return False
    if sent.id is not None:
        return bool(sent.id == message["id"])
    return serial_of(message) == sent.serial


def _refused(history: History) -> Iterator[str]:
    """RATE_LIMITED is said to nobody who has not used up the rate."""
    stamps: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for room, message in durable(history):
        key = (room, message["senderId"], message["type"] == NUDGE)
        stamps[key].append(message["timestamp"])
    for socket in history.sockets:
        for sent, heard in _answers(socket):
            if heard.frame.get("code") != "RATE_LIMITED":
                continue
            nudge = sent.kind == NUDGE
            count, seconds = history.nudge_rate if nudge else history.chat_rate
            # Said again, it may be its first try that is answered now.
            first = min(each.at for each in socket.sent if each.id == sent.id)
            start = _ms(first) - seconds * 1000
            used = stamps[socket.room, socket.user, nudge]
            if sum(start < at <= _ms(heard.at) for at in used) < count:
                yield f"{who(socket, heard.at)} was refused {named(sent)} too soon"


def _confirmed(history: History) -> Iterator[str]:
    """wire.md §5: STORAGE_UNAVAILABLE means "not confirmed, shown to nobody so far"."""
    sends: dict[tuple[str, str, str], list[Sent]] = defaultdict(list)
    for sent in sends_of(history).values():
        if sent.id is not None:
            sends[sent.room, sent.user, sent.id].append(sent)
    for at, room, user, own in history.refusals:
        shown = history.shown.get((room, user, own))
        if shown is None or at - shown.at <= LOOK_S or at in history.blind:
            continue
        if is_gone(history, room, shown.frame):
            continue
        if any(start <= at <= end for start, end in history.unsure):
            continue
        tries = [sent for sent in sends[room, user, own] if sent.at < at]
        # Other words under its id may be what was refused, or what they know of.
        if all(_says(sent, shown.frame) for sent in tries) and not any(
            _knew(history, sent) for sent in tries
        ):
            text = f"{at - shown.at:.2f} s after it was shown"
            yield f"{user} in {room} at {at:.3f} was refused {own} {text}"


def _says(sent: Sent, message: Frame) -> bool:
    serial = serial_of(message)
    return sent.kind == NUDGE if serial is None else sent.serial == serial


def _knew(history: History, sent: Sent) -> bool:
    """Whether they sent it over a socket that had shown it to them already."""
    socket = history.sockets[sent.socket - 1]
    return any(at < sent.at and _is(sent, m) for at, m in shown_to(socket))


def _reused(history: History) -> Iterator[str]:
    """ID_REUSED is said of an id alone under which that socket said other words."""
    said: dict[tuple[str, str, str], set[int | None]] = defaultdict(set)
    for room, message in durable(history):
        key = room, message["senderId"], message["id"]
        said[key].add(serial_of(message))
    for socket in history.sockets:
        for heard in socket.heard:
            if heard.frame.get("code") != "ID_REUSED":
                continue
            own = heard.frame["id"]
            known = said[socket.room, socket.user, own] - {None}
            tried = {each.serial for each in socket.sent if each.id == own}
            # A nudge, which has none, says what every other says.
            if not any(tried - {serial} for serial in known):
                yield f"{who(socket, heard.at)} is told of other words under {own}"


def _ms(at: float) -> int:
    return EPOCH_MS + int(at * 1000)


def _alive(history: History) -> Iterator[str]:
    """[C7] After all is healed, who is connected has seen everything."""
    for socket in history.sockets:
        if socket.closed_at is None:
            log = history.logs.get(socket.room, [])
            seen, start = _ids(socket), _begin(socket)
            told = told_lost(history, socket.room)
            missed = [
                entry.seq
                for entry in log
                if entry.seq >= start
                and entry.seq not in told  # and is there for others
                and (entry.seq, entry.message["id"]) not in seen
            ]
            if missed:
                yield f"{who(socket)} never saw {missed[:5]}"
    yield from history.unsettled


def _two(history: History) -> Iterator[str]:
    """Never two that speak: whoever was taken over shows nothing 2 s later."""
    yield from history.two.values()


def _outlived(history: History) -> Iterator[str]:
    """No exception that load or life has made outlives its room."""
    for name in history.outlived:
        yield f"{name} sleeps, and has an actor of its own"


def _begin(socket: Socket) -> int:
    """Where a socket's stream begins."""
    first = next((h.frame for h in socket.heard if h.frame["type"] == "history"), None)
    if first is not None and first["gap"]:
        messages = first["messages"]
        return int(messages[0]["seq"] if messages else first["lastSeq"] + 1)
    if socket.since is not None:
        return socket.since + 1
    return next((message["seq"] for _, message in shown_to(socket)), 1)


def _roster(history: History) -> Iterator[str]:
    """When it is quiet, everyone is told who is there, and no one else is."""
    present: dict[str, set[str]] = defaultdict(set)
    for socket in history.sockets:
        if socket.closed_at is None:
            present[socket.room].add(socket.user)
    for socket in history.sockets:
        lists = [h.frame for h in socket.heard if h.frame["type"] == "participants"]
        if socket.closed_at is not None or not lists:
            continue
        told = sorted(each["id"] for each in lists[-1]["participants"])
        really, total = sorted(present[socket.room]), lists[-1].get("total")
        if _is_crowd(history, socket.room, len(really)):
            right = total == len(really) and set(told) <= set(really)
        else:
            right = total is None and told == really
        if not right:
            of = f" of {total}" if total is not None else ""
            yield f"{who(socket)} is told of {told}{of}, there are {really}"


def _is_crowd(history: History, room: str, people: int) -> bool:
    return people > history.crowd and not room.startswith("dm_")


def _crowds(history: History) -> Iterator[str]:
    """wire.md §3, "Crowds": a `total` in a crowd and nowhere else, as many names as no
    crowd could have, the receiver among them; and nobody is said to come or go."""
    for socket in history.sockets:
        for heard in socket.heard:
            kind = heard.frame["type"]
            if kind == "participants":
                names = [each["id"] for each in heard.frame["participants"]]
                total = heard.frame.get("total")
                if total is None:
                    right = not _is_crowd(history, socket.room, len(names))
                else:
                    right = _is_crowd(history, socket.room, total)
                    right &= len(names) == history.crowd and socket.user in names
                if not right or len(set(names)) != len(names):
                    of = f" of {total}" if total is not None else ""
                    yield f"{who(socket, heard.at)} is told of {names}{of}"
            elif kind == "system" and history.crowd == 1:
                said = heard.frame["content"].lower()
                # Two are a crowd already: nobody is told of anybody else.
                other = not said.startswith((socket.user, "connected"))
                if other and not socket.room.startswith("dm_"):
                    yield f"{who(socket, heard.at)} is told in a crowd that {said}"


def _agree(history: History) -> Iterator[str]:
    """One name, one status: in the end every place says the same of somebody."""
    first: dict[tuple[str, str], Shown] = {}
    for shown in [*history.held, *_last_seen(history)]:
        known = first.setdefault((shown.user, shown.what), shown)
        if shown.value != known.value:
            places = f"{known.place} {known.value}, to {shown.place} {shown.value}"
            yield f"the {shown.what} of {shown.user} is to {places}"


def _last_seen(history: History) -> Iterator[Shown]:
    """What the last list of people says that each open socket had."""
    for socket in history.sockets:
        lists = [h.frame for h in socket.heard if h.frame["type"] == "participants"]
        if socket.closed_at is not None or not lists:
            continue
        for each in lists[-1]["participants"]:
            words = each["displayName"], each.get("personalMessage")
            yield Shown(each["id"], "words", who(socket), words)
            yield Shown(each["id"], "status", who(socket), each["status"])


def _scope(history: History) -> Iterator[str]:
    """wire.md §4: in the end each presence socket shows its scope, as the registry has
    it: everybody, or in a crowd itself, whom it watches, and perhaps those with whom
    its user has a direct room."""
    online = history.online
    if online is None:
        return
    for gaze in history.gazes:
        if gaze.closed_at is not None:
            continue
        who = f"the gaze of {gaze.user}"
        scope, named, view = _gazed(gaze)
        if (scope == "watched") != online.crowded:
            yield f"{who} is told that its scope is {scope}"
        wanted = {gaze.user, *gaze.watched}
        if not online.crowded:
            wanted |= view.keys() | online.statuses.keys()
        for user in sorted(wanted):
            seen, is_so = view.get(user), online.statuses.get(user)
            if seen != is_so:
                yield f"{who} shows {user} as {seen}, who is {is_so}"
        if online.crowded:
            friends = {u for room in history.logs for u in _two_of(room, gaze.user)}
            if more := named - wanted - gaze.ever - friends:
                yield f"{who} was told of {sorted(more)}"


def _gazed(gaze: Gazed) -> tuple[str, set[str], dict[str, str]]:
    """The scope and the people of a socket's last full sync, and whom it shows now."""
    scope, named, view = "", set[str](), dict[str, str]()
    for _, frame in gaze.heard:
        kind = frame["type"]
        if kind == "presence_full_sync":
            people = {each["id"]: each["status"] for each in frame["participants"]}
            if "partial" in frame:
                view |= people
            else:
                scope, named, view = frame["scope"], set(people), people
        elif kind == "presence_join":
            view[frame["userId"]] = "online"
        elif kind == "presence_update":
            view[frame["userId"]] = frame["status"]
    return (
        scope,
        named,
        {u: status for u, status in view.items() if status != "offline"},
    )


def _two_of(room: str, user: str) -> tuple[str, ...]:
    """The two of a direct room, if this is one of them."""
    two = tuple(room.removeprefix("dm_").split("__")) if "__" in room else ()
    return two if user in two else ()


def _poison(history: History) -> Iterator[str]:
    """A frame at which a room fails is told so once, is in no log, and nobody else is
    told so."""
    for socket in history.sockets:
        told = Counter(
            heard.frame.get("id")
            for heard in socket.heard
            if heard.frame.get("code") == "INTERNAL_ERROR"
        )
        sent = Counter(each.id for each in socket.sent if each.poison)
        for own, times in told.items():
            if times > sent[own]:
                said = f"is told of an internal error {times} times"
                yield f"{who(socket)} {said} for {sent[own]} as {own}"
    for room, entry in logged(history):
        if POISON in entry.message["content"]:
            yield f"{room} {entry.seq}: the room failed at this, and kept it"


def _answers_of_guests(history: History) -> Iterator[str]:
    """What a guest answers was said before, as it heard it, by somebody with a socket.

    That it answers once is `_duplicates`'.
    """
    for room, entries in history.logs.items():
        said = {entry.seq: entry.message for entry in entries}
        for entry in entries:
            if entry.message["senderId"] != GUEST:
                continue
            number = int(entry.message["id"].removeprefix("re."))
            heard = said[number] if number in said and number < entry.seq else None
            if heard is None or (heard["type"], entry.message["content"]) != (
                CHAT,
                f"{heard['senderId']} said {heard['id']}",
            ):
                yield f"{room} {entry.seq} answers {number}, which is not what it heard"


def _failures(history: History) -> Iterator[str]:
    """[C11] Nothing fails in a way that nobody foresaw."""
    yield from history.failures


RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "failure": _failures,
    "lost": _lost,
    "early": _early,
    "hole": _holes,
    "duplicate": _duplicates,
    "unexpected": _unexpected,
    "writer": _writers,
    "stream": _streams,
    "twice": _twice,
    "order": _order,
    "echo": _echoes,
    "unanswered": _unanswered,
    "rate": _rates,
    "refused": _refused,
    "reused": _reused,
    "shown_then_refused": _confirmed,
    "timestamp": _timestamps,
    "alive": _alive,
    "two": _two,
    "outlived": _outlived,
    "roster": _roster,
    "crowd": _crowds,
    "agree": _agree,
    "scope": _scope,
    "poison": _poison,
    "guest": _answers_of_guests,
    "numbers": numbers,
    "told": told_wrongly,
    "healed": unhealed,
    "era": eras,
    "resumed": resumed,
}
