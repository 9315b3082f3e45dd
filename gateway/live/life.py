"""A stub's way to its object: found when needed, kept, lost, and found again.

Owns the link while the stub is attached, the task that reaches out when it is not, and
what is known of an object that sleeps. It decides when the object is needed; what is
said to it and what it shows is the stub's (design.md §3.2, 3.7-9).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping

from cfmessenger.backoff import doubled
from cfmessenger.errors import Unavailable
from cfmessenger.link import messages as link
from cfmessenger.link.half import Half
from gateway.live.link import Link, Rider
from gateway.live.links import Links
from gateway.live.outlet import Outlet

logger = logging.getLogger("cfmessenger.stub")

BACKOFF_S, BACKOFF_CAP_S = 0.05, 2.0

_WORTH_A_RETURN = frozenset({"duplicate_activation", "storage_failed"})
"""Reasons of a goodbye after which silent sockets need the object too."""


class Life:
    """Of the object of `half`, for its `rider`.

    `page()` is called when the gap to the object is larger than its buffer, or the
    object is behind the log: it must give the sockets what the log has, then call
    `paged`.
    """

    def __init__(
        self,
        half: Half[Outlet],
        links: Links,
        rider: Rider,
        page: Callable[[], None],
    ) -> None:
        self.hint: str | None = None  # of the first session that came, then kept
        self.link: Link | None = None  # while attached
        self.unsure = False  # from falling asleep until log tops are compared
        self.failures = 0  # to reach or keep the object, since its last output
        self._half = half
        self._links = links
        self._rider = rider
        self._page = page
        self._paging = False  # from `turn_to_the_log` until `paged`
        self._reviving: asyncio.Task[None] | None = None  # while it reaches out
        self._handshakes = 0  # under way: it must not be forgotten meanwhile

    @contextlib.contextmanager
    def wanted(self) -> Iterator[None]:
        """Around a handshake: the stub is not `idle`, though nobody is in yet."""
        self._handshakes += 1
        try:
            yield
        finally:
            self._handshakes -= 1

    @property
    def idle(self) -> bool:
        """Not attached and needed by nobody: the stub may be forgotten."""
        waiting = self._half.audience or self._half.expects
        busy = waiting or self._reviving or self._handshakes
        return self.link is None and not busy

    @property
    def asleep(self) -> bool:
        """It holds sockets for an object that it is not attached to."""
        return self.link is None and bool(self._half.audience.held)

    # Getting to the object.

    async def reach(self) -> None:
        """Attach, unless it is attached or paging. Raises `Unavailable`.

        A link that is lost at once leaves it unattached.
        """
        if self.link is None and not self._paging:
            self._attach(await self._links.to(self._half.name, self.hint))

    def _attach(self, to: Link) -> None:
        if self.link is not None or to.lost or self._paging:
            return
        self.link = to
        to.riders[self._half.name] = self._rider
        process = to.address.actor_id
        for message in self._half.attach(self._links.next_turn(), process):
            to.send(message)

    def wake(self) -> None:
        """The object is awake elsewhere and wants its gateways back."""
        if self.link is None and self._half.needed:
            self.revive()

    def revive(self) -> None:
        """Reach for the object until it is attached or needed no more."""
        if self._paging:
            return  # `paged` goes on from there
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._reach_again())
            self._reviving.add_done_callback(self._revived)

    def _revived(self, task: asyncio.Task[None]) -> None:
        if self._reviving is task:
            self._reviving = None
        if not task.cancelled() and task.exception() is not None:
            what = f"{self._half.name} cannot be revived"
            logger.error(what, exc_info=task.exception())

    async def _reach_again(self) -> None:
        name = self._half.name
        while not (self.link or self._paging) and self._half.needed:
            if self.failures:
                # Full jitter: many gateways come back for one room.
                longest = doubled(BACKOFF_S, BACKOFF_CAP_S, self.failures)
                await asyncio.sleep(random.uniform(0, longest))
            try:
                await self.reach()
            except Unavailable as problem:
                self.failures += 1
                times, why = self.failures, problem.message
                logger.info("%s not reached (%d): %s", name, times, why)
            except Exception:
                self.failures += 1
                logger.exception("%s not reached", name)

    def rename(self, names: Mapping[str, str]) -> None:
        """The gateway has a new name (design.md §3.11): attach anew under it.

        `names`: every open connection's former name to its new one.
        """
        self._half.rename(names)
        self.link = None
        if self._half.needed:
            self.revive()

    def end(self) -> None:
        """The gateway goes: reach for the object no more."""
        if self._reviving is not None:
            self._reviving.cancel()

    # How it ends, for now.

    def _let_go(self) -> Link | None:
        at, self.link = self.link, None
        if at is not None:
            at.riders.pop(self._half.name, None)
        return at

    def left(self, goodbye: link.Goodbye) -> None:
        """The object left, or wants to be attached anew (design.md §3.7-9)."""
        at, half = self._let_go(), self._half
        if goodbye.reason == "moved":
            self._links.moved(half.name)
        if goodbye.reason in link.AGAIN and at is not None:
            self._attach(at)
        elif goodbye.reason == "behind":
            self.turn_to_the_log()
        elif half.expects or (half.audience.held and self._must_return(goodbye)):
            self.failures += goodbye.reason != "idle"
            self.revive()
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
        if goodbye.due:
            return True
        if goodbye.reason == "moved":
            return self._half.audience.typing
        return goodbye.reason in _WORTH_A_RETURN

    def lost(self, lost: Link) -> None:
        """The link broke: a crash, as long as nobody said goodbye.

        With a pool thousands of objects end at once, so only those stubs come back that
        have something to do; the others first compare log tops (design.md §3.9).
        """
        if self.link is not lost:
            return
        self.link = None
        half = self._half
        if lost.address.pooled and not half.expects and not half.audience.typing:
            self.unsure = True
        elif half.needed:
            self.failures += 1
            self.revive()

    # What only the log has.

    def turn_to_the_log(self) -> None:
        """Show the sockets what the log has, then attach anew.

        For an object that is behind the log, or out of reach.
        """
        self._let_go()
        if not self._paging:
            self.failures += 1
            self._paging = True
            self._page()

    def paged(self) -> None:
        """Paging has ended, for good or ill: attach again."""
        self._paging = False
        self.revive()
