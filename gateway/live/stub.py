"""A stub: one object as this gateway sees it, whether or not it is awake.

Sockets hold on to stubs, never to actors, so a room may sleep, die or move while its
sockets stay open. A stub keeps every input until it is covered, sends it while it is
attached, and writes what the object shows to the sockets that are in. What to keep and
whom to show is decided in its `Half`; how it gets to the object and comes back is its
`Life`, and what becomes of inputs that the object does not cover in time its `Overdue`
(design.md §3.2-3, 3.6-9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cfmessenger.chat.crowd import USUAL
from cfmessenger.chat.effects import Attachment
from cfmessenger.chat.ratelimit import SlidingLog
from cfmessenger.link import messages as link
from cfmessenger.link.half import Half
from cfmessenger.link.roll import PersonalRoll
from cfmessenger.link.uncovered import Echo, Pending
from gateway.live.late import Late
from gateway.live.life import Life
from gateway.live.link import Link
from gateway.live.links import Links
from gateway.live.outlet import Outlet, answer, give_back, safely
from gateway.live.overdue import Overdue

if TYPE_CHECKING:
    from gateway.live.watching import Watching
    from gateway.metrics import Traffic

_ACK = (b'{"type":"ack"', b'{"type": "ack"')
CROWD_ACKS, CROWD_ACKS_MS = 100, 1_000
"""Of a crowd's sockets together; more are dropped (wire.md §2)."""

NOW = -1
"""No event: a socket has seen what it was shown until now."""


class Stub:
    """`open`, `say`, `change`, `close` for sockets; `notify` for what one object tells
    another.

    `forward(target, payload)` hands on a notification; `page(stub)` is what `Life` asks
    for, `look(overdue, late)` what `Overdue` does. `covered(seconds)` observes how long
    inputs took; `traffic` is counted up. The registry's has its sockets' `watching`.
    """

    def __init__(
        self,
        name: str,
        links: Links,
        *,
        forward: Callable[[str, bytes], None],
        page: Callable[[Stub], None],
        look: Callable[[Overdue, list[Late]], None],
        covered: Callable[[float], None],
        traffic: Traffic,
        watching: Watching | None = None,
    ) -> None:
        self.name = name
        self._half: Half[Outlet] = Half(name, watching)
        # Two of its parts, for every message goes through them.
        self._audience, self._pending = self._half.audience, self._half.pending
        # Of all members; None from a change of them until the next fan-out.
        self._writers: list[Callable[[bytes], None]] | None = None
        # From the first ack in a crowd; None: it never was one.
        self._acks: SlidingLog | None = None
        self.life = Life(self._half, links, self, partial(page, self))
        self.overdue = Overdue(self._half, self.life, look)
        self._next = links.next_input  # of the whole gateway, so never used twice
        self._forward = forward
        self._observe = covered
        self._traffic = traffic
        self._watching = watching
        self._loop = asyncio.get_running_loop()

    @property
    def epoch(self) -> int:
        """The newest epoch that was heard of; never falls."""
        return self._half.epoch

    @property
    def seq(self) -> int:
        """The last event that the members were shown; never falls."""
        return self._audience.seq

    # What sockets do.

    def open(
        self,
        outlet: Outlet,
        attachment: Attachment,
        since: int | None,
        greeted: bool,
        era: int | None = None,
    ) -> None:
        """A socket joins; its greeting and history come when the object answers.

        `since`: the last seq its client has, None for the buffer, and the `era` of
        that, if the client says it. `greeted`: it had its greeting already.
        """
        self._audience.enter(outlet, since)
        self._push(link.Opened(self._next(), attachment, since, greeted, era))

    def seen_by(self, outlet: Outlet) -> int | None:
        """The last event that a socket was shown; None: none, or its history is to
        come."""
        return self._audience.seen_by(outlet.conn)

    def say(
        self, outlet: Outlet, data: bytes, at: float, shown: int | None = NOW
    ) -> None:
        """Take a text frame of a socket, which came `at` (loop time). `shown` is what
        the socket had seen by then (`seen_by`).

        If the socket is `full` now it is to be read no more until `go_on` (design.md
        §3.3). Nothing is refused, so whoever floods holds up nobody but himself.
        """
        self._traffic.frames += 1
        if data.startswith(_ACK) and self._enough_acks(at):
            return
        self._pending.pay(outlet, data)
        seen = self._audience.seen_by(outlet.conn)
        pending = self._push(link.Said(self._next(), outlet.conn, data, seen))
        pending.at, pending.shown = at, seen if shown == NOW else shown

    def _enough_acks(self, at: float) -> bool:
        """Whether a crowd has acknowledged so much that one more says nothing: each of
        5,000 acknowledges each message twice, and twice is all that it can rise."""
        if not USUAL.holds(len(self._audience.members)):
            return False
        if self._acks is None:
            self._acks = SlidingLog(CROWD_ACKS, CROWD_ACKS_MS)
        now = int(at * 1_000)
        if self._acks.check(now):
            return True
        self._acks.record(now)
        return False

    def change(self, outlet: Outlet, told: Attachment) -> None:
        """A socket's user has newer words or a newer status.

        Told at once to an object that is awake; one that sleeps is not woken for it,
        and hears of it when it is attached.
        """
        self._audience.change(told)
        self._pending.change(told)
        if self.life.link is not None and outlet.conn in self._audience:
            self._send_soon(link.Changed(self._next(), told))

    def close(self, outlet: Outlet) -> None:
        """A socket is gone."""
        if not self._audience.leave(outlet.conn):
            return
        self._writers = None
        if self.life.link is None:
            unsent = self._pending.forget_unsent(outlet.conn)
            if unsent is not None:
                for pending in unsent:
                    give_back(self._half, pending)
                return
        self._push(link.Closed(self._next(), outlet.conn))

    def notify(self, payload: bytes, *, once: bool) -> asyncio.Future[None]:
        """Give the object a notification; the future is done when it is covered.

        `once`: at most once (wire.md §4), so what was sent is not sent again. It fails
        with `Unavailable` if that takes longer than `overdue.EXPIRE_AFTER_S`.
        """
        pending = self._push(link.Notified(self._next(), payload))
        pending.once = once
        done = pending.waiter = self._loop.create_future()
        return done

    def seek(self) -> None:
        """The sockets want to hear of others, or somebody waits to be told."""
        if self.life.link is None:
            if self._half.expects:
                self.life.revive()
        else:
            self.life.link.take_from(self)

    # Inputs, kept until covered.

    def _push(self, entry: link.Input) -> Pending:
        pending = self._pending.push(entry, self._loop.time())
        if self.life.link is None:
            self.life.revive()
        else:
            self._send_soon(entry)
        return pending

    def _send_soon(self, entry: link.Input) -> None:
        at = self.life.link
        if at is not None and self._pending.queue(entry):
            at.take_from(self)

    def leaving(self) -> link.Inputs | None:
        """What was queued for the object, which is attached: it leaves now."""
        return self._half.queued()

    def _cover(self, n: int) -> None:
        now = self._loop.time()
        for done in self._pending.cover(n):
            entry = done.input
            kind = type(entry)
            if kind is link.Said:
                give_back(self._half, done)
                self._observe(now - done.at)
            elif kind is link.Opened:
                self._audience.known(entry.attachment)  # type: ignore[union-attr]
            elif kind is link.Closed:
                self._audience.unknown(entry.conn)  # type: ignore[union-attr]
            if done.waiter is not None:
                answer(done)

    # What the object shows.

    def on_output(self, output: link.Output) -> None:
        """Do what the object wants; what is of an older epoch or another turn is
        dropped (design.md §3, Fencing)."""
        half = self._half
        if output.epoch < half.epoch or output.turn != half.turn:
            return
        half.epoch, half.rested = output.epoch, 0
        for item in output.items:
            if type(item) is link.Fanout:
                self._fan_out(item, output.epoch, half.speaker)
            else:
                self._do(item)
        self._cover(output.covered)
        self.life.failures = 0

    def _fan_out(self, item: link.Fanout, epoch: int, by: str) -> None:
        audience, before = self._audience, self._audience.seq
        if 0 < item.seq <= before:
            return  # shown already, by an incarnation that came before
        if item.but_user is None:
            writers = self._writers
            if writers is None:
                writers = [outlet.write for outlet in audience.members.values()]
                self._writers = writers
        else:
            members = audience.members.values()
            writers = [o.write for o in members if o.user_id != item.but_user]
        blob = item.blob
        # A list of its own: a socket that turns out to be slow leaves in mid-loop.
        for write in writers:
            try:
                write(blob)
            except Exception:
                self._broken(write)
        traffic, frames = self._traffic, 1
        if item.seq:
            frames = item.seq - before
            self._half.shown(item.seq, epoch, by)
        traffic.deliveries += frames * len(writers)
        traffic.delivered_bytes += len(blob) * len(writers)

    def _call_roll(self, item: link.Roll) -> None:
        """Tell a crowd who is there. Once each few seconds, so what it costs for each
        socket, some microseconds, matters less than how much it keeps: one copy."""
        members, but, traffic = self._audience.members, set(item.but), self._traffic
        roll = PersonalRoll(item.frame, item.start, item.end, item.users)
        for conn in tuple(members) if item.conns is None else item.conns:
            outlet = members.get(conn)
            if outlet is None or conn in but:
                continue
            pieces = roll.for_one(outlet.attachment)
            safely(outlet, outlet.write_all, pieces)
            traffic.deliveries += 1
            traffic.delivered_bytes += sum(map(len, pieces))

    def _broken(self, write: Callable[[bytes], None]) -> None:
        """A write raised, which is our bug: end that socket; the others stay."""
        for outlet in tuple(self._audience.members.values()):
            if outlet.write == write:
                outlet.failed()

    def _do(self, item: link.Item) -> None:
        audience = self._audience
        if isinstance(item, link.ToSockets):
            for conn in item.conns:
                outlet = audience.get(conn)
                if outlet is not None and self._owed(conn, item.seq):
                    safely(outlet, outlet.told, item.blob, item.fault)
        elif isinstance(item, link.Roll):
            self._call_roll(item)
        elif isinstance(item, link.Subscribed):
            self._half.let_in(item)
            self._writers = None
        elif isinstance(item, link.Kept):
            audience.keep(item.attachment)
            if (outlet := audience.get(item.attachment.conn)) is not None:
                outlet.attached(self, item.attachment)
        elif isinstance(item, link.Closing):
            audience.unknown(item.conn)
            if (outlet := audience.get(item.conn)) is not None:
                safely(outlet, outlet.end, item.code, item.reason)
        elif isinstance(item, link.CatchUp):
            if (outlet := audience.get(item.conn)) is not None:
                audience.falls_behind(item.conn, item.since)
                self._writers = None
                safely(outlet, outlet.catch_up, self, item.since, item.seq)
        elif isinstance(item, link.Recall):
            outlet = audience.get(item.conn)
            if outlet is not None and self._owed(item.conn, item.seq):
                safely(outlet, outlet.recall, self, item.seq)
        elif isinstance(item, link.Forward):
            self._forward(item.target, item.payload)
        elif self._watching is not None:
            self._hear(item, self._watching)

    def _hear(self, item: link.Item, watching: Watching) -> None:
        if isinstance(item, link.People):
            watching.told(item.news)
        elif isinstance(item, link.Met):
            for conn in item.conns:
                if (outlet := self._audience.get(conn)) is not None:
                    watching.meet(outlet, item.user_ids)

    def _owed(self, conn: str, seq: int) -> bool:
        """Whether a socket is to be shown event `seq` now, as the echo of a repeat.

        Not if the log has answered that repeat (`settle`), and not before its turn. 0:
        what is to be shown is no echo, and is always owed.
        """
        if not seq:
            return True
        echo = Echo(conn, seq)
        return self._pending.owed(echo) and self._audience.in_turn(conn, seq)

    def caught_up(self, blob: bytes, seq: int, epoch: int) -> None:
        """Show the members events of the log that they missed, up to `seq`, which is of
        this epoch.

        `blob`: finished WebSocket frames.
        """
        self._fan_out(link.Fanout(blob, seq, None), epoch, "")

    # How it ends, for now.

    def on_goodbye(self, goodbye: link.Goodbye) -> None:
        """The object left, or wants to be attached anew; what it covers is done."""
        if goodbye.turn == self._half.turn:
            if self._half.ended(goodbye):
                self._cover(goodbye.covered)
            self.life.left(goodbye)

    def on_lost(self, lost: Link) -> None:
        """The link broke."""
        self.life.lost(lost)
