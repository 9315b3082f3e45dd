"""`python -m tests.system.sim`: many seeds on every core, or one with its trace."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.system.sim import sabotage
from tests.system.sim.plan import CONFIRMED, CROWDS, FAILOVERS, LOSES
from tests.system.sim.world import Result, run

SEEDS = range(1, 241)
"""What runs with the tests."""

RARE = (
    *(272, 345, 449, 529, 708, 720, 776, 856, 1070, 1161, 1366, 1852, 2034),
    *(2256, 2501, 2674, 2778, 2811, 2840, 5581, 6695, 8453, 8729, 9088, 20072),
    *(20368, 20532, 20585, 20745, 900163),
    *(970048, 970052, 970054, 970058, 970067, 970196, 970209),
)
"""Found by larger sweeps: they broke something once, or alone catch a sabotage."""

FAILS_OVER = range(FAILOVERS + 1, FAILOVERS + 41)
"""Worlds in which Valkey fails over to a replica that lags."""

CONFIRMS = range(CONFIRMED + 1, CONFIRMED + 61)
"""Worlds in which replicas have confirmed what is shown."""

LOSSES = range(LOSES + 1, LOSES + 41)
"""Worlds in which whoever said something dies when Valkey fails over."""
GAZES = range(CROWDS + 1, CROWDS + 61)
"""Worlds in which people look at who is online, now and then a crowd."""

CHUNK = 20
SHOWN = 5


def main() -> int:
    options = _options()
    patch = options.sabotage
    if patch == "all":
        return _table()
    if options.seed is not None:
        return _one(options.seed, patch, options.lines)
    return _many(
        range(options.start, options.start + options.seeds), patch, options.jobs
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument(
        "--lines", type=int, default=10**6, help="how much of the trace"
    )
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--sabotage", choices=["all", *sabotage.SABOTAGES])
    return parser.parse_args()


def _run(seed: int, patch: str | None, tracing: bool = False) -> Result:
    with sabotage.applied(patch):
        return run(seed, tracing=tracing)


def _one(seed: int, patch: str | None, lines: int) -> int:
    result = _run(seed, patch, tracing=True)
    sys.stdout.write(report(result, lines))
    return bool(result.violations)


def report(result: Result, lines: int) -> str:
    """A seed's verdict and the end of its trace."""
    text = [f"seed {result.seed}: {result.plan}", *result.trace[-lines:]]
    text += [str(each) for each in result.violations] or ["nothing is wrong"]
    return "\n".join(text) + "\n"


def caught(name: str) -> tuple[int, str] | None:
    """The first of the tests' seeds in which a sabotage is noticed, and how.

    Where its own seeds are worlds of failovers or of crowds, so are the others that are
    tried.
    """
    broken = sabotage.SABOTAGES[name]
    highest = max(broken.seeds, default=0)
    others: tuple[int, ...] = (*SEEDS, *RARE)
    if highest > CROWDS:
        others = tuple(GAZES)
    elif highest > LOSES:
        others = tuple(LOSSES)
    elif highest > FAILOVERS:
        others = (*FAILS_OVER, *CONFIRMS)
    for seed in dict.fromkeys((*broken.seeds, *others)):
        for violation in _run(seed, name).violations:
            if violation.rule in broken.rules:
                return seed, str(violation)
    return None


def _table() -> int:
    missed = 0
    for name in sabotage.SABOTAGES:
        found = caught(name)
        missed += found is None
        seed, text = found or ("", "NOT NOTICED")
        sys.stdout.write(f"{name:36} {seed:>5}  {text}\n")
        sys.stdout.flush()
    return missed


def _judge(job: tuple[int, str | None]) -> tuple[int, list[str], Counter[str], int]:
    result = _run(*job)
    said = Counter(result.faults)
    said["messages"] = sum(map(len, result.history.logs.values()))
    said["sockets"] = len(result.history.sockets)
    said["slowest recovery, ms"] = 0
    return (
        result.seed,
        [str(each) for each in result.violations],
        said,
        int(result.settled_s * 1000),
    )


def _many(seeds: range, patch: str | None, jobs: int) -> int:
    start = time.monotonic()
    bad: dict[int, list[str]] = {}
    total: Counter[str] = Counter()
    slowest, done = 0, 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        work: Iterable[tuple[int, str | None]] = ((seed, patch) for seed in seeds)
        for seed, violations, said, settled in pool.imap_unordered(_judge, work, CHUNK):
            done += 1
            total += said
            slowest = max(slowest, settled)
            if violations:
                bad[seed] = violations
                if len(bad) <= SHOWN:
                    first = "\n  ".join(violations[:4])
                    sys.stdout.write(f"seed {seed}:\n  {first}\n")
            if done % 500 == 0:
                sys.stdout.write(f"{done} seeds, {len(bad)} bad\n")
            sys.stdout.flush()
    rules = Counter(each.split(":")[0] for found in bad.values() for each in set(found))
    sys.stdout.write(
        f"{done} seeds in {time.monotonic() - start:.0f} s, {len(bad)} bad "
        f"{sorted(bad)[:20]} {dict(rules)}\nslowest recovery {slowest} ms; "
        f"{dict(sorted(total.items()))}\n"
    )
    return bool(bad)
