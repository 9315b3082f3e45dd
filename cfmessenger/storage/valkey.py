"""The one client of Valkey: every command that this product sends goes through here.

A `Valkey` is what the rest of the product holds: it packs pipelines, sends them to the
server that has their keys (`server.py`, or `cluster.py` where there are several), and
listens to channels on connections of their own.

Nothing is sent twice (design.md §3.4). What fails is an `Unavailable`: a plain one was
not sent, `Refused` was answered with an error, and of an `UnknownOutcome` nobody knows
whether it was done; only who sent it knows what that means.

Of valkey-py libvalkey, an extra of it, packs and parses. Its client is for tests that
look at a server as its administrator: it would cost each actor process 5 MiB.

Longer than most: one client, with a method for each way to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from cfmessenger.addresses import is_valkey_cluster
from cfmessenger.errors import Unavailable
from cfmessenger.storage.cluster import Cluster, Part, outcomes_of, together
from cfmessenger.storage.resp import (
    Answer,
    Answered,
    Command,
    Refused,
    ReplyError,
    UnknownOutcome,
    checked,
    fields_of,
    pack,
)
from cfmessenger.storage.server import TIMEOUT_S, Server
from cfmessenger.storage.slots import Address, common_slot

__all__ = [
    "EXEC",
    "MULTI",
    "Answer",
    "Command",
    "Multi",
    "Part",
    "Refused",
    "ReplyError",
    "TooOld",
    "UnknownOutcome",
    "Valkey",
    "checked",
    "key_of",
    "ms_of",
    "pack",
    "pairs",
]

SILENCE_S = 5.0
OLDEST_MAJOR = 9
"""Sessions and rates live in hash fields that expire by themselves (HSETEX)."""

MULTI, EXEC = pack([("MULTI",)]), pack([("EXEC",)])

READS = frozenset(
    "EXISTS GET HGET HGETALL HMGET SMEMBERS TIME XINFO XRANGE XREVRANGE ZMSCORE ZRANGE "
    "ZRANGEBYSCORE ZREVRANGE ZSCORE".split()
)
"""Commands that may be done twice. In a cluster one that was answered is asked again
if what came before it in its slot had to be."""


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
        self._url = url
        self._timeout_s = timeout_s
        self._servers: Server | Cluster
        if is_valkey_cluster(url):
            self._servers = Cluster(url, timeout_s)
        else:
            self._servers = Server(url, timeout_s)

    @property
    def sharded(self) -> bool:
        """Whether keys are on several servers, each with a clock of its own."""
        return isinstance(self._servers, Cluster)

    def server_of(self, key: str) -> Server:
        """Where a key is, as far as is known: of several what is in its braces
        decides. "": any will do."""
        servers = self._servers
        return servers if isinstance(servers, Server) else servers.server_of(key)

    async def primaries(self) -> dict[str, Valkey]:
        """A client for each server with keys, by its URL. Whoever asks closes them."""
        urls = [self._url]
        if isinstance(self._servers, Cluster):
            urls = await self._servers.primaries()
        return {url: Valkey(url, timeout_s=self._timeout_s) for url in urls}

    async def send(
        self,
        parts: Sequence[Part],
        timeout_s: float | None = None,
        lineage: str = "",
        *,
        durable: bool = False,
    ) -> list[Any]:
        """The outcome of each part, in order and in one round trip; not atomic.

        An error reply is a `ReplyError` in the list. Where there are several servers,
        so is the `Unavailable` of those parts that were for one that cannot be reached;
        one server alone raises it. `lineage` and `durable`: see `execute`.
        """
        if isinstance(self._servers, Cluster):
            return await self._servers.send(parts, timeout_s, lineage, durable=durable)
        packed, replies = together(parts)
        server = self.server_of(parts[0].key)
        found = await server.send(packed, replies, timeout_s, lineage, durable=durable)
        return outcomes_of(parts, found)

    def begin_sending(
        self,
        parts: Sequence[Part],
        timeout_s: float,
        lineage: str,
        answered: Answered,
        *,
        durable: bool = False,
    ) -> bool:
        """`send` for whoever cannot wait, if nothing has to be waited for but the
        replies. False: something has, and nothing was sent.

        `answered` is called with what `send` would return or raise; it must not raise.
        """
        server = self._servers
        if isinstance(server, Cluster):
            return server.begin(parts, timeout_s, lineage, answered, durable=durable)
        if durable and server.awaited:
            return False

        def fold(answer: Answer) -> None:
            if isinstance(answer, list):
                answer = outcomes_of(parts, answer)
            answered(answer)

        return server.begin(*together(parts), timeout_s, lineage, fold)

    def lineage_of(self, key: str) -> str:
        """Who holds a key, as a text that changes whenever something may be lost of
        what was written before: with a server that was started anew, or another that
        became the primary. As of the last connection; "" before the first. Of no key,
        "", it is that of all servers together."""
        return self._servers.lineage_of(key)

    def address_of(self, key: str) -> Address | None:
        """Which of several servers has a key, as far as is known; None: there is but
        one."""
        servers = self._servers
        return None if isinstance(servers, Server) else servers.address_of(key)

    def follow(self, key: str, lineage: str, address: Address | None) -> None:
        """Another client has met this `lineage` at the `address_of` a key: what is sent
        from now on goes there. Of one server this drops the connections, for the next
        ones lead there; of several it is most likely a slot that has moved."""
        if self.lineage_of(key) in ("", lineage):
            return
        if isinstance(self._servers, Server):
            self._servers.close()
        elif address is not None:
            self._servers.follow(key, lineage, address)

    async def look(self) -> None:
        """Ask anew who answers and whether it has replicas: see `lineage_of`."""
        await self._servers.look()

    @property
    def replicated(self) -> bool:
        """A replica was connected to a server when that was last asked."""
        return self._servers.replicated

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
        `UnknownOutcome` in the list. Raises ValueError for a `Multi`
        whose keys are not all where its `key` is, if there are several servers. There
        two writes whose order matters are a `Multi`, else the second one may be done
        first while their slot moves.
        """
        if not items:
            return []
        if self.sharded:
            for item in items:
                if isinstance(item, Multi):
                    common_slot(item.key, item.commands)
        parts = [_part(item) for item in items]
        outcomes = await self.send(parts, timeout_s, lineage, durable=durable)
        if self.sharded and not durable:
            lost = [each for each in outcomes if isinstance(each, Unavailable)]
            for each in sorted(lost, key=lambda it: not isinstance(it, UnknownOutcome)):
                raise each
        return outcomes

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
        for one in (await self.primaries()).values():
            with contextlib.closing(one):
                cursor = "0"
                while True:
                    said = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
                    after, found = await one.ask(*said)
                    yield [name.decode() for name in found]
                    cursor = after.decode()
                    if cursor == "0":
                        break

    async def time(self, key: str) -> int:
        """Ms since 1970 by the clock of the server that has this key: one clock for
        all who compare times that are kept there."""
        (said,) = await self.send([Part(key, _TIME, 1)])
        if isinstance(said, Unavailable):
            raise said
        return ms_of(said)

    async def info(self, section: str) -> dict[str, str]:
        """What the server says of itself; of several, one."""
        return fields_of(await self.ask("INFO", section))

    async def infos(self, section: str) -> list[dict[str, str]]:
        """What each server with keys says of itself, as far as they are known."""
        command = pack([("INFO", section)])
        said = await self._servers.each(command, self._timeout_s)
        return [fields_of(checked(reply)) for reply in said]

    async def require_version(self) -> str:
        """The server's version, of several the last one's; raises `TooOld` if any is
        below 9."""
        if not self.sharded:
            return await self._version()
        version = ""
        for each in (await self.primaries()).values():
            with contextlib.closing(each):
                version = await each._version()
        return version

    async def _version(self) -> str:
        server = await self.info("server")
        version = server.get("valkey_version", "")
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < OLDEST_MAJOR:
            found = version or f"{server.get('redis_version', '?')} (not Valkey)"
            raise TooOld(f"Valkey {OLDEST_MAJOR} or newer is needed, found {found}")
        return version

    def to_one(self, channel: str, text: str) -> Command:
        """The command that publishes on a channel to which one listens (`own`): of
        several servers it costs the one that has the channel, and not all of them."""
        if self.sharded:
            return ("SPUBLISH", channel, text)
        return ("PUBLISH", channel, text)

    async def listen(
        self, *channels: str, own: str = "", silence_s: float = SILENCE_S
    ) -> AsyncGenerator[tuple[str, str] | None, None]:
        """What is published from now on, as (channel, text). None comes first, once all
        channels are subscribed. `own` is one more, to which nobody else listens, and
        what is said `to_one` comes in; it or else the first decides which server it is.

        Ends by raising `Unavailable`: when the connection breaks, or a ping that is
        sent after `silence_s` of silence stays unanswered for as long. What is
        published until the next subscription is lost, so look for yourself then.
        """
        servers = self._servers
        if isinstance(servers, Server):
            connection = await self.server_of(own or channels[0]).connect()
        else:
            connection = await servers.connect(own or channels[0])
        asked: list[Command] = [("SUBSCRIBE", each) for each in channels]
        if own and self.sharded:
            asked.append(("SSUBSCRIBE", own))
        elif own:
            asked.append(("SUBSCRIBE", own))
        try:
            heard = connection.subscribe(asked)
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
                if kind in (b"message", b"smessage"):
                    yield channel.decode(), text.decode()
                elif kind in (b"subscribe", b"ssubscribe"):
                    confirmed += 1
                    if confirmed == len(asked):
                        yield None
                elif kind == b"sunsubscribe":
                    raise Unavailable(message="A channel has moved to another server.")
        except Unavailable:
            if isinstance(servers, Cluster):
                servers.doubt()
            raise
        finally:
            connection.close()

    def close(self) -> None:
        """Drop the connection; what is in flight has an unknown outcome.

        The next command opens another one.
        """
        self._servers.close()


_TIME = pack([("TIME",)])


def ms_of(reply: Any) -> int:
    """What TIME was answered, as ms since 1970. Raises `Refused`."""
    seconds, micros = map(int, checked(reply))
    return seconds * 1000 + micros // 1000


def _part(item: Command | Multi) -> Part:
    if isinstance(item, Multi):
        packed = b"".join((MULTI, pack(item.commands), EXEC))
        return Part(item.key, packed, len(item.commands) + 2)
    return Part(key_of(item), pack([item]), 1, item[0] in READS)
