"""When a window may open, and whether it was one: the load has run for a while, costs
what it cost a moment ago, and no process came or went.

A server that has just been started still starts things (warm workers, pools, a JIT's
code), and what that takes is no message's price. So nobody waits a guessed time:
`Steadiness` is told what each slice of time cost and did. Both shells are bounded, and
say so when they gave up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from tests.bench.meter import Meter, Reading

SLICES = 4
TOLERANCE = 0.1
SLACK = 0.02
"""Of a core, on top of that: a process's time is told in steps of 10 ms, and a dozen
processes that rest differ by so much from second to second."""

SLICES_AT_MOST = 30
WINDOWS = 3

Work = Callable[[], float]
"""What has been done so far: deliveries, or seconds where nothing is said."""


class _Slice(NamedTuple):
    cpu_s: float
    work: float
    seconds: float


class Steadiness:
    """Pure: `add` says after each slice whether the latest `SLICES` were alike.

    Alike: the same processes all the time; and their later half cost as much for as
    much work as the earlier one, and did as much of it, within `TOLERANCE` and `SLACK`.
    """

    def __init__(self) -> None:
        self._slices: deque[_Slice] = deque(maxlen=SLICES)
        # Who was there at the end of the latest slice; from the first one on.
        self._family: frozenset[int] | None = None

    def add(
        self, family: frozenset[int], cpu_s: float, work: float, seconds: float
    ) -> bool:
        """One more slice: who was there at its end, and what it cost and did."""
        if family != self._family:
            self._slices.clear()
            self._family = family
            return False
        self._slices.append(_Slice(cpu_s, work, seconds))
        if len(self._slices) < SLICES:
            return False
        every = list(self._slices)
        first, second = _sum(every[: SLICES // 2]), _sum(every[SLICES // 2 :])
        if not first.work or not second.work:
            return False
        if not _alike(first.work / first.seconds, second.work / second.seconds):
            return False
        cores = first.cpu_s / first.seconds
        # What the second half would have taken for as much work as the first did.
        as_much = second.cpu_s / second.work * first.work / first.seconds
        return _alike(cores, as_much, SLACK)


def _sum(slices: list[_Slice]) -> _Slice:
    return _Slice(*map(sum, zip(*slices, strict=True)))


def _alike(a: float, b: float, slack: float = 0.0) -> bool:
    return abs(a - b) <= TOLERANCE * max(a, b) + slack


async def until_steady(meter: Meter, work: Work, slice_s: float) -> str:
    """Returns when the load is steady: nothing, or a sentence if it never was."""
    judge, reading, done, at = Steadiness(), meter.read(), work(), time.perf_counter()
    for _ in range(SLICES_AT_MOST):
        await asyncio.sleep(slice_s)
        now_reading, now_done, now = meter.read(), work(), time.perf_counter()
        cpu_s = sum(now_reading.spent_s(reading).values())
        if judge.add(now_reading.family, cpu_s, now_done - done, now - at):
            return ""
        reading, done, at = now_reading, now_done, now
    return f"not steady after {SLICES_AT_MOST * slice_s:.0f} s of load"


async def at_rest(meter: Meter, slice_s: float = 0.5) -> str:
    """The same of a server to which nobody speaks: what it starts has started."""
    return await until_steady(meter, time.perf_counter, slice_s)


class Window(NamedTuple):
    """What a server used (CPU seconds by kind) and did in a time; `note` says what is
    to be known of it."""

    cpu_s: dict[str, float]
    work: float
    seconds: float
    note: str = ""

    @property
    def cpu_us(self) -> float:
        """CPU of all processes for one piece of work."""
        return sum(self.each().values())

    def each(self) -> dict[str, float]:
        """CPU for one piece of work by kind, in µs."""
        return {kind: 1e6 * s / max(self.work, 1.0) for kind, s in self.cpu_s.items()}


async def window(
    meter: Meter,
    work: Work,
    seconds: float,
    opened: Callable[[float], None] = lambda began: None,
) -> Window:
    """A window in which no process came or went, or the last of `WINDOWS` tried.

    `opened` is told each one's beginning (perf_counter), to forget what was before.
    """
    for _ in range(WINDOWS):
        before, done, began = meter.read(), work(), time.perf_counter()
        opened(began)
        await asyncio.sleep(seconds)
        after, done_after, ended = meter.read(), work(), time.perf_counter()
        if before.family == after.family:
            return _window(before, after, done_after - done, ended - began)
    note = f"processes came or went in each of {WINDOWS} windows"
    return _window(before, after, done_after - done, ended - began, note)


def _window(
    before: Reading, after: Reading, work: float, seconds: float, note: str = ""
) -> Window:
    return Window(after.spent_s(before), work, seconds, note)
