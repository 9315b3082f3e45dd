"""Rates that are counted in Valkey for all gateways: sliding logs without a script.

Each of the `count` places of a window is a field of one hash; a place is taken with
HSETEX FNX and frees itself exactly one window later. Taking one is one atomic command,
the clock is Valkey's alone, and what is refused costs one read and leaves nothing. Who
is counted, and under which key, is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable

from cfmessenger import keys
from cfmessenger.errors import ProtocolError
from cfmessenger.settings import Rate
from cfmessenger.storage.valkey_kv import Valkey, ask


async def take_place(kv: Valkey, key: str, count: int, window_ms: int) -> int:
    """0: let through and counted; else the milliseconds until a place is free.

    Raises `Unavailable`.
    """
    places = [str(place) for place in range(count)]
    # Every lost race means that another one was let through, so this ends.
    for _ in range(count + 1):
        left = await ask(kv, "HPTTL", key, "FIELDS", len(places), *places)
        free = next((p for p, ms in zip(places, left, strict=True) if ms < 0), None)
        if free is None:
            break
        take = ("HSETEX", key, "FNX", "PX", window_ms, "FIELDS", 1, free, 1)
        if await ask(kv, *take):
            return 0
    return max(1, min((ms for ms in left if ms > 0), default=1))


class UserRate:
    """`rate` for each user, kept under `key(user_id)`; a rate of 0 is no limit."""

    def __init__(self, kv: Valkey, rate: Rate, key: Callable[[str], str]) -> None:
        self._kv = kv
        self._rate = rate
        self._key = key

    async def spend(self, user_id: str) -> None:
        """Counts one, or raises RATE_LIMITED; also `Unavailable`."""
        if self._rate.unlimited:
            return
        key, rate = self._key(user_id), self._rate
        wait_ms = await take_place(self._kv, key, rate.count, rate.window_ms)
        if wait_ms:
            raise ProtocolError("RATE_LIMITED", retry_after_ms=wait_ms)


def write_rate(kv: Valkey, rate: Rate) -> UserRate:
    """Changes of rows, by whichever session."""
    return UserRate(kv, rate, keys.writes)


def new_room_rate(kv: Valkey, rate: Rate) -> UserRate:
    """Rooms that nobody had entered before."""
    return UserRate(kv, rate, keys.new_rooms)
