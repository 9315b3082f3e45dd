"""When messages are due: the open loop's clock, decided before anything is sent.

A load that waits for its answers hides the waiting (coordinated omission); one that
knows beforehand when each message is due measures from there. Pure: times are seconds
from the start, chance is handed in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random


def constant(rate: float, phase: float = 0.0) -> Iterator[float]:
    """Times of `rate` arrivals a second, evenly spaced, beginning `phase` beats late.

    With phases of 0, 1/n, 2/n, ... n workers make one even beat together.
    """
    return ((n + phase) / rate for n in itertools.count())


def poisson(rate: float, random: Random) -> Iterator[float]:
    """Times of a Poisson process with `rate` arrivals a second: people do not queue.

    Several of them at once are one of the summed rate.
    """
    at = 0.0
    while True:
        at += random.expovariate(rate)
        yield at


def zipf(total: int, parts: int, exponent: float) -> list[int]:
    """`total` split into `parts` by Zipf's law, largest first; each gets at least one.

    Raises ValueError when there are more parts than there is to split.
    """
    if not 0 < parts <= total:
        raise ValueError(f"{total} cannot be split into {parts}")
    weights = [rank**-exponent for rank in range(1, parts + 1)]
    unit = (total - parts) / sum(weights)
    sizes = [1 + int(weight * unit) for weight in weights]
    for n in range(total - sum(sizes)):  # fewer than `parts`: what rounding left
        sizes[n] += 1
    return sizes
