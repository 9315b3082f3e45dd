"""A room over a link: what a gateway's stub does for its sockets, without the sockets.

Keeps every input until it is covered, attaches again when the object went to sleep,
moved or died, and hands what is shown to the seats (design.md §3.2-9). It pages nothing
from the log: whoever would need that has fallen behind for good.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cfmessenger.backoff import Backoff
from cfmessenger.chat.effects import Attachment
from cfmessenger.client.errors import Unreachable
from cfmessenger.ids import room_name
from cfmessenger.link import messages as link

from .actor_link import Link, Links

BEHIND = 4999
"""Our own close code: only the log has what this seat missed."""


class Member(NamedTuple):
    """A seat that is in."""

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
        self._epoch = 0
        self._seq = 0
        self._rested = 0
        self._turn = 0
        self._covered = 0
        self._sent = 0
        self._link: Link | None = None
        self._pending: deque[link.Input] = deque()
        self._fresh: list[link.Input] = []
        self._outlets: dict[str, Member] = {}
        self._members: dict[str, Member] = {}
        self._held: dict[str, Attachment] = {}
        self._reopening: set[str] = set()
        self._reaching: asyncio.Task[None] | None = None

    # What seats do.

    def open(self, attachment: Attachment, since: int | None, member: Member) -> None:
        """A seat comes in."""
        self._outlets[attachment.conn] = member
        self._push(link.Opened(next(self._numbers), attachment, since, False))

    def say(self, conn: str, data: bytes) -> None:
        """A text frame of a seat."""
        self._push(link.Said(next(self._numbers), conn, data, self._seq))

    def close(self, conn: str) -> None:
        """A seat leaves."""
        if self._outlets.pop(conn, None) is not None:
            self._members.pop(conn, None)
            self._push(link.Closed(next(self._numbers), conn))

    def _push(self, entry: link.Input) -> None:
        self._pending.append(entry)
        if self._link is None:
            self._reach()
            return
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._send_fresh)
        self._fresh.append(entry)

    def _send_fresh(self) -> None:
        fresh, self._fresh = self._fresh, []
        if self._link is not None and fresh:
            self._link.send(link.Inputs(self._name, fresh, self._turn))
            self._sent = fresh[-1].n

    def _cover(self, n: int) -> None:
        pending = self._pending
        while pending and pending[0].n <= n:
            done = pending.popleft()
            if isinstance(done, link.Opened):
                self._held.setdefault(done.attachment.conn, done.attachment)
            elif isinstance(done, link.Closed):
                self._held.pop(done.conn, None)
        self._covered = max(self._covered, n)

    # Getting there.

    def _reach(self) -> None:
        if self._reaching is None or self._reaching.done():
            self._reaching = asyncio.create_task(self._attach())

    async def _attach(self) -> None:
        backoff = Backoff(random.uniform, base_s=0.05, cap_s=2.0)
        while self._link is None and (self._held or self._pending):
            try:
                to = await self._links.to(self._name)
            except Unreachable:
                await asyncio.sleep(backoff.delay())
                continue
            if to.lost:
                continue
            self._link = to
            to.riders[self._name] = self
            self._fresh = []
            entries = list(self._pending)
            opened = {e.attachment.conn for e in entries if isinstance(e, link.Opened)}
            self._reopening = opened & self._held.keys()
            self._turn = next(self._turns)
            to.send(
                link.Attach(
                    self._name,
                    self._epoch,
                    self._seq if self._members else -1,
                    self._covered,
                    self._sent,
                    list(self._held.values()),
                    self._turn,
                    self._rested,
                )
            )
            if entries:
                to.send(link.Inputs(self._name, entries, self._turn))
                self._sent = max(self._sent, entries[-1].n)

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
        if 0 < item.seq <= self._seq:
            return  # shown already, by an incarnation that came before
        for payload in payloads(item.blob):
            for member in list(self._members.values()):
                if member.user_id != item.but_user:
                    member.receive(payload)
        self._seq = item.seq or self._seq

    def _do(self, item: link.Item) -> None:
        if isinstance(item, link.ToSockets):
            for conn in item.conns:
                if (member := self._outlets.get(conn)) is not None:
                    for payload in payloads(item.blob):
                        member.receive(payload)
        elif isinstance(item, link.Subscribed):
            for conn in item.conns:
                if conn in self._reopening:
                    self._reopening.discard(conn)
                elif (member := self._outlets.get(conn)) is not None:
                    self._members[conn] = member
            self._seq = max(self._seq, item.seq)
        elif isinstance(item, link.Kept):
            if item.attachment.conn in self._outlets:
                self._held[item.attachment.conn] = item.attachment
        elif isinstance(item, link.Closing):
            self._end(item.conn, item.code)
        elif isinstance(item, link.CatchUp | link.Recall):
            self._end(item.conn, BEHIND)

    def _end(self, conn: str, code: int) -> None:
        member = self._outlets.get(conn)
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
            for conn in list(self._members):
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
