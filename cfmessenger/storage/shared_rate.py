"""Rates that are counted in Valkey for all gateways: sliding logs without a script.

Each of the `count` places of a window is a field of one hash; a place is taken with
HSETEX FNX and frees itself exactly one window later. Taking one is one atomic command,
the clock is Valkey's alone, and what is refused costs one read and leaves nothing. Who
is counted, and under which key, is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable

from cfmessenger.errors import ProtocolError
from cfmessenger.settings import Rate
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey


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
            left = await self._kv.ask("HPTTL", key, "FIELDS", len(places), *places)
            free = next((p for p, ms in zip(places, left, strict=True) if ms < 0), None)
            if free is None:
                break
            take = ("HSETEX", key, "FNX", "PX", self._window_ms, "FIELDS", 1, free, 1)
            if await self._kv.ask(*take):
                return 0
        return max(1, min((ms for ms in left if ms > 0), default=1))


class UserRate:
    """A rate for each user, kept under `key(user_id)`."""

    def __init__(self, kv: Valkey, rate: Rate, key: Callable[[str], str]) -> None:
        self._rate = SharedRate(kv, rate.count, rate.seconds)
        self._key = key

    async def spend(self, user_id: str) -> None:
        """Counts one, or raises RATE_LIMITED; also `Unavailable`."""
        wait_ms = await self._rate.take(self._key(user_id))
        if wait_ms:
            raise ProtocolError("RATE_LIMITED", retry_after_ms=wait_ms)


def write_rate(kv: Valkey, rate: Rate) -> UserRate:
    """Changes of rows, by whichever session."""
    return UserRate(kv, rate, keys.writes)


def new_room_rate(kv: Valkey, rate: Rate) -> UserRate:
    """Rooms that nobody had entered before."""
    return UserRate(kv, rate, keys.new_rooms)
