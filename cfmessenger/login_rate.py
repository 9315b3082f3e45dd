"""How often one address may try to log in, counted in Valkey for all gateways.

A sliding window over the attempts that were let through (wire.md §1: 5 per 10 s per
client address). Each of the `count` places is a field of one hash; a place is taken
with HSETEX FNX and frees itself exactly one window later. That is a sliding log without
a script: taking a place is one atomic command, the clock is Valkey's alone, and a
refused attempt costs one read and leaves nothing behind.
"""

from __future__ import annotations

import ipaddress

from valkey.asyncio import Valkey

from cfmessenger import keys
from cfmessenger.storage.valkey_kv import ask

_IPV6_PREFIX = 64  # one customer holds at least this much


class LoginRate:
    """`count` attempts per `window_s` for each address; `count` 0 is no limit."""

    def __init__(self, kv: Valkey, count: int, window_s: float) -> None:
        self._kv = kv
        self._count = count
        self._window_ms = int(window_s * 1000)

    async def take(self, address: str | None) -> int:
        """0: let through and counted; else the milliseconds until a place is free.

        Raises `Unavailable`.
        """
        if not self._count:
            return 0
        key = keys.login(subject(address))
        places = [str(place) for place in range(self._count)]
        # Every lost race means that another attempt was let through, so this ends.
        for _ in range(self._count + 1):
            left = await ask(self._kv, "HPTTL", key, "FIELDS", len(places), *places)
            free = next((p for p, ms in zip(places, left, strict=True) if ms < 0), None)
            if free is None:
                break
            take = ("HSETEX", key, "FNX", "PX", self._window_ms, "FIELDS", 1, free, 1)
            if await ask(self._kv, *take):
                return 0
        return max(1, min((ms for ms in left if ms > 0), default=1))


def subject(address: str | None) -> str:
    """What is counted as one client: an IPv4 address, an IPv6 /64, or `local`.

    What is no address (a proxy's header may hold anything) is one common subject, so
    that foreign text never becomes part of a key.
    """
    if address is None:
        return "local"
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        network = ipaddress.IPv6Network((int(ip), _IPV6_PREFIX), strict=False)
        return str(network.network_address)
    return str(ip)
