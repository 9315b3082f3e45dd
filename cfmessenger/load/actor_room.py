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
from cfmessenger.link.half import Half
from cfmessenger.link.roll import PersonalRoll

from .actor_link import Link, Links

BEHIND = 4999
"""Our own close code: only the log has what this seat missed."""


class Member(NamedTuple):
    """A seat that is in, or on its way. It changes neither its name nor its status."""

    conn: str
    attachment: Attachment
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
        self._half: Half[Member] = Half(room_name(room_id))
        self._links = links
        self._numbers = numbers
        self._turns = turns
        self._link: Link | None = None  # while attached
        # The last that reached out for the object; done: it got there, or was not
        # needed any more.
        self._reaching: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Of the object."""
        return self._half.name

    # What seats do.

    def open(self, attachment: Attachment, since: int | None, member: Member) -> None:
        """A seat comes in."""
        self._half.audience.enter(member, since)
        self._push(link.Opened(next(self._numbers), attachment, since, False))

    def say(self, conn: str, data: bytes) -> None:
        """A text frame of a seat."""
        seen = self._half.audience.seen_by(conn)
        self._push(link.Said(next(self._numbers), conn, data, seen))

    def close(self, conn: str) -> None:
        """A seat leaves."""
        if self._half.audience.leave(conn):
            self._push(link.Closed(next(self._numbers), conn))

    def _push(self, entry: link.Input) -> None:
        pending = self._half.pending
        pending.push(entry, 0.0)  # nothing expires here: a load test has limits
        if self._link is None:
            self._reach()
        elif pending.queue(entry):
            self._link.take_from(self)

    def leaving(self) -> link.Inputs | None:
        """What was queued for the object, which is attached: it leaves now."""
        return self._half.queued()

    def _cover(self, n: int) -> None:
        for done in self._half.pending.cover(n):
            if isinstance(done.input, link.Opened):
                self._half.audience.known(done.input.attachment)
            elif isinstance(done.input, link.Closed):
                self._half.audience.unknown(done.input.conn)

    # Getting there.

    def _reach(self) -> None:
        if self._reaching is None or self._reaching.done():
            self._reaching = asyncio.create_task(self._attach())

    async def _attach(self) -> None:
        half, backoff = self._half, Backoff(random.uniform, base_s=0.05, cap_s=2.0)
        while self._link is None and half.needed:
            try:
                to = await self._links.to(half.name)
            except Unreachable:
                await asyncio.sleep(backoff.delay())
                continue
            if to.lost:
                continue
            self._link = to
            to.riders[half.name] = self
            for message in half.attach(next(self._turns)):
                to.send(message)

    # What the room shows.

    def on_output(self, output: link.Output) -> None:
        """An older incarnation has nothing to say."""
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

    def _fan_out(self, item: link.Fanout) -> None:
        audience = self._half.audience
        if 0 < item.seq <= audience.seq:
            return  # shown already, by an incarnation that came before
        for payload in payloads(item.blob):
            for member in list(audience.members.values()):
                if member.attachment.user_id != item.but_user:
                    member.receive(payload)
        audience.shown(item.seq)

    def _do(self, item: link.Item) -> None:
        audience = self._half.audience
        if isinstance(item, link.ToSockets):
            for conn in item.conns:
                if (member := audience.get(conn)) is not None:
                    for payload in payloads(item.blob):
                        member.receive(payload)
        elif isinstance(item, link.Roll):
            self._call_roll(item)
        elif isinstance(item, link.Subscribed):
            self._half.let_in(item)
        elif isinstance(item, link.Kept):
            audience.keep(item.attachment)
        elif isinstance(item, link.Closing):
            self._end(item.conn, item.code)
        elif isinstance(item, link.CatchUp | link.Recall):
            self._end(item.conn, BEHIND)

    def _call_roll(self, item: link.Roll) -> None:
        roll = PersonalRoll(item.frame, item.start, item.end, item.users)
        audience, but = self._half.audience, set(item.but)
        for conn in item.conns or list(audience.members):
            member = audience.members.get(conn)
            if member is not None and conn not in but:
                blob = b"".join(roll.for_one(member.attachment))
                member.receive(*payloads(blob))

    def _end(self, conn: str, code: int) -> None:
        member = self._half.audience.get(conn)
        if member is not None:
            self.close(conn)
            member.lost(code)

    # How it ends, for now.

    def on_goodbye(self, goodbye: link.Goodbye) -> None:
        """It left, or wants us to attach anew."""
        half = self._half
        if goodbye.turn != half.turn:
            return
        if half.ended(goodbye):
            self._cover(goodbye.covered)
        if self._link is not None:
            self._link.riders.pop(half.name, None)
            self._link = None
        if goodbye.reason == "behind":
            for conn in list(half.audience.members):
                self._end(conn, BEHIND)
        elif half.pending or goodbye.reason not in ("idle", "shutting_down"):
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
