"""History: the latest messages of a room, their ids and how far they were read.

Owns the buffer a joiner is shown, the rule of wire.md §2 that the same user sending the
same id again "within the last 1,000 messages or 60 s, whichever is more, is one
message", what each of those said, and the receipts: sent → delivered → read, never
back. Messages are held as the JSON that went into the log, whatever their type, and
are not decoded.

Must not number messages or look at a clock: `seq` and time come from the room.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ..wire import protocol
from ..wire.events import Receipt, era_of, read_event, upgraded_event, with_status
from .compose import fingerprint

BUFFER = protocol.HISTORY_FRAME
DEDUPE_MESSAGES = 1_000
DEDUPE_MS = 60_000

_RANK = {"": 0, "delivered": 1, "read": 2}


class Kept(msgspec.Struct):
    """One remembered message; `event` is empty once it has left the buffer.

    `said` is the fingerprint of its words, 0 if this code does not know its type, or it
    left the buffer before there were fingerprints. `shown` is the event with its status
    in it, where there is one.
    `older` and `newer` link the messages that have the same id (of different senders).
    """

    epoch: int
    seq: int
    sender_id: str
    id: str
    timestamp: int
    event: bytes
    said: int
    status: Literal["", "delivered", "read"] = ""
    shown: bytes = b""
    older: "Kept | None" = None
    newer: "Kept | None" = None


class KeptRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Kept` in a snapshot. Rows from before there were fingerprints lack `said`."""

    epoch: int
    seq: int
    sender_id: str
    id: str
    timestamp: int
    event: bytes
    status: Literal["", "delivered", "read"]
    said: int = 0


class History:
    """What is remembered of a room's messages, oldest first."""

    def __init__(self) -> None:
        # All that is remembered, until `forget`; the newest BUFFER are the buffer.
        self._kept: deque[Kept] = deque()
        # What is remembered, by sender and id; and the newest of each id.
        self._sent: dict[tuple[str, str], Kept] = {}
        self._newest: dict[str, Kept] = {}
        # Everything above this seq that the log has is in the buffer.
        self._base = 0
        # That of the newest event, as far as it is known; UNSET: nothing was ever lost.
        self.era: int | UnsetType = UNSET
        # The whole buffer's frame, until that changes: a join storm encodes it once.
        self._whole: bytes | None = None

    def __len__(self) -> int:
        """How many messages are in the buffer."""
        return min(len(self._kept), BUFFER)

    def add(
        self,
        epoch: int,
        seq: int,
        sender_id: str,
        id: str,  # noqa: A002 - the wire's name for it
        timestamp: int,
        event: bytes,
        said: int,
    ) -> Kept:
        """Remember the next message; `event` is its JSON, `said` its fingerprint."""
        kept = Kept(epoch, seq, sender_id, id, timestamp, event, said)
        older = self._newest.get(id)
        if older is not None:
            older.newer = kept
            kept.older = older
        self._newest[id] = self._sent[sender_id, id] = kept
        remembered = self._kept
        if not remembered:
            self._base = seq - 1
        remembered.append(kept)
        if len(remembered) > BUFFER:
            left = remembered[-BUFFER - 1]
            left.event = left.shown = b""
            self._base = left.seq
        self._whole = None
        return kept

    def forget(self, now: int) -> None:
        """Drop the ids that count no more: beyond 1,000 messages and 60 s."""
        kept = self._kept
        while len(kept) > DEDUPE_MESSAGES and kept[0].timestamp < now - DEDUPE_MS:
            self._drop(kept.popleft())

    def _drop(self, old: Kept) -> None:
        # `old` is the oldest of all, so it ends its chain of equal ids.
        if old.newer is None:
            del self._newest[old.id]
        else:
            old.newer.older = None
        if self._sent[old.sender_id, old.id] is old:
            del self._sent[old.sender_id, old.id]

    def find(self, sender_id: str, id: str) -> Kept | None:  # noqa: A002
        """This user's message with this id, if it is remembered."""
        return self._sent.get((sender_id, id))

    def newest_for(self, reader_id: str, id: str) -> Kept | None:  # noqa: A002
        """The newest message with this id that someone else wrote."""
        kept = self._newest.get(id)
        while kept is not None and kept.sender_id == reader_id:
            kept = kept.older
        return kept

    def upgrade(self, kept: Kept, status: Receipt) -> bool:
        """Raise a message's status; false if it is that or more already."""
        if _RANK[status] <= _RANK[kept.status]:
            return False
        kept.status = status
        if kept.event:
            kept.shown = with_status(kept.event, status)
            self._whole = None
        return True

    def latest(self, count: int) -> list[tuple[int, bytes]]:
        """The newest `count` events of the buffer with their numbers, oldest first."""
        newest = list(islice(self._from_newest(), count))
        return [(each.seq, each.event) for each in reversed(newest)]

    def counts(self, since: int | None, era: int | None) -> bool:
        """Whether that number means here what it means to who was shown it.

        Who says no era was shown something of this one, if it is as new as its first.
        """
        if since is None:
            return True
        if self.era is UNSET:
            return not era
        return since >= self.era if era is None else era == self.era

    def reaches(self, since: int) -> bool:
        """Whether the buffer has all that the log has after `since`."""
        return since >= self._base

    def events_after(self, room_id: str, since: int, seq: int) -> list[bytes] | None:
        """The events after `since`, without statuses; None if some left the buffer.

        An empty `history` frame with `gap: true` stands for those that are lost.
        """
        if not self.reaches(since):
            return None
        numbered = [(kept.seq, kept.event) for kept in self._after(since)]
        return protocol.with_gaps(numbered, room_id, since, seq, self.era)

    def frame(
        self,
        room_id: str,
        seq: int,
        since: int | None = None,
        *,
        strange: bool = False,
    ) -> bytes:
        """The `history` frame of what came after `since`, or of the whole buffer.

        `gap` is true if `since` is beyond `seq`, where this room has never been, or if
        the log has lost some of the messages, or to who is `strange`: what it was shown
        is of another era (wire.md §3).
        """
        if strange:
            return self._encode(self._whole_buffer(), room_id, seq, True)
        if since is None or (since == self._base and since + len(self) == seq):
            if self._whole is None:
                self._whole = self._encode(self._whole_buffer(), room_id, seq, False)
            return self._whole
        after = self._after(since)
        return self._encode(after, room_id, seq, len(after) != seq - since)

    def _from_newest(self) -> Iterator[Kept]:
        """The buffer, newest first."""
        return islice(reversed(self._kept), BUFFER)

    def _whole_buffer(self) -> list[Kept]:
        return list(self._from_newest())[::-1]

    def _after(self, since: int) -> list[Kept]:
        after: list[Kept] = []
        for kept in self._from_newest():
            if kept.seq <= since:
                break
            after.append(kept)
        after.reverse()
        return after

    def _encode(
        self, messages: Iterable[Kept], room_id: str, seq: int, gap: bool
    ) -> bytes:
        events = [kept.shown or kept.event for kept in messages]
        return protocol.history_frame(events, room_id, seq, gap, self.era)

    def snapshot(self) -> list[KeptRow]:
        """Everything remembered, for `restore`."""
        return [
            KeptRow(
                k.epoch,
                k.seq,
                k.sender_id,
                k.id,
                k.timestamp,
                k.event,
                k.status,
                k.said,
            )
            for k in self._kept
        ]

    def restore(self, rows: Iterable[KeptRow]) -> None:
        """Fill an empty history from a snapshot."""
        for row in rows:
            said, event = row.said, row.event
            if event:
                event = upgraded_event(row.seq, event)
                said = said or fingerprint(read_event(row.seq, event)[0])
            kept = self.add(
                row.epoch,
                row.seq,
                row.sender_id,
                row.id,
                row.timestamp,
                event,
                said,
            )
            if row.status:
                self.upgrade(kept, row.status)
        if self._kept:
            self.era = era_of(self._kept[-1].event)
