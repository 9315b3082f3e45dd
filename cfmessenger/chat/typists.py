"""Typists: who is shown as typing.

Owns wire.md §2's `typing` row: "forced `typing:false` … 3 s after the last `true`, and
when the socket closes; a repeated `true` only re-arms; at most 5 changes a second per
user travel, the last wins". A user types or does not, whatever number of tabs they
have. Of a crowd (wire.md §3) only a few are shown at a time, and begin to type in a
second; nothing is kept of the others, whose clients say it again while they type. Must
not know frames or sockets' names beyond the one that typed.
"""

import msgspec

from .ratelimit import SlidingLog, UserRates

TTL_MS = 3_000
CHANGES = 5
CHANGES_MS = 1_000


class Typist(msgspec.Struct):
    """One user's state: `wanted` is what they last said, `shown` what travelled.

    `conn` is the connection that typed last, `until` when its `true` runs out.
    """

    user_id: str
    display_name: str
    conn: str
    wanted: bool = False
    shown: bool = False
    until: int = 0


class Typists:
    """Everyone who types, or is shown as typing. Changes to show come back as lists.

    `crowd_size`: how many of a crowd are shown at once, and begin in a second.
    """

    def __init__(self, crowd_size: int) -> None:
        # By user, while they type or are shown as typing.
        self._typists: dict[str, Typist] = {}
        self._changes = UserRates(CHANGES, CHANGES_MS)
        self._crowd_size = crowd_size
        self._starts = SlidingLog(crowd_size, CHANGES_MS)  # of all, while a crowd
        self.alarm_at: int | None = None
        """When `alarm` has (perhaps) something to do, in ms; never too late."""

    def get(self, user_id: str) -> Typist | None:
        """The user's state, None if they neither type nor are shown as typing."""
        return self._typists.get(user_id)

    def report(
        self,
        now: int,
        user_id: str,
        display_name: str,
        conn: str,
        is_typing: bool,
        crowded: bool = False,
    ) -> list[Typist]:
        """A client said so. Returns the typist if a change travels."""
        typist = self._typists.get(user_id)
        if typist is None:
            if not is_typing or (crowded and self._full(now)):
                return []
            if crowded:
                self._starts.record(now)
            typist = self._typists[user_id] = Typist(user_id, display_name, conn)
        typist.display_name = display_name
        if is_typing:
            typist.conn = conn
            typist.until = now + TTL_MS
        typist.wanted = is_typing
        return self._settle(now, typist)

    def stop(self, now: int, user_id: str, conn: str) -> list[Typist]:
        """A connection closed: if it was the one that typed, its user stops."""
        typist = self._typists.get(user_id)
        if typist is None or typist.conn != conn:
            return []
        typist.wanted = False
        return self._settle(now, typist)

    def alarm(self, now: int) -> list[Typist]:
        """Stop who has not typed for 3 s, and show what was held back."""
        self.alarm_at = None
        changed = []
        for typist in list(self._typists.values()):
            if typist.wanted and typist.until <= now:
                typist.wanted = False
            changed += self._settle(now, typist)
        return changed

    def _full(self, now: int) -> bool:
        crowd = len(self._typists) >= self._crowd_size
        return crowd or self._starts.check(now) > 0

    def _settle(self, now: int, typist: Typist) -> list[Typist]:
        changed = []
        if typist.wanted != typist.shown:
            wait = self._changes.check(typist.user_id, now)
            if wait:
                self._arm(now + wait)
            else:
                self._changes.record(typist.user_id, now)
                typist.shown = typist.wanted
                changed.append(typist)
        if typist.wanted:
            self._arm(typist.until)
        elif not typist.shown:
            del self._typists[typist.user_id]
            if not self._typists:
                self.alarm_at = None
        return changed

    def _arm(self, at: int) -> None:
        if self.alarm_at is None or at < self.alarm_at:
            self.alarm_at = at
