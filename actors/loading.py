"""Activation, first half: `take` an epoch, then `load` mirror and log into a machine.

The epoch comes first: only after it is taken can nobody else append, so only what is
read after it is the whole truth (design.md §3.1).
"""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

import msgspec

from actors.kinds import Kind
from cfmessenger.chat.machine import Life, Machine
from cfmessenger.clock import Clock
from cfmessenger.storage.log import Activated, Entry, Fenced, Log

logger = logging.getLogger("cfmessenger.activation")

PAGE = 1000
REMEMBER_MESSAGES = 1000
REMEMBER_MS = 60_000


class SeenBeyond(NamedTuple):
    """What a gateway has seen of an object beyond what an activation of `own_epoch`
    knew, although nobody lived later: storage has lost it (design.md §3.2)."""

    own_epoch: int
    epoch: int
    seq: int


NOTHING = SeenBeyond(0, 0, 0)


class _Stamp(msgspec.Struct):
    timestamp: int


_stamp = msgspec.json.Decoder(_Stamp).decode


async def take(name: str, log: Log, beyond: SeenBeyond = NOTHING) -> Activated:
    """The epoch of a new activation, and what it finds; what a gateway has seen
    `beyond` that counts as numbered. Raises `Fenced` or `Unavailable`."""
    found = await log.activate(name, beyond.epoch)
    if beyond.own_epoch and found.previous_epoch != beyond.own_epoch:
        raise Fenced(name)  # somebody did live later
    return found._replace(numbered=max(found.numbered, beyond.seq))


async def load(
    name: str, kind: Kind, log: Log, clock: Clock, found: Activated
) -> Machine:
    """The machine of an activation that has taken its epoch (`found`, of `take`).

    What is missing of the log is logged as an error and never numbered again: holes,
    what was mirrored or numbered above the log's top, and events that nobody can read.
    Raises `Fenced` or `Unavailable`.
    """
    now = clock.now()  # which has heard from storage what time it is
    mirror, previous = found.mirror, found.previous_epoch
    clean = mirror is not None and mirror.final and mirror.epoch == previous
    life = Life(found.epoch, previous, crashed=previous > 0 and not clean)
    if mirror is None:
        machine = kind.fresh(life)
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
    for entry in entries:
        _pass_over(name, machine, entry.seq - 1)
        try:
            machine.replay(now, *entry)
        except Exception:
            logger.exception("%s: event %d cannot be read", name, entry.seq)
            machine.skip(entry.seq)
    if found.seq < machine.seq:
        # Nothing is mirrored before it is confirmed, so the log did hold it.
        logger.error("%s lost events %d to %d", name, found.seq + 1, machine.seq)
    _pass_over(name, machine, found.numbered)
    return machine


def _restored(name: str, kind: Kind, life: Life, data: bytes, clean: bool) -> Machine:
    try:
        return kind.restore(life, data, clean)
    except Exception:
        logger.exception("the mirror of %s cannot be restored", name)
        return kind.fresh(life)


def _pass_over(name: str, machine: Machine, seq: int) -> None:
    """Say what is missing up to `seq`, if anything is."""
    if seq > machine.seq:
        logger.error("%s lost events %d to %d", name, machine.seq + 1, seq)
        machine.skip(seq)


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
