"""How many connections the server lets in: per address, and in all.

A connection costs memory and a file descriptor before it has said who it is, so those
that are not WebSockets (yet) are counted by the address they come from; sockets have
limits of their own (gateway.live.capacity). A trusted proxy stands for many clients and
is not counted. In all there are as many as the process may have files, less a reserve:
a crowd must not keep the gateway from reaching Valkey and its actors. Counting alone;
the refusing is http_protocol.py's.
"""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from collections.abc import Iterable

from cfmessenger.accounts.login_rate import subject

RESERVED_FILES = 128
"""For Valkey, links, the log, the listening socket and what libraries open."""


def raise_file_limit() -> int:
    """Takes all the file descriptors the system allows; returns how many that is.

    The soft limit is 1,024 on many systems, for the sake of programs that use select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_allowed() -> int:
    """How many connections leave this process the reserve; 0: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else max(1, soft - RESERVED_FILES)


class Door:
    """Counts who is in. A limit of 0 is none."""

    def __init__(
        self, *, per_address: int = 0, in_all: int = 0, proxies: Iterable[str] = ()
    ) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self._inside: Counter[str] = Counter()  # those admitted, by `subject`

    def admit(self, address: str | None, connections: int) -> str | None:
        """Lets one in, or returns None.

        What is returned is to be given to `leave`, once: "" for who is not counted by
        address. `address` is the peer's, None on a Unix socket; `connections`: how many
        there are with this one.
        """
        if self._in_all and connections > self._in_all:
            return None
        who = "" if address is None or self.is_proxy(address) else subject(address)
        if who and self._per_address and self._inside[who] >= self._per_address:
            return None
        if who:
            self._inside[who] += 1
        return who

    def leave(self, who: str) -> None:
        """One that was admitted as `who` is gone, or counts elsewhere from now on."""
        if who:
            self._inside[who] -= 1
            if not self._inside[who]:
                del self._inside[who]

    def __len__(self) -> int:
        return self._inside.total()

    def is_proxy(self, address: str) -> bool:
        """Whether the address is a trusted proxy's."""
        if not self._proxies:
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._proxies)
