"""One Valkey server: the connection that everybody shares, opened on demand.

It opens another when that is lost (`resp.py`), and never sends anything twice.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from cfmessenger.backoff import Backoff
from cfmessenger.errors import Unavailable
from cfmessenger.flights import Flights
from cfmessenger.storage.resp import Connection, ReplyError, endpoint_of, pack

TIMEOUT_S = 2.0
"""For a connection, and for replies where nobody says otherwise."""
REST_FIRST_S, REST_MOST_S = 0.01, 0.25
"""The longest waits before a second attempt to connect, and before any."""


class Server:
    """One Valkey server: the connection that all share, opened on demand."""

    def __init__(self, url: str, timeout_s: float) -> None:
        endpoint_of(url)
        self._url = url
        self._timeout_s = timeout_s
        # The last that was opened, perhaps lost since; None: none yet, or closed.
        self._connection: Connection | None = None
        self._opening = Flights[Connection]()  # until `close`
        self._backoff = Backoff(random.uniform, base_s=REST_FIRST_S, cap_s=REST_MOST_S)
        self._failed = False  # the last attempt to connect has
        # Whose data it is at the end of the shared connection (`_read_lineage`): from
        # the connection until the next, or `close`; "" without one.
        self.lineage = ""
        self.replicas = 0  # that were connected to it then
        self._strangers = 0  # servers that did not say who they are

    async def send(
        self,
        packed: bytes,
        replies: int,
        timeout_s: float | None = None,
        lineage: str = "",
    ) -> list[Any]:
        """`Connection.send` within so many seconds, connecting included.

        `lineage`: nothing is sent, and it raises a plain `Unavailable`, unless this is
        the lineage of the connection on which it would be sent; "": whichever it is.
        """
        deadline = asyncio.get_running_loop().time() + (timeout_s or self._timeout_s)
        connection = self._connection
        if connection is None or connection.lost:
            opening = self._opening
            try:
                async with asyncio.timeout_at(deadline):
                    connection = await opening.join("", lambda: self._share(opening))
            except TimeoutError as error:
                if opening is self._opening:
                    self._opening = Flights()  # nobody joins what is as good as over
                raise Unavailable(message="Valkey cannot be reached.") from error
        if lineage and lineage != self.lineage:
            raise Unavailable(message="Another Valkey answers.")
        return await connection.send(packed, replies, deadline)

    async def _share(self, opening: Flights[Connection]) -> Connection:
        opened = await self.connect()
        try:
            lineage, replicas = await self._read_lineage(opened)
        except BaseException:
            opened.close()
            raise
        if opening is self._opening:
            self._connection = opened
            self.lineage, self.replicas = lineage, replicas
        else:
            opened.close()  # we were closed while it was being opened
        return opened

    async def look(self) -> None:
        """Read anew who answers: a server may change its part with its connections
        kept. Raises `Unavailable`."""
        connection = self._connection
        if connection is None or connection.lost:
            await self.send(pack([("PING",)]), 1)  # whoever connects asks
            return
        lineage, replicas = await self._read_lineage(connection)
        if connection is self._connection:
            self.lineage, self.replicas = lineage, replicas

    async def _read_lineage(self, connection: Connection) -> tuple[str, int]:
        """Whose data it is, as a text that changes whenever something of it may be
        lost: by a restart, or by another server's becoming the primary. And how many
        replicas it has. Raises `Unavailable`."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        asked = pack([("INFO", "server", "replication")])
        (reply,) = await connection.send(asked, 1, deadline)
        if isinstance(reply, ReplyError):
            self._strangers += 1
            return f"stranger {self._strangers}", 0
        lines = reply.decode().splitlines()
        said = dict(line.partition(":")[::2] for line in lines if ":" in line)
        lineage = f"{said.get('run_id', '')} {said.get('master_replid', '')}"
        return lineage, int(said.get("connected_slaves", 0))

    async def connect(self) -> Connection:
        """A new connection, for a subscription. Raises `Unavailable`.

        After an attempt that failed the next one waits, so that a server that is away
        is not called in a busy loop.
        """
        if self._failed:
            await asyncio.sleep(self._backoff.delay())
        try:
            opened = await Connection.open(self._url, self._timeout_s)
        except Unavailable:
            self._failed = True
            raise
        self._failed = False
        self._backoff.reset()
        return opened

    def close(self) -> None:
        """Drop the shared connection; the next command opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self.lineage = ""
        self._opening = Flights()
