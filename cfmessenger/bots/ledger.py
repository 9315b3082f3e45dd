"""The ledger: what the bots may still say today.

A question is *reserved* before anybody thinks about it, and what is reserved is spent:
a crash gives nothing back, so no order of crashes buys an answer too many. Counts are
per UTC day: of all bots, and of each person. Pure; the director makes them durable.
"""

from typing import Literal

import msgspec

DAY_MS = 86_400_000

Refusal = Literal["quota_day", "quota_user"]


class Ledger:
    """The counts of one day, and who was told that they are used up.

    Begins anew with the first call on a later day. A quota of 0 is no limit. `now` is
    Unix ms.
    """

    def __init__(self, per_day: int, per_user: int) -> None:
        self.day = 0  # days since 1970; the others are of it
        self.total = 0  # answers reserved, in all
        self.by_user: dict[str, int] = {}  # answers reserved, by who asked
        self.told: set[str] = set()  # whom `tell` has told: `room:<id>`, `user:<id>`
        self._per_day = per_day
        self._per_user = per_user

    def refusal(self, now: int, user_id: str) -> Refusal | None:
        """Why this person gets no answer now; None: they may."""
        self._turn(now)
        if self._per_day and self.total >= self._per_day:
            return "quota_day"
        if self._per_user and self.by_user.get(user_id, 0) >= self._per_user:
            return "quota_user"
        return None

    def reserve(self, now: int, user_id: str) -> None:
        """One answer to this person is spent, whatever becomes of it."""
        self._turn(now)
        self.total += 1
        self.by_user[user_id] = self.by_user.get(user_id, 0) + 1

    def tell(self, now: int, whom: str) -> bool:
        """Whether `whom` is to be told that it is enough: once a day."""
        self._turn(now)
        if whom in self.told:
            return False
        self.told.add(whom)
        return True

    def _turn(self, now: int) -> None:
        day = now // DAY_MS
        if day > self.day:  # a clock that goes back opens no day again
            self.day, self.total = day, 0
            self.by_user, self.told = {}, set()


class LedgerRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Ledger` in a snapshot."""

    day: int
    total: int
    by_user: dict[str, int]
    told: list[str]
