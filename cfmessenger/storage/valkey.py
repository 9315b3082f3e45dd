"""The one client of Valkey: every command that this product sends goes through here.

A `Valkey` is what the rest of the product holds: it knows which server has a key
(`server.py`), packs pipelines, and listens to channels on connections of their own.

Nothing is sent twice (design.md §3.4). What fails is an `Unavailable`: a plain one was
not sent, `Refused` was answered with an error, and of an `UnknownOutcome` nobody knows
whether it was done; only who sent it knows what that means.

Of valkey-py libvalkey, an extra of it, packs and parses. Its client is for tests that
look at a server as its administrator: it would cost each actor process 5 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from cfmessenger.errors import Unavailable
from cfmessenger.storage.resp import (
    Command,
    Refused,
    ReplyError,
    UnknownOutcome,
    checked,
    fields_of,
    pack,
)
from cfmessenger.storage.server import TIMEOUT_S, Server

__all__ = [
    "EXEC",
    "MULTI",
    "Command",
    "Multi",
    "Refused",
    "ReplyError",
    "TooOld",
    "UnknownOutcome",
    "Valkey",
    "checked",
    "key_of",
    "pack",
    "pairs",
]

SILENCE_S = 5.0
OLDEST_MAJOR = 9
"""Sessions and rates live in hash fields that expire by themselves (HSETEX)."""

MULTI, EXEC = pack([("MULTI",)]), pack([("EXEC",)])


class TooOld(Exception):
    """The server answers, but is not Valkey >= 9 (or is another product)."""


class Multi(NamedTuple):
    """Commands that are done together or not at all: one item of a pipeline.

    Its reply is the list of theirs, or one `ReplyError` if none was done. `key` decides
    which server it goes to; all its keys have to be there.
    """

    key: str
    commands: Sequence[Command]


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values, as HGETALL and XINFO answer them one after the other."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def key_of(command: Command | Multi) -> str:
    """The key or channel that decides which server a command goes to: its first, which
    several outside a `Multi` have to be together with. "": any server will do."""
    if isinstance(command, Multi):
        return command.key
    at = 2 if command[0] == "XINFO" else 1
    return str(command[at]) if len(command) > at else ""


class Valkey:
    """A client; nothing is contacted before the first command.

    Whoever waits `timeout_s` for a connection or a reply gets an `Unavailable`, and
    every method may raise it. Raises ValueError for a URL that cannot be meant.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = Server(url, timeout_s)

    def server_of(self, key: str) -> Server:
        """Where a key is. There is one server; if there were many, this would choose by
        what is in the braces of the key, and `execute` would ask it for each item."""
        return self._server

    def lineage_of(self, key: str) -> str:
        """Who holds a key, as a text that changes whenever something may be lost of
        what was written before: with a server that was started anew, or another that
        became the primary. As of the last connection; "" before the first."""
        return self.server_of(key).lineage

    async def look(self) -> None:
        """Ask anew who answers and whether it has replicas: see `lineage_of`."""
        await self._server.look()

    @property
    def replicated(self) -> bool:
        """A replica was connected to the server when it was last asked."""
        return self._server.replicas > 0

    async def execute(
        self,
        items: Sequence[Command | Multi],
        timeout_s: float | None = None,
        lineage: str = "",
        *,
        durable: bool = False,
    ) -> list[Any]:
        """Commands and their replies, in order and in one round trip; not atomic.

        An error reply is a `ReplyError` in the list. `lineage`: nothing is sent unless
        this is who answers (`lineage_of`). `durable`: it has to outlive the server, at
        the level that the URL says; what so few have that it may not is an
        `UnknownOutcome` in the list.
        """
        if not items:
            return []
        packed: list[bytes] = []
        replies = 0
        for item in items:
            if isinstance(item, Multi):
                packed += (MULTI, pack(item.commands), EXEC)
                replies += len(item.commands) + 2
            else:
                packed.append(pack([item]))
                replies += 1
        server = self.server_of(key_of(items[0]))
        found = await server.send(
            b"".join(packed), replies, timeout_s, lineage, durable=durable
        )
        return found if replies == len(items) else _folded(items, iter(found))

    async def ask(self, *command: Any, durable: bool = False) -> Any:
        """One command and its reply."""
        (reply,) = await self.execute([command], durable=durable)
        return checked(reply)

    async def ask_all(self, *commands: Command) -> list[Any]:
        """Their replies, in order and in one round trip; not atomic."""
        return [checked(reply) for reply in await self.execute(commands)]

    async def multi(
        self, key: str, *commands: Command, durable: bool = False
    ) -> list[Any]:
        """The replies of a `Multi`."""
        (replies,) = await self.execute([Multi(key, commands)], durable=durable)
        return [checked(reply) for reply in checked(replies)]

    async def names(self, pattern: str, count: int) -> AsyncGenerator[list[str], None]:
        """The keys of every server that match, about `count` at a time; not in order.

        A key that is there all the while comes at least once.
        """
        cursor = "0"
        while True:
            said = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
            after, found = await self.ask(*said)
            yield [name.decode() for name in found]
            cursor = after.decode()
            if cursor == "0":
                return

    async def info(self, section: str) -> dict[str, str]:
        """What the server says of itself."""
        return fields_of(await self.ask("INFO", section))

    async def require_version(self) -> str:
        """The server's version; raises `TooOld` below 9."""
        server = await self.info("server")
        version = server.get("valkey_version", "")
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < OLDEST_MAJOR:
            found = version or f"{server.get('redis_version', '?')} (not Valkey)"
            raise TooOld(f"Valkey {OLDEST_MAJOR} or newer is needed, found {found}")
        return version

    async def listen(
        self, *channels: str, silence_s: float = SILENCE_S
    ) -> AsyncGenerator[tuple[str, str] | None, None]:
        """What is published from now on, as (channel, text). None comes first, once all
        channels are subscribed. The first channel decides which server it is.

        Ends by raising `Unavailable`: when the connection breaks, or a ping that is
        sent after `silence_s` of silence stays unanswered for as long. What is
        published until the next subscription is lost, so look for yourself then.
        """
        connection = await self.server_of(channels[0]).connect()
        try:
            heard = connection.subscribe(channels)
            confirmed, pinged = 0, False
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        told = await heard.get()
                except TimeoutError:
                    if pinged:
                        raise Unavailable(message="Valkey is silent.") from None
                    pinged = True
                    connection.ping()
                    continue
                pinged = False
                if isinstance(told, Unavailable):
                    raise told
                kind, channel, text = (*checked(told), None)[:3]
                if kind == b"message":
                    yield channel.decode(), text.decode()
                elif kind == b"subscribe":
                    confirmed += 1
                    if confirmed == len(channels):
                        yield None
        finally:
            connection.close()

    def close(self) -> None:
        """Drop the connection; what is in flight has an unknown outcome.

        The next command opens another one.
        """
        self._server.close()


def _folded(items: Sequence[Command | Multi], replies: Any) -> list[Any]:
    """One reply for each item: of a `Multi` what EXEC says, or why it was not done."""
    found = []
    for item in items:
        if not isinstance(item, Multi):
            found.append(next(replies))
            continue
        said = [next(replies) for _ in range(len(item.commands) + 2)]
        # EXEC only says that there was a reason.
        why_not = (each for each in said if isinstance(each, ReplyError))
        found.append(next(why_not, said[-1]))
    return found
