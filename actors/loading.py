"""Activation, first half: take an epoch, then load mirror and log into a machine.

The epoch comes first: only after it is taken can nobody else append, so only what is
read after it is the whole truth (design.md §3.1).
"""

from __future__ import annotations

import logging

import msgspec

from actors.kinds import Kind, Machine
from cfmessenger.storage.log import Entry, Log

logger = logging.getLogger("cfmessenger.activation")

PAGE = 1000
REMEMBER_MESSAGES = 1000
REMEMBER_MS = 60_000


class _Stamp(msgspec.Struct):
    timestamp: int


_stamp = msgspec.json.Decoder(_Stamp).decode


async def load(name: str, kind: Kind, log: Log, now: int) -> Machine:
    """The machine of a new activation. Raises `Fenced` or `Unavailable`."""
    found = await log.activate(name)
    machine, clean = kind.fresh(), False
    if (mirror := found.mirror) is not None:
        clean = mirror.final and mirror.epoch == found.previous_epoch
        machine = kind.restore(mirror.data, clean)
        if machine.seq > found.seq:
            machine = kind.fresh()  # it holds what was never confirmed
    entries = await _newer(name, log, machine.seq, found.seq, now)
    if entries and entries[0].seq != machine.seq + 1:
        machine = kind.fresh()  # trimmed past the snapshot: the log alone is left
    for entry in entries:
        machine.replay(now, *entry)
    machine.epoch, machine.previous_epoch = found.epoch, found.previous_epoch
    machine.crashed = found.previous_epoch > 0 and not clean
    logger.info("%s active, epoch %d, seq %d", name, found.epoch, machine.seq)
    return machine


async def _newer(name: str, log: Log, known: int, top: int, now: int) -> list[Entry]:
    """Entries above `known`; with no snapshot as many as duplicates need.

    wire.md §2: "within the last 1,000 messages or 60 s, whichever is more".
    """
    entries: list[Entry] = []
    missing = top - known
    while missing > 0:
        count = min(PAGE, missing)
        before = entries[0].seq if entries else None
        page = await log.newest(name, count, before)
        entries = page + entries
        missing -= count
        if len(page) < count:
            break
        remembered = not known and len(entries) >= REMEMBER_MESSAGES
        if remembered and _stamp(entries[0].event).timestamp < now - REMEMBER_MS:
            break
    return entries
