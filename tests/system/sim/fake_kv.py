"""What a gateway asks of valkey-py, over the simulated network.

Only as much as `gateway.live.heartbeat` and `gateway.live.sockets` use: single
commands, one pipeline, one subscription. Failures are valkey-py's, so `reachable()`
sees what it always sees.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from libvalkey import Reader, pack_command
from valkey.exceptions import ConnectionError as Broken
from valkey.exceptions import ResponseError
from valkey.exceptions import TimeoutError as Late

from cfmessenger.errors import Unavailable
from cfmessenger.storage.resp import ReplyError, RespConnection
from tests.system.sim.fake_valkey import ADDRESS, URL

TIMEOUT_S = 2.0


class FakeKv:
    """A client of one process."""

    def __init__(self) -> None:
        self._connection: RespConnection | None = None

    async def execute_command(self, *command: Any) -> Any:
        return (await self._execute([command]))[0]

    async def _execute(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._connection is None or self._connection.lost:
                    self._connection = await RespConnection.open(URL)
                replies = await self._connection.execute(commands)
        except TimeoutError as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise Late("no reply") from error
        except Unavailable as error:
            raise Broken("gone") from error
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise ResponseError(str(reply))
        return replies

    def pipeline(self, transaction: bool) -> Pipeline:
        return Pipeline(self)

    def pubsub(self) -> Subscription:
        return Subscription()


class Pipeline:
    """Commands that go together."""

    def __init__(self, kv: FakeKv) -> None:
        self._kv = kv
        self._commands: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *how: object) -> None: ...

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def expire(self, key: str, seconds: int) -> None:
        self._commands.append(("EXPIRE", key, seconds))

    async def execute(self) -> list[Any]:
        return await self._kv._execute(self._commands)


class Subscription(asyncio.Protocol):
    """A subscribed connection."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._transport: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *how: object) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def subscribe(self, *channels: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await loop.create_unix_connection(lambda: self, ADDRESS[0])
        except TimeoutError as error:
            raise Late("no connection") from error
        for channel in channels:
            self._transport.write(pack_command(("SUBSCRIBE", channel)))

    async def ping(self) -> None:
        self._transport.write(pack_command(("PING",)))

    async def get_message(self, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                message = await self._news.get()
        except TimeoutError:
            return None
        if message is None:
            raise Broken("gone")
        return message

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            kind = reply[0].decode()
            channel, text = reply[1], reply[-1]
            self._news.put_nowait({"type": kind, "channel": channel, "data": text})

    def connection_lost(self, exc: Exception | None) -> None:
        self._news.put_nowait(None)
