"""How long to wait after a failure: longer each time, up to a cap, and not all at once.

Pure: the random source is handed in, and nobody sleeps here.
"""

from __future__ import annotations

from collections.abc import Callable


def doubled(first_s: float, cap_s: float, times: int) -> float:
    """`first_s`, doubled so many times, but at most `cap_s`; seconds."""
    return min(cap_s, first_s * 2.0 ** min(times, 32))


class Backoff:
    """Capped exponential backoff with full jitter, the first delay included.

    `uniform(a, b)` is `random.uniform` or a test's. `delay()` is in seconds and counts
    an attempt; `reset()` is for a connection that proved stable.
    """

    __slots__ = ("attempt", "_base_s", "_cap_s", "_uniform")

    def __init__(
        self,
        uniform: Callable[[float, float], float],
        *,
        base_s: float = 1.0,
        cap_s: float = 15.0,
    ) -> None:
        self.attempt = 0  # delays since the last `reset`
        self._base_s = base_s
        self._cap_s = cap_s
        self._uniform = uniform

    def delay(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait before the next try; `at_least_s` is a `Retry-After`, on
        top of which the jitter goes so that the herd does not return at once."""
        ceiling = doubled(self._base_s, self._cap_s, self.attempt)
        self.attempt += 1
        return at_least_s + self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """The next delay is a first one again."""
        self.attempt = 0
