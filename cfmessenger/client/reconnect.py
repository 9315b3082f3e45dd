"""When to reconnect, and after how long (wire.md §6).

Owns the close-code policy and the backoff. Pure: the random source is handed in, and
nobody sleeps here.
"""

from __future__ import annotations

from collections.abc import Callable

from cfmessenger.errors import CloseCode

#: 4000-4499 and these (wire.md §6). Beside what the server sends: an end without our
#: asking (1000, 1005, 1006) and a proxy's (1014), treated like a restart.
_RECONNECT = {1000, 1005, 1006, 1014, *(c for c in CloseCode if c.reconnect)}


def reconnects(code: int) -> bool:
    """Whether a connection closed by the server with `code` is worth another try.

    1002, 1003, 1007, 1008, 1009 and 1010 are this client's own fault: doing the same
    again would loop.
    """
    return code in _RECONNECT or 4000 <= code <= 4499


def refusal_is_final(status: int) -> bool:
    """Whether an upgrade refused with this HTTP status will be refused again.

    401 is not: the ticket may have died with a refresh; asking for the next one tells.
    """
    return 400 <= status < 500 and status not in (401, 408, 429)


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
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        return at_least_s + self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """The next delay is a first one again."""
        self.attempt = 0
