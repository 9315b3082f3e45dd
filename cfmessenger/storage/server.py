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
from cfmessenger.storage.resp import Connection, endpoint_of

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

    async def send(
        self, packed: bytes, replies: int, timeout_s: float | None = None
    ) -> list[Any]:
        """`Connection.send` within so many seconds, connecting included."""
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
        return await connection.send(packed, replies, deadline)

    async def _share(self, opening: Flights[Connection]) -> Connection:
        opened = await self.connect()
        if opening is self._opening:
            self._connection = opened
        else:
            opened.close()  # we were closed while it was being opened
        return opened

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
        self._opening = Flights()
