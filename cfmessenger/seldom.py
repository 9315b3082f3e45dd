"""A line in the log that others can cause as often as they like."""

from __future__ import annotations

import asyncio
import logging
import math

EVERY_S = 60.0
MOST = 1000
"""Kinds that are told apart; who invents more of them has made all of them one."""


class Seldom:
    """Each `kind` is said at once, and then once in a minute at most, with how often it
    would have been meanwhile."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # By kind: when it was said last, and how often it came since.
        self._kinds: dict[str, tuple[float, int]] = {}

    def warn(self, kind: str, text: str) -> None:
        """`text` is told when its kind is due. On a running loop."""
        if kind not in self._kinds and len(self._kinds) >= MOST:
            kind = ""
        now = asyncio.get_running_loop().time()
        said_at, times = self._kinds.get(kind, (-math.inf, 0))
        if now - said_at < EVERY_S:
            self._kinds[kind] = said_at, times + 1
            return
        self._kinds[kind] = now, 0
        self._logger.warning("%s%s", text, f" ({times + 1} times)" if times else "")

    def once(self, kind: str, text: str) -> None:
        """`text` is told the first time."""
        if kind not in self._kinds:
            self.warn(kind, text)
