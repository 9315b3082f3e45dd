"""What was ended or used up lately, so that no failover of Valkey brings it back.

A replica that lags and becomes the primary may not know yet that a session was ended, a
ticket used or a challenge spent. Each gateway keeps for ten minutes what it did or was
told of, believes that more than storage, and writes it again once another server, or
the same one anew, answers. Must not know what a session is beyond its login. Times are
loop times in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

KEEP_S = 600.0
MOST = 10_000
"""Of each kind; the oldest go first."""


class Spent:
    """One for each gateway."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        # For `KEEP_S`: when, and whose it was ("" where nobody said so).
        self._logins: dict[str, tuple[float, str]] = {}
        self._marks: dict[str, float] = {}  # keys that were used up, for `KEEP_S`

    def end(self, login_id: str, user_id: str = "") -> None:
        """A login has ended on purpose."""
        _, known = self._logins.pop(login_id, (0.0, ""))
        self._logins[login_id] = self._steady(), user_id or known
        self._trim(self._logins)

    def ended(self, login_id: str) -> bool:
        """Whether a login has ended, whatever storage says."""
        return login_id in self._logins

    def use(self, key: str) -> None:
        """What this key stands for can be used once, and was."""
        self._marks.pop(key, None)
        self._marks[key] = self._steady()
        self._trim(self._marks)

    def used(self, key: str) -> bool:
        """Whether it was used, whatever storage says."""
        return key in self._marks

    def forgive(self, key: str) -> None:
        """It was not used after all."""
        self._marks.pop(key, None)

    def logins(self) -> dict[str, set[str]]:
        """Whose logins have ended lately: by user, where that is known."""
        self._forget()
        found: dict[str, set[str]] = {}
        for login_id, (_, user_id) in self._logins.items():
            if user_id:
                found.setdefault(user_id, set()).add(login_id)
        return found

    def marks(self) -> dict[str, float]:
        """The keys that were used lately, and seconds until nobody needs to know."""
        self._forget()
        now = self._steady()
        return {key: KEEP_S - (now - at) for key, at in self._marks.items()}

    def _forget(self) -> None:
        old = self._steady() - KEEP_S
        for login_id, (at, _) in list(self._logins.items()):
            if at < old:
                del self._logins[login_id]
        for key, at in list(self._marks.items()):
            if at < old:
                del self._marks[key]

    @staticmethod
    def _trim(kept: dict[str, tuple[float, str]] | dict[str, float]) -> None:
        if len(kept) > MOST:
            kept.pop(next(iter(kept)))
