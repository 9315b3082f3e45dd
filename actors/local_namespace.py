"""A namespace without Ray: the same shells, on the loop of whoever made it.

For gateway tests, simulations and a single process that needs no cluster. Links are
real sockets all the same, so nothing above it can tell.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from actors.host import Host
from actors.host_settings import HostSettings
from cfmessenger.link.namespace import Address, Described
from cfmessenger.placement import Mode, Placement

ANY = "*"
"""Without a placement one host has everything."""


class LocalNamespace:
    """`Namespace` over hosts in this process; `actor_id` counts them.

    `placement` None: one host for all objects; else one for each of its actors.
    """

    unreachable_since: float | None = None  # it is here

    def __init__(
        self, settings: HostSettings, placement: Placement | None = None
    ) -> None:
        self._settings = settings
        self._placement = placement  # the newest generation
        # By actor: host and actor id, from its first `resolve` until `kill` or `close`.
        self._hosts: dict[str, tuple[Host, str]] = {}
        self._made = 0  # hosts so far; the last actor id
        self._making = asyncio.Lock()  # while a host is made, or all are closed

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        async with self._making:
            actor = self._actor_of(name)
            found = self._hosts.get(actor)
            if found is None or found[0].leaving:
                found = self._hosts[actor] = await self._make(actor)
            host, actor_id = found
            return replace(host.address(actor_id), actor=actor)

    def _actor_of(self, name: str) -> str:
        return self._placement.actor_of(name) if self._placement else ANY

    async def _make(self, actor: str) -> tuple[Host, str]:
        settings = self._settings
        if self._placement is not None:
            settings = settings.for_actor(actor, self._placement)
        host = Host(settings)
        try:
            await host.start()
        except BaseException:  # cancelled: nobody else knows it
            await host.close()
            raise
        self._made += 1
        return host, str(self._made)

    async def kill(self, actor: str, actor_id: str) -> bool:
        """As abrupt as `kill -9`: nothing is mirrored, links just break."""
        host, found = self._hosts.get(actor, (None, ""))
        if host is None or found != actor_id:
            return False
        del self._hosts[actor]
        await host.kill()
        return True

    async def describe(self) -> list[Described]:
        hosts = [host for host, _ in self._hosts.values()]
        found = [each for host in hosts for each in host.describe("local")]
        return sorted(found, key=lambda each: each.name)

    @property
    def hosts(self) -> list[Host]:
        """Those that are there."""
        return [host for host, _ in self._hosts.values()]

    async def ping(self) -> bool:
        return True

    async def stored(self) -> bool:
        return True

    async def drain(self) -> int:
        return 0  # nobody else could take what lives here

    async def wakes(self) -> None:
        """They do, as long as this process lives."""

    async def placement(self) -> Placement:
        return self._placement or Placement()

    async def place(self, mode: Mode, size: int) -> Placement:
        return await self._follow(self._known.reseeded(mode, size, (), 0))

    async def pin(self, name: str) -> Placement:
        return await self._follow(self._known.promoted(name, "pinned", 0))

    async def unpin(self, name: str) -> Placement:
        return await self._follow(self._known.unpinned(name, 0))

    @property
    def _known(self) -> Placement:
        return self._placement or Placement()

    async def _follow(self, made: Placement | None) -> Placement:
        if made is not None:
            self._placement = made
            for name in made.own:
                await self.resolve(name)
            for host, _ in self._hosts.values():
                host.place(made)
        return self._known

    async def close(self) -> None:
        """Put all objects to sleep and stop listening."""
        async with self._making:
            for host, _ in self._hosts.values():
                await host.drain()
                await host.close()
            self._hosts.clear()
