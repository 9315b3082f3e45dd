"""The connections of one worker's seats: dialled, lost, come back, hung up.

Owns who is on a line and who is on the way to one, and when a seat is given up. What is
said over a line is `crew`'s business; a `Carrier` is how a seat gets one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from cfmessenger.background import Background
from cfmessenger.backoff import Backoff
from cfmessenger.client.errors import ApiError, Unreachable
from cfmessenger.client.reconnect import reconnects

from .meter import Meter
from .seat import Chair, DeafSeat
from .ticker import now

DIALLING = 32
"""Handshakes of one worker at a time."""

ENTER_TIMEOUT_S = 60.0
DIAL_TRIES = 8


class Connection(Protocol):
    """What carries a seat, for as long as it lasts."""

    def close(self) -> None:
        """Leave; `Seat.lost` is called by the time it is gone."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class Carrier(Protocol):
    """How seats get their connections."""

    async def connect(
        self, seat: Chair, since: int | None, lost: Callable[[int], None], slow: bool
    ) -> Connection:
        """Dial; frames go to `seat.receive`, the end with its close code to `lost`.

        Raises `ApiError` (refused) or `Unreachable`. `slow`: with small buffers.
        """

    async def start(self) -> None:
        """Before the first of them. Raises `Unreachable`."""

    async def aclose(self) -> None:
        """After the last."""


class Lines:
    """`gone(seat)` is called when nothing more is owed to a seat, before it leaves."""

    def __init__(
        self,
        carrier: Carrier,
        meter: Meter,
        chance: random.Random,
        gone: Callable[[Chair], None],
    ) -> None:
        self.carrier = carrier
        self._meter = meter
        self._random = chance
        self._gone = gone
        self._connections: dict[Chair, Connection] = {}
        self._dialled: dict[Chair, float] = {}  # when, the last time
        # From the first dial until the room has told where it is.
        self._entering: dict[Chair, asyncio.Future[None]] = {}
        self._dropped: set[Chair] = set()  # by us, until it is lost: it comes back
        self._leaving: set[Chair] = set()  # by us, until it is lost: it does not
        self._returning = Background()  # of those that come back
        self._closing = False  # True from `aclose` on

    async def everybody_back(self) -> None:
        """Until nobody is on the way back any more."""
        await self._returning.settle()

    async def connect(self, seats: Sequence[Chair], slow: bool = False) -> None:
        """Dial in, some at a time; returns when all are in their rooms.

        Raises `ApiError` or `Unreachable` when one is not to be had.
        """
        gate = asyncio.Semaphore(DIALLING)

        async def one(seat: Chair) -> None:
            async with gate:
                await self.join(seat, slow=slow)

        await _all(one(seat) for seat in seats)

    async def join(self, seat: Chair, *, slow: bool = False) -> None:
        """Dial and wait until the room has told where it is."""
        entered = await self.dial(seat, slow=slow)
        try:
            async with asyncio.timeout(ENTER_TIMEOUT_S):
                await entered
        except TimeoutError:
            raise Unreachable(f"{seat.room.name} says nothing to who enters") from None

    async def dial(self, seat: Chair, *, slow: bool = False) -> asyncio.Future[None]:
        """Dial; what comes back is done when the room has told where it is."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entering[seat] = entered
        try:
            await self._dial(seat, slow)
        except BaseException:
            self._entering.pop(seat, None)
            raise
        return entered

    async def _dial(self, seat: Chair, slow: bool = False) -> None:
        backoff = Backoff(self._random.uniform, base_s=0.2, cap_s=3.0)
        while True:
            self._dialled[seat] = now()
            try:
                made = await self.carrier.connect(
                    seat, seat.since, lambda code: self._lost(seat, code), slow
                )
            except ApiError as error:
                self._meter.counts["refused"] += 1
                full = error.code == "AT_CAPACITY" and seat in self._entering
                if full or not error.retryable or backoff.attempt >= DIAL_TRIES:
                    raise
                await asyncio.sleep(backoff.delay(error.retry_after_s or 0.0))
            else:
                if seat.write is not None:  # not gone again already
                    self._connections[seat] = made
                return

    def entered(self, seat: Chair) -> None:
        """The room has told a seat where it is."""
        self._meter.sockets += 1
        entering = self._entering.pop(seat, None)
        name = "reconnect" if entering is None else "connect"
        self._meter.record(name, seat.greeted_at - self._dialled[seat])
        if entering is not None:
            self._meter.counts["connected"] += 1
            if not entering.done():
                entering.set_result(None)
        else:
            self._meter.counts["reconnected"] += 1

    def leave(self, seat: Chair) -> None:
        """Close a seat for good: nothing more is owed to it."""
        self._gone(seat)
        self._meter.counts["left"] += 1
        self._leaving.add(seat)
        self._hang_up(seat)

    def drop(self, seat: Chair) -> None:
        """Close a connection; the seat comes back by itself and has missed nothing."""
        if seat in self._connections:
            self._dropped.add(seat)
            self._hang_up(seat)

    def _hang_up(self, seat: Chair) -> None:
        if (found := self._connections.get(seat)) is not None:
            found.close()

    def connection(self, seat: Chair) -> Connection | None:
        """The connection of a seat, if it has one."""
        return self._connections.get(seat)

    def _lost(self, seat: Chair, code: int) -> None:
        self._connections.pop(seat, None)
        self._meter.sockets -= seat.in_room
        seat.lost()
        if self._closing or seat in self._leaving:
            self._leaving.discard(seat)
            return
        if seat in self._dropped:
            self._dropped.discard(seat)
        else:
            self._meter.counts[f"closed.{code}"] += 1
            if isinstance(seat, DeafSeat) or not reconnects(code):
                self._give_up(seat, f"closed with code {code}")
                return
        self._returning.begin(self._come_back(seat))

    async def _come_back(self, seat: Chair) -> None:
        try:
            await self._dial(seat)
        except (ApiError, Unreachable) as error:
            self._meter.error(error.code)
            self._give_up(seat, str(error))

    def _give_up(self, seat: Chair, why: str) -> None:
        # The server does not want it any more: it is owed nothing after this.
        self._gone(seat)
        entering = self._entering.pop(seat, None)
        if entering is not None and not entering.done():
            entering.set_exception(Unreachable(f"{seat.room.name}: {why}"))

    async def aclose(self) -> None:
        """Close every connection."""
        self._closing = True
        self._returning.cancel()
        for each in list(self._connections.values()):
            each.close()
        await self.carrier.aclose()


async def _all(work: Iterable[object]) -> None:
    """All of it, or the first error and none of the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)  # type: ignore[arg-type]
    except* (ApiError, Unreachable) as errors:
        raise errors.exceptions[0] from None
