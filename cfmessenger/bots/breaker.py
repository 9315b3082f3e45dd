"""A circuit breaker: whether a server that keeps failing is asked at all.

*Closed* asks; after some failures in a row it is *open* and asks nobody; after a while
it is *half-open* and lets one question through, whose fate decides. Pure: time comes in
as seconds of any steady clock.
"""

from typing import Literal

FAILURES = 5
OPEN_S = 30.0


class Breaker:
    """Ask `allows` first, then report what became of it."""

    def __init__(self) -> None:
        self._failures = 0
        self._shut_until: float | None = None  # None: closed
        self._probing_until: float | None = None

    def state(self, now: float) -> Literal["closed", "open", "half_open"]:
        """Where it is."""
        if self._shut_until is None:
            return "closed"
        return "open" if now < self._shut_until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether to ask now. Half-open it lets one through, and another only when
        nothing was heard of that one for as long as it would be open."""
        state = self.state(now)
        if state == "half_open":
            if self._probing_until is not None and now < self._probing_until:
                return False
            self._probing_until = now + OPEN_S
        return state != "open"

    def succeeded(self) -> None:
        """An answer came: all is well."""
        self._failures = 0
        self._shut_until = self._probing_until = None

    def failed(self, now: float) -> None:
        """No answer came."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._shut_until, self._probing_until = now + OPEN_S, None
