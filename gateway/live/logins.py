"""The logins whose sockets this gateway holds: kept alive by use, ended with the
session.

A login outlives the tokens that a refresh changes. Frames mark it used; once a second
the used ones are prolonged, the expiring ones warned, and the ended ones lose their
sockets: after a logout at once (it is published), and at the latest with the next
revalidation, for a published word can be lost (wire.md §1, §6).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from cfmessenger.accounts.session_record import Session
from cfmessenger.accounts.sessions import Sessions
from cfmessenger.errors import CloseCode, Unavailable
from cfmessenger.link.messages import text_frame
from cfmessenger.wire import protocol

if TYPE_CHECKING:
    from gateway.live.connection import Connection

logger = logging.getLogger("cfmessenger.logins")

REVALIDATE_EVERY_S = 20.0
WARN_BEFORE_MS = 120_000


class Login:
    """One login: its session as last seen, and its sockets here."""

    __slots__ = ("connections", "session", "used", "warned_at")

    def __init__(self, session: Session) -> None:
        self.session = session  # the newest known
        self.connections: set[Connection] = set()
        self.used = False  # from a frame until the session is prolonged for it
        self.warned_at = 0  # the expiry that its sockets were warned of; 0: none

    def ending(self, now_ms: int) -> bool:
        """Expired, or to expire within 2 min without its sockets being warned of it."""
        expires_at = self.session.expires_at
        warn = self.warned_at != expires_at and expires_at - now_ms <= WARN_BEFORE_MS
        return warn or expires_at <= now_ms


class Logins:
    """All of them, by login id."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._logins: dict[str, Login] = {}  # from the first socket to the last
        self._revalidated_at = 0.0  # when all were, in loop time
        # For 20 s from its end: (when, code, reason), for handshakes under way.
        self._ended: dict[str, tuple[float, int, str]] = {}

    def settle(self, connection: Connection) -> None:
        """A socket is registered: did its login end during the handshake?"""
        ended = self._ended.get(connection.login.session.login_id)
        if ended is not None:
            connection.end(*ended[1:])

    def of(self, session: Session) -> Login:
        """The login of a session, known from its first socket to its last."""
        login = self._logins.get(session.login_id)
        if login is None:
            login = self._logins[session.login_id] = Login(session)
        elif session.expires_at > login.session.expires_at:
            login.session = session
        return login

    def forget(self, connection: Connection) -> None:
        """A socket is gone."""
        login = connection.login
        login.connections.discard(connection)
        if not login.connections:
            self._logins.pop(login.session.login_id, None)

    def revoked(self, told: str) -> None:
        """A login was ended on purpose: `told` is its id, and perhaps whose it was."""
        login_id, _, user_id = told.partition(" ")
        self._sessions.spent.end(login_id, user_id)
        self.close(login_id, CloseCode.LOGGED_OUT, "logged out")

    def close(self, login_id: str, code: int, reason: str) -> None:
        """Close all sockets of a login; none is not an error."""
        self._ended.pop(login_id, None)  # the oldest comes first
        self._ended[login_id] = (time.monotonic(), code, reason)
        login = self._logins.get(login_id)
        if login is not None:
            for connection in tuple(login.connections):
                connection.end(code, reason)

    async def tick(self, now_ms: int, now_s: float) -> None:
        """Prolong, revalidate, warn, end. Call it once a second.

        `now_ms` is Unix time, `now_s` monotonic. While storage is away no session
        expires here.
        """
        old = now_s - REVALIDATE_EVERY_S
        while self._ended and next(iter(self._ended.values()))[0] < old:
            del self._ended[next(iter(self._ended))]
        try:
            await self._sessions.restore()
            await self._prolong()
            await self._revalidate(now_ms, now_s)
        except Unavailable:
            # Nobody loses a session because storage is away; expiry waits with it.
            logger.warning("sessions cannot be checked")
            return
        for login in tuple(self._logins.values()):
            self._warn(login, now_ms)

    async def _prolong(self) -> None:
        for login in [each for each in self._logins.values() if each.used]:
            login.used = False
            session = await self._sessions.slide(login.session)
            self._seen(login, session)

    async def _revalidate(self, now_ms: int, now_s: float) -> None:
        """Read all sessions every 20 s, and those that are `ending` each time: another
        gateway may have prolonged them."""
        logins = list(self._logins.values())
        if now_s - self._revalidated_at >= REVALIDATE_EVERY_S:
            self._revalidated_at = now_s
        else:
            logins = [each for each in logins if each.ending(now_ms)]
        found = await self._sessions.revalidate([each.session for each in logins])
        for login in logins:
            self._seen(login, found.get(login.session.login_id))

    def _seen(self, login: Login, session: Session | None) -> None:
        if session is not None:
            login.session = session
        else:
            login_id = login.session.login_id
            self.close(login_id, CloseCode.SESSION_EXPIRED, "session expired")

    def _warn(self, login: Login, now_ms: int) -> None:
        expires_at = login.session.expires_at
        if not login.ending(now_ms) or expires_at <= now_ms:
            return
        login.warned_at = expires_at
        frame = text_frame(protocol.encode(protocol.SessionExpiring(expires_at)))
        for connection in tuple(login.connections):
            connection.write(frame)
