"""Inputs of an object until they are covered: in order, counted, and paid for.

Every text frame costs its socket and its object something until it is covered, and
whoever has spent too much says nothing more for a while (`Payer.full`); nobody is
refused for it. Knows no actor, no clock and no event loop: the stub tells what was
sent, covered, given up and when.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from msgspec.structs import replace

from cfmessenger.chat.effects import Attachment, newest
from cfmessenger.link import messages as link

FRAME_COST = 1024  # what keeping a frame costs beside its bytes, roughly
SOCKET_BUDGET = 64 * 1024
"""Uncovered bytes of a socket after which it is not read until most are covered."""
OBJECT_BUDGET = 2**20
"""Of all sockets together. Beyond it a socket says no more until what it said is
covered."""


class Payer(Protocol):
    """A socket, as far as it pays for its frames; both are changed here alone.

    It may pay at two objects: its room's, and the registry's for statuses.
    """

    uncovered: int  # what its uncovered frames cost: their bytes, and `FRAME_COST` each
    full: bool  # from `pay` at the budget until `pay_back`: it is to say nothing


class Pending:
    """An input that is not covered yet."""

    __slots__ = ("at", "done", "input", "late", "once")

    def __init__(self, entry: link.Input, at: float) -> None:
        self.input = entry  # replaced by newer names and words, or by an empty one
        self.at = at  # when it came, in loop time
        self.done: asyncio.Future[None] | None = None  # a notification's: it is covered
        self.once = False  # a notification whose content is sent once at most
        self.late = False  # from `Stub.expire` on: the log is asked what became of it

    @property
    def n(self) -> int:
        """Its number, which rises in this gateway."""
        return self.input.n

    @property
    def conn(self) -> str | None:
        """The connection that it is about; None: a notification."""
        entry = self.input
        if isinstance(entry, link.Opened):
            return entry.attachment.conn
        return entry.conn if isinstance(entry, link.Said | link.Closed) else None

    def rename(self, names: Mapping[str, str]) -> None:
        """Its connection has a new name."""
        entry = self.input
        if isinstance(entry, link.Opened):
            conn = entry.attachment.conn
            attachment = replace(entry.attachment, conn=names.get(conn, conn))
            self.input = replace(entry, attachment=attachment)
        elif isinstance(entry, link.Said | link.Closed):
            self.input = replace(entry, conn=names.get(entry.conn, entry.conn))


class Uncovered:
    """The pending inputs of one object, oldest first."""

    def __init__(self) -> None:
        self.size = 0  # what the text frames among them cost, in bytes
        self.sent = 0  # the highest number that was ever put on a link
        self._pending: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._pending)

    def push(self, entry: link.Input, at: float) -> Pending:
        """Add the newest input, which came `at` (loop time)."""
        pending = Pending(entry, at)
        self._pending.append(pending)
        return pending

    def pay(self, payer: Payer, data: bytes) -> None:
        """Charge a frame to its socket and to the object.

        Sets `payer.full` when that uses up the budget of either (design.md §3.3).
        """
        cost = len(data) + FRAME_COST
        self.size += cost
        payer.uncovered += cost
        if payer.uncovered >= SOCKET_BUDGET or self.size >= OBJECT_BUDGET:
            payer.full = True

    def pay_back(self, payer: Payer | None, data: bytes) -> bool:
        """Take the charge for a frame back; True if its socket was full and may go on.

        It may when it owes no more than a quarter of its budget, or nothing as long as
        the object is over its own. `payer` is None if the socket is gone.
        """
        cost = len(data) + FRAME_COST
        self.size -= cost
        if payer is None:
            return False
        payer.uncovered -= cost
        enough = SOCKET_BUDGET // 4 if self.size < OBJECT_BUDGET else 0
        if not payer.full or payer.uncovered > enough:
            return False
        payer.full = False
        return True

    def sent_now(self, sent: list[link.Input]) -> None:
        """These, in order, are on a link now.

        What is marked `once` goes empty if it has to be said again: its number alone.
        """
        self.sent = max(self.sent, sent[-1].n)
        if any(type(entry) is link.Notified for entry in sent):
            for pending in self._pending:
                if pending.once:
                    pending.input = link.Notified(pending.input.n, b"")

    def cover(self, n: int) -> Iterator[Pending]:
        """Take away everything up to `n`."""
        pending = self._pending
        while pending and pending[0].input.n <= n:
            yield pending.popleft()

    def take(self, numbers: Collection[int]) -> list[Pending]:
        """Take away those of these that are still pending."""
        taken = [each for each in self._pending if each.n in numbers]
        self._pending = deque(e for e in self._pending if e.n not in numbers)
        return taken

    def older_than(self, end: float) -> list[Pending]:
        """The frames and notifications that came by `end` (loop time)."""
        stay = link.Opened | link.Closed
        return [
            e for e in self._pending if e.at <= end and not isinstance(e.input, stay)
        ]

    def unsent(self, conn: str) -> list[Pending]:
        """The inputs of this connection that were never put on a link."""
        return [e for e in self._pending if e.n > self.sent and e.conn == conn]

    def rename(self, names: Mapping[str, str]) -> None:
        """Connections have new names: former to new."""
        for pending in self._pending:
            pending.rename(names)

    def change(self, conn: str, told: Attachment) -> None:
        """A socket whose Opened is pending has newer words or a newer status."""
        for pending in self._pending:
            entry = pending.input
            if type(entry) is link.Opened and entry.attachment.conn == conn:
                attachment = newest(entry.attachment, told)
                pending.input = replace(entry, attachment=attachment)

    def entered(self, conn: str, seq: int) -> None:
        """A socket was shown everything up to `seq` on its way in.

        So what it said meanwhile counts as said after that.
        """
        for pending in self._pending if self.size else ():
            entry = pending.input
            if type(entry) is link.Said and entry.conn == conn:
                pending.input = replace(entry, seen=max(entry.seen, seq))


def numbers(pending: Iterable[Pending]) -> set[int]:
    """Their numbers."""
    return {each.n for each in pending}
