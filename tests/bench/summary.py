"""What many repetitions say: medians, spreads and ratios, and the result as a value.

Pure. A ratio is taken within a repetition, where both servers met the same machine in
the same minutes, and only then is the median taken.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

Figures = dict[str, float]


class Spread(NamedTuple):
    """The median of some repetitions, and the least and greatest of them."""

    median: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True, rename="camel"):
    """What a measurement found: `parts` has of some figures what each kind of process
    takes of it, in the same unit; `notes` what is to be known of them."""

    figures: Figures
    parts: dict[str, Figures] = {}
    notes: list[str] = []


class Sample(msgspec.Struct, frozen=True, rename="camel"):
    """One row of measurements of one contestant in one repetition."""

    row: str
    contestant: str
    repetition: int
    figures: Figures
    parts: dict[str, Figures] = {}
    notes: list[str] = []


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """A contestant that did not start, or did not do the work of a row."""

    row: str
    contestant: str
    repetition: int
    reason: str


_Numbered = TypeVar("_Numbered", Sample, Failure)


class Entrant(msgspec.Struct, frozen=True, rename="camel"):
    """Who took part, in the order of the tables."""

    key: str
    title: str
    promise: str


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """One run, as `--json` writes it."""

    started_at: str
    machine: dict[str, str]
    versions: dict[str, str]
    plan: dict[str, dict[str, float]]
    repetitions: int
    entrants: list[Entrant]
    samples: list[Sample]
    failures: list[Failure]


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; NaN of none."""
    if not ascending:
        return math.nan
    at = math.ceil(share * len(ascending)) - 1
    return ascending[max(0, min(at, len(ascending) - 1))]


def spread(values: Iterable[float]) -> Spread | None:
    """None when there are none."""
    found = list(values)
    if not found:
        return None
    return Spread(statistics.median(found), min(found), max(found))


def values(
    samples: Iterable[Sample], row: str, contestant: str, figure: str
) -> dict[int, float]:
    """A figure of a contestant by repetition."""
    return {
        each.repetition: each.figures[figure]
        for each in samples
        if (each.row, each.contestant) == (row, contestant) and figure in each.figures
    }


def parts(
    samples: Iterable[Sample], row: str, contestant: str, figure: str
) -> dict[str, Spread]:
    """Of a figure, what each kind of process takes; empty where it was not measured."""
    found: dict[str, list[float]] = {}
    for each in samples:
        if (each.row, each.contestant) == (row, contestant):
            for kind, value in each.parts.get(figure, {}).items():
                found.setdefault(kind, []).append(value)
    spreads = {kind: spread(values) for kind, values in found.items()}
    return {kind: each for kind, each in spreads.items() if each is not None}


def ratios(
    samples: Sequence[Sample], row: str, figure: str, ours: str, peer: str
) -> Spread | None:
    """Ours through theirs over the repetitions in which both took part."""
    mine = values(samples, row, ours, figure)
    theirs = values(samples, row, peer, figure)
    both = sorted(mine.keys() & theirs.keys())
    return spread(mine[n] / theirs[n] for n in both if theirs[n] > 0)


def merged(results: Sequence[Result]) -> Result:
    """Several runs as one: each run's repetitions of a row follow the earlier ones.

    For a machine that one can have for minutes at a time only. `started_at` names every
    run's; machine and versions are the last one's. Raises ValueError if there are none.
    """
    if not results:
        raise ValueError("expected a result")
    done: Counter[str] = Counter()
    plan: dict[str, dict[str, float]] = {}
    entrants: dict[str, Entrant] = {}
    samples: list[Sample] = []
    failures: list[Failure] = []
    for each in results:
        samples += [_after(done[one.row], one) for one in each.samples]
        failures += [_after(done[one.row], one) for one in each.failures]
        done.update(dict.fromkeys(each.plan, each.repetitions))
        plan |= each.plan
        entrants |= {entrant.key: entrant for entrant in each.entrants}
    return msgspec.structs.replace(
        results[-1],
        started_at=", ".join(sorted({each.started_at for each in results})),
        plan=plan,
        repetitions=max(done.values(), default=0),
        entrants=list(entrants.values()),
        samples=samples,
        failures=failures,
    )


def _after(earlier: int, one: _Numbered) -> _Numbered:
    return msgspec.structs.replace(one, repetition=one.repetition + earlier)
