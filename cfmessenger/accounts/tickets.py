"""Tickets: what stands for a session in a WebSocket URL, once, for 30 seconds.

A URL ends up in logs and histories; a ticket that was used or is half a minute old is
worth nothing there. It is bound to the session's nonce, which a refresh changes, so a
refresh invalidates every ticket drawn before it. Valkey knows a ticket's SHA-256 only.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from hmac import compare_digest

from cfmessenger.accounts.session_names import token_hash
from cfmessenger.accounts.session_record import Session
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.clock import Clock
from cfmessenger.storage import keys
from cfmessenger.storage.valkey import Valkey

TTL_MS = 30_000
_TICKET = re.compile(r"[A-Za-z0-9_-]{43}\Z")


class Tickets:
    """Draws and redeems tickets. Both may raise `Unavailable`."""

    def __init__(
        self,
        kv: Valkey,
        sessions: Sessions,
        *,
        ttl_ms: int = TTL_MS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._kv = kv
        self._sessions = sessions
        self._ttl_ms = ttl_ms
        self._clock = clock or Clock().now

    async def draw(self, session: Session) -> tuple[str, int]:
        """A new ticket for this session, and when it ends (ms since 1970)."""
        ticket = secrets.token_urlsafe(32)
        stands_for = f"{session.token_hash}.{session.nonce}"
        expires_at = self._clock() + self._ttl_ms
        key = keys.ticket(token_hash(ticket))
        await self._kv.ask("SET", key, stands_for, "PX", self._ttl_ms)
        return ticket, expires_at

    async def redeem(self, ticket: str) -> Session | None:
        """The session behind a ticket, which is used up by asking; None: it is no good.

        GETDEL makes it single use whatever number of gateways are asked at once.
        """
        if not _TICKET.match(ticket):
            return None
        key, spent = keys.ticket(token_hash(ticket)), self._sessions.spent
        stored = await self._kv.ask("GETDEL", key)
        if not stored or spent.used(key):
            return None
        spent.use(key)
        hashed, _, nonce = stored.decode().partition(".")
        session = await self._sessions.by_hash(hashed)
        if session is None or not compare_digest(session.nonce, nonce):
            return None
        return session
