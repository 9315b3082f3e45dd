"""A stub: one object as this gateway sees it, whether or not it is awake.

Sockets hold on to stubs, never to actors, so a room may sleep, die or move while its
sockets stay open. A stub keeps every input until it is covered (`Uncovered`), gets the
object resolved and attached whenever there is something for it to do, gives it back
what it may have missed, and writes what it shows to the sockets that are in
(`Audience`). What to keep and whom to show is decided in those two; the tasks, futures
and links are here (design.md §3.2-3, 3.6-9).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from cfmessenger.backoff import doubled
from cfmessenger.chat.effects import Attachment
from cfmessenger.errors import CloseCode, Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.audience import Phase
from cfmessenger.link.half import Half
from cfmessenger.link.uncovered import Echo, Payer, Pending
from gateway.live.late import Found, Late
from gateway.live.links import Link, Links

if TYPE_CHECKING:
    from gateway.metrics import Traffic

logger = logging.getLogger("cfmessenger.stub")

EXPIRE_AFTER_S = 4.4
"""An input that is uncovered for so long is looked for in the log (`late`). 0.25 s
until somebody notices and 0.25 s for the look stay below the 5 s of wire.md §5."""
BACKOFF_S, BACKOFF_CAP_S = 0.05, 2.0

_WORTH_A_RETURN = frozenset({"duplicate_activation", "storage_failed"})
"""Reasons of a goodbye after which silent sockets need the object too."""


class Outlet(Payer, Protocol):
    """A socket, as a stub sees it."""

    conn: str
    user_id: str
    write: Callable[[bytes], None]

    def told(self, blob: bytes, fault: bool) -> None: ...
    def end(self, code: int, reason: str) -> None: ...
    def catch_up(self, stub: Stub, since: int, seq: int) -> None: ...
    def recall(self, stub: Stub, seq: int) -> None: ...
    def attached(self, stub: Stub, attachment: Attachment) -> None: ...
    def refused(self, data: bytes) -> None: ...
    def go_on(self) -> None: ...
    def failed(self) -> None: ...  # called while an exception is handled


class Stub:
    """`open`, `say`, `change`, `close` for sockets; `notify` for what one object tells
    another.

    `forward(target, payload)` hands on a notification; `page(stub)` is called when the
    gap to the object is larger than its buffer: it must give the sockets what the log
    has (`caught_up`), then call `paged`. `look(stub, late)` is called for what was not
    covered in time: it must find out whether the log has it and call `settle`.
    `covered(seconds)` observes how long inputs took; `traffic` is counted up.
    """

    def __init__(
        self,
        name: str,
        links: Links,
        *,
        forward: Callable[[str, bytes], None],
        page: Callable[[Stub], None],
        look: Callable[[Stub, list[Late]], None],
        covered: Callable[[float], None],
        traffic: Traffic,
    ) -> None:
        self.name = name
        self.hint: str | None = None  # of the first session that came, then kept
        self.unsure = False  # from falling asleep until log tops are compared
        self._links = links
        self._forward = forward
        self._page = page
        self._look = look
        self._observe = covered
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._half = Half[Outlet](name)
        # Two of its parts, for every message goes through them.
        self._audience, self._pending = self._half.audience, self._half.pending
        # Of all members; None from a change of them until the next fan-out.
        self._writers: list[Callable[[bytes], None]] | None = None
        self._paging = False  # from `_turn_to_the_log` until `paged`
        self._next = links.next_input  # of the whole gateway, so never used twice
        self._link: Link | None = None  # while attached
        self._reviving: asyncio.Task[None] | None = None  # while it reaches out
        self._failures = 0  # to reach or keep the object, since its last output
        self._handshakes = 0  # under way: it must not be forgotten meanwhile

    # What sockets do.

    @contextlib.contextmanager
    def wanted(self) -> Iterator[None]:
        """Around a handshake: the stub is not `idle`, though nobody is in yet."""
        self._handshakes += 1
        try:
            yield
        finally:
            self._handshakes -= 1

    def open(
        self, outlet: Outlet, attachment: Attachment, since: int | None, greeted: bool
    ) -> None:
        """A socket joins; its greeting and history come when the object answers.

        `since`: the last seq its client has, None for the buffer. `greeted`: it had its
        greeting already.
        """
        self._audience.enter(outlet, since)
        self._push(link.Opened(self._next(), attachment, since, greeted))

    def say(self, outlet: Outlet, data: bytes, at: float) -> None:
        """Take a text frame of a socket, which came `at` (loop time).

        If the socket is `full` now it is to be read no more until `go_on` (design.md
        §3.3). Nothing is refused, so whoever floods holds up nobody but himself.
        """
        self._traffic.frames += 1
        self._pending.pay(outlet, data)
        said = link.Said(
            self._next(), outlet.conn, data, self._audience.seen_by(outlet.conn)
        )
        self._push(said).at = at

    def change(self, outlet: Outlet, told: Attachment) -> None:
        """A socket's user has newer words or a newer status.

        Told at once to an object that is awake; one that sleeps is not woken for it,
        and hears of it when it is attached.
        """
        self._audience.change(told)
        self._pending.change(told)
        if self._link is not None and outlet.conn in self._audience:
            self._send_soon(link.Changed(self._next(), told))

    def close(self, outlet: Outlet) -> None:
        """A socket is gone."""
        if not self._audience.leave(outlet.conn):
            return
        self._writers = None
        if self._link is None:
            unsent = self._pending.forget_unsent(outlet.conn)
            if unsent is not None:
                for pending in unsent:
                    self._drop(pending)
                return
        self._push(link.Closed(self._next(), outlet.conn))

    def _drop(self, pending: Pending) -> None:
        """Give back what a frame cost that is pending no more."""
        entry = pending.input
        if type(entry) is link.Said:
            outlet = self._audience.get(entry.conn)
            if self._pending.pay_back(outlet, entry.data) and outlet is not None:
                self._loop.call_soon(outlet.go_on)

    def notify(self, payload: bytes, *, once: bool) -> asyncio.Future[None]:
        """Give the object a notification; the future is done when it is covered.

        `once`: at most once (wire.md §4), so what was sent is not sent again. It fails
        with `Unavailable` if that takes longer than `EXPIRE_AFTER_S`.
        """
        pending = self._push(link.Notified(self._next(), payload))
        pending.once = once
        done = pending.waiter = self._loop.create_future()
        return done

    def wake(self) -> None:
        """The object is awake elsewhere and wants its gateways back."""
        if self._link is None and self._half.needed:
            self._revive()

    async def reach(self) -> None:
        """Attach, unless it is attached or paging. Raises `Unavailable`.

        A link that is lost at once leaves it unattached.
        """
        if self._link is None and not self._paging:
            self._attach(await self._links.to(self.name, self.hint))

    def rename(self, names: Mapping[str, str]) -> None:
        """The gateway has a new name (design.md §3.11): attach anew under it.

        `names`: every open connection's former name to its new one.
        """
        self._half.rename(names)
        self._link = None
        if self._half.needed:
            self._revive()

    @property
    def epoch(self) -> int:
        """The newest epoch that was heard of; never falls."""
        return self._half.epoch

    @property
    def seq(self) -> int:
        """The last event that the members were shown; never falls."""
        return self._audience.seq

    @property
    def idle(self) -> bool:
        """Not attached and needed by nobody: it may be forgotten."""
        needed = self._audience or self._pending or self._reviving or self._handshakes
        return self._link is None and not needed

    @property
    def asleep(self) -> bool:
        """It holds sockets for an object that it is not attached to."""
        return self._link is None and bool(self._audience.held)

    # Inputs, kept until covered.

    def _push(self, entry: link.Input) -> Pending:
        pending = self._pending.push(entry, self._loop.time())
        if self._link is None:
            self._revive()
        else:
            self._send_soon(entry)
        return pending

    def _send_soon(self, entry: link.Input) -> None:
        if self._pending.queue(entry):
            self._loop.call_soon(self._send_queued)

    def _send_queued(self) -> None:
        if self._link is not None:  # else the next attach brings everything
            for message in self._half.queued():
                self._link.send(message)

    def _cover(self, n: int) -> None:
        now = self._loop.time()
        for done in self._pending.cover(n):
            entry = done.input
            kind = type(entry)
            if kind is link.Said:
                self._drop(done)
                self._observe(now - done.at)
            elif kind is link.Opened:
                self._audience.known(entry.attachment)  # type: ignore[union-attr]
            elif kind is link.Closed:
                self._audience.unknown(entry.conn)  # type: ignore[union-attr]
            if done.waiter is not None:
                _covered(done)

    def expire(self, now: float) -> None:
        """Find out what became of what was not covered in time; `now` is loop time.

        Frames are handed to `look`. Notifications fail, and frames of sockets that are
        gone are dropped. Sockets that come and go stay pending.
        """
        expired = self._pending.expire(now - EXPIRE_AFTER_S, self._audience)
        for pending in expired.lost:
            self._drop(pending)
            if pending.waiter is not None:
                _covered(pending, Unavailable())
        late = []
        for pending in expired.late:
            said = cast(link.Said, pending.input)
            outlet = self._audience.get(said.conn)
            assert outlet is not None, "it is present"
            late.append(Late(said, outlet.user_id))
        if late:
            self._look(self, late)

    def settle(self, late: Collection[int], found: Mapping[int, Found]) -> None:
        """Answer late inputs, by number; those `found` have become events.

        wire.md §5: STORAGE_UNAVAILABLE "at the latest after 5 s" for the others;
        whether they still appear is open, once at most.
        """
        behind = False
        for pending in self._pending.take(self._settled_by(late, found)):
            self._drop(pending)  # the rest was covered meanwhile, or is to be
            entry = pending.input
            assert type(entry) is link.Said
            outlet = self._audience.get(entry.conn)
            if outlet is None:
                continue
            event = found.get(entry.n)
            if event is None:
                _safely(outlet, outlet.refused, entry.data)
            elif entry.seen is not None and event.seq <= entry.seen:
                _safely(outlet, outlet.told, event.blob, False)  # a repeat
                if self._link is not None:
                    self._pending.answered(entry.n, Echo(entry.conn, event.seq))
            elif entry.conn in self._audience.members:
                # Shown since, if it is not newer than what all here were shown.
                behind |= event.seq > self.seq
            elif event.seq > (self._audience.seen_by(entry.conn) or 0):
                # Still not let in, and its history may begin after that event. Whoever
                # comes again finds it there, or says it again and has the echo.
                away = "the room cannot be reached"
                _safely(outlet, outlet.end, CloseCode.TRY_AGAIN_LATER, away)
        if behind:
            self._turn_to_the_log()

    def _settled_by(
        self, late: Collection[int], found: Mapping[int, Found]
    ) -> set[int]:
        """Which of these late inputs are to be settled now.

        All but those that have become events which a socket that catches up has still
        to come to: it is shown them there.
        """
        waits = set()
        for pending in self._pending:
            paging = self._audience.phase(pending.conn or "") is Phase.PAGING
            if pending.n in found and paging:
                assert type(pending.input) is link.Said
                if found[pending.n].seq > (pending.input.seen or 0):
                    waits.add(pending.n)
        return set(late) - waits

    def _turn_to_the_log(self) -> None:
        """Show the sockets what the log has, then attach anew.

        For an object that is behind the log, or out of reach.
        """
        at, self._link = self._link, None
        if at is not None:
            at.riders.pop(self.name, None)
        if not self._paging:
            self._failures += 1
            self._paging = True
            self._page(self)

    # Getting to the object.

    def _revive(self) -> None:
        if self._paging:
            return  # `paged` goes on from there
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._reach_again())
            self._reviving.add_done_callback(self._revived)

    def end(self) -> None:
        """The gateway goes: reach for the object no more."""
        if self._reviving is not None:
            self._reviving.cancel()

    def _revived(self, task: asyncio.Task[None]) -> None:
        if self._reviving is task:
            self._reviving = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s cannot be revived", self.name, exc_info=task.exception())

    async def _reach_again(self) -> None:
        while not (self._link or self._paging) and self._half.needed:
            if self._failures:
                # Full jitter: many gateways come back for one room.
                longest = doubled(BACKOFF_S, BACKOFF_CAP_S, self._failures)
                await asyncio.sleep(random.uniform(0, longest))
            try:
                await self.reach()
            except Unavailable as problem:
                self._failures += 1
                logger.info(
                    "%s not reached (%d): %s",
                    self.name,
                    self._failures,
                    problem.message,
                )
            except Exception:
                self._failures += 1
                logger.exception("%s not reached", self.name)

    def _attach(self, to: Link) -> None:
        if self._link is not None or to.lost or self._paging:
            return
        self._link = to
        to.riders[self.name] = self
        for message in self._half.attach(self._links.next_turn()):
            to.send(message)

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
                self._fan_out(item)
            else:
                self._do(item)
        self._cover(output.covered)
        self._failures = 0

    def _fan_out(self, item: link.Fanout) -> None:
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
            audience.shown(item.seq)
        traffic.deliveries += frames * len(writers)
        traffic.delivered_bytes += len(blob) * len(writers)

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
                    _safely(outlet, outlet.told, item.blob, item.fault)
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
                _safely(outlet, outlet.end, item.code, item.reason)
        elif isinstance(item, link.CatchUp):
            if (outlet := audience.get(item.conn)) is not None:
                audience.falls_behind(item.conn, item.since)
                self._writers = None
                _safely(outlet, outlet.catch_up, self, item.since, item.seq)
        elif isinstance(item, link.Recall):
            outlet = audience.get(item.conn)
            if outlet is not None and self._owed(item.conn, item.seq):
                _safely(outlet, outlet.recall, self, item.seq)
        elif isinstance(item, link.Forward):
            self._forward(item.target, item.payload)

    def _owed(self, conn: str, seq: int) -> bool:
        """Whether a socket is to be shown event `seq` now, as the echo of a repeat.

        Not if the log has answered that repeat (`settle`), and not before its turn. 0:
        what is to be shown is no echo, and is always owed.
        """
        if not seq:
            return True
        echo = Echo(conn, seq)
        return self._pending.owed(echo) and self._audience.in_turn(conn, seq)

    # How it ends, for now.

    def on_goodbye(self, goodbye: link.Goodbye) -> None:
        """The object left, or wants to be attached anew (design.md §3.7-9).

        What it covers is done.
        """
        if goodbye.turn != self._half.turn:
            return
        if self._half.ended(goodbye):
            self._cover(goodbye.covered)
        at, self._link = self._link, None
        if at is not None:
            at.riders.pop(self.name, None)
        if goodbye.reason == "moved":
            self._links.moved(self.name)
        if goodbye.reason in link.AGAIN and at is not None:
            self._attach(at)
        elif goodbye.reason == "behind":
            self._turn_to_the_log()
        elif self._pending or (self._audience.held and self._must_return(goodbye)):
            self._failures += goodbye.reason != "idle"
            self._revive()
        else:
            # A goodbye that comes late may have been overtaken by the next life's call.
            self.unsure = True

    def _must_return(self, goodbye: link.Goodbye) -> bool:
        """Whether silent sockets need the object.

        One that moved sleeps until somebody speaks, or all that moved would wake in
        their new place at once (design.md §4).
        """
        if not goodbye.epoch:
            return True  # nobody was there: whatever we came for is still to be done
        if goodbye.reason == "moved":
            return self._audience.typing
        return goodbye.reason in _WORTH_A_RETURN

    def paged(self) -> None:
        """Paging has ended, for good or ill: attach again."""
        self._paging = False
        self._revive()

    def caught_up(self, blob: bytes, seq: int) -> None:
        """Show the members events of the log that they missed, up to `seq`.

        `blob`: finished WebSocket frames.
        """
        self._fan_out(link.Fanout(blob, seq, None))

    def on_lost(self, lost: Link) -> None:
        """The link broke: a crash, as long as nobody said goodbye.

        With a pool thousands of objects end at once, so only those stubs come back that
        have something to do; the others first compare log tops (design.md §3.9).
        """
        if self._link is not lost:
            return
        self._link = None
        if lost.address.pooled and not self._pending and not self._audience.typing:
            self.unsure = True
        elif self._half.needed:
            self._failures += 1
            self._revive()


def _covered(pending: Pending, problem: Exception | None = None) -> None:
    """Tell who waits that a notification is covered, or will not be."""
    done = cast("asyncio.Future[None]", pending.waiter)
    if done.done():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)
        done.exception()  # looked at: nobody may be waiting any more


def _safely(outlet: Outlet, act: Callable[..., None], *what: object) -> None:
    """What a socket's own code raises ends that socket: not the link, nor others."""
    try:
        act(*what)
    except Exception:
        outlet.failed()
