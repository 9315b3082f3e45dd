"""Whether a sleeping object could wake now: the namespace's part of `/readyz`.

Only a wake proves a wake, and a wake costs a process. So what a wake needs is looked at
every few seconds (do its sockets take new connections, does storage take writes), and
tried in full now and then, and each time after a doubt until it succeeds. Wakes of real
objects count as tries. Nothing here waits while somebody asks: who asks is told what is
known, and makes it be found out again when that is old (wire.md §1).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from cfmessenger.errors import Unavailable

logger = logging.getLogger("cfmessenger.namespace")

LOOK_EVERY_S = 5.0
WAKE_EVERY_S = 180.0


class WakeProof:
    """`look` and `wake` raise `Unavailable` if no object could wake; both have
    deadlines of their own. Times are those of `now`, in seconds."""

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        wake: Callable[[], Awaitable[None]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._wake = wake
        self._now = now
        self._looked_at = -LOOK_EVERY_S  # when the last look began
        self._woke_at = 0.0  # the last wake that succeeded, tried or real
        self._doubt = True  # from a failure until the next wake that succeeds
        self._why_not = "No object has woken yet."  # empty while one could
        self._trying: asyncio.Task[None] | None = None  # the last look, perhaps done

    def woke(self) -> None:
        """An object has woken."""
        self._woke_at, self._doubt = self._now(), False

    def failed(self) -> None:
        """An object could not wake, for a reason that may be everybody's."""
        self._doubt = True

    def check(self) -> None:
        """Raises `Unavailable`, with the reason, while objects cannot wake."""
        idle = self._trying is None or self._trying.done()
        if idle and self._now() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._now()
            self._trying = asyncio.create_task(self._try())
        if self._why_not:
            raise Unavailable(message=self._why_not)

    async def _try(self) -> None:
        try:
            await self._look()
            if self._doubt or self._now() - self._woke_at >= WAKE_EVERY_S:
                await self._wake()
                self.woke()
        except Unavailable as problem:
            self._cannot(problem.message, problem.__cause__)
        except Exception as error:
            logger.exception("the wake was not tried")
            self._cannot(f"{type(error).__name__} while it was tried.")
        else:
            self._why_not = ""

    def _cannot(self, why: str, cause: BaseException | None = None) -> None:
        if why != self._why_not:
            logger.warning("objects cannot wake: %s (%r)", why, cause)
        self._doubt, self._why_not = True, why
