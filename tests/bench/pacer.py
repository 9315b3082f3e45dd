"""Messages at a rate, by the clock: due when they are due, whatever the server does.

Owns the schedule and how well it was kept. What a server has not delivered is bounded:
one that falls behind is not sent more than `UNDER_WAY_S` seconds' worth on top, so that
its own pace is found and its end is near. The schedule goes on meanwhile, and latencies
count from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cfmessenger.load.ticker import Ticker

UNDER_WAY_S = 0.5
AT_LEAST = 50
"""Messages under way that even a slow pace may have."""

TICK_S = 0.0002
"""What is due in the same tick leaves together: more wakes a second cost the loader
more than they tell."""

HOLD_S = 0.001
LATE_S = 0.005
BURST = 64
"""Late messages that are sent before the loop may read again."""


class Pacer:
    """`say(n, due)` is called for the n-th message; `delivered` is how many came."""

    def __init__(
        self,
        rate: float,
        say: Callable[[int, float], None],
        delivered: Callable[[], float],
    ) -> None:
        self.sent = 0
        #: Seconds by which each message left late, since `measure` was called.
        self.late_s: list[float] = []
        self._rate = rate
        self._say = say
        self._delivered = delivered
        self._most = max(AT_LEAST, rate * UNDER_WAY_S)
        self._held = False  # since `measure`: whether the server was waited for
        self._start = 0.0  # when the first would have been due; from `going` on

    def measure(self) -> None:
        """What was late so far is forgotten: what is due is due from now on."""
        self.late_s.clear()
        self._held = False
        self._start = time.perf_counter() - self.sent / self._rate

    @property
    def note(self) -> str:
        """A sentence if the loader itself was late, so that latencies are of both; a
        server that was waited for has none."""
        late = sorted(self.late_s)
        if self._held or not late:
            return ""
        p99 = late[int(0.99 * (len(late) - 1))]
        if p99 < LATE_S:
            return ""
        return f"the loader itself was {1000 * p99:.0f} ms late (p99)"

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """Speaks as long as this is open."""
        speaking = asyncio.create_task(self._speak())
        try:
            yield
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
        if not speaking.cancelled():
            speaking.result()  # it never ends but by a fault

    async def _speak(self) -> None:
        self._start = time.perf_counter()
        with Ticker(TICK_S) as ticker:
            while True:
                due = self._start + self.sent / self._rate
                if self.sent - self._delivered() >= self._most:
                    self._held = True
                    await asyncio.sleep(HOLD_S)
                    continue
                now = time.perf_counter()
                if due > now:
                    await ticker.until(due)
                    continue
                self.late_s.append(now - due)
                self._say(self.sent, due)
                self.sent += 1
                if self.sent % BURST == 0:
                    await asyncio.sleep(0)
