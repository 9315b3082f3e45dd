"""What follows one primary: the connections to it that everybody shares.

They are opened on demand. When one is lost, when the server says that it is a replica
now, or is being loaded, the primary is looked for anew (`primary.py`). Nothing is ever
sent twice: what a server refused so did nothing, and whoever sent it knows that.

With `replicas` in the URL what is to outlive the server has a connection of its own,
since its WAIT holds up all that is behind it.

Longer than most: both of its lines follow one primary, and share all that they know.
"""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from cfmessenger.addresses import valkey_parameters
from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.storage.primary import Primary
from cfmessenger.storage.resp import (
    Answer,
    Answered,
    Connection,
    ReplyError,
    UnknownOutcome,
    pack,
)

TIMEOUT_S = 2.0
"""For a connection, and for replies where nobody says otherwise."""
DURABLE_S = 5.0
"""For what replicas have to confirm: wire.md §5, "at the latest after 5 s"."""
EARLY_S = 0.2
"""So much before that a WAIT gives up, so that its answer comes in time."""
GRACE_S = 0.5
"""A WAIT that has run out of time is answered within this."""
REST_FIRST_S, REST_MOST_S = 0.01, 0.25
"""The longest waits before a second attempt to connect, and before any."""
LOOK_EVERY_S = 0.5
"""So often a server in use is asked whether it is the primary still: one that only
reads would never be refused, and a replica may lag."""

_PRIMARY = "master"
_ROLE = pack([("ROLE",)])
_NOT_HERE = ("READONLY", "MASTERDOWN", "LOADING")
"""How an error begins that says: not now, not here. The command did nothing."""


def _speaks_for_none(replies: list[Any]) -> bool:
    """Whether one of them says that this is not the primary, or not yet."""
    return any(
        isinstance(each, ReplyError) and str(each).startswith(_NOT_HERE)
        for each in replies
    )


class Another(Unavailable):
    """Nothing was sent, for who answers is not who was meant (`lineage`)."""


class _Line:
    """A connection that is opened on demand, and shared."""

    def __init__(self, server: Server) -> None:
        self._server = server
        # The last that was opened, perhaps lost since; None: none yet, or closed.
        self.connection: Connection | None = None
        self._opening = Flights[Connection]()  # until `close`

    async def get(self, deadline: float) -> Connection:
        """One that is not lost, by this loop time. Raises `Unavailable`."""
        connection = self.connection
        if connection is None or connection.lost:
            opening = self._opening
            try:
                async with asyncio.timeout_at(deadline):
                    connection = await opening.join("", lambda: self._share(opening))
            except TimeoutError as error:
                if opening is self._opening:
                    self._opening = Flights()  # nobody joins what is as good as over
                raise Unavailable(message="Valkey cannot be reached.") from error
        return connection

    async def _share(self, opening: Flights[Connection]) -> Connection:
        opened = await self._server.connect()
        if opening is self._opening:
            self.connection = opened
        else:
            opened.close()  # we were closed while it was being opened
        return opened

    def retire(self) -> None:
        """The next command opens another one; what is in flight may be answered."""
        if self.connection is not None:
            self.connection.retire()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._opening = Flights()


@dataclass(eq=False)
class _Durable:
    """A batch that replicas have to confirm."""

    packed: bytes
    replies: int
    deadline: float  # loop time
    lineage: str
    future: asyncio.Future[list[Any]]
    sent: bool = False


class Server:
    """One primary, whichever server that is: the connections that all share.

    Raises ValueError for a URL that cannot be meant.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._primary = Primary(url)
        self._timeout_s = timeout_s
        # So many replicas confirm what is durable; 0: its disk is all.
        self.awaited = int(valkey_parameters(url).get("replicas", "0"))
        # As of the last connection or `look`: whose data it is, which changes whenever
        # who answers may not be who answered before, and how many replicas it has.
        self.lineage = ""  # "" before the first connection, and after `close`
        self.replicas = 0
        # Only a primary will do: from the first one on, or since there was a refusal.
        # A URL of one server that was none from the start is that of a replica.
        self._strict = self._primary.several
        self._line = _Line(self)
        self._durable_line = _Line(self)
        self._look_at = 0.0  # loop time of the next look at its role
        self._waiting: list[_Durable] = []  # until the next WAIT; each has a caller
        self._confirming: asyncio.Task[None] | None = None  # while any are sent
        self._backoff = Backoff(random.uniform, base_s=REST_FIRST_S, cap_s=REST_MOST_S)
        self._failed = False  # the last attempt to connect has

    async def send(
        self,
        packed: bytes,
        replies: int,
        timeout_s: float | None = None,
        lineage: str = "",
        *,
        durable: bool = False,
    ) -> list[Any]:
        """`Connection.send` within so many seconds, connecting included.

        `lineage`: nothing is sent, and it raises a plain `Unavailable`, unless it is
        that of the connection; "": whichever it is. `durable`: what was done is
        confirmed by as many replicas as are `awaited`; where it is not in time, an
        `UnknownOutcome` stands in the place of the reply.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if durable and self.awaited:
            batch = _Durable(
                packed,
                replies,
                now + (timeout_s or DURABLE_S),
                lineage,
                loop.create_future(),
            )
            return await self._confirmed(batch)
        deadline = now + (timeout_s or self._timeout_s)
        connection = await self._line.get(deadline)
        if lineage and lineage != connection.lineage:
            raise _another()
        looks = connection.role == _PRIMARY and now >= self._look_at
        if looks:
            self._look_at = now + LOOK_EVERY_S
            packed, replies = packed + _ROLE, replies + 1
        found = await connection.send(packed, replies, deadline)
        gone = False
        if looks:
            role = found.pop()
            if isinstance(role, ReplyError):
                connection.role = ""  # its user may not ask
            else:
                gone = role[0].decode() != _PRIMARY
        if gone or _speaks_for_none(found):
            self._find_anew()
        return found

    def begin(
        self,
        packed: bytes,
        replies: int,
        timeout_s: float,
        lineage: str,
        answered: Answered,
    ) -> bool:
        """`send` for whoever cannot wait, if nothing has to be waited for but the
        replies. False: something has, and nothing was sent.

        `answered` is called with what `send` would return or raise; it must not raise.
        """
        connection = self._line.connection
        if connection is None or connection.lost:
            return False
        now = asyncio.get_running_loop().time()
        looks = connection.role == _PRIMARY and now >= self._look_at
        if looks or (lineage and lineage != connection.lineage):
            return False
        heard = partial(self._heard, answered)
        connection.begin(packed, replies, now + timeout_s, heard)
        return True

    def _heard(self, answered: Answered, answer: Answer) -> None:
        if isinstance(answer, list) and _speaks_for_none(answer):
            self._find_anew()
        answered(answer)

    def lineage_of(self, key: str) -> str:
        """Whoever asks: all keys are here."""
        return self.lineage

    @property
    def replicated(self) -> bool:
        """It had a replica when it was last asked."""
        return self.replicas > 0

    async def each(self, packed: bytes, timeout_s: float) -> list[Any]:
        """What every server answers to one command."""
        return await self.send(packed, 1, timeout_s)

    async def connect(self) -> Connection:
        """A new connection to the primary, for a subscription. Raises `Unavailable`.

        After an attempt that failed the next one waits, so that a server that is away
        is not called in a busy loop.
        """
        if self._failed:
            await asyncio.sleep(self._backoff.delay())
        try:
            opened = await self._open()
        except Unavailable:
            self._failed = True
            raise
        self._failed = False
        self._backoff.reset()
        self._look_at = asyncio.get_running_loop().time() + LOOK_EVERY_S
        self._knows(opened)
        return opened

    def retire(self) -> None:
        """The next command opens a connection; what is in flight may be answered."""
        for line in (self._line, self._durable_line):
            line.retire()

    async def look(self) -> None:
        """Ask anew who answers. Raises `Unavailable`."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        connection = await self._line.get(deadline)
        await connection.look(deadline)
        self._knows(connection)
        if self._strict and connection.role not in (_PRIMARY, ""):
            self._find_anew()

    def _knows(self, connection: Connection) -> None:
        self.replicas = connection.replicas
        if connection.lineage == self.lineage:
            return
        self.lineage = connection.lineage
        if connection.role:  # else each connection is to a stranger
            # The other line leads to whoever was there before.
            for line in (self._line, self._durable_line):
                if line.connection is not connection:
                    line.retire()

    async def _open(self) -> Connection:
        why: Unavailable | None = None
        async with aclosing(self._primary.candidates(self._timeout_s)) as candidates:
            async for candidate in candidates:
                if isinstance(candidate, Unavailable):
                    why = candidate
                    continue
                url, address, within_s = candidate
                try:
                    opened = await Connection.open(url, within_s, address)
                except Unavailable as error:
                    why = error
                    continue
                if opened.role == _PRIMARY:
                    self._strict = True
                if not self._strict or opened.role in (_PRIMARY, ""):
                    return opened
                opened.close()
                why = Unavailable(message="Valkey is a replica there.")
        raise Unavailable(message="Valkey cannot be reached.") from why

    def _find_anew(self) -> None:
        """Who answers is not the primary, or not yet."""
        self._strict = True
        self.retire()

    # What replicas have to confirm.

    async def _confirmed(self, mine: _Durable) -> list[Any]:
        """All that come while a WAIT is under way share the next one."""
        self._waiting.append(mine)
        if self._confirming is None:
            self._confirming = asyncio.create_task(self._confirm())
        try:
            async with asyncio.timeout_at(mine.deadline):
                return await mine.future
        except TimeoutError:
            if mine.sent:
                raise UnknownOutcome(message="Replicas did not confirm in time.") from (
                    None
                )
            raise Unavailable(message="Valkey cannot be reached.") from None
        finally:
            mine.future.cancel()

    async def _confirm(self) -> None:
        try:
            while batch := [each for each in self._waiting if not each.future.done()]:
                self._waiting = []
                await self._confirm_together(batch)
        finally:
            self._waiting.clear()
            self._confirming = None

    async def _confirm_together(self, batch: list[_Durable]) -> None:
        loop = asyncio.get_running_loop()
        deadline = max(each.deadline for each in batch)
        try:
            connection = await self._durable_line.get(deadline)
            batch = self._meant_for(connection, batch)
            left_s = max(0.001, deadline - EARLY_S - loop.time())
            wait_ms = math.ceil(left_s * 1000)
            wait = pack([("WAIT", self.awaited, wait_ms)])
            for each in batch:
                each.sent = True
            found = await connection.send(
                b"".join([*(each.packed for each in batch), wait]),
                sum(each.replies for each in batch) + 1,
                deadline + GRACE_S,
            )
        except BaseException as error:
            for each in batch:
                if not each.future.done():
                    each.future.set_exception(_again(error))
            if not isinstance(error, Unavailable):
                raise
            return
        if _speaks_for_none(found):
            self._find_anew()
        if not self._enough(found.pop()):
            found = [each if isinstance(each, ReplyError) else _few() for each in found]
        for each in batch:
            said, found = found[: each.replies], found[each.replies :]
            if not each.future.done():
                each.future.set_result(said)

    def _enough(self, had: Any) -> bool:
        """Whether a WAIT's answer says that as many have it as are awaited."""
        return not isinstance(had, ReplyError) and bool(had >= self.awaited)

    @staticmethod
    def _meant_for(connection: Connection, batch: list[_Durable]) -> list[_Durable]:
        """Those of them that still have a caller, and mean whoever answers there."""
        meant = []
        for each in batch:
            if each.future.done():
                continue
            if each.lineage and each.lineage != connection.lineage:
                each.future.set_exception(_another())
            else:
                meant.append(each)
        return meant

    def close(self) -> None:
        """Drop the connections; the next command opens others."""
        self.lineage = ""
        for line in (self._line, self._durable_line):
            line.close()


def _again(error: BaseException) -> BaseException:
    """The same for each of those that share it, since each raises it."""
    if not isinstance(error, Unavailable):
        return Unavailable(message="Valkey cannot be reached.")
    own = type(error)(message=error.message)
    own.__cause__ = error
    return own


def _another() -> Another:
    return Another(message="Another Valkey answers.")


def _few() -> UnknownOutcome:
    return UnknownOutcome(message="Too few replicas have it.")
