"""Tails: what objects have lately committed or loaded, for a log that loses it.

A replica that lags and becomes the primary has lost the newest events, which people
were shown, and the newest epochs. The process in which the object lives still has them.
Here is what it keeps of them, and what it may do about a log that ends earlier
(`judge`); `healing.py` does it. A tail outlives resets and, while storage is away, its
activation: both come before anybody can look.

Time stands still here while storage does not answer: what counts is what was committed
in the last seconds before that. Pure: it waits for nothing and knows no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cfmessenger.storage.log import Entry, Top

MOST_BYTES = 4 * 2**20
"""Of one object. What it said last is kept all the same."""

MOST_IN_ALL = 64 * 2**20
"""Of all objects of a process; beyond it each keeps what it said last, and no more."""


MOST_TRIES = 100
"""Epochs under which one healing was tried in vain that are remembered, the latest."""


class Chunk(NamedTuple):
    """Events of one commit, or of one load, in order: when, and how many bytes."""

    at: float
    epoch: int
    events: Sequence[tuple[int, bytes]]
    size: int


class Verdict(enum.Enum):
    """What is to be done about a log."""

    WHOLE = "whole"  # it has all that we know of
    HEAL = "heal"  # it ends with something of ours, and the rest is to be appended
    ASK = "ask"  # it goes on beyond what we know: see whether ours is in it
    TORN = "torn"  # what we have does not follow upon what it has


class Tail:
    """The newest events of one object, with all holes that its log has.

    The first is older than what is to be kept: a log may end with it.
    """

    __slots__ = (
        *("_begins", "_chunks", "_known", "began", "epoch", "first_epoch"),
        *("settled", "size"),
    )

    def __init__(self) -> None:
        self.epoch = 0  # the newest that the object took here; never falls
        self.size = 0  # bytes of the events that are kept
        # Of the first load here, if nobody else has lived since (`took`): its
        # epoch, 0 until then; where the log ended, once it was healed; and up to where
        # all that was ever shown was there, or is told to be lost by now.
        self.first_epoch = self.began = self.settled = 0
        # Neither a deque nor a set: each is most of a kilobyte, in every object.
        self._chunks: list[Chunk] = []
        # The number of the log's oldest event: 1, unless a load found another.
        self._begins = 1
        # Epochs under which its events were appended once more, perhaps in vain: from
        # the first attempt until one is confirmed or the log is loaded.
        self._known: frozenset[int] = frozenset()

    @property
    def last(self) -> Entry | None:
        """The newest event that is known to be in the log; None: there is none."""
        if not self._chunks:
            return None
        _, epoch, events, _ = self._chunks[-1]
        return Entry(epoch, *events[-1])

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; 0: none is."""
        return self._chunks[0].events[0][0] if self._chunks else 0

    @property
    def at(self) -> float:
        """When the newest came."""
        return self._chunks[-1].at if self._chunks else 0.0

    @property
    def top(self) -> tuple[int, int]:
        """The id up to which the log is known: a marker's, if nothing came since."""
        last = self.last
        if last is not None and last.epoch >= self.epoch:
            return last.epoch, last.seq
        return self.epoch, 0

    def took(self, epoch: int, last: Entry | None = None, previous: int = 0) -> None:
        """The object has taken this epoch, which follows upon `previous`, and the log
        ends with that entry."""
        if previous > self.epoch or (last is not None and not self._has(last)):
            self.first_epoch = 0  # somebody else has lived, or has spoken
        self.epoch = max(self.epoch, epoch)

    def lives(self, epoch: int, ended: int, known: int) -> None:
        """It is loaded in this epoch: the log ended there, once it was healed, and all
        that is known to have been shown up to `known` is told to be lost."""
        if not self.first_epoch:
            self.first_epoch, self.began, self.settled = epoch, ended, known

    def told(self, first: int, last: int) -> None:
        """These numbers are told to be lost."""
        if first <= self.settled + 1:
            self.settled = max(self.settled, last)

    def committed(
        self, now: float, epoch: int, events: Sequence[tuple[int, bytes]]
    ) -> None:
        """These are confirmed."""
        size = 0
        for _, event in events:
            size += len(event)
        self._chunks.append(Chunk(now, epoch, events, size))
        self.size += size

    def only(self, now: float, epoch: int, event: Sequence[tuple[int, bytes]]) -> None:
        """This one is confirmed, and it alone is kept."""
        self.size = len(event[0][1])
        self._chunks.clear()
        self._chunks.append(Chunk(now, epoch, event, self.size))

    def loaded(self, now: float, entries: Iterable[Entry], begins: int = 1) -> None:
        """The log ends with these: they are all that counts from now on. `begins`: the
        number of its oldest event, if that is known."""
        self._begins = begins
        self._chunks.clear()
        self._known = frozenset()
        self.size = 0
        for epoch, seq, event in entries:
            self.committed(now, epoch, [(seq, event)])

    def trim(self, since: float, most: int) -> None:
        """Forget what came before `since`, but for the newest of that, and the oldest
        beyond so many bytes; never the last event."""
        chunks, gone = self._chunks, 0
        while len(chunks) > gone + 1 and (
            chunks[gone + 1].at < since or self.size > most
        ):
            self.size -= chunks[gone].size
            gone += 1
        del chunks[:gone]
        if len(chunks) == 1 and (chunks[0].at < since or self.size > most):
            at, epoch, events, _ = chunks[0]
            self.size = len(events[-1][1])
            chunks[0] = Chunk(at, epoch, events[-1:], self.size)

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        """What is kept above this number."""
        return [
            event for chunk in self._chunks for event in chunk.events if event[0] > seq
        ]

    def judge(self, last: Entry | None) -> Verdict:
        """What to do about a log whose last entry is this one; None: it has none.

        Only who has fenced all others may ask: the log must not go on meanwhile.
        """
        own = self.last
        if own is None:
            return Verdict.WHOLE
        if last is None:
            return Verdict.HEAL if self.first == self._begins else Verdict.TORN
        if last.seq > own.seq:
            return Verdict.ASK
        if not self._has(last):
            return Verdict.TORN
        return Verdict.WHOLE if last.seq == own.seq else Verdict.HEAL

    def _has(self, entry: Entry) -> bool:
        """Whether this very entry was committed or loaded here, or appended again."""
        for _, epoch, events, _ in reversed(self._chunks):
            at = entry.seq - events[0][0]
            if at >= 0:
                known = epoch == entry.epoch or entry.epoch in self._known
                return known and at < len(events) and events[at][1] == entry.event
        return False

    def healing(self, epoch: int) -> None:
        """What is missing is about to be appended under this epoch."""
        self._known |= {epoch}
        if len(self._known) > MOST_TRIES:
            self._known -= {min(self._known)}

    def healed(self, epoch: int, above: int) -> None:
        """What came after `above` has this epoch now."""
        chunks, self._chunks = self._chunks, []
        for at, old, events, size in chunks:
            kept = [event for event in events if event[0] <= above]
            again = [event for event in events if event[0] > above]
            for part, of in ((kept, old), (again, epoch)):
                if part:
                    whole = len(part) == len(events)
                    held = size if whole else sum(len(event) for _, event in part)
                    self._chunks.append(Chunk(at, of, part, held))
        self._known = frozenset()


class Standing(enum.Enum):
    """What a look at the log says of a living object."""

    OWN = "own"  # it ends with what the object knows
    AHEAD = "ahead"  # another speaks for it
    BEHIND = "behind"  # it has lost something, or nobody can tell


def compare(
    tail: Tail, before: tuple[int, int], seq: int, top: Top, *, strange: bool
) -> Standing:
    """A look found this `top`. `before` was the tail's when the look began; `seq` is
    the last that the object has numbered by now.

    `strange`: it is perhaps not the server that answered before. Then ids prove
    nothing, for another may have taken the same epoch there: only an entry of that
    epoch does, whose bytes are ours.
    """
    found = (top.epoch, top.seq)
    if top.epoch > tail.epoch or found > (tail.epoch, seq):
        return Standing.AHEAD
    if found < before:
        return Standing.BEHIND
    if not strange:
        return Standing.OWN
    last = tail.last
    same = last is not None and last == top.last and last.epoch == tail.epoch
    return Standing.OWN if same and found == tail.top else Standing.BEHIND


def agreed_up_to(kept: Iterable[tuple[int, bytes]], entries: Iterable[Entry]) -> int:
    """Up to which number these entries of a log are those that were kept; 0: none is.
    Both begin with the same number."""
    agreed = 0
    for (seq, event), entry in zip(kept, entries, strict=False):
        if (entry.seq, entry.event) != (seq, event):
            break
        agreed = seq
    return agreed


class Tails:
    """Those of a process, by name. `keep_s`: 0 keeps the last event of each alone."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self.keeping = False  # from the first sight of a replica on
        self._tails: dict[str, Tail] = {}  # from `of` until `let_go` or `passed`
        self._now = 0.0  # seconds in which storage has answered
        self._size = 0  # bytes of all
        self.alone: set[str] = set()  # whose activation has ended meanwhile

    @property
    def keep_s(self) -> float:
        """So many seconds are kept."""
        return self._keep_s if self.keeping else 0.0

    @property
    def now(self) -> float:
        """Seconds in which storage has answered, since the process began."""
        return self._now

    def of(self, name: str) -> Tail:
        """The tail of an object that lives here, from now on."""
        self.alone.discard(name)
        tail = self._tails.get(name)
        if tail is None:
            tail = self._tails[name] = Tail()
        return tail

    def get(self, name: str) -> Tail | None:
        """That of an object that lives here, or did a moment ago."""
        return self._tails.get(name)

    def committed(
        self, tail: Tail, epoch: int, events: Sequence[tuple[int, bytes]]
    ) -> None:
        """An append of these is confirmed."""
        before = tail.size
        if self.keep_s:
            tail.committed(self._now, epoch, events)
            self._trim(tail, before)
        else:
            tail.only(self._now, epoch, events[-1:])
            self._size += tail.size - before

    def loaded(self, tail: Tail, entries: Iterable[Entry], begins: int = 1) -> None:
        """The log of an object ends with these. `begins`: see `Tail.loaded`."""
        before = tail.size
        tail.loaded(self._now, entries, begins)
        self._trim(tail, before)

    def _trim(self, tail: Tail, before: int) -> None:
        self._size += tail.size - before
        most = MOST_BYTES if self._size <= MOST_IN_ALL else 0
        before = tail.size
        tail.trim(self._now - self.keep_s, most if self.keeping else 0)
        self._size += tail.size - before

    def ended(self, name: str, *, keep: bool) -> None:
        """An activation has ended. `keep`: storage, or another that speaks, was the
        reason, so whoever comes next here may need its tail."""
        if keep and name in self._tails:
            self.alone.add(name)
        else:
            self._let_go(name)

    def _let_go(self, name: str) -> None:
        self.alone.discard(name)
        tail = self._tails.pop(name, None)
        if tail is not None:
            self._size -= tail.size

    def passed(self, seconds: float) -> None:
        """Storage has answered for so long."""
        self._now += seconds
        if not self.keeping and not self.alone:
            return
        since = self._now - self.keep_s
        for name, tail in list(self._tails.items()):
            if name in self.alone and tail.at < since:
                self._let_go(name)
            elif tail.size and tail.at < since:
                self._trim(tail, tail.size)
