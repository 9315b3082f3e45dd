"""Healing: a log that has lost its end gets it back from who still has it.

Who heals has taken a new epoch, above all that anybody reported, so nobody else can
append (design.md §3, Healing). What is missing is appended with the numbers and the
bytes it had, in transactions that each are all or nothing. What cannot be healed is
said, and never numbered again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from actors.tail import Tail, Tails, Verdict, agreed_up_to
from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.log import Activated, Commit, Entry, Fenced, Log

logger = logging.getLogger("cfmessenger.activation")

AT_ONCE = 1000
"""Events in one transaction, and entries in one read."""

MOST_READ = 20_000
"""So far back at most a log is read for the tail of an object that has just come."""


class Healed(NamedTuple):
    """What a log has now. `torn` is the first number that it lost for good, or holds
    with other words than were shown; 0: none is known. `shown` is the last number that
    was shown here, `again` how many events were appended once more."""

    found: Activated
    torn: int = 0
    shown: int = 0
    again: int = 0


async def heal(name: str, log: Log, tail: Tail, found: Activated) -> Healed:
    """Append what is missing of a log after its epoch was taken (`found`).

    Raises `Fenced` or `Unavailable`: then it may be done in part, and is taken up by
    the next attempt.
    """
    verdict, own = tail.judge(found.last), tail.last
    if own is None or verdict is Verdict.WHOLE:
        return Healed(found)
    if verdict is Verdict.HEAL:
        top = found.last.seq if found.last is not None else 0
        missing = tail.after(top)
        tail.healing(found.epoch)
        await _append(name, log, found, missing)
        tail.healed(found.epoch, top)
        first = missing[0][0]
        logger.warning("%s healed: events %d to %d", name, first, own.seq)
        last = Entry(found.epoch, *missing[-1])
        return Healed(found._replace(seq=last.seq, last=last), again=len(missing))
    # What the tail had as it was judged: somebody may load it anew meanwhile.
    kept = tail.after(0)
    first, _ = kept[0]
    agreed = agreed_up_to(kept, await _from(name, log, first, own.seq))
    if agreed == own.seq:
        return Healed(found)
    if not agreed:  # it ends before all that was kept, or goes on otherwise
        top = found.last.seq if found.last is not None else 0
        agreed = min(top, first - 1)
    return Healed(found, agreed + 1, own.seq)


async def _append(
    name: str, log: Log, found: Activated, missing: Sequence[tuple[int, bytes]]
) -> None:
    for start in range(0, len(missing), AT_ONCE):
        some = missing[start : start + AT_ONCE]
        (problem,) = await log.commit([Commit(name, found.epoch, some, found.lineage)])
        if problem is not None:
            raise problem


async def _from(name: str, log: Log, first: int, last: int) -> list[Entry]:
    """The log's entries with the numbers from `first` to `last`."""
    found: list[Entry] = []
    while True:
        since = found[-1].seq if found else first - 1
        page = await log.after(name, since, AT_ONCE)
        found += [entry for entry in page if entry.seq <= last]
        if len(page) < AT_ONCE or page[-1].seq >= last:
            return found


async def remember(
    name: str, log: Log, tails: Tails, found: Activated, now_ms: int
) -> None:
    """Begin the tail of an object with the end of its log, as far as it is to be kept.

    One that is known already is left. Raises `Unavailable`: also if it was read of
    another server than the epoch was taken at; `Fenced` if a later epoch has spoken by
    now. What was read then is no part of this life, so the tail stays as it is: a later
    life here would take it for its own.
    """
    tail = tails.of(name)
    entries = await log.newest(name, 1, None)
    begins = 0
    if entries and tail.last != entries[-1]:
        since = now_ms - int(tails.keep_s * 1000)
        entries, begins = await _recall(name, log, entries, since)
    if log.lineage_of(keys.log(name)) != found.lineage:
        raise Unavailable(message="Another Valkey answers.")
    if entries and entries[-1].epoch > found.epoch:
        raise Fenced(name)
    if begins:
        tails.loaded(tail, entries, begins)


async def _recall(
    name: str, log: Log, entries: list[Entry], since_ms: int
) -> tuple[list[Entry], int]:
    """What came from then on and the newest before it, and the number of the log's
    oldest, 1 if that is not known."""
    while _time_of(entries[0]) > since_ms and entries[0].seq > 1:
        page = await log.newest(name, AT_ONCE, entries[0].seq)
        entries = page + entries
        if len(page) < AT_ONCE:  # so that was all
            return entries, entries[0].seq
        if len(entries) >= MOST_READ:
            break
    return entries, 1


class _Stamp(msgspec.Struct):
    timestamp: int


_stamp = msgspec.json.Decoder(_Stamp).decode


def _time_of(entry: Entry) -> int:
    """When (ms) it was said; long ago if it cannot be read."""
    try:
        return _stamp(entry.event).timestamp
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
