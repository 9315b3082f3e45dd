"""One connection to Valkey, and what can become of a command on it.

Without a thread, and as little as there can be between a caller and the socket: a batch
is one write and one future, whatever its number of commands, and libvalkey packs and
parses. It must not retry or reconnect: a batch that broke in the middle has an unknown
outcome, and only who sent it knows what that means (design.md §3.5). `server.py` stands
on this.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit

from libvalkey import ProtocolError, Reader, ReplyError, pack_command

from cfmessenger.addresses import valkey_parameters
from cfmessenger.errors import Unavailable

__all__ = [
    "Command",
    "Connection",
    "Endpoint",
    "Refused",
    "ReplyError",
    "UnknownOutcome",
    "checked",
    "endpoint_of",
    "fields_of",
    "pack",
]

Command = tuple[Any, ...]
_WHO = ("INFO", "server", "replication")
_strangers = itertools.count(1)  # each is somebody else
HEARD_MOST = 10_000
"""What was published and is not taken yet; who has more looks for himself."""
SCHEMES = ("unix", "valkey", "valkeys", "redis", "rediss")
T = TypeVar("T")


class Refused(Unavailable):
    """Valkey answered with an error, and this command did nothing.

    The reply is the cause, for the log; its text is never for a client.
    """

    def __init__(self, reply: ReplyError) -> None:
        super().__init__(message="Valkey refused a command.")
        self.__cause__ = reply


class UnknownOutcome(Unavailable):
    """It was sent and no reply came: it may be done, now or later, or not at all. Or it
    is done, and so few replicas have it that a failover may take it back."""


def checked(reply: T) -> T:
    """The reply; raises `Refused` if it is an error, and what stands in its place."""
    if isinstance(reply, ReplyError):
        raise Refused(reply)
    if isinstance(reply, Unavailable):
        raise reply
    return reply


class Endpoint(NamedTuple):
    """Where a Valkey server is and how to sign in: a parsed URL."""

    path: str | None
    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    database: int


def endpoint_of(url: str) -> Endpoint:
    """Read `unix:///path`, `valkey(s)://` and `redis(s)://` URLs, as valkey-py does.

    Raises ValueError for one that cannot be meant.
    """
    parts = urlsplit(url)
    query = valkey_parameters(url)
    username = unquote(parts.username) if parts.username else query.get("username")
    password = unquote(parts.password) if parts.password else query.get("password")
    if parts.scheme == "unix" and parts.path:
        database = int(query.get("db", "0"))
        return Endpoint(unquote(parts.path), "", 0, False, username, password, database)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected one of {', '.join(s + '://' for s in SCHEMES)}")
    if parts.scheme == "unix":
        raise ValueError("expected unix:///path/to/socket")
    database = int(query.get("db") or parts.path.strip("/") or "0")
    tls = parts.scheme in ("valkeys", "rediss")
    host, port = parts.hostname or "127.0.0.1", parts.port or 6379
    return Endpoint(None, host, port, tls, username, password, database)


def tls_context(url: str) -> ssl.SSLContext:
    """Certificate and host name are checked unless the URL says otherwise, against the
    system's authorities or the one that it names, and none else.

    Files are read now, so whoever connects later uses what they hold then. Raises
    OSError for a file that cannot be used, ValueError for a parameter.
    """
    said = valkey_parameters(url)
    context = ssl.create_default_context(
        cafile=said.get("ssl_ca_certs"), cadata=said.get("ssl_ca_data")
    )
    if certificate := said.get("ssl_certfile"):
        context.load_cert_chain(certificate, said.get("ssl_keyfile"))
    if ciphers := said.get("ssl_ciphers"):
        context.set_ciphers(ciphers)
    checks = said.get("ssl_cert_reqs", "required")
    if checks not in _CHECKS:
        raise ValueError(f"ssl_cert_reqs: expected {', '.join(_CHECKS)}")
    names = said.get("ssl_check_hostname", "1").lower() not in _NO
    context.check_hostname = names and checks != "none"
    context.verify_mode = _CHECKS[checks]
    return context


_CHECKS = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
_NO = ("0", "f", "false", "n", "no")


def fields_of(info: bytes) -> dict[str, str]:
    """What INFO says."""
    lines = info.decode().splitlines()
    return dict(line.partition(":")[::2] for line in lines if ":" in line)


def pack(commands: Iterable[Command]) -> bytes:
    """Commands as bytes for the wire."""
    return b"".join(map(pack_command, commands))


Answer = list[Any] | Unavailable
"""The replies to a batch, in order, or why there are none."""
Answered = Callable[[Answer], None]


class _Batch:
    __slots__ = ("answered", "deadline", "replies")

    def __init__(self, answered: Answered, replies: int, deadline: float) -> None:
        self.answered = answered  # until it was called
        self.replies = replies
        self.deadline = deadline


class Connection(asyncio.Protocol):
    """One connection, strictly first in, first out. Not for several loops.

    A batch without all its replies by its deadline fails, and from then on nothing new
    is sent here. What is in flight may still be answered, each by its own deadline; a
    reply that comes later belongs to nobody.
    """

    def __init__(self) -> None:
        self._reader = Reader()
        self._waiting: deque[_Batch] = deque()  # in flight, oldest first
        self._replies: list[Any] = []  # of the oldest batch, until it has all
        self._transport: asyncio.Transport | None = None  # None: not connected yet
        self._heard: asyncio.Queue[Any] | None = None  # from `subscribe` to the end
        # One timer for all batches, set when it must ring earlier and looked at when it
        # rings: nearly every batch is answered long before, so nearly none sets it.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # loop time; inf: no timer
        self.lost = False  # True from the loss, `close` or a missed deadline on
        # As the server said at the sign-in, and when it was asked again. Its role
        # (`master`, `slave`), "" if it does not tell; whose data it holds, as a text
        # that is another one after each promotion and each start.
        self.role = self.lineage = ""
        self.replicas = 0  # that were connected to it

    @classmethod
    async def open(cls, url: str, timeout_s: float, address: str = "") -> Connection:
        """Connect and sign in; at this address of the URL's host, if one is given.
        Raises `Unavailable`."""
        endpoint = endpoint_of(url)
        loop = asyncio.get_running_loop()
        connection = cls()
        try:
            async with asyncio.timeout(timeout_s):
                if endpoint.path is not None:
                    await loop.create_unix_connection(lambda: connection, endpoint.path)
                else:
                    await loop.create_connection(
                        lambda: connection,
                        address or endpoint.host,
                        endpoint.port,
                        ssl=tls_context(url) if endpoint.tls else None,
                        server_hostname=endpoint.host if endpoint.tls else None,
                    )
                await connection._sign_in(endpoint, loop.time() + timeout_s)
        except BaseException as error:
            connection.close()
            # A ValueError is of a TLS parameter.
            if isinstance(error, (OSError, TimeoutError, ValueError, Unavailable)):
                raise Unavailable(message="Valkey cannot be reached.") from error
            raise
        return connection

    async def _sign_in(self, endpoint: Endpoint, deadline: float) -> None:
        commands: list[Command] = []
        if endpoint.password is not None:
            commands.append(("AUTH", endpoint.username or "default", endpoint.password))
        if endpoint.database:
            commands.append(("SELECT", str(endpoint.database)))
        commands += [("PING",), _WHO]
        *replies, info = await self.send(pack(commands), len(commands), deadline)
        for reply in replies:
            checked(reply)
        self._know(info)

    async def look(self, deadline: float) -> None:
        """Ask anew who is there, since that may change with its connections kept.
        Raises `Unavailable`."""
        (info,) = await self.send(pack([_WHO]), 1, deadline)
        self._know(info)

    def _know(self, info: Any) -> None:
        if isinstance(info, ReplyError):  # not everybody's user may ask
            self.lineage = f"stranger {next(_strangers)}"
            return
        told = fields_of(info)
        self.role = told.get("role", "")
        self.lineage = f"{told.get('run_id', '')} {told.get('master_replid', '')}"
        self.replicas = int(told.get("connected_slaves", "0"))

    def send(
        self, packed: bytes, replies: int, deadline: float
    ) -> asyncio.Future[list[Any]]:
        """Send packed commands in one write; the future holds their replies, in order.

        An error reply is a `ReplyError` in the list, never raised. The future fails
        with `UnknownOutcome` if the connection gets lost, or at `deadline` (loop time);
        with a plain `Unavailable` if it was lost before.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self.begin(packed, replies, deadline, partial(_settle, future))
        return future

    def begin(
        self, packed: bytes, replies: int, deadline: float, answered: Answered
    ) -> None:
        """`send` without a future: `answered` is called once, with the replies or with
        what the future would fail with. It must not raise."""
        if self.lost or self._transport is None:
            answered(Unavailable(message="Valkey is not connected."))
            return
        self._waiting.append(_Batch(answered, replies, deadline))
        if deadline < self._timer_at:
            self._set_timer(asyncio.get_running_loop(), deadline)
        self._transport.write(packed)

    def subscribe(self, asked: Iterable[Command]) -> asyncio.Queue[Any]:
        """Send these; from then on all that comes, as it comes; the last is an
        `Unavailable`.
        That is soon if more than `HEARD_MOST` wait to be taken.

        For a new connection; nothing but `ping` may be sent on it any more.
        """
        self._heard = asyncio.Queue(HEARD_MOST + 1)  # and the end
        self._write(asked)
        return self._heard

    def ping(self) -> None:
        """Ask a subscribed connection for a sign of life."""
        self._write([("PING",)])

    def _write(self, commands: Iterable[Command]) -> None:
        if self._transport is not None:
            self._transport.write(pack(commands))

    def retire(self) -> None:
        """Send nothing new here, and close once what is in flight has its replies."""
        self.lost = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Drop the connection at once; what is in flight has an unknown outcome."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = loop.call_at(at, self._check_deadlines, loop)

    def _check_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_at = None, math.inf
        now, first = loop.time(), math.inf
        for batch in self._waiting:
            if batch.deadline > now:
                first = min(first, batch.deadline)
            else:
                self.lost = True
                _fail(batch, "Valkey did not answer in time.")
        if first < math.inf:
            self._set_timer(loop, first)
        elif self.lost:
            self.close()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            if self._heard is None:
                self._answered()
            else:
                self._publish(self._heard)
        except ProtocolError as error:  # who answers is no Valkey
            self._end("Valkey cannot be understood.", error)
            self.close()

    def _answered(self) -> None:
        replies, waiting, gets = self._replies, self._waiting, self._reader.gets
        while waiting and (reply := gets()) is not False:
            replies.append(reply)
            if len(replies) < waiting[0].replies:
                continue
            all_of_them, replies = replies, []
            self._replies = replies
            waiting.popleft().answered(all_of_them)
        if self.lost and not waiting:
            self.close()

    def _publish(self, heard: asyncio.Queue[Any]) -> None:
        while (told := self._reader.gets()) is not False:
            if heard.qsize() == HEARD_MOST:
                self._end("More is published than is listened to.", None)
                self.close()
                return
            heard.put_nowait(told)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("Valkey closed the connection.", exc)

    def _end(self, why: str, cause: Exception | None) -> None:
        self.lost = True
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            _fail(batch, why, cause)
        if self._heard is not None:
            self._heard.put_nowait(_unknown(why, cause))
            self._heard = None
        if self._timer is not None:
            self._timer.cancel()


def _fail(batch: _Batch, why: str, cause: Exception | None = None) -> None:
    answered, batch.answered = batch.answered, _nobody
    answered(_unknown(why, cause))


def _nobody(answer: Answer) -> None:
    """Whoever asked was told that it took too long."""


def _settle(future: asyncio.Future[list[Any]], answer: Answer) -> None:
    if future.done():
        return
    if isinstance(answer, Unavailable):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _unknown(why: str, cause: Exception | None) -> UnknownOutcome:
    unknown = UnknownOutcome(message=why)
    unknown.__cause__ = cause
    return unknown
