"""A rate that all gateways share: a sliding window in Valkey.

Each of the `count` places is a field of one hash; a place is taken with HSETEX FNX and
frees itself exactly one window later. That is a sliding log without a script: taking a
place is one atomic command, the clock is Valkey's alone, and what is refused costs one
read and leaves nothing behind.
"""

from __future__ import annotations

from valkey.asyncio import Valkey

from cfmessenger.storage.valkey_kv import ask


class SharedRate:
    """`count` events per `window_s` for each key; `count` 0 is no limit."""

    def __init__(self, kv: Valkey, count: int, window_s: float) -> None:
        self._kv = kv
        self._count = count
        self._window_ms = int(window_s * 1000)

    async def take(self, key: str) -> int:
        """0: let through and counted; else the milliseconds until a place is free.

        Raises `Unavailable`.
        """
        if not self._count:
            return 0
        places = [str(place) for place in range(self._count)]
        # Every lost race means that another one was let through, so this ends.
        for _ in range(self._count + 1):
            left = await ask(self._kv, "HPTTL", key, "FIELDS", len(places), *places)
            free = next((p for p, ms in zip(places, left, strict=True) if ms < 0), None)
            if free is None:
                break
            take = ("HSETEX", key, "FNX", "PX", self._window_ms, "FIELDS", 1, free, 1)
            if await ask(self._kv, *take):
                return 0
        return max(1, min((ms for ms in left if ms > 0), default=1))
