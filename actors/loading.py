"""Activation, first half: `take` an epoch, then `load` mirror and log into a machine.

The epoch comes first: only after it is taken can nobody else append, so only what is
read after it is the whole truth (design.md §3.1).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from actors.healing import Healed
from actors.kinds import Kind
from cfmessenger.chat.machine import Life, Machine
from cfmessenger.clock import Clock
from cfmessenger.storage.log import Activated, Commit, Entry, Fenced, Log
from cfmessenger.wire.events import lost_by

logger = logging.getLogger("cfmessenger.activation")

PAGE = 1000
REMEMBER_MESSAGES = 1000
REMEMBER_MS = 60_000
MOST_LOST = 8
"""Events by which one load tells what is lost."""


class SeenBeyond(NamedTuple):
    """What a gateway has seen of an object beyond what an activation of `own_epoch`
    knew, although nobody lived later: storage has lost it (design.md §3.2). It was
    shown that in the epoch `shown_in` (0: nobody knows), by another process if
    `elsewhere`; the log ended with `began` when that activation was loaded first."""

    own_epoch: int
    epoch: int
    seq: int
    shown_in: int = 0
    elsewhere: bool = False
    began: int = 0
    strange: bool = False  # it was certainly not that activation which showed it


NOTHING = SeenBeyond(0, 0, 0)


def beside(healed: Healed, beyond: SeenBeyond) -> Healed:
    """With what a gateway was shown by another than the activation that it came to,
    which did not know of it and may have given those numbers to something else."""
    if not beyond.strange or beyond.seq <= beyond.began:
        return healed
    torn = min(healed.torn or beyond.seq, beyond.began + 1)
    return healed._replace(torn=torn, shown=max(healed.shown, beyond.seq))


class Loaded(NamedTuple):
    """A machine, and the rows of numbers that were told to be lost by this load. All up
    to `known` that was ever shown is in the log, or told to be lost. `aside`: there was
    a mirror of a later release, and it is kept for that."""

    machine: Machine
    lost: list[tuple[int, int]]
    known: int
    aside: bool = False


class _Stamp(msgspec.Struct):
    timestamp: int


_stamp = msgspec.json.Decoder(_Stamp).decode


async def take(
    name: str, log: Log, beyond: SeenBeyond = NOTHING, own: int = 0
) -> Activated:
    """The epoch of a new activation, and what it finds; what a gateway has seen
    `beyond` that counts as numbered. `own`: the newest epoch that was ever taken here,
    whether or not storage still knows it. Raises `Fenced` or `Unavailable`."""
    above = max(beyond.epoch, own)
    found = await log.activate(name, above)
    if beyond.own_epoch and found.previous_epoch > beyond.own_epoch:
        raise Fenced(name)  # somebody did live later
    return found._replace(
        previous_epoch=max(found.previous_epoch, above),
        numbered=max(found.numbered, beyond.seq),
    )


async def load(
    name: str, kind: Kind, log: Log, clock: Clock, healed: Healed | Activated
) -> Loaded:
    """The machine of an activation that has taken its epoch (of `take`), and has healed
    its log as far as that was possible.

    What is missing of the log for good is said in it by durable events, logged as an
    error and never numbered again: holes, what was mirrored, numbered, shown or read
    above the log's top. Events that nobody can read are passed over.
    A mirror of a later release is put aside before anything replaces it. Then this is
    like a crash: what the log and the gateways know is there, and its statuses are
    `recollect`ed when that release loads it again.
    Raises `Fenced` or `Unavailable`.
    """
    found, torn, shown, _ = healed if isinstance(healed, Healed) else Healed(healed)
    now = clock.now()  # which has heard from storage what time it is
    mirror, previous = found.mirror, found.previous_epoch
    aside = mirror is not None and kind.is_later(mirror.data)
    if mirror is not None and aside:
        await log.put_aside(name, mirror, found.lineage)
        logger.error("the mirror of %s is a later release's: put aside", name)
        mirror = None
    clean = mirror is not None and mirror.final and mirror.epoch == previous
    life = Life(found.epoch, previous, crashed=previous > 0 and not clean)
    if mirror is None or torn:
        machine = kind.fresh(life)  # a mirror may hold what the log has otherwise
    else:
        machine = _restored(name, kind, life, mirror.data, clean)
    entries = await _newer(name, log, machine.seq, found.seq, now)
    if entries and entries[-1].epoch > found.epoch:
        raise Fenced(name)  # a successor appends already: we did not read all
    if entries and entries[0].seq != machine.seq + 1:
        oldest = await log.after(name, 0, 1)
        if oldest[0].seq > machine.seq:
            machine = kind.fresh(
                life
            )  # trimmed past the snapshot: the log alone is left
            machine.skip(entries[0].seq - 1)
    lost = [(torn, shown)] if torn else []
    for entry in entries:
        lost += _pass_over(machine, entry.seq - 1)
        try:
            machine.replay(now, *entry)
        except Exception:
            logger.exception("%s: event %d cannot be read", name, entry.seq)
            machine.skip(entry.seq)
    if found.seq < machine.seq:
        # Nothing is mirrored before it is confirmed, so the log did hold it.
        lost.append((found.seq + 1, machine.seq))
    numbered = found.numbered
    if machine.crashed and found.previous_epoch:
        numbered = max(numbered, await log.read_up_to(name))
    lost += _pass_over(machine, max(numbered, shown))
    if found.aside is not None and not kind.is_later(found.aside):
        _recollect(name, machine, found.aside)
    known, untold = machine.seq, _untold(lost, entries)
    for first, last in untold:
        # First, for whoever is overtaken while it loads may miss what is not lost.
        await _tell(name, log, machine, now, found, first, last)
        logger.error("%s lost events %d to %d", name, first, last)
    return Loaded(machine, untold, known, aside)


def _recollect(name: str, machine: Machine, data: bytes) -> None:
    try:
        machine.recollect(data)
    except Exception:
        logger.exception("what was put aside of %s cannot be read", name)


def _restored(name: str, kind: Kind, life: Life, data: bytes, clean: bool) -> Machine:
    try:
        return kind.restore(life, data, clean)
    except Exception:
        logger.exception("the mirror of %s cannot be restored", name)
        return kind.fresh(life.unremembered)


def _pass_over(machine: Machine, seq: int) -> list[tuple[int, int]]:
    """What is missing up to `seq`, if anything is."""
    if seq <= machine.seq:
        return []
    missing = (machine.seq + 1, seq)
    machine.skip(seq)
    return [missing]


def _untold(
    lost: Iterable[tuple[int, int]], entries: Iterable[Entry]
) -> list[tuple[int, int]]:
    """Of these rows of numbers those that no event of the log tells of yet: at most
    `MOST_LOST`, of which the last then goes on to the end."""
    told = [row for row in (lost_by(each.event) for each in entries) if row]
    rows: list[tuple[int, int]] = []
    for first, last in sorted(set(lost)):
        if any(low <= first and last <= high for low, high in told):
            continue
        if rows and (first <= rows[-1][1] + 1 or len(rows) == MOST_LOST):
            rows[-1] = rows[-1][0], max(rows[-1][1], last)
        else:
            rows.append((first, last))
    return rows


async def _tell(
    name: str,
    log: Log,
    machine: Machine,
    now: int,
    found: Activated,
    first: int,
    last: int,
) -> None:
    """Say in the log what it has lost, if this object's says anything to people."""
    event = machine.lost(now, first, last)
    if event is None:
        return
    seq = machine.seq + 1
    commit = Commit(name, found.epoch, [(seq, event)], found.lineage)
    (problem,) = await log.commit([commit])
    if problem is not None:
        raise problem
    machine.replay(now, found.epoch, seq, event)


async def _newer(name: str, log: Log, known: int, top: int, now: int) -> list[Entry]:
    """Entries above `known`; with no snapshot as many as duplicates need.

    wire.md §2: "within the last 1,000 messages or 60 s, whichever is more".
    """
    entries: list[Entry] = []
    lowest = top + 1
    while lowest > known + 1:
        count = min(PAGE, lowest - known - 1)
        page = await log.newest(name, count, lowest if entries else None)
        entries = page + entries
        if len(page) < count:
            break
        lowest = page[0].seq
        remembered = not known and len(entries) >= REMEMBER_MESSAGES
        if remembered and _time_of(page) < now - REMEMBER_MS:
            break
    return [entry for entry in entries if entry.seq > known]


def _time_of(page: list[Entry]) -> int:
    """When (ms) the oldest that can be read was said; never too old if none can."""
    for entry in page:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return _stamp(entry.event).timestamp
    return 2**63
