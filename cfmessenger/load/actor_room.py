"""A room over a link: what a gateway's stub does for its sockets, without the sockets.

Keeps every input until it is covered, attaches again when the object went to sleep,
moved or died, and hands what is shown to the seats (design.md §3.2-9). It pages nothing
from the log: whoever would need that has fallen behind for good.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cfmessenger.backoff import Backoff
from cfmessenger.chat.effects import Attachment
from cfmessenger.client.errors import Unreachable
from cfmessenger.ids import room_name
from cfmessenger.link import messages as link
from cfmessenger.link.audience import Audience
from cfmessenger.link.uncovered import Uncovered

from .actor_link import Link, Links

BEHIND = 4999
"""Our own close code: only the log has what this seat missed."""


class Member(NamedTuple):
    """A seat that is in, or on its way."""

    conn: str
    user_id: str
    receive: Callable[[bytes], None]
    lost: Callable[[int], None]


class ActorRoom:
    """One room; `numbers` are the worker's inputs, `turns` its attaches."""

    def __init__(
        self,
        room_id: str,
        links: Links,
        numbers: Iterator[int],
        turns: Iterator[int],
    ) -> None:
        self._name = room_name(room_id)
        self._links = links
        self._numbers = numbers
        self._turns = turns
        self._epoch = 0  # the newest that was heard of; never falls
        self._rested = 0  # the epoch whose goodbye was the last thing heard, else 0
        self._turn = 0  # of the last attach
        self._link: Link | None = None  # while attached
        self._pending = Uncovered()  # inputs, until covered
        self._audience = Audience[Member]()  # the seats, and how far each has got
        # The last that reached out for the object; done: it got there, or was not
        # needed any more.
        self._reaching: asyncio.Task[None] | None = None

    # What seats do.

    def open(self, attachment: Attachment, since: int | None, member: Member) -> None:
        """A seat comes in."""
        self._audience.enter(member, since)
        self._push(link.Opened(next(self._numbers), attachment, since, False))

    def say(self, conn: str, data: bytes) -> None:
        """A text frame of a seat."""
        seen = self._audience.seen_by(conn)
        self._push(link.Said(next(self._numbers), conn, data, seen))

    def close(self, conn: str) -> None:
        """A seat leaves."""
        if self._audience.leave(conn):
            self._push(link.Closed(next(self._numbers), conn))

    def _push(self, entry: link.Input) -> None:
        self._pending.push(entry, 0.0)  # nothing expires here: a load test has limits
        if self._link is None:
            self._reach()
        elif self._pending.queue(entry):
            asyncio.get_running_loop().call_soon(self._send_queued)

    def _send_queued(self) -> None:
        if self._link is None:
            return  # the next attach brings everything
        queued = self._pending.leaving()
        if queued:
            self._link.send(link.Inputs(self._name, queued, self._turn))

    def _cover(self, n: int) -> None:
        for done in self._pending.cover(n):
            if isinstance(done.input, link.Opened):
                self._audience.known(done.input.attachment)
            elif isinstance(done.input, link.Closed):
                self._audience.unknown(done.input.conn)

    # Getting there.

    def _reach(self) -> None:
        if self._reaching is None or self._reaching.done():
            self._reaching = asyncio.create_task(self._attach())

    async def _attach(self) -> None:
        backoff = Backoff(random.uniform, base_s=0.05, cap_s=2.0)
        while self._link is None and (self._audience.held or self._pending):
            try:
                to = await self._links.to(self._name)
            except Unreachable:
                await asyncio.sleep(backoff.delay())
                continue
            if to.lost:
                continue
            self._link = to
            to.riders[self._name] = self
            seq, sockets = self._audience.arrive(self._pending.opened)
            covered, replay = self._pending.covered, self._pending.sent
            turn = self._turn = next(self._turns)
            to.send(
                link.Attach(
                    self._name,
                    self._epoch,
                    seq,
                    covered,
                    replay,
                    sockets,
                    turn,
                    self._rested,
                )
            )
            entries = self._pending.again()
            if entries:
                to.send(link.Inputs(self._name, entries, turn))

    # What the room shows.

    def on_output(self, output: link.Output) -> None:
        """An older incarnation has nothing to say."""
        if output.epoch < self._epoch or output.turn != self._turn:
            return
        self._epoch, self._rested = output.epoch, 0
        for item in output.items:
            if type(item) is link.Fanout:
                self._fan_out(item)
            else:
                self._do(item)
        self._cover(output.covered)

    def _fan_out(self, item: link.Fanout) -> None:
        audience = self._audience
        if 0 < item.seq <= audience.seq:
            return  # shown already, by an incarnation that came before
        for payload in payloads(item.blob):
            for member in list(audience.members.values()):
                if member.user_id != item.but_user:
                    member.receive(payload)
        audience.shown(item.seq)

    def _do(self, item: link.Item) -> None:
        audience = self._audience
        if isinstance(item, link.ToSockets):
            for conn in item.conns:
                if (member := audience.get(conn)) is not None:
                    for payload in payloads(item.blob):
                        member.receive(payload)
        elif isinstance(item, link.Subscribed):
            for conn in item.conns:
                if audience.let_in(conn):
                    self._pending.entered(conn, item.seq)
            audience.shown(item.seq)
        elif isinstance(item, link.Kept):
            audience.keep(item.attachment)
        elif isinstance(item, link.Closing):
            self._end(item.conn, item.code)
        elif isinstance(item, link.CatchUp | link.Recall):
            self._end(item.conn, BEHIND)

    def _end(self, conn: str, code: int) -> None:
        member = self._audience.get(conn)
        if member is not None:
            self.close(conn)
            member.lost(code)

    # How it ends, for now.

    def on_goodbye(self, goodbye: link.Goodbye) -> None:
        """It left, or wants us to attach anew."""
        if goodbye.turn != self._turn:
            return
        if goodbye.epoch >= self._epoch:
            self._epoch = goodbye.epoch
            ended = goodbye.reason not in ("reset", "behind")
            self._rested = goodbye.epoch if ended else 0
            self._cover(goodbye.covered)
        if self._link is not None:
            self._link.riders.pop(self._name, None)
            self._link = None
        if goodbye.reason == "behind":
            for conn in list(self._audience.members):
                self._end(conn, BEHIND)
        elif self._pending or goodbye.reason not in ("idle", "shutting_down"):
            self._reach()

    def on_lost(self, lost: Link) -> None:
        """The link broke."""
        if self._link is lost:
            self._link = None
            self._reach()


def payloads(blob: bytes) -> list[bytes]:
    """What is in finished, unmasked text frames, as `link.text_frame` makes them."""
    size = blob[1]
    at = 2
    if size == 126:
        size, at = int.from_bytes(blob[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(blob[2:10], "big"), 10
    if len(blob) == at + size:  # nearly always: one event, one blob
        return [blob[at:]]
    return [blob[at : at + size], *payloads(blob[at + size :])]


def numbering() -> Iterator[int]:
    """1, 2, 3, ..."""
    return itertools.count(1)
