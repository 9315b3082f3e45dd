"""Room time: what a room dates things with.

Owns wire.md §3's rule that "`timestamp` never goes backwards within a room", even if
the clock does. Must not look at a clock: `now` comes in.
"""


class RoomTime:
    """`latest`: ms; nothing is dated before it."""

    def __init__(self) -> None:
        self.latest = 0  # rises with what is dated, or was found in log or mirror

    def at(self, now: int) -> int:
        """The date of what happens now."""
        if now > self.latest:
            self.latest = now
        return self.latest
