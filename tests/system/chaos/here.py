"""A messenger without Ray, for experiments with storage alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from tests.gateway.node import live
from tests.system.chaos.messenger import Messenger


class Here(Messenger):
    """A messenger in this process: its gateway, links and hosts are the product's, and
    only Ray is not there. It starts at once, on a machine that has no time for Ray."""

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        said = {n.removeprefix("CFM_").lower(): v for n, v in self._env.items()}
        url = said.pop("valkey_url")
        node = await self._stack.enter_async_context(live(url, alone=True, **said))
        self.url = f"http://127.0.0.1:{node.gateways[0].port}"
        return self

    async def stop(self) -> float:
        await self._stack.aclose()
        return 0.0
