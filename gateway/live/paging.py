"""Catching up from the log: what all sockets of a stub missed, and no buffer has.

Owns the reading, page by page, while the stub is attached to nothing. What a single
socket missed is its connection's to read (design.md §3.6).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cfmessenger.errors import Unavailable
from cfmessenger.ids import room_id_of
from cfmessenger.link.messages import text_frame
from cfmessenger.storage.log import Log
from cfmessenger.wire.events import shown_event
from cfmessenger.wire.protocol import HISTORY_FRAME, with_gaps

if TYPE_CHECKING:
    from gateway.live.stub import Stub


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
                shown = with_gaps(kept, room_id, stub.seq, upto)
                stub.caught_up(b"".join(map(text_frame, shown)), upto)
            if not full:
                break
    stub.life.paged()
