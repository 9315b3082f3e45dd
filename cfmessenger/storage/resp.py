"""A pipelined connection to Valkey, only as much as the path of a message needs.

Every append of every room goes through here, so it is ours: one `write` per batch, one
future per batch whatever its number of commands, replies parsed by libvalkey's C
reader. It must not retry: a batch that broke in the middle has an unknown outcome, and
only the object that sent it knows what that means (design.md §3.5). Everything else
that talks to Valkey (sessions, tickets, rates) uses valkey-py through `valkey_kv`.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

from libvalkey import Reader, ReplyError, pack_command

from cfmessenger.errors import Unavailable

__all__ = ["Endpoint", "ReplyError", "RespConnection", "pack", "parse_url"]

CONNECT_TIMEOUT_S = 2.0


class Endpoint(NamedTuple):
    """Where a Valkey server is and how to sign in: a parsed URL."""

    path: str | None
    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    database: int


def parse_url(url: str) -> Endpoint:
    """Read `unix://`, `valkey(s)://` and `redis(s)://` URLs, as valkey-py does.

    Raises ValueError for another scheme or an impossible port or database.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    username = unquote(parts.username) if parts.username else query.get("username")
    password = unquote(parts.password) if parts.password else query.get("password")
    if parts.scheme == "unix":
        database = int(query.get("db", "0"))
        return Endpoint(unquote(parts.path), "", 0, False, username, password, database)
    if parts.scheme not in ("valkey", "valkeys", "redis", "rediss"):
        raise ValueError(f"unsupported scheme {parts.scheme!r}")
    database = int(query.get("db") or parts.path.strip("/") or "0")
    tls = parts.scheme in ("valkeys", "rediss")
    host, port = parts.hostname or "127.0.0.1", parts.port or 6379
    return Endpoint(None, host, port, tls, username, password, database)


def pack(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Commands as bytes for the wire."""
    return b"".join(map(pack_command, commands))


class _Batch(NamedTuple):
    future: asyncio.Future[list[Any]]
    replies: int
    deadline: float


class RespConnection(asyncio.Protocol):
    """One connection, strictly first in, first out.

    Not for concurrent use from several loops. When it is lost, every batch in flight
    fails with `Unavailable`. It drops itself when a batch has no reply by its deadline:
    a reply that comes later belongs to nobody.
    """

    def __init__(self) -> None:
        self._reader = Reader()
        self._waiting: deque[_Batch] = deque()  # in flight, oldest first
        self._replies: list[Any] = []  # of the oldest batch, until it has all
        self._transport: asyncio.Transport | None = None  # None: not connected yet
        # One timer for all batches, set when it must ring earlier and looked at when it
        # rings: nearly every batch is answered long before, so nearly none sets it.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # loop time; inf: no timer
        self.lost = False  # True from the loss, or a missed deadline, on

    @classmethod
    async def open(cls, url: str) -> RespConnection:
        """Connect and sign in. Raises `Unavailable`."""
        endpoint = parse_url(url)
        loop = asyncio.get_running_loop()
        connection = cls()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if endpoint.path is not None:
                    await loop.create_unix_connection(lambda: connection, endpoint.path)
                else:
                    await loop.create_connection(
                        lambda: connection,
                        endpoint.host,
                        endpoint.port,
                        ssl=ssl.create_default_context() if endpoint.tls else None,
                    )
                await connection._sign_in(endpoint)
        except (OSError, TimeoutError, ReplyError) as error:
            connection.close()
            raise Unavailable(message="Valkey cannot be reached.") from error
        if connection.lost:
            raise Unavailable(message="Valkey closed the connection.")
        return connection

    async def _sign_in(self, endpoint: Endpoint) -> None:
        commands: list[tuple[str, ...]] = []
        if endpoint.password is not None:
            commands.append(("AUTH", endpoint.username or "default", endpoint.password))
        if endpoint.database:
            commands.append(("SELECT", str(endpoint.database)))
        commands.append(("PING",))
        for reply in await self.execute(commands):
            if isinstance(reply, ReplyError):
                raise reply

    def execute(
        self, commands: Sequence[tuple[Any, ...]], deadline: float = math.inf
    ) -> asyncio.Future[list[Any]]:
        """Send commands in one write; the future holds their replies, in order.

        An error reply is a `ReplyError` in the list, never raised. The future fails
        with `Unavailable` if the connection is or gets lost, or at `deadline` (loop
        time); what was sent has an unknown outcome then.
        """
        return self.send(pack(commands), len(commands), deadline)

    def send(
        self, packed: bytes, replies: int, deadline: float = math.inf
    ) -> asyncio.Future[list[Any]]:
        """`execute` of commands that are already packed and get this many replies."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        if self.lost or self._transport is None:
            future.set_exception(Unavailable(message="Valkey is not connected."))
            return future
        self._waiting.append(_Batch(future, replies, deadline))
        if deadline < self._timer_at:
            self._set_timer(loop, deadline)
        self._transport.write(packed)
        return future

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = loop.call_at(at, self._check_deadlines, loop)

    def _check_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_at = None, math.inf
        first = min((batch.deadline for batch in self._waiting), default=math.inf)
        if first <= loop.time():
            self._fail("Valkey did not answer in time.")
            self.close()
        elif first < math.inf:
            self._set_timer(loop, first)

    def close(self) -> None:
        """Drop the connection at once; what is in flight fails as of unknown
        outcome."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        replies, waiting = self._replies, self._waiting
        while waiting and (reply := self._reader.gets()) is not False:
            replies.append(reply)
            if len(replies) < waiting[0].replies:
                continue
            future = waiting.popleft().future
            if not future.done():
                future.set_result(replies)
            replies = self._replies = []

    def _fail(self, why: str) -> None:
        self.lost = True
        for batch in self._waiting:
            if not batch.future.done():
                batch.future.set_exception(Unavailable(message=why))
        self._waiting.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("Valkey went away.")
        if self._timer is not None:
            self._timer.cancel()
