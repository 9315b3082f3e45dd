"""A circuit breaker: whether a server that keeps failing is asked at all.

*Closed* asks; after some failures in a row it is *open* and asks nobody; after a while
it is *half-open* and lets one question through, whose fate decides. Pure: time comes in
as seconds of any steady clock.
"""

from typing import Literal

FAILURES = 5
"""In a row, after which it opens."""
OPEN_S = 30.0
"""How long it asks nobody then; and how long one question on trial may stay unheard."""


class Breaker:
    """Ask `allows` first, then report what became of it."""

    def __init__(self) -> None:
        self._failures = 0  # in a row, since the last answer
        # Until then it is open, from then on half-open; None: closed.
        self._shut_until: float | None = None
        # While half-open: until then no second question is let through. None: none was.
        self._probing_until: float | None = None

    def state(self, now: float) -> Literal["closed", "open", "half_open"]:
        """Where it is; time alone makes `open` into `half_open`."""
        if self._shut_until is None:
            return "closed"
        return "open" if now < self._shut_until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether to ask now. Half-open it lets one question through, and the next when
        nothing was heard of that one for `OPEN_S`."""
        state = self.state(now)
        if state == "half_open":
            if self._probing_until is not None and now < self._probing_until:
                return False
            self._probing_until = now + OPEN_S
        return state != "open"

    def succeeded(self) -> None:
        """An answer came: it closes."""
        self._failures = 0
        self._shut_until = self._probing_until = None

    def failed(self, now: float) -> None:
        """No answer came: the fifth in a row opens it, and each one after."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._shut_until, self._probing_until = now + OPEN_S, None
