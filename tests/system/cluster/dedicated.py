"""Dedicated hosts in this process, with a look at the moments a test waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from actors.host import Host
from actors.host_settings import HostSettings
from cfmessenger.link.namespace import Address, Described


class _Watched(Host):
    def __init__(
        self,
        settings: HostSettings,
        ended: Callable[[str], None],
        at: Callable[[str, str], None],
    ) -> None:
        super().__init__(settings, ended)
        self._at = at

    def reached(self, point: str) -> None:
        assert self._settings.actor is not None
        self._at(self._settings.actor, point)


class DedicatedHosts:
    """`Namespace` in which every object has a host of its own, as with Ray.

    One that leaves still lives when its name is given to the next. `at(name, point)` is
    called wherever `CFM_CRASH_AT` could let a process die; `reasons` has each end.
    """

    def __init__(self, settings: HostSettings, at: Callable[[str, str], None]) -> None:
        self.reasons: list[str] = []
        self._settings = settings
        self._at = at
        self._hosts: dict[str, tuple[Host, str]] = {}
        self._made = 0
        self._making = asyncio.Lock()

    async def resolve(
        self, name: str, hint: str | None = None, moved: bool = False, lost: str = ""
    ) -> Address:
        async with self._making:
            host, made = self._hosts.get(name, (None, ""))
            if host is None or host.leaving:
                own = msgspec.structs.replace(self._settings, actor=name)
                host = _Watched(own, self.reasons.append, self._at)
                await host.start()
                self._made += 1
                made = str(self._made)
                self._hosts[name] = host, made
            return host.address(made)

    async def kill(self, name: str, actor_id: str) -> bool:
        raise AssertionError(f"{name} was thought to hang")

    async def describe(self) -> list[Described]:
        return []

    async def wakes(self) -> None:
        """Nobody asks."""

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        """End all, as if they had died."""
        for host, _ in self._hosts.values():
            await host.kill()
