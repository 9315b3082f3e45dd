"""The HTTP half of the client: log in, keep the session alive, fetch tickets and pages.

Owns the session id and its renewal, and hands out the connections. The id leaves this
file only in the `Authorization` header: sockets get a single-use ticket, fetched anew
for each attempt ("`?ticket=` (preferred)", wire.md §1). Must not log or print either.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from cfmessenger.client.connection import DEFAULTS, Options
from cfmessenger.client.envelope import api_error, data_and_time
from cfmessenger.client.errors import ApiError, SessionEnded, Unreachable
from cfmessenger.client.frames import read_events
from cfmessenger.client.presence import PresenceConnection
from cfmessenger.client.room import RoomConnection
from cfmessenger.client.urls import is_loopback
from cfmessenger.ids import direct_room
from cfmessenger.wire.events import Message
from cfmessenger.wire.protocol import RoomInfo, Status, User

T = TypeVar("T")

#: What Cloudflare's widget yields with its published test site keys.
TEST_TURNSTILE_TOKEN = "XXXX.DUMMY.TOKEN.XXXX"

_REFRESH_MARGIN_S = 120.0
_RETRY_S = 5.0
#: A session that is to end sooner cannot be kept: asking again and again is no help.
_SHORTEST_S = 1.0
_ABSURD_S = 30.0


class _Login(msgspec.Struct, rename="camel"):
    session_id: str
    user: User
    expires_at: int


class _Renewal(msgspec.Struct, rename="camel"):
    session_id: str
    expires_at: int


class _Ticket(msgspec.Struct, rename="camel"):
    ticket: str


class Shown(msgspec.Struct, rename="camel", frozen=True):
    """What others see of us."""

    status: Status
    display_name: str


class _Page(msgspec.Struct, rename="camel"):
    messages: list[msgspec.Raw]
    next_before: int | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of a room's log, oldest first; `next_before` is None on the last.

    Events of a type that this client does not know are left out.
    """

    messages: list[Message]
    next_before: int | None = None


class Client:
    """One server, over HTTP. `async with Client(url) as client: …`.

    `url` is `http(s)://host[:port]`. Calls raise `ApiError` or `Unreachable`; each is
    tried once: nothing here retries what may have been done already.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, timeout_s: float = 10.0):
        self.url = url.rstrip("/")
        self._http = httpx2.AsyncClient(
            base_url=self.url, timeout=timeout_s, trust_env=not is_loopback(url)
        )
        # Server time minus our monotonic clock, as of the latest answer: somebody who
        # sets this machine's clock must not make a session look ended, or endless.
        self._ahead_ms = time.time() * 1000 - time.monotonic() * 1000

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Gives back every connection. Sessions are not logged out."""
        await self._http.aclose()

    async def login(self, user_id: str, token: str = TEST_TURNSTILE_TOKEN) -> Session:
        """Start a session as `user_id`; `token` is the Turnstile widget's."""
        body = {"userId": user_id, "token": token}
        login = await self.call(_Login, "POST", "/api/auth/login", json=body)
        return Session(self, login.user, login.session_id, login.expires_at)

    async def users(self) -> list[User]:
        """People with their statuses, then the bots in rotation (wire.md §1)."""
        return await self.call(list[User], "GET", "/api/users")

    async def call(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        json: Any = None,
        session_id: str | None = None,
    ) -> T:
        """One request; `data` of the envelope as `kind`.

        Raises `ApiError` or `Unreachable`.
        """
        headers = {"Authorization": f"Bearer {session_id}"} if session_id else {}
        try:
            response = await self._http.request(
                method, path, json=json, headers=headers
            )
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no answer from {self.url}: {reason}") from error
        if response.status_code >= 400:
            retry_after = response.headers.get("Retry-After")
            raise api_error(response.status_code, response.content, retry_after)
        try:
            data, timestamp = data_and_time(response.content, kind)
        except (msgspec.DecodeError, RecursionError) as error:
            text = f"{self.url} does not speak our protocol at {path}"
            raise Unreachable(text) from error
        if timestamp:
            self._ahead_ms = timestamp - time.monotonic() * 1000
        return data

    def server_now(self) -> float:
        """The server's clock, to within the time its latest answer took; Unix ms."""
        return time.monotonic() * 1000 + self._ahead_ms


class Session:
    """A login. Usable bare, or as `async with`, which also keeps it from expiring and
    logs out at the end.

    Safe for concurrent use from one loop. Refreshing changes `session_id`; open
    sockets live on (wire.md §1). After `SessionEnded` nothing works any more.
    """

    def __init__(
        self, client: Client, user: User, session_id: str, expires_at: int
    ) -> None:
        self.client = client
        self.user = user
        self.session_id = session_id  # until `refresh`
        #: Unix ms, as last told: the server slides it further with each use.
        self.expires_at = expires_at
        self._refreshing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None  # from entering `async with` on

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="session-keeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        # Leaving with an error, or without a server: the session ends by its TTL.
        with contextlib.suppress(ApiError, SessionEnded, Unreachable):
            await self.logout()

    def room(
        self, room_id: str, *, since: int | None = None, options: Options = DEFAULTS
    ) -> RoomConnection:
        """A connection to a room, not opened yet."""
        return RoomConnection(
            self.client.url,
            room_id,
            self.user.id,
            self.ticket,
            since=since,
            options=options,
        )

    def direct(
        self, other: str, *, since: int | None = None, options: Options = DEFAULTS
    ) -> RoomConnection:
        """A connection to the direct room with the user `other`."""
        room_id = direct_room(self.user.id, other)
        return self.room(room_id, since=since, options=options)

    def presence(self, *, options: Options = DEFAULTS) -> PresenceConnection:
        """A connection to the presence registry, not opened yet."""
        return PresenceConnection(
            self.client.url, self.user.id, self.ticket, options=options
        )

    async def refresh(self) -> None:
        """Change the session's id (wire.md §1). A lost answer loses the session."""
        stale = self.session_id
        async with self._refreshing:
            if self.session_id != stale:
                return  # somebody else has just done it
            renewal = await self._call(_Renewal, "POST", "/api/auth/refresh")
            self.session_id = renewal.session_id
            self.expires_at = renewal.expires_at

    def refresh_in_s(self) -> float:
        """Seconds until it should be renewed, by the server's clock; as `async with`,
        this object does that by itself."""
        left = (self.expires_at - self.client.server_now()) / 1000
        early = min(_REFRESH_MARGIN_S, left / 4)
        return left - early if left >= _SHORTEST_S else _ABSURD_S

    async def logout(self) -> None:
        """End the session; its sockets close with 4501."""
        await self._call(msgspec.Raw, "POST", "/api/auth/logout")

    async def ticket(self) -> str:
        """A single-use ticket for a WebSocket URL, good for 30 s (wire.md §1)."""
        return (await self._call(_Ticket, "POST", "/api/auth/ticket")).ticket

    async def me(self) -> User:
        """Our own row and status, as the server has them now."""
        return await self._call(User, "GET", "/api/auth/me")

    async def appear(self, status: Status, display_name: str | None = None) -> Shown:
        """Choose a status (and a name), for all devices and in every room. Before the
        first socket is opened it holds from the first moment on."""
        wish = {"status": status} | (
            {} if display_name is None else {"displayName": display_name}
        )
        return await self._call(Shown, "POST", "/api/presence", wish)

    async def rooms(self) -> list[RoomInfo]:
        """The public rooms, then our direct rooms, latest first."""
        return await self._call(list[RoomInfo], "GET", "/api/rooms")

    async def messages(
        self, room_id: str, *, before: int | None = None, limit: int = 50
    ) -> Page:
        """A page of a room's messages: at most `limit` (1-100) below the seq `before`,
        None: the newest. Wakes nobody."""
        query = f"limit={limit}" + (f"&before={before}" if before is not None else "")
        path = f"/api/rooms/{quote(room_id, safe='')}/messages?{query}"
        page = await self._call(_Page, "GET", path)
        found = read_events(page.messages)
        shown: list[Message] = [each for each in found if isinstance(each, Message)]
        return Page(shown, page.next_before)

    async def _call(self, kind: type[T], method: str, path: str, json: Any = None) -> T:
        """With our id; a 401 to an id that was rotated meanwhile is tried again."""
        while True:
            used = self.session_id
            try:
                return await self.client.call(
                    kind, method, path, json=json, session_id=used
                )
            except ApiError as error:
                if error.status != 401:
                    raise
                if self._refreshing.locked() and path != "/api/auth/refresh":
                    async with self._refreshing:
                        pass
                if self.session_id == used:
                    raise SessionEnded(error.code, error.message) from error

    async def _keep(self) -> None:
        """Refresh ahead of the end; give up silently, the next call will tell."""
        while True:
            await asyncio.sleep(self.refresh_in_s())
            try:
                await self.refresh()
            except (ApiError, Unreachable):
                await asyncio.sleep(_RETRY_S)
            except SessionEnded:
                return
