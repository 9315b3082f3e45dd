"""What /metrics tells of placement and damage: read in Valkey when somebody asks.

Gateways see no hosts. But small keys in Valkey hold the generation, the loads of the
exceptions, and what logs have lost. They are read at most once a second, and while
Valkey is away a scrape waits for half a second at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import get_args

import msgspec

from cfmessenger.errors import Unavailable
from cfmessenger.placement import Placement, Why
from cfmessenger.storage import keys
from cfmessenger.storage.generation import NAME
from cfmessenger.storage.valkey import Valkey, pairs
from gateway import metrics

EVERY_S = 1.0
PATIENCE_S = 0.5
"""So long Valkey may take to answer."""

_decode = msgspec.json.Decoder(Placement).decode


class Whereabouts:
    """What one gateway tells of the whole cluster."""

    def __init__(self, kv: Valkey) -> None:
        self._kv = kv
        self._read_at = float("-inf")  # the last time it was tried, monotonic

    async def show(self) -> None:
        """Have `metrics.PLACEMENT` and `metrics.DAMAGE` know what is there now; never
        fails."""
        now = time.monotonic()
        if now - self._read_at < EVERY_S:
            return
        self._read_at = now
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._read()
        except (Unavailable, TimeoutError, msgspec.DecodeError):  # or a later release's
            metrics.PLACEMENT.show(None)
            metrics.DAMAGE.show(None)

    async def _read(self) -> None:
        entries, loads, damage = await self._kv.ask_all(
            ("XREVRANGE", keys.log(NAME), "+", "-", "COUNT", 1),
            ("HGETALL", keys.OWN_LOADS),
            ("HGETALL", keys.DAMAGE),
        )
        counts = {what.decode(): int(n) for what, n in pairs(damage).items()}
        metrics.DAMAGE.show(counts)
        if not entries:
            metrics.PLACEMENT.show(None)
            return
        placement = _decode(pairs(entries[0][1])[b"e"])
        reasons = Counter(map(placement.why, placement.own))
        hottest = max(map(float, pairs(loads).values()), default=0.0)
        metrics.PLACEMENT.show({why: reasons[why] for why in get_args(Why)}, hottest)
