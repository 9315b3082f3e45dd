"""How well a worker kept up with its own plan: whether its figures are the server's.

Owns what is measured of the generator itself, and the judgement of it: what it sent
late, how late its loop came round, and how much of a core it used.
"""

from __future__ import annotations

import time

from .result import Health, Histogram
from .ticker import now

CPU_LIMIT = 0.9
"""Of one core: above it a worker's own queue is part of what it measures."""


class Strain:
    """`begin` when it begins to count, `end` when nothing is sent any more."""

    def __init__(self, max_lag_s: float) -> None:
        self.cpu_share = 0.0  # of a core; 0 until `end`
        self._max_lag_s = max_lag_s
        self._lag = Histogram()
        self._lag_us = 0  # the worst since the last `worst`
        self._loop_lag = Histogram()
        self._began = now()
        self._cpu_began = time.process_time()

    def begin(self) -> None:
        """The warm-up is over and forgotten."""
        self._lag, self._loop_lag, self._lag_us = Histogram(), Histogram(), 0
        self._began, self._cpu_began = now(), time.process_time()

    def end(self) -> None:
        """Nothing is sent any more: the share of a core is known."""
        wall = now() - self._began
        self.cpu_share = (time.process_time() - self._cpu_began) / max(wall, 1e-3)

    def late(self, seconds: float) -> None:
        """Something was sent so long after it was due."""
        us = int(seconds * 1e6)
        self._lag.record(us)
        self._lag_us = max(self._lag_us, us)

    def loop_late(self, seconds: float) -> None:
        """The worker's loop came round so late."""
        self._loop_lag.record(int(seconds * 1e6))

    def worst(self) -> int:
        """By how many microseconds at most something was late since the last call."""
        worst, self._lag_us = self._lag_us, 0
        return worst

    def health(self, more: list[str]) -> Health:
        """Whether the figures are about the server; `more` reasons why not."""
        reasons = list(more)
        late, limit = self._lag.quantile(0.99), self._max_lag_s * 1e6
        if late > limit:
            reasons.append(
                f"1 % of messages left {late / 1000:.1f} ms late or more (p99; "
                f"{limit / 1000:g} is the limit)"
            )
        loop = self._loop_lag.quantile(0.99)
        if loop > 2 * limit:
            reasons.append(f"the generator's loop hung for {loop / 1000:.1f} ms (p99)")
        if self.cpu_share > CPU_LIMIT:
            reasons.append(
                f"the generator used {self.cpu_share:.0%} of a core; more --workers "
                "spread it"
            )
        return Health(
            valid=not reasons,
            reasons=reasons,
            max_lag_us=self._lag.max,
            cpu_share=round(self.cpu_share, 3),
            loop_lag_us=self._loop_lag.max,
        )
