"""The asyncio Valkey client of everything that is not an object's log.

Sessions, tickets, rates and presence are small keys asked for one at a time, and
valkey-py serves them; object logs have their own lean connection (`storage/resp.py`).
Retries stay off: a command whose outcome is unknown is reported, never sent a second
time (design.md §3.4), and whoever called decides. Valkey 9 is the floor, because
sessions and the login rate live in hash fields that expire by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ValkeyError

from cfmessenger.errors import Unavailable

__all__ = [
    "TooOld",
    "Valkey",
    "ask",
    "connect",
    "listen",
    "open_all",
    "reachable",
    "require_version",
]

SCHEMES = ("unix", "valkey", "valkeys", "redis", "rediss")
OLDEST_MAJOR = 9
_TLS = ("valkeys", "rediss")


class TooOld(Exception):
    """The server answers, but is not Valkey >= 9 (or is another product)."""


def connect(url: str, *, timeout_s: float = 2.0, connections: int = 32) -> Valkey:
    """A client for `url`; nothing is contacted until the first command.

    Schemes: `unix:///path?password=…`, `valkey://`, `valkeys://` and `rediss://` (both
    TLS, certificate and host name checked unless the query says otherwise). At most
    `connections` sockets; whoever waits `timeout_s` for one, for the connect or for a
    reply gets an error. Raises ValueError for a URL that cannot be meant.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected one of {', '.join(s + '://' for s in SCHEMES)}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("expected unix:///path/to/socket")
    if any(name.startswith("retry") for name in parse_qs(parts.query)):
        raise ValueError("retries cannot be turned on: a write is never sent twice")
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": timeout_s,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        # Nothing beyond the commands an ACL of ours has to allow.
        "lib_name": None,
        "lib_version": None,
    }
    if parts.scheme in _TLS:
        options["ssl_check_hostname"] = True
    return Valkey(connection_pool=BlockingConnectionPool.from_url(url, **options))


@contextmanager
def reachable() -> Iterator[None]:
    """Turns every failure of a command inside into `Unavailable`.

    The outcome of a write is then unknown. The original error is the cause; its text
    (addresses, user names) is for the log, never for a client.
    """
    try:
        yield
    except (ValkeyError, OSError, TimeoutError) as error:
        raise Unavailable() from error


async def ask(client: Valkey, *command: str | int) -> Any:
    """One command and its reply. Raises `Unavailable`."""
    with reachable():
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def listen(
    client: Valkey, *channels: str, silence_s: float = 5.0
) -> AsyncIterator[tuple[str, str] | None]:
    """What is published from now on, as (channel, text). None comes first, once all
    channels are subscribed.

    Ends by raising `Unavailable`: when the connection breaks, or a ping that is sent
    after `silence_s` of silence stays unanswered for as long. What is published until
    the next subscription is lost, so look for yourself then.
    """
    confirmed, pinged = 0, False
    with reachable():
        async with client.pubsub() as subscription:
            await subscription.subscribe(*channels)
            while True:
                # `listen()` of the client would end with its own reply timeout.
                message = await subscription.get_message(timeout=silence_s)
                if message is None:
                    if pinged:
                        raise Unavailable()
                    pinged = True
                    await subscription.ping()
                    continue
                pinged = False
                if message["type"] == "message":
                    yield message["channel"].decode(), message["data"].decode()
                elif message["type"] == "subscribe":
                    confirmed += 1
                    if confirmed == len(channels):
                        yield None


async def open_all(client: Valkey) -> None:
    """Makes every connection of `client` now. Raises `Unavailable`.

    A new one costs a millisecond of this process: 32 of them are what the first crowd
    would wait for.
    """
    with reachable():
        pings = (client.ping() for _ in range(client.connection_pool.max_connections))
        await asyncio.gather(*pings)


async def require_version(client: Valkey) -> str:
    """The server's version; raises `TooOld` below 9, `Unavailable` if it is away."""
    with reachable():
        server = await client.info("server")
    version = str(server.get("valkey_version", ""))
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        found = version or f"{server.get('redis_version', '?')} (not Valkey)"
        raise TooOld(f"Valkey {OLDEST_MAJOR} or newer is needed, found {found}")
    return version
