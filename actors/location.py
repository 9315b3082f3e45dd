"""Where an object wants to live: its location hint, and the nodes that are there.

A hint is taken at an object's first activation and remembered in Valkey, so that later
activations use that one whoever asks (design.md §4). It is placement, never
correctness: Valkey being away costs the preference, not the room. Strict is the other
way round: better nowhere than elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cfmessenger.errors import Unavailable
from cfmessenger.storage import keys
from cfmessenger.storage.log import ValkeyLog

logger = logging.getLogger("cfmessenger.namespace")

LABEL = "region"
"""The Ray node label that a hint is compared with."""


class Nowhere(Unavailable):
    """Strict, and no living node is in the object's location."""

    def __init__(self) -> None:
        super().__init__(message="Its location has no node right now.")


class Location:
    """The hints of all objects. `default` is for those nobody gives one."""

    def __init__(self, log: ValkeyLog, default: str, strict: bool) -> None:
        self._log = log
        self._default = default
        self.strict = strict

    async def among(
        self, name: str, hint: str | None, nodes: Mapping[str, str | None]
    ) -> list[str]:
        """Those of these nodes (id → its label) that are in the object's location, or
        all if none is.

        Remembers the hint if it is the object's first. Strict raises `Nowhere` when no
        node is there, and `Unavailable` when the hint cannot be read.
        """
        hint = hint or self._default
        remember = not self.strict or hint in nodes.values()
        region = await self._first(name, hint, remember)
        there = [node for node, label in nodes.items() if label == region]
        if not there and self.strict:
            logger.warning("%s: no node in %s", name, region)
            raise Nowhere
        return there or list(nodes)

    async def _first(self, name: str, hint: str, remember: bool) -> str:
        key = keys.hint(name)
        command = ("SET", key, hint, "NX", "GET") if remember else ("GET", key)
        try:
            reply = await self._log.ask(*command)
        except Unavailable as error:
            if self.strict:
                raise
            logger.warning("the location of %s is not known: %s", name, error)
            return hint
        return reply.decode() if reply else hint
