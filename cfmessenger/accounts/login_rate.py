"""How often one address may try to log in, counted in Valkey for all gateways.

wire.md §1: 5 attempts per 10 s and client address; only those that were let through
count. How they are counted is `shared_rate`'s.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from cfmessenger.storage import keys
from cfmessenger.storage.shared_rate import SharedRate
from cfmessenger.storage.valkey import Valkey

_IPV6_PREFIX = 64  # one customer holds at least this much


class LoginRate:
    """`count` attempts per `window_s` for each address; `count` 0 is no limit."""

    def __init__(self, kv: Valkey, count: int, window_s: float) -> None:
        self._rate = SharedRate(kv, count, window_s)

    async def take(self, address: str | None) -> int:
        """0: let through and counted; else the milliseconds until a place is free.

        Raises `Unavailable`.
        """
        return await self._rate.take(keys.login(subject(address)))


# Every socket is counted twice by it, and most addresses come again.
@lru_cache(maxsize=1024)
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
