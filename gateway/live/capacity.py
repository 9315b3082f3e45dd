"""How many sockets an address and a login may have at one gateway.

Owns the two counts, of handshakes too, so that a crowd of them counts. What is over a
limit gets a 503 (wire.md §1), and room again as soon as others leave.
"""

from __future__ import annotations

from collections import Counter

from cfmessenger.errors import Unavailable


class Capacity:
    """`per_address`, `per_login`: so many sockets each; 0: any number."""

    def __init__(self, per_address: int, per_login: int) -> None:
        self._per_address = per_address
        self._per_login = per_login
        self._addresses: Counter[str] = Counter()
        self._logins: Counter[str] = Counter()  # by login id

    def enter(self, address: str, login_id: str) -> None:
        """One more, from the first moment of its handshake."""
        self._addresses[address] += 1
        self._logins[login_id] += 1

    def leave(self, address: str, login_id: str) -> None:
        """One less; who has none is forgotten."""
        for counter, key in ((self._addresses, address), (self._logins, login_id)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def check(self, address: str, login_id: str) -> None:
        """Raises `Unavailable` if they have too many, with this one."""
        addresses, logins = self._addresses[address], self._logins[login_id]
        if (self._per_address and addresses > self._per_address) or (
            self._per_login and logins > self._per_login
        ):
            raise Unavailable("AT_CAPACITY")
