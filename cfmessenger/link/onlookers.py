"""Who is online, as the presence sockets of one gateway are told of it.

Owns wire.md §4's full syncs and changes: each socket is told of its scope alone. What
sockets were told is kept, so that news of the registry cost only those who want them,
and a registry that was away and comes back costs nobody anything but what has changed.
A full sync is written when the registry has answered what its socket wants, so nobody
misses a change in between. Who comes in a storm is told to whom they concern at once,
and to all others when it is over (`arrivals`). Pure: `Onlookers` returns what is to be
written, in order. `S` is what the shell takes for a socket.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, takewhile
from typing import Generic, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from cfmessenger.chat.effects import News
from cfmessenger.link.arrivals import Arrivals, Storm
from cfmessenger.link.audience import S
from cfmessenger.link.wanted import Wanted, Watcher
from cfmessenger.wire import protocol
from cfmessenger.wire.protocol import Participant, PresenceUpdate

BURST = 8
"""More changes than this travel as one partial full sync."""


class Change(NamedTuple):
    """How somebody was shown, and is now; before None: not at all."""

    before: Participant | None
    after: Participant


class Write(NamedTuple, Generic[S]):
    """The same frames for each of these sockets."""

    sockets: Sequence[S]
    frames: list[bytes]


class Onlookers(Generic[S]):
    """The presence sockets of one gateway.

    `called(user_id)`: the display name of somebody who is not online; None: nobody is
    called so. `wanted` is what the registry is to hear. `storm`: see `Arrivals`.
    """

    def __init__(
        self, called: Callable[[str], str | None], storm: Storm | None = None
    ) -> None:
        self.wanted: Wanted[S] = Wanted()
        self.crowded = False  # as the registry said last
        self.online = 0  # likewise
        self._called = called
        self._arrivals = Arrivals(storm)  # held back from those told of everybody
        # By socket, from `enter` until `leave`; and those of them that were told of
        # everybody last.
        self._watchers: dict[S, Watcher[S]] = {}
        self._everyone: dict[Watcher[S], None] = {}
        # By user, those who are online: all, or in a crowd those who are wanted and
        # those of whom everybody is told.
        self._shown: dict[str, Participant] = {}
        self._everybody: dict[str, None] = {}  # while they are shown
        self._all: bytes | None = None  # a full sync of everybody, until the next news
        # Who waits for an answer, and which `Wants` must be answered for it, in order.
        self._waiting: dict[Watcher[S], int] = {}
        # From a crossing until its turn: who has a full sync of the former scope.
        self._stale: dict[Watcher[S], None] = {}

    @property
    def waits(self) -> bool:
        """Somebody waits for an answer of the registry."""
        return bool(self._waiting)

    @property
    def stale(self) -> bool:
        """Somebody's full sync is of the former scope: `resync`."""
        return bool(self._stale)

    @property
    def holds_back(self) -> bool:
        """Somebody came of whom not all are told yet: `calm`, each round."""
        return bool(self._arrivals)

    # What sockets do.

    def enter(self, socket: S, user_id: str, friends: Iterable[str]) -> None:
        """A presence socket comes; its user has direct rooms with `friends`.

        To be called right behind the registry's hearing of the socket, so that its full
        sync holds its user.
        """
        watcher = self._watchers[socket] = Watcher(socket, user_id)
        self.wanted.enter(watcher, friends)
        self._waiting[watcher] = self.wanted.ask()

    def leave(self, socket: S) -> None:
        """It is gone."""
        watcher = self._watchers.pop(socket, None)
        if watcher is not None:
            self.wanted.leave(watcher)
            self._everyone.pop(watcher, None)
            self._waiting.pop(watcher, None)
            self._stale.pop(watcher, None)

    def watch(self, socket: S, user_ids: Sequence[str]) -> list[Write[S]]:
        """It watches these too; the answer, if it is known here already. Raises
        ProtocolError VALIDATION_ERROR if they are too many."""
        watcher = self._watchers.get(socket)
        if watcher is None:
            return []
        self.wanted.watch(watcher, user_ids)
        watcher.asked = (watcher.asked or {}) | dict.fromkeys(user_ids)
        circles = [self.wanted.circles[each] for each in watcher.asked]
        known = not self.crowded or self.wanted.knows(circles)
        if watcher.synced and known:
            self._waiting.pop(watcher, None)
            return [Write([socket], [self._answer(watcher)])]
        self._waiting.pop(watcher, None)  # behind those who wait for less
        self._waiting[watcher] = self.wanted.ask()
        return []

    def unwatch(self, socket: S, user_ids: Sequence[str]) -> None:
        """It watches these no more."""
        watcher = self._watchers.get(socket)
        if watcher is not None:
            self.wanted.unwatch(watcher, user_ids)
            asked = watcher.asked or {}
            for user_id in user_ids:
                asked.pop(user_id, None)

    def meet(self, socket: S, user_id: str) -> list[Write[S]]:
        """Its user has a direct room with somebody: what it did not know of them, if it
        is known here already."""
        watcher = self._watchers.get(socket)
        circle = None if watcher is None else self.wanted.meet(watcher, user_id)
        if watcher is None or circle is None or not watcher.synced:
            return []
        shown = self._shown.get(user_id)
        told = watcher.everyone and self._arrivals.number(user_id) <= watcher.caught
        if shown is None or told or not self.wanted.knows([circle]):
            return []
        return [Write([socket], _frames([Change(None, shown)]))]

    def sweep(self) -> None:
        """Forget whom nobody wants any more; now and then."""
        unwanted = self.wanted.sweep()
        if not self._watchers and self.wanted.circles == {} and unwanted:
            self.wanted.restart()
            self._shown, self._everybody = {}, {}
            self._arrivals.release()
        elif self.crowded:
            for user_id in unwanted:
                if user_id not in self._everybody:
                    self._shown.pop(user_id, None)

    # What the registry tells.

    def told(self, news: News) -> list[Write[S]]:
        """What sockets are to be told of these news."""
        self.online, self.wanted.answered = news.online, news.answers
        crossed = news.crowded != self.crowded
        self.crowded = news.crowded
        self._all = None
        if crossed:
            self._arrivals.release()  # their full syncs will tell
        changes = self._learn(news)
        writes = self._tell(changes)
        if crossed:
            self._cross()
        return writes + self._answers()

    def _learn(self, news: News) -> dict[str, Change]:
        shown, gone = self._shown, news.gone
        if news.whole:
            named = {each.id for each in news.people}
            gone = [user_id for user_id in shown if user_id not in named]
        changes = {}
        for after in news.people:
            if not self._heard_of(after.id, news):
                continue  # nobody wants them, and the registry is to hear of that
            before = shown.get(after.id)
            if before != after:
                shown[after.id] = after
                changes[after.id] = Change(before, after)
        for user_id in gone:
            left = shown.pop(user_id, None)
            if left is not None:
                changes[user_id] = Change(left, replace(left, status="offline"))
        self._everybody |= dict.fromkeys(news.everybody)
        return changes

    def _heard_of(self, user_id: str, news: News) -> bool:
        """Whether the registry will go on to tell of somebody."""
        wanted = not self.crowded or user_id in self.wanted.circles
        return wanted or user_id in news.everybody

    def _tell(self, changes: dict[str, Change]) -> list[Write[S]]:
        if not changes:
            return []
        writes: list[Write[S]] = []
        held_back = self._arrivals.number
        # Who was told of everybody before a crossing is told now of whom they want.
        if self._everyone and not self.crowded:
            came = [u for u, change in changes.items() if change.before is None]
            self._arrivals.take(came, self.online)
            now = {u: each for u, each in changes.items() if not held_back(u)}
            if now:
                everyone = [each.socket for each in self._everyone]
                writes.append(Write(everyone, self._frames(now)))
        theirs: dict[Watcher[S], list[str]] = {}
        for user_id, change in changes.items():
            late = held_back(user_id)
            for watcher in self._hearing(user_id, late if change.before else 0):
                if watcher.synced and (self.crowded or late or not watcher.everyone):
                    # Whoever asks is told with the answer.
                    if not watcher.asked or user_id not in watcher.asked:
                        theirs.setdefault(watcher, []).append(user_id)
            if user_id not in self._shown:
                self._everybody.pop(user_id, None)
                self._arrivals.forget(user_id)
        alike: dict[tuple[str, ...], list[S]] = {}
        for watcher, ids in theirs.items():
            alike.setdefault(tuple(ids), []).append(watcher.socket)
        for told, sockets in alike.items():
            frames = self._frames({each: changes[each] for each in told})
            writes.append(Write(sockets, frames))
        return writes

    def _hearing(self, user_id: str, late: int) -> Iterable[Watcher[S]]:
        """Who is to be told of somebody at once. `late`: the number of who is held
        back and not new; whoever was told of everybody since knows of them, too."""
        if user_id in self._everybody:
            return self._watchers.values()
        circle = self.wanted.circles.get(user_id)
        wanting = {} if circle is None else circle.watchers
        if not late:
            return wanting
        return wanting | {each: None for each in self._everyone if each.caught >= late}

    def calm(self) -> list[Write[S]]:
        """A round of a storm has passed: if it is over, or has been long, all are told
        who came, but of those whom they want, as they know of these."""
        if not self._arrivals.over():
            return []
        held, circles = self._arrivals.release(), self.wanted.circles
        users, numbers = list(held), list(held.values())
        known: dict[Watcher[S], list[str]] = {}
        for user_id in users:
            circle = circles.get(user_id)
            for watcher in () if circle is None else circle.watchers:
                known.setdefault(watcher, []).append(user_id)
        alike: dict[tuple[int, tuple[str, ...]], list[S]] = {}
        for watcher in self._everyone:
            start = bisect_right(numbers, watcher.caught)
            told = start, tuple(known.get(watcher, ()))
            alike.setdefault(told, []).append(watcher.socket)
        writes = []
        for (start, before), sockets in alike.items():
            late = [each for each in users[start:] if each not in before]
            if late:
                came = {each: Change(None, self._shown[each]) for each in late}
                writes.append(Write(sockets, self._frames(came)))
        return writes

    def _cross(self) -> None:
        """The scope is another one: every socket gets a full sync in its turn."""
        self._stale = {each: None for each in self._watchers.values() if each.synced}
        if self.crowded:
            kept = self.wanted.circles.keys() | self._everybody.keys()
            self._shown = {u: each for u, each in self._shown.items() if u in kept}

    def _answers(self) -> list[Write[S]]:
        """Who waited for what is answered now is told it."""
        writes, answered = [], self.wanted.answered
        ready = takewhile(lambda each: each[1] <= answered, self._waiting.items())
        for watcher, _ in list(ready):
            del self._waiting[watcher]
            frames = []
            if not watcher.synced:
                frames.append(self._full_sync(watcher))
            if watcher.asked is not None:
                frames.append(self._answer(watcher))
            writes.append(Write([watcher.socket], frames))
        return writes

    def resync(self, most: int) -> list[Write[S]]:
        """Full syncs for so many of those whose last one is of the former scope."""
        due = list(islice(self._stale, most))
        for each in due:
            del self._stale[each]
        return [Write([each.socket], [self._full_sync(each)]) for each in due]

    # Frames.

    def _full_sync(self, watcher: Watcher[S]) -> bytes:
        watcher.synced, watcher.everyone = True, not self.crowded
        watcher.caught = self._arrivals.count
        if watcher.everyone:
            self._everyone[watcher] = None
            if self._all is None:
                self._all = self._sync(list(self._shown.values()))
            return self._all
        self._everyone.pop(watcher, None)
        circles = (*watcher.always, *watcher.watched)
        ids = dict.fromkeys(circle.user_id for circle in circles) | self._everybody
        return self._sync([self._shown[each] for each in ids if each in self._shown])

    def _answer(self, watcher: Watcher[S]) -> bytes:
        """Those whom it asked for, who is not online too."""
        people = []
        for user_id in watcher.asked or ():
            shown = self._shown.get(user_id)
            if shown is not None:
                people.append(shown)
            elif (name := self._called(user_id)) is not None:
                people.append(Participant(user_id, name, "offline"))
        watcher.asked = None
        return self._sync(people, partial=True)

    def _frames(self, changes: dict[str, Change]) -> list[bytes]:
        if len(changes) > BURST:
            after = [change.after for change in changes.values()]
            return [self._sync(after, partial=True)]
        return _frames(changes.values())

    def _sync(self, people: list[Participant], partial: bool = False) -> bytes:
        return protocol.encode(
            protocol.PresenceFullSync(
                people,
                self.online,
                "watched" if self.crowded else "all",
                partial or UNSET,
            )
        )


def _frames(changes: Iterable[Change]) -> list[bytes]:
    frames: list[bytes] = []
    for before, after in changes:
        words = after.personal_message, after.avatar_id
        if before is None:
            join = protocol.PresenceJoin(after.id, after.display_name, *words)
            frames.append(protocol.encode(join))
        # A join carries no status: it means online.
        if before is not None or after.status != "online":
            update = PresenceUpdate(after.id, after.display_name, after.status, *words)
            frames.append(protocol.encode(update))
    return frames
