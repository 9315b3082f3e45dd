"""The presence sockets of a gateway: what they watch, and what they are told.

The shell of `Onlookers`: it writes what that returns, gives each socket a full sync of
the new scope when it changes, a few at a time, counts the time of storms, and lets the
registry hear of it (design.md §3.12). Sockets are the registry stub's, too, for all
that has nothing to do with whom they watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from cfmessenger.accounts.users import Directory
from cfmessenger.chat.effects import News, Wants
from cfmessenger.errors import ProtocolError
from cfmessenger.link.arrivals import ROUND_S
from cfmessenger.link.messages import text_frame
from cfmessenger.link.onlookers import Onlookers, Write
from cfmessenger.wire import protocol
from cfmessenger.wire.protocol import Unwatch, Watch
from gateway.live.outlet import Outlet, safely

if TYPE_CHECKING:
    from gateway.metrics import Traffic

SYNCS_AT_ONCE, SYNCS_EVERY_S = 200, 0.05
"""How fast sockets follow a change of the scope: 4,000 a second."""
SWEEP_S = 1.0
"""Whom nobody wants any more the registry is told after so long at most."""


class Watching:
    """Of one gateway; `sought()` is called when the registry is to hear something.
    `traffic` is counted up."""

    def __init__(
        self, directory: Directory, sought: Callable[[], None], traffic: Traffic
    ) -> None:
        self._directory = directory
        self._sought = sought
        self._traffic = traffic
        self._crowd: Onlookers[Outlet] = Onlookers(self._called)
        self._syncing: asyncio.TimerHandle | None = None  # while any is due
        self._storm: asyncio.TimerHandle | None = None  # until the end of its round

    def _called(self, user_id: str) -> str | None:
        user = self._directory.get(user_id)
        return None if user is None else user.display_name

    # What sockets do.

    def enter(self, outlet: Outlet, friends: Iterable[str]) -> None:
        """A presence socket that was opened at the registry just now. Its user has
        direct rooms with `friends`."""
        self._crowd.enter(outlet, outlet.user_id, friends)
        self._sought()

    def leave(self, outlet: Outlet) -> None:
        """It is gone."""
        self._crowd.leave(outlet)

    def take(self, outlet: Outlet, frame: Watch | Unwatch) -> None:
        """A presence socket says whom it watches."""
        if isinstance(frame, Unwatch):
            self._crowd.unwatch(outlet, frame.user_ids)
            return
        try:
            self._write(self._crowd.watch(outlet, frame.user_ids))
        except ProtocolError as error:
            outlet.told(text_frame(protocol.error_frame(error)), True)
        if self._crowd.wanted.due:
            self._sought()

    def meet(self, outlet: Outlet, user_ids: Collection[str]) -> None:
        """Its user has a direct room with the other of these two."""
        for user_id in user_ids:
            if user_id != outlet.user_id:
                self._write(self._crowd.meet(outlet, user_id))
        if self._crowd.wanted.due:
            self._sought()

    # What the registry hears and tells.

    @property
    def waits(self) -> bool:
        """Somebody waits for its answer."""
        return self._crowd.waits

    def leaving(self) -> Wants | None:
        """What it is to hear now."""
        return self._crowd.wanted.leaving()

    def again(self) -> Wants | None:
        """What it is to hear behind an attach."""
        return self._crowd.wanted.again()

    def told(self, news: News) -> None:
        """It tells who is online."""
        self._write(self._crowd.told(news))
        if self._crowd.stale and self._syncing is None:
            self._resync()
        if self._crowd.holds_back and self._storm is None:
            self._next_round()

    def _next_round(self) -> None:
        loop = asyncio.get_running_loop()
        self._storm = loop.call_later(ROUND_S, self._calm)

    def _calm(self) -> None:
        self._storm = None
        self._write(self._crowd.calm())
        if self._crowd.holds_back:
            self._next_round()

    def _resync(self) -> None:
        self._syncing = None
        self._write(self._crowd.resync(SYNCS_AT_ONCE))
        if self._crowd.stale:
            loop = asyncio.get_running_loop()
            self._syncing = loop.call_later(SYNCS_EVERY_S, self._resync)

    def _write(self, writes: list[Write[Outlet]]) -> None:
        for sockets, frames in writes:
            blob = b"".join(map(text_frame, frames))
            for outlet in sockets:
                safely(outlet, outlet.told, blob, False)
            self._traffic.deliveries += len(frames) * len(sockets)
            self._traffic.delivered_bytes += len(blob) * len(sockets)

    async def sweep(self) -> None:
        """Until cancelled: forget whom nobody wants any more."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._crowd.sweep()
            if self._crowd.wanted.due:
                self._sought()

    def end(self) -> None:
        """The gateway goes."""
        for timer in (self._syncing, self._storm):
            if timer is not None:
                timer.cancel()
