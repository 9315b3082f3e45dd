"""What of Valkey's memory is kept free, so that people can log in and out when it is
full.

At `maxmemory` a server refuses whatever may grow, a login as well as a message. So we
stop before: gateways take no messages from `FULL` on, and actors append nothing at all
from `LAST` on, joins and bots' words included. What is left is for sessions, rates and
mirrors; all that is there can be read meanwhile. Must not send anything else.
"""

from __future__ import annotations

from collections.abc import Mapping

from cfmessenger.storage.valkey import Valkey

ALERT, FULL, LAST = 0.80, 0.95, 0.98
"""Shares of `maxmemory`."""
SLACK = 0.02
"""It counts as less full again so much below, not at each message that is trimmed."""


def share_of(memory: Mapping[str, str]) -> float:
    """What is used of `maxmemory`, of what INFO says of memory; 0.0 without a limit.

    As the server counts it: what replicas and the append-only file have yet to be told
    is no reason to refuse.
    """
    limit = int(memory.get("maxmemory", 0))
    used = int(memory.get("used_memory", 0))
    aside = int(memory.get("mem_not_counted_for_evict", 0))
    return max(0, used - aside) / limit if limit else 0.0


def evicts(memory: Mapping[str, str]) -> str:
    """What is wrong with a server that forgets by itself when it is full, of what INFO
    says of memory; empty: it does not."""
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return ""
    return f"may throw messages away ({policy}): set maxmemory-policy noeviction"


class Reserve:
    """As one process knows it. `look` each second or so."""

    def __init__(self) -> None:
        self.share = 0.0  # as last read
        # Whether it was above, and has not been clearly below since.
        self.alert = self.full = self.last = False

    async def look(self, kv: Valkey) -> None:
        """Ask the server; of several the fullest counts. Raises `Unavailable`, and then
        nothing changes."""
        self.share = max(map(share_of, await kv.infos("memory")))
        self.alert = self._above(ALERT, self.alert)
        self.full = self._above(FULL, self.full)
        self.last = self._above(LAST, self.last)

    def _above(self, limit: float, was: bool) -> bool:
        return self.share >= (limit - SLACK if was else limit)
