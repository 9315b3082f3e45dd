"""Inputs of an object until they are covered: in order, counted, and paid for.

The state of a gateway's half of the link that belongs to inputs (design.md §3.3, §3.5).
Every text frame costs its socket and its object something until it is covered, and
whoever has spent too much says nothing more for a while (`Payer.full`); nobody is
refused for it. Pure: it knows no link and no clock, and is told what came, was sent,
covered or given up, and when. The gateway's stub and the load harness are its shells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Container, Iterator, Mapping
from typing import NamedTuple, Protocol

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

    __slots__ = ("asked", "at", "input", "logged", "once", "shown", "waiter")

    def __init__(self, entry: link.Input, at: float) -> None:
        self.input = entry  # replaced by newer names and words, or by `GivenBefore`
        self.at = at  # when it came, in the shell's seconds
        # Of a frame: the last event that its socket had been shown when it came, and
        # not when it was taken; None: none.
        self.shown: int | None = None
        self.waiter: object = None  # the shell's, who waits for it; set at once
        self.once = False  # a notification whose content is sent once at most
        # When the log was last asked what became of it; 0: never.
        self.asked = 0.0
        self.logged = False  # it had become an event then that is still to be shown

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


class Echo(NamedTuple):
    """An event that a connection was shown as the answer to a repeat."""

    conn: str
    seq: int


class Expired(NamedTuple):
    """What was not covered in time: frames whose fate the log must tell, and what is
    given up, which is pending no more."""

    late: list[Pending]
    lost: list[Pending]


class Uncovered:
    """The pending inputs of one object, oldest first."""

    def __init__(self) -> None:
        self.size = 0  # what the text frames among them cost, in bytes
        self.sent = 0  # the highest number that was ever put on a link
        self.covered = 0  # the highest number that was ever covered
        self._pending: deque[Pending] = deque()  # until covered, taken or expired
        # Not on the link yet: from `queue` until `leaving`, or an attach sends all.
        self._queue: list[link.Input] = []
        # Repeats that the object has, and the log has answered: by number, until the
        # object answers or covers them, or the next attach.
        self._answered: dict[int, Echo] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._pending)

    def push(self, entry: link.Input, at: float) -> Pending:
        """Add the newest input, which came `at` (the shell's seconds)."""
        pending = Pending(entry, at)
        self._pending.append(pending)
        return pending

    # What they cost.

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

    # On their way.

    def queue(self, entry: link.Input) -> bool:
        """It goes out with the next message; True if it is the first to do so."""
        self._queue.append(entry)
        return len(self._queue) == 1

    def leaving(self) -> list[link.Input]:
        """What is queued goes out now."""
        queued, self._queue = self._queue, []
        if queued:
            self._sent(queued)
        return queued

    def again(self) -> list[link.Input]:
        """An attach sends everything, in order: what was queued is among it."""
        self._queue = []
        self._answered = {}
        entries = [pending.input for pending in self._pending]
        if entries:
            self._sent(entries)
        return entries

    def _sent(self, sent: list[link.Input]) -> None:
        """What is marked `once` goes without content if it has to be said again."""
        self.sent = max(self.sent, sent[-1].n)
        if any(type(entry) is link.Notified for entry in sent):
            for pending in self._pending:
                if pending.once:
                    pending.input = link.GivenBefore(pending.input.n)

    @property
    def opened(self) -> set[str]:
        """The connections whose Opened is pending."""
        inputs = (pending.input for pending in self._pending)
        return {e.attachment.conn for e in inputs if isinstance(e, link.Opened)}

    # What becomes of them.

    def cover(self, n: int) -> list[Pending]:
        """Take away everything up to `n`."""
        pending, done = self._pending, []
        while pending and pending[0].input.n <= n:
            done.append(pending.popleft())
        self.covered = max(self.covered, n)
        if self._answered:
            left = {each: echo for each, echo in self._answered.items() if each > n}
            self._answered = left
        return done

    def take(self, numbers: Collection[int]) -> list[Pending]:
        """Take away those of these that are still pending."""
        taken = [each for each in self._pending if each.n in numbers]
        if taken:
            self._pending = deque(e for e in self._pending if e.n not in numbers)
        return taken

    def expire(self, now: float, after_s: float, present: Container[str]) -> Expired:
        """What came `after_s` before `now` (the shell's seconds) is overdue.

        Frames of those who are `present` (connections) are late, and so again after as
        long if they are pending still; notifications and the frames of others are lost.
        Who came and who went stays pending.
        """
        end = now - after_s
        late: list[Pending] = []
        lost: list[Pending] = []
        for pending in self._pending:
            entry = pending.input
            if pending.at > end or isinstance(entry, link.Opened | link.Closed):
                continue
            if type(entry) is not link.Said or entry.conn not in present:
                lost.append(pending)
            elif pending.asked <= end:
                pending.asked = now
                late.append(pending)
        if lost:
            self.take({each.n for each in lost})
        return Expired(late, lost)

    def answered(self, n: int, echo: Echo) -> None:
        """The log has answered a repeat: the object's own answer is to be dropped."""
        self._answered[n] = echo

    def owed(self, echo: Echo) -> bool:
        """Whether a connection is owed this answer of the object: not if the log has
        given it already."""
        for n, given in self._answered.items():
            if given == echo:
                del self._answered[n]
                return False
        return True

    # What changes them.

    def forget_unsent(self, conn: str) -> list[Pending] | None:
        """Take away a connection's inputs, if its Opened is one that was never sent:
        the object need not know of it. None if it must."""
        unsent = [e for e in self._pending if e.n > self.sent and e.conn == conn]
        if not unsent or type(unsent[0].input) is not link.Opened:
            return None
        return self.take({each.n for each in unsent})

    def rename(self, names: Mapping[str, str]) -> None:
        """Connections have new names: former to new."""
        for pending in self._pending:
            pending.rename(names)

    def change(self, told: Attachment) -> None:
        """A socket whose Opened is pending has newer words or a newer status."""
        for pending in self._pending:
            entry = pending.input
            if type(entry) is link.Opened and entry.attachment.conn == told.conn:
                attachment = newest(entry.attachment, told)
                pending.input = replace(entry, attachment=attachment)

    def entered(self, conn: str, seq: int) -> None:
        """A socket was shown everything up to `seq` on its way in.

        So what it said meanwhile counts as said after that.
        """
        for pending in self._pending if self.size else ():
            entry = pending.input
            if type(entry) is link.Said and entry.conn == conn:
                seen = seq if entry.seen is None else max(entry.seen, seq)
                pending.input = replace(entry, seen=seen)
