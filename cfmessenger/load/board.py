"""The state of a running test, as its workers report it: what a display shows.

Owns when a second is complete: every worker has reported it, or one of them is already
two further on, for a stuck worker must not hold up the rest. Pure: no clock, no output.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .result import (
    Histogram,
    Phase,
    Progress,
    Second,
    merge_seconds,
)

PHASES: Final[tuple[Phase, ...]] = ("connecting", "warm-up", "measuring", "draining")
_PATIENCE = 2  # seconds

_Key = tuple[int, int]  # of PHASES, Second.t


class PhaseSecond(NamedTuple):
    """A second of the whole test and the phase it was in."""

    phase: Phase
    second: Second


class Board:
    """Collects progress of `workers` workers; durations in seconds, 0 is unknown."""

    def __init__(
        self,
        *,
        scenario: str,
        url: str = "",
        duration_s: float = 0.0,
        warmup_s: float = 0.0,
        workers: int = 1,
    ) -> None:
        self.scenario = scenario
        self.url = url
        self.duration_s = duration_s
        self.warmup_s = warmup_s
        self.workers = workers
        self.seconds: list[PhaseSecond] = []
        """Complete seconds, oldest first."""
        self.overall: tuple[int, int, int] | None = None
        """p50, p99 and maximum (us) of all acks measured so far."""
        self.max_lag_us = 0
        self._acks = Histogram()
        self._latest: dict[int, Progress] = {}
        self._open: dict[_Key, dict[int, Progress]] = {}
        self._shown: _Key = (-1, 0)

    def add(self, progress: Progress) -> None:
        """Take in what a worker reports. ValueError if its histogram cannot be read."""
        if progress.phase == "measuring":
            self._measure(progress)
        self._latest[progress.worker] = progress
        key = _key(progress)
        if key > self._shown:  # else too late to be shown
            self._open.setdefault(key, {})[progress.worker] = progress
        for due in sorted(self._open):
            if not self._complete(due):
                break
            parts = self._open.pop(due).values()
            second = merge_seconds([(part.second, part.histogram) for part in parts])
            self.seconds.append(PhaseSecond(PHASES[due[0]], second))
            self._shown = due

    @property
    def phase(self) -> Phase:
        """The phase of the worker that is least far."""
        if not self._latest:
            return "connecting"
        return min((_key(p), p.phase) for p in self._latest.values())[1]

    @property
    def done(self) -> float:
        """How much of the phase is over, 0 to 1, at the worker that is least far."""
        phase = self.phase
        shares = [p.done for p in self._latest.values() if p.phase == phase]
        return min(max(0.0, min(shares, default=0.0)), 1.0)

    @property
    def phase_s(self) -> float:
        """How long the phase takes in all; 0 if nobody can know."""
        lengths = {"warm-up": self.warmup_s, "measuring": self.duration_s}
        return lengths.get(self.phase, 0.0)

    @property
    def counts(self) -> dict[str, int]:
        """All counts so far."""
        total: dict[str, int] = {}
        for progress in self._latest.values():
            for name, count in progress.counts.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def measured(self) -> list[Second]:
        """The complete seconds of the measurement."""
        return [each.second for each in self.seconds if each.phase == "measuring"]

    def _measure(self, progress: Progress) -> None:
        self.max_lag_us = max(self.max_lag_us, progress.second.lag_us)
        if progress.histogram:
            self._acks.merge(Histogram.decode(progress.histogram))
            if self._acks.count:
                p50, p99 = self._acks.quantiles(0.5, 0.99)
                self.overall = p50, p99, self._acks.max

    def _complete(self, key: _Key) -> bool:
        if len(self._open[key]) >= self.workers:
            return True
        phase, t = key
        return any(
            _key(progress) >= (phase, t + _PATIENCE)
            for progress in self._latest.values()
        )


def _key(progress: Progress) -> _Key:
    return PHASES.index(progress.phase), progress.second.t
