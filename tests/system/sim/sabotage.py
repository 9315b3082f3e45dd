"""Sabotage: the product broken in one line at a time, to see whether anyone notices.

A suite that passes on broken code proves nothing. Each sabotage here removes one thing
that design.md relies on, by replacing one method, and names the rule of the checker
that must notice; `test_sabotage.py` holds it to that. `seeds` are where to look first:
they save time, and when the product changes, others among CI's seeds will do.

Some of design.md's precautions are proved elsewhere, because each is one of two or
heals before any of the checker's rules breaks:

- that a lower epoch cannot replace a mirror (`tests/cfmessenger/storage/test_log.py`),
  that an unclean mirror is not believed (`tests/actors/test_loading.py`), that who
  moves soon after a crash hands over no roster (`tests/actors/test_pool.py`): people
  would be told of arrivals that were none, and the roster heals as gateways attach;
- that a gateway does not believe an older epoch (`tests/gateway/live/test_stub.py`): an
  attach that knows a higher one has ended the older life (`tests/actors/test_pool.py`);
- that a look counts only for epochs that were known when it began, and is repeated if
  a generation came meanwhile (`tests/actors/test_ownership.py`): the next look is near;
- that looks compare an activation already while it loads (there too): a load that is
  longer than trust, and is taken over, comes once in some thousand seeds;
- that a pool looks at single rooms while a generation spreads (there too): whoever is
  told `moved`, or attaches elsewhere, finds the newer life before a second has passed;
- that whoever wakes after a crash calls everyone, and that silent rooms of a dead pool
  look at the log (`tests/system/cluster/test_pools.py`): nobody here is silent long;
- that the registry tells a choice to every socket of its user
  (`tests/cfmessenger/chat/test_presence.py`), that a room does
  (`tests/cfmessenger/chat/test_room.py`), and that a gateway believes both
  (`tests/gateway/api/test_names.py`): each does what the others forget;
- that who was told alone, and so passed by, is told by the tick after
  (`tests/cfmessenger/chat/test_crowd.py`): somebody comes or goes again soon;
- that an exception's host gives it back when it goes to sleep (`OwnRooms.end`), and
  that namespace servers give up orphans (`Upkeep`): each does what the other forgets.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

from msgspec import UNSET
from msgspec.structs import replace

import actors.birth
import actors.flow
import actors.loading
import actors.release
import cfmessenger.chat.room
import cfmessenger.storage.server
import gateway.live.connection
from actors.activation import Activation
from actors.birth import Birth
from actors.committer import Committer, Report
from actors.flow import Flow
from actors.healing import Healed
from actors.host import Host
from actors.ownership import Ownership
from actors.release import Recipient
from actors.tail import Tail
from cfmessenger.chat.crowd import Crowd
from cfmessenger.chat.effects import Says
from cfmessenger.chat.history import History
from cfmessenger.chat.holders import Holders
from cfmessenger.chat.interests import Interest
from cfmessenger.chat.members import Members
from cfmessenger.chat.ratelimit import UserRates
from cfmessenger.chat.rollcall import RollCall
from cfmessenger.chat.room import Room
from cfmessenger.link import messages as link
from cfmessenger.link.audience import Audience
from cfmessenger.link.half import Half
from cfmessenger.link.onlookers import Onlookers
from cfmessenger.link.roll import PersonalRoll
from cfmessenger.link.uncovered import Uncovered
from cfmessenger.link.wanted import Wanted
from cfmessenger.placement import Placement
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME, Generation
from cfmessenger.storage.log import (
    Activated,
    Commit,
    Entry,
    Fenced,
    Told,
    Top,
    ValkeyLog,
    _entries,
    _problem,
)
from cfmessenger.storage.server import Server
from cfmessenger.storage.valkey import UnknownOutcome
from cfmessenger.wire.events import UnknownEvent, read_event
from gateway.live.late import Looks
from gateway.live.links import Links
from gateway.live.stub import Stub

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


class Sabotage(NamedTuple):
    """One broken line: what is done, and which rules may notice."""

    patch: Patch
    rules: frozenset[str]
    seeds: tuple[int, ...] = ()


SABOTAGES: dict[str, Sabotage] = {}


def sabotage(*rules: str, seeds: Sequence[int] = ()) -> Callable[[Patch], Patch]:
    """Register the decorated patch under its own name."""

    def register(patch: Patch) -> Patch:
        name = patch.__name__
        SABOTAGES[name] = Sabotage(patch, frozenset(rules), tuple(seeds))
        return patch

    return register


@contextlib.contextmanager
def applied(name: str | None) -> Iterator[None]:
    """While inside, the product is broken in this way; None: it is not."""
    if name is None:
        yield
        return
    with SABOTAGES[name].patch():
        yield


def _instead(
    where: Any, name: str, what: Any
) -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(where, name, what)


# The output gate.


@sabotage("early", "lost")
def shown_before_it_is_appended() -> contextlib.AbstractContextManager[Any]:
    """The gate lands when the append is sent, not when it is confirmed."""
    add = Committer.add

    def early(self: Committer, commit: Commit, report: Report) -> None:
        add(self, commit, lambda *outcome: None)
        report(commit, None)

    return _instead(Committer, "add", early)


@sabotage("lost", "early")
def refused_append_swallowed() -> contextlib.AbstractContextManager[Any]:
    """An append that was refused, or of unknown outcome, counts as confirmed."""
    add = Committer.add

    def deaf(self: Committer, commit: Commit, report: Report) -> None:
        add(self, commit, lambda commit, problem: report(commit, None))

    return _instead(Committer, "add", deaf)


@sabotage("alive", "unanswered", seeds=(10,))
def lane_that_failed_never_free_again() -> contextlib.AbstractContextManager[Any]:
    """After an append of unknown outcome whatever waits there waits for ever."""
    landed = Committer._landed

    def stuck(self: Committer, lane: Any, batch: Any, outcomes: Any) -> None:
        landed(self, lane, batch, outcomes)
        if isinstance(outcomes, Exception):
            self._waiting.setdefault(lane, [])

    return _instead(Committer, "_landed", stuck)


@sabotage("unanswered")
def covered_before_it_is_committed() -> contextlib.AbstractContextManager[Any]:
    """The gateway is told that an input is covered when it is taken."""
    take = Flow._take_inputs

    def hasty(self: Flow, peer: Recipient, message: link.Inputs) -> None:
        take(self, peer, message)
        seat = self.seats.get(peer.gateway)
        if seat is not None and seat.seated:
            n, epoch = message.inputs[-1].n, self.machine.epoch
            peer.send(link.Output(message.object, epoch, n, [], seat.turn))

    return _instead(Flow, "_take_inputs", hasty)


# The epoch.


async def _read(self: ValkeyLog, name: str, epoch: int, previous: int) -> Activated:
    last, saved = await self.ask_all(
        ("XREVRANGE", keys.log(name), "+", "-", "COUNT", "1"),
        ("XREVRANGE", keys.mirror(name), "+", "-", "COUNT", "1"),
    )
    found = _entries(last)
    mirror = self._mirror(saved[0]) if saved else None
    seq = found[0].seq if found else 0
    lineage = self.lineage_of(keys.log(name))
    last = found[0] if found else None
    return Activated(epoch, previous, seq, mirror, last=last, lineage=lineage)


@sabotage("writer")
def epoch_used_again() -> contextlib.AbstractContextManager[Any]:
    """An activation goes on under its predecessor's epoch."""

    async def activate(self: ValkeyLog, name: str, above: int = 0) -> Activated:
        previous = await self.epoch(name)
        return await _read(self, name, max(previous, 1), previous)

    return _instead(ValkeyLog, "activate", activate)


@sabotage("hole", "writer", "lost", seeds=(37,))
def epoch_counted_but_not_taken() -> contextlib.AbstractContextManager[Any]:
    """No marker is written: what an older activation has under way still lands."""

    async def activate(self: ValkeyLog, name: str, above: int = 0) -> Activated:
        previous = await self.epoch(name)
        return await _read(self, name, previous + 1, previous)

    return _instead(ValkeyLog, "activate", activate)


@sabotage("duplicate")
def deduplication_off() -> contextlib.AbstractContextManager[Any]:
    """No id is known again."""
    return _instead(History, "find", lambda self, sender_id, own_id: None)


@sabotage("duplicate", seeds=(45,))
def id_made_anew_for_a_repeat() -> contextlib.AbstractContextManager[Any]:
    """A message without an id gets another one when it is sent again."""
    numbers = itertools.count(1)
    return _instead(actors.flow, "process_of", lambda gateway: f"g{next(numbers)}")


@sabotage("twice", "stream", seeds=(26,))
def second_echo_not_suppressed() -> contextlib.AbstractContextManager[Any]:
    """What a gap has brought is told again when its input comes back."""
    return _instead(actors.release, "_had", lambda repeat, seen: False)


@sabotage("twice", "stream", seeds=(3,))
def answers_to_another_attach_taken() -> contextlib.AbstractContextManager[Any]:
    """A gateway does not look for which of its attaches an answer is."""
    goodbye, output = Stub.on_goodbye, Stub.on_output

    def any_goodbye(self: Stub, message: link.Goodbye) -> None:
        goodbye(self, replace(message, turn=self._half.turn))

    def any_output(self: Stub, message: link.Output) -> None:
        output(self, replace(message, turn=self._half.turn))

    return mock.patch.multiple(Stub, on_goodbye=any_goodbye, on_output=any_output)


@sabotage("unanswered")
def uncovered_inputs_dropped() -> contextlib.AbstractContextManager[Any]:
    """What was sent is not sent again after a crash."""
    attach = Half.attach

    def forgetful(self: Half[Any], turn: int, process: str) -> Any:
        sent = self.pending.sent
        said = [p for p in self.pending if type(p.input) is link.Said]
        self.pending.take({each.n for each in said if each.n <= sent})
        return attach(self, turn, process)

    return _instead(Half, "attach", forgetful)


# What is shown.


@sabotage("stream", "alive")
def gap_not_sent() -> contextlib.AbstractContextManager[Any]:
    """Who attaches again is not shown what it missed."""
    events_after = Room.events_after

    def nothing(self: Room, seq: int) -> list[bytes] | None:
        return None if events_after(self, seq) is None else []

    return _instead(Room, "events_after", nothing)


@sabotage("stream", "twice", seeds=(55,))
def subscribed_while_catching_up() -> contextlib.AbstractContextManager[Any]:
    """An attach puts everybody into the fan-out, also who has not caught up."""
    arrive = Audience.arrive

    def eager(self: Audience[Any], opened: Any) -> Any:
        arrival = arrive(self, opened)
        self._reopening = set()
        return arrival

    return _instead(Audience, "arrive", eager)


@sabotage("stream", seeds=(345,))
def echo_ahead_of_its_turn() -> contextlib.AbstractContextManager[Any]:
    """Who catches up is answered a repeat at once, before what comes before it."""
    return _instead(Audience, "in_turn", lambda self, conn, seq: True)


# A failover to a replica that lags.


@sabotage("lost", "alive", "hole", seeds=(900_004,))
def healing_off() -> contextlib.AbstractContextManager[Any]:
    """Nobody gives a log back what it has lost; all else stands."""

    async def nothing(name: str, log: Any, tail: Tail, found: Activated) -> Healed:
        return Healed(found)

    return _instead(actors.birth, "heal", nothing)


@sabotage("hole", "lost", "stream", seeds=(900_040,))
def appended_before_the_new_server_is_looked_at() -> contextlib.AbstractContextManager[
    Any
]:
    """An append goes to whoever answers."""
    begin = ValkeyLog.begin_commit

    def anywhere(self: ValkeyLog, commits: Sequence[Commit], told: Told) -> None:
        begin(self, [each._replace(lineage="") for each in commits], told)

    return _instead(ValkeyLog, "begin_commit", anywhere)


@sabotage("lost", "hole", "writer", "numbers", seeds=(970_053, 970_099))
def healing_without_a_new_epoch() -> contextlib.AbstractContextManager[Any]:
    """What is missing is appended under the epoch that the object has anyway, if the
    log takes it; nobody who went on there is kept from it."""
    activate = ValkeyLog.activate

    async def same(self: ValkeyLog, name: str, above: int = 0) -> Activated:
        ((newest, _),) = await self.tops([name])
        if not above or newest >= above:
            return await activate(self, name, above)
        found = await _read(self, name, above, newest)
        return found

    return _instead(ValkeyLog, "activate", same)


# A failover with which those die who said something.


@sabotage("lost", "hole", seeds=(970_001,))
def loss_not_named() -> contextlib.AbstractContextManager[Any]:
    """Numbers go on above what is lost, and nobody says why."""
    return _instead(actors.loading, "_untold", lambda lost, entries: [])


@sabotage("lost", "numbers", "stream", seeds=(970_001,))
def numbering_begins_at_the_logs_end() -> contextlib.AbstractContextManager[Any]:
    """What gateways have seen beyond the log counts for nothing."""
    return _instead(link.Attach, "known", 0)


@sabotage("lost", "numbers", "stream", seeds=(970_050,))
def only_who_is_still_there_has_seen_anything() -> contextlib.AbstractContextManager[
    Any
]:
    """A gateway forgets what it has shown to sockets that have left."""
    attach = Half.attach

    def forgetful(self: Half[Any], turn: int, process: str) -> Any:
        first, *more = attach(self, turn, process)
        return [replace(first, before=0), *more]

    return _instead(Half, "attach", forgetful)


@sabotage("lost", "numbers", seeds=(970_063,))
def epochs_believed_where_storage_lost_some() -> contextlib.AbstractContextManager[Any]:
    """Who showed something is told by its epoch alone, which another may have taken."""
    apart = Birth.apart
    return _instead(
        Birth, "apart", lambda self, seen: apart(self, seen._replace(elsewhere=False))
    )


@sabotage("era", seeds=(970_001,))
def era_not_raised() -> contextlib.AbstractContextManager[Any]:
    """What is lost is told, and all goes on in the era that was."""
    tell = cfmessenger.chat.room.tell_lost
    return _instead(
        cfmessenger.chat.room, "tell_lost", lambda *of: replace(tell(*of), era=UNSET)
    )


@sabotage("resumed", seeds=(970_001,))
def number_of_another_era_believed() -> contextlib.AbstractContextManager[Any]:
    """Who comes again is shown what comes after its number, whatever era that was."""
    return _instead(History, "counts", lambda self, since, era: True)


@sabotage("healed", seeds=(970_052, 970_086))
def tail_ends_at_a_hole() -> contextlib.AbstractContextManager[Any]:
    """Whoever loads a log keeps what comes after its last loss, and not what that
    follows upon."""
    loaded = Tail.loaded

    def short(self: Tail, now: float, entries: Any, begins: int = 1) -> None:
        row: list[Entry] = []
        for entry in entries:
            if row and entry.seq != row[-1].seq + 1:
                row.clear()
            row.append(entry)
        loaded(self, now, row)

    return _instead(Tail, "loaded", short)


# What replicas have to confirm.


@sabotage("early", "lost", seeds=(950_001, 950_002))
def wait_unchecked() -> contextlib.AbstractContextManager[Any]:
    """However few replicas a short WAIT has counted, they are enough."""
    stack = contextlib.ExitStack()
    stack.enter_context(_instead(Server, "_enough", lambda self, had: True))
    stack.enter_context(_instead(cfmessenger.storage.server, "EARLY_S", 4.99))
    return stack


@sabotage("early", "lost", seeds=(950_014,))
def no_wait_at_activation() -> contextlib.AbstractContextManager[Any]:
    """What an activation has loaded is shown, whether or not a replica has it."""
    timed = ValkeyLog._timed

    async def hasty(
        self: ValkeyLog, commands: Any, lineage: str = "", *, durable: bool = False
    ) -> list[Any]:
        return await timed(self, commands, lineage)

    return _instead(ValkeyLog, "_timed", hasty)


@sabotage("lost", "hole", "early", seeds=(950_127, 950_157))
def unknown_outcome_tried_again() -> contextlib.AbstractContextManager[Any]:
    """An append of which nobody knows what became is sent once more; that its number is
    taken then means that it was done."""
    commit = ValkeyLog.commit

    async def again(self: ValkeyLog, commits: Sequence[Commit]) -> Any:
        outcomes: list[Exception | None]
        try:
            outcomes = await commit(self, commits)
        except UnknownOutcome as error:
            outcomes = [error] * len(commits)
        unsure = [n for n, it in enumerate(outcomes) if isinstance(it, UnknownOutcome)]
        if unsure:  # to whoever answers, and without another WAIT
            found = await self.send([self._packed(*commits[n][:3]) for n in unsure])
            for n, problem in zip(unsure, map(_problem, found), strict=True):
                outcomes[n] = None if isinstance(problem, Fenced) else problem
        return outcomes

    stack = contextlib.ExitStack()
    stack.enter_context(_instead(ValkeyLog, "commit", again))
    stack.enter_context(_instead(ValkeyLog, "begin_sending", lambda *_, **__: False))
    return stack


# Sleep and wake.


@sabotage("rate", seeds=(12,))
def rates_forgotten_in_sleep() -> contextlib.AbstractContextManager[Any]:
    """The mirror's rate windows are not restored."""
    return _instead(UserRates, "restore", lambda self, snapshot: None)


@sabotage("rate")
def rates_not_rebuilt_after_a_crash() -> contextlib.AbstractContextManager[Any]:
    """The log's messages do not count against anybody's rate."""
    replay = Room.replay

    def free(self: Room, now: int, epoch: int, seq: int, event: bytes) -> None:
        rates, self._rates = self._rates, defaultdict(lambda: UserRates(0, 0))
        replay(self, now, epoch, seq, event)
        self._rates = rates

    return _instead(Room, "replay", free)


@sabotage("unexpected", "stream", seeds=(97,))
def mirror_trusted_more_than_the_log() -> contextlib.AbstractContextManager[Any]:
    """What the log has beyond a mirror is not read, and so it is told to be lost."""
    newer = actors.loading._newer

    async def nothing(
        name: str, log: Any, known: int, top: int, now: int
    ) -> list[Entry]:
        return [] if known else await newer(name, log, known, top, now)

    return _instead(actors.loading, "_newer", nothing)


@sabotage("stream", "alive", "lost")
def unknown_event_dropped() -> contextlib.AbstractContextManager[Any]:
    """What a later release has said is passed over with its number, and not kept."""
    replay = Room.replay

    def deaf(self: Room, now: int, epoch: int, seq: int, event: bytes) -> None:
        if isinstance(read_event(seq, event)[0], UnknownEvent):
            self.skip(seq)
        else:
            replay(self, now, epoch, seq, event)

    return _instead(Room, "replay", deaf)


# Guests.


@sabotage("duplicate", seeds=(11,))
def answer_given_twice() -> contextlib.AbstractContextManager[Any]:
    """A room does not look whether a guest has said this already."""
    answer = Room._answer

    def forgetful(self: Room, now: int, told: Says) -> Any:
        with mock.patch.object(History, "find", lambda *of: None):
            return answer(self, now, told)

    return _instead(Room, "_answer", forgetful)


# A machine with a bug.


@sabotage("failure", "alive")
def fault_reaches_the_link() -> contextlib.AbstractContextManager[Any]:
    """What a machine raises is let through."""

    def bare(self: Flow, answer: Any, what: str) -> None:
        raise

    return _instead(Flow, "_fault", bare)


@sabotage("poison")
def fault_answered_and_not_covered() -> contextlib.AbstractContextManager[Any]:
    """The input at which a machine failed comes again."""
    fault = Flow._fault

    def forgetful(self: Flow, answer: Any, what: str) -> None:
        covered = answer.origin.covered if answer.origin is not None else 0
        fault(self, answer._replace(n=covered), what)

    return _instead(Flow, "_fault", forgetful)


@sabotage("unanswered", "poison")
def fault_covers_what_came_before_it() -> contextlib.AbstractContextManager[Any]:
    """The object begins anew before what it was given is confirmed and shown."""
    fault = Flow._fault

    def hasty(self: Flow, answer: Any, what: str) -> None:
        self._gate.drop()
        fault(self, answer, what)

    return _instead(Flow, "_fault", hasty)


@sabotage("hole")
def machine_kept_after_a_fault() -> contextlib.AbstractContextManager[Any]:
    """Whatever it has half done, it goes on."""

    def careless(self: Activation) -> None:
        self._flow.faults.recovering = False
        for peer, message in self._flow.entrance.begin():
            self.receive(peer, message)

    return _instead(Activation, "recover", careless)


# Pools.


@sabotage("alive", "two", seeds=(102,))
def pool_without_a_fence() -> contextlib.AbstractContextManager[Any]:
    """A pool never finds out that there is another one of its name."""
    start = Host.start

    async def careless(self: Host) -> None:
        await start(self)
        self._ownership._epoch = 2**60

    return _instead(Host, "start", careless)


@sabotage("alive", seeds=(18,))
def nothing_moves() -> contextlib.AbstractContextManager[Any]:
    """A host takes what does not live there, and keeps it."""
    return _instead(Ownership, "owns", lambda self, name: True)


@sabotage("alive")
def way_to_a_pool_never_forgotten() -> contextlib.AbstractContextManager[Any]:
    """A gateway that is told `moved` goes on to where it went before."""
    return _instead(Links, "moved", lambda self, name: None)


# Exceptions.


@sabotage("alive", seeds=(18,))
def exception_forgotten_by_a_pool() -> contextlib.AbstractContextManager[Any]:
    """A pool goes on to believe that rooms live there which have their own actor."""
    follow = Ownership.follow

    def forgetful(self: Ownership, placement: Placement, names: Iterable[str]) -> None:
        if self.pool is not None:
            known = self.placement.own
            left = {n: own for n, own in placement.own.items() if n in known}
            placement = replace(placement, own=left)
        follow(self, placement, names)

    return _instead(Ownership, "follow", forgetful)


@sabotage("two", "alive", seeds=(18,))
def room_that_moved_kept_and_not_looked_at() -> contextlib.AbstractContextManager[Any]:
    """A pool knows a new generation, and does nothing about what it moves."""
    follow = Ownership.follow

    def careless(self: Ownership, placement: Placement, names: Iterable[str]) -> None:
        follow(self, placement, names)
        if self.pool is not None:
            self._changed.clear()
            self.moving.clear()
            self._all_until = 0.0

    return _instead(Ownership, "follow", careless)


@sabotage("hole", "lost", seeds=(41,))
def mirror_written_while_an_append_flies() -> contextlib.AbstractContextManager[Any]:
    """A room that moves does not wait for what became of its append."""
    at_rest = Activation._at_rest

    def hasty(self: Activation, reason: str) -> bool:
        return reason == "moved" or at_rest(self, reason)

    return _instead(Activation, "_at_rest", hasty)


@sabotage("outlived")
def exception_outlives_its_room() -> contextlib.AbstractContextManager[Any]:
    """Nobody takes back what load and life have made."""

    async def lazy(self: Generation, names: Iterable[str], now: int) -> Placement:
        return await self.read() or Placement()

    return _instead(Generation, "demote", lazy)


@sabotage("two", "alive", "roster", seeds=(13,))
def marker_trusted_without_the_generation() -> contextlib.AbstractContextManager[Any]:
    """A pool that is the only one of its name believes that its rooms are its own."""
    looks = ValkeyLog.looks

    async def partly(self: ValkeyLog, names: Sequence[str]) -> list[Top]:
        found = await looks(self, names)
        unseen = names[0] == NAME and len(names) > 1
        return [Top(0, 0, None), *found[1:]] if unseen else found

    return _instead(ValkeyLog, "looks", partly)


@sabotage("shown_then_refused", seeds=(8453,))
def refused_without_a_look() -> contextlib.AbstractContextManager[Any]:
    """What was not covered in time is refused, whatever the log has."""

    async def unseen(*of: Any) -> dict[int, Any]:
        return {}

    return _instead(Looks, "_find", unseen)


# One name, one status.


@sabotage("agree", seeds=(6,))
def change_not_kept_for_a_sleeping_room() -> contextlib.AbstractContextManager[Any]:
    """A stub hands a change to a room that is awake, and to no other."""
    change = Stub.change

    def only_awake(self: Stub, outlet: Any, told: Any) -> None:
        if self.life.link is not None:
            change(self, outlet, told)

    return _instead(Stub, "change", only_awake)


@sabotage("agree", seeds=(31,))
def older_status_overwrites_a_newer_one() -> contextlib.AbstractContextManager[Any]:
    """A socket believes whatever it is told last, however old it is."""
    return _instead(gateway.live.connection, "newest", lambda kept, told: told)


# Who hears of whom.


@sabotage("scope", "alive", seeds=(980_002,))
def registry_forgets_to_ask_whom_gateways_want() -> contextlib.AbstractContextManager[
    Any
]:
    """An attach does not bring whom the sockets of a gateway want to hear of."""
    again = Wanted.again

    def mute(self: Wanted[Any]) -> Any:
        wants = again(self)
        return wants if self.answered == 0 else None

    return _instead(Wanted, "again", mute)


@sabotage("scope", seeds=(980_005,))
def crossing_without_a_full_sync() -> contextlib.AbstractContextManager[Any]:
    """The scope changes, and sockets are left with what they had."""
    cross = Onlookers._cross

    def silent(self: Onlookers[Any]) -> None:
        cross(self)
        self._stale.clear()

    return _instead(Onlookers, "_cross", silent)


@sabotage("scope", seeds=(980_008,))
def unwatch_takes_somebody_elses_interest() -> contextlib.AbstractContextManager[Any]:
    """Whom one socket watches no more the gateway wants no more."""
    part = Wanted._part

    def greedy(self: Wanted[Any], watcher: Any, circle: Any) -> None:
        circle.watchers.clear()
        part(self, watcher, circle)

    return _instead(Wanted, "_part", greedy)


@sabotage("scope", seeds=(980_008,))
def watch_not_answered_with_how_they_are_shown() -> contextlib.AbstractContextManager[
    Any
]:
    """The registry tells of the next change of those who are wanted since, and not how
    they are shown now."""
    take = Interest.take

    def lazy(self: Interest, wants: Any) -> None:
        take(self, wants)
        self.asked.clear()

    return _instead(Interest, "take", lazy)


# Crowds.


@sabotage("crowd", seeds=(16,))
def crowd_told_without_the_receiver() -> contextlib.AbstractContextManager[Any]:
    """Whoever is not among the latest is sent the list as it stands."""
    return _instead(PersonalRoll, "for_one", lambda self, receiver: self._shared)


@sabotage("roster", seeds=(16,))
def tick_never_sent() -> contextlib.AbstractContextManager[Any]:
    """A crowd hears of whoever comes only when it comes itself."""
    tick = RollCall._tick

    def silent(self: RollCall, *of: Any) -> list[Any]:
        tick(self, *of)
        return []

    return _instead(RollCall, "_tick", silent)


@sabotage("crowd", "roster", seeds=(20,))
def crowd_for_ever() -> contextlib.AbstractContextManager[Any]:
    """A room that was a crowd is told of as one, however few are left."""

    def holds(self: Crowd, people: int) -> bool:
        return people > 0 and self.above < 10

    return _instead(Crowd, "holds", holds)


@sabotage("crowd", seeds=(16,))
def crowd_told_of_each_arrival() -> contextlib.AbstractContextManager[Any]:
    """Who comes into a crowd is announced to it."""
    told = Members._told

    def loud(self: Members, now: int, line: Any, people: int) -> Any:
        return told(self, now, line, 0)

    return _instead(Members, "_told", loud)


@sabotage("crowd", seeds=(20292, 20482))
def crowd_forgotten_in_a_crash() -> contextlib.AbstractContextManager[Any]:
    """A room that knows of nobody takes whom it hears of first for all there are."""
    return _instead(Holders, "awaited", property(lambda self: False))


@sabotage("scope", seeds=(980001,))
def storm_never_told_of() -> contextlib.AbstractContextManager[Any]:
    """Who came in a storm is told of to nobody when it is over."""
    calm = Onlookers.calm

    def silent(self: Onlookers[Any]) -> list[Any]:
        calm(self)
        return []

    return _instead(Onlookers, "calm", silent)


# A gateway's half.


@sabotage("unanswered")
def attach_forgets_the_newest_input() -> contextlib.AbstractContextManager[Any]:
    """Of what waited for the object, what was said last is not brought to it."""
    again = Uncovered.again

    def forgetful(self: Uncovered) -> list[link.Input]:
        entries = again(self)
        said = [each for each in entries if type(each) is link.Said]
        return [each for each in entries if each not in said[-1:]]

    return _instead(Uncovered, "again", forgetful)


@sabotage("stream", "twice", seeds=(10,))
def shown_while_behind() -> contextlib.AbstractContextManager[Any]:
    """Who pages what it missed from the log is shown what is new all the same."""
    falls_behind = Audience.falls_behind

    def eager(self: Audience[Any], conn: str, since: int) -> None:
        socket = self.get(conn)
        falls_behind(self, conn, since)
        if socket is not None:
            self._members[conn] = socket

    return _instead(Audience, "falls_behind", eager)
