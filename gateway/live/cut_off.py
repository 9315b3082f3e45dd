"""Whether this gateway is cut off: the rule, from what is seen to a yes or no.

Cut off is who for a while lacks what others have: it reaches no namespace server, or no
storage while a namespace server says that storage is there. Its sockets are better
elsewhere. Where all lack the same, or nobody else is there, nothing is better
elsewhere, and sockets are kept (wire.md §1).
"""

from __future__ import annotations

from typing import NamedTuple

SEEN_TWICE = 2
"""Looks in a row: after a time in which we did not run ourselves the first look finds
everything long gone."""


class Seen(NamedTuple):
    """One look. Times are when that was there last; None: it is there now.

    `stored`: a namespace server that answers says that storage is there for it.
    `shared`: no other gateway that we know of has a namespace server, or there is none.
    `alone`: there was no other gateway when we last knew.
    """

    namespace_lost: float | None
    storage_lost: float | None
    stored: bool
    shared: bool
    alone: bool


class CutOff:
    """Looks, one after the other; `after_s` 0: never cut off."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._in_vain = 0  # looks in a row that found us worse off than others
        self._alike_at = 0.0  # the last look at which others lacked the same

    def look(self, now: float, seen: Seen) -> bool:
        """Whether it is cut off now. Times are of one clock, in seconds."""
        lost, alike = seen.namespace_lost, seen.shared
        if lost is None:
            lost, alike = seen.storage_lost, not seen.stored
        if lost is None or alike or seen.alone:
            self._in_vain = 0
            if lost is not None:
                self._alike_at = now
            return False
        self._in_vain += 1
        since = max(lost, self._alike_at)
        long_enough = now - since >= self._after_s > 0
        return long_enough and self._in_vain >= SEEN_TWICE
