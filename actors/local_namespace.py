"""A namespace without Ray: the same shells, on the loop of whoever made it.

For gateway tests, simulations and a single process that needs no cluster. Links are
real sockets all the same, so nothing above it can tell.
"""

from __future__ import annotations

import asyncio
import os

from actors.host import Host, HostSettings
from cfmessenger.namespace import Address, Described


class LocalNamespace:
    """`Namespace` over one host in this process; `actor_id` counts its hosts."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._host: Host | None = None
        self._made = 0
        self._making = asyncio.Lock()

    async def resolve(self, name: str, hint: str | None = None) -> Address:
        async with self._making:
            if self._host is None:
                host = Host(self._settings)
                try:
                    await host.start()
                except BaseException:  # cancelled: nobody else knows it
                    await host.close()
                    raise
                self._host = host
                self._made += 1
            return self._host.address(str(self._made))

    async def kill(self, name: str, actor_id: str) -> bool:
        """As abrupt as `kill -9`: nothing is mirrored, links just break."""
        host, self._host = self._host, None
        if host is None or str(self._made) != actor_id:
            self._host = host
            return False
        await host.kill()
        return True

    async def describe(self) -> list[Described]:
        objects = self._host.objects.values() if self._host else ()
        return [
            Described(
                name=each.name,
                placement="local",
                pid=os.getpid(),
                epoch=each.epoch,
                seq=each.seq,
                sockets=each.sockets,
                state=each.state.value,
            )
            for each in objects
        ]

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        """Put all objects to sleep and stop listening."""
        async with self._making:
            if self._host is not None:
                await self._host.drain()
                await self._host.close()
                self._host = None
