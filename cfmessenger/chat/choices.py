"""Choices: the statuses that users without a socket have chosen.

Owns the number of a choice, which is higher than that of every choice before it, in
this life or an earlier one, and the rule that a choice outlives its user's last socket
by 90 s. Must not know who is online.
"""

import msgspec

from ..wire.protocol import Status

CHOSEN_MS = 90_000
"""A chosen status outlives its user's last socket by this."""


class Chosen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a user without sockets chose. `at`: the number of the choice; `until`: when
    it is forgotten, in ms."""

    status: Status
    at: int
    until: int


class Choices:
    """The latest choice of each user who has no socket. Of a life with this epoch."""

    def __init__(self, epoch: int) -> None:
        # By user, until `take` or `until`, in whose order they are.
        self._chosen: dict[str, Chosen] = {}
        self._last = 0  # the number of the last choice
        self._least = epoch << 32  # higher than any number of an earlier life

    def number(self) -> int:
        """That of a new choice."""
        self._last = max(self._last, self._least) + 1
        return self._last

    def keep(self, now: int, user_id: str, status: Status, at: int) -> None:
        """Keep a choice for 90 s. No alarm ends it: what is over is removed here."""
        self._chosen.pop(user_id, None)  # the dict is in the order of `until`
        self._chosen[user_id] = Chosen(status, at, now + CHOSEN_MS)
        while next(iter(self._chosen.values())).until <= now:
            del self._chosen[next(iter(self._chosen))]

    def take(self, now: int, user_id: str) -> Chosen | None:
        """What a user who opens a socket has chosen, if it still counts."""
        chosen = self._chosen.pop(user_id, None)
        return chosen if chosen is not None and chosen.until > now else None

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._chosen)

    def snapshot(self) -> tuple[dict[str, Chosen], int]:
        """For `restore`: the choices, and the number of the last."""
        return self._chosen, self._last

    def restore(self, chosen: dict[str, Chosen], last: int) -> None:
        """As they were, also after a crash."""
        self._chosen, self._last = chosen, last
