"""Catching up from the log: what sockets missed, and no buffer has any more.

Owns the reading, page by page: for all sockets of a stub while it is attached to
nothing, and for one on its way in (design.md §3.6).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_id_of
from cfmessenger.link.messages import text_frame
from cfmessenger.storage.log import Log
from cfmessenger.wire.events import era_of, shown_event
from cfmessenger.wire.protocol import HISTORY_FRAME, history_frame, with_gaps

if TYPE_CHECKING:
    from gateway.live.connection import Connection
    from gateway.live.stub import Stub

DRAIN_PAGE_S = 30.0
"""What a client may take to read a page of what it missed; then it is slow: 1013."""


async def page(stub: Stub, log: Log) -> None:
    """Bring all members of a stub up to the log, then have it attach again."""
    with contextlib.suppress(Unavailable):
        while True:
            since = stub.seq
            entries = await log.after(stub.name, since, HISTORY_FRAME)
            full = len(entries) == HISTORY_FRAME
            if stub.seq != since:  # it went on by another way meanwhile
                entries = [each for each in entries if each.seq > stub.seq]
            if entries:
                room_id, upto = room_id_of(stub.name), entries[-1].seq
                events = [(e.seq, shown_event(e.seq, e.event)) for e in entries]
                kept = [(seq, event) for seq, event in events if event is not None]
                era = era_of(entries[-1].event)
                shown = with_gaps(kept, room_id, stub.seq, upto, era)
                stub.caught_up(
                    b"".join(map(text_frame, shown)), upto, entries[-1].epoch
                )
            if not full:
                break
    stub.life.paged()


async def catch_up(
    connection: Connection, stub: Stub, log: Log, since: int, seq: int
) -> None:
    """Page `(since, seq]` to one client, then have its socket enter again. Raises
    `Unavailable`.

    Each frame of at most 100 waits until the one before was drained.
    """
    room_id = room_id_of(stub.name)
    while since < seq:
        entries = await log.after(stub.name, since, HISTORY_FRAME)
        if not entries:
            # What is lost for good is told by an event above it, so this is not: the
            # object has still to heal a log that ends too early.
            raise Unavailable(message="The log is behind its object.")
        upto = entries[-1].seq
        shown = [shown_event(each.seq, each.event) for each in entries]
        events = [event for event in shown if event is not None]
        gap = len(events) != upto - since
        since = upto
        seq = max(seq, since)  # a page may go beyond what there was to catch up
        era = era_of(entries[-1].event)
        connection.write(text_frame(history_frame(events, room_id, seq, gap, era)))
        if not await connection.wire.drained(DRAIN_PAGE_S):
            connection.on_slow()
            return
    stub.open(connection, connection.attachment, since, greeted=True)


async def recall(connection: Connection, stub: Stub, log: Log, seq: int) -> None:
    """Send one client the event `seq`, if it can be shown. Raises `Unavailable`."""
    for entry in await log.after(stub.name, seq - 1, 1):
        event = shown_event(seq, entry.event)  # None too if it is another one
        if event is not None:
            connection.write(text_frame(event))
