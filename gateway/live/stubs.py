"""All stubs of a gateway, by object: made when one is needed, forgotten when idle.

Owns what objects here want of each other and of the log, whoever has sockets on them:
notifications, pages, looks for what was not covered, and which of those that sleep have
gone on elsewhere (design.md §3.8). Knows no socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cfmessenger.accounts.users import Directory
from cfmessenger.background import Background
from cfmessenger.ids import PRESENCE
from cfmessenger.storage.log import ValkeyLog
from gateway import metrics
from gateway.live.late import Late, Looks
from gateway.live.links import Links
from gateway.live.overdue import Overdue
from gateway.live.paging import page
from gateway.live.stub import Stub
from gateway.live.watching import Watching

TICK_S = 0.25
COMPARED_AT_ONCE = 500
"""Log tops that are asked for in one round trip."""


def kind_of(name: str) -> str:
    """What metrics call the kind of an object."""
    return "presence" if name == PRESENCE else "room"


class Stubs:
    """Made for the gateway's `links`; what it does on its own is in its `background`,
    which the gateway ends."""

    def __init__(
        self,
        links: Links,
        log: ValkeyLog,
        background: Background,
        directory: Directory,
    ) -> None:
        self.by_name: dict[str, Stub] = {}  # each until idle
        self._links = links
        self._log = log
        self._looks = Looks(log)
        self._background = background
        # Of the registry's sockets, whichever stub it has.
        self.watching = Watching(
            directory, lambda: self.registry.seek(), metrics.TRAFFIC[kind_of(PRESENCE)]
        )

    def of(self, name: str) -> Stub:
        """The stub of any object, whether or not it has sockets here."""
        stub = self.by_name.get(name)
        if stub is None:
            stub = self.by_name[name] = Stub(
                name,
                self._links,
                forward=self.forward,
                page=self._page,
                look=self._look,
                covered=metrics.COVERED.observe,
                traffic=metrics.TRAFFIC[kind_of(name)],
                watching=self.watching if name == PRESENCE else None,
            )
        return stub

    @property
    def registry(self) -> Stub:
        """The presence registry's."""
        return self.of(PRESENCE)

    def forward(self, target: str, payload: bytes) -> None:
        """Tell an object something, once at most. Best effort: nobody waits, so a
        failure is nobody's news."""
        done = self.of(target).notify(payload, once=True)
        done.add_done_callback(lambda future: future.exception())

    def _look(self, overdue: Overdue, late: list[Late]) -> None:
        self._background.begin(self._looks.look(overdue, late))

    def _page(self, stub: Stub) -> None:
        self._background.begin(page(stub, self._log))

    # Those that sleep.

    def wake(self, name: str) -> None:
        """An object of sockets here woke and wants us back."""
        stub = self.by_name.get(name)
        if stub is not None:
            stub.life.wake()

    async def compare_tops(self) -> None:
        """Compare the log tops of all sleeping objects: a channel that was away has
        forgotten its calls. Raises `Unavailable`."""
        await self._compare([s for s in self.by_name.values() if s.life.asleep])

    async def watch_sleepers(self) -> None:
        """Until cancelled: compare the tops of those that are unsure."""
        while True:
            lives = [(stub, stub.life) for stub in self.by_name.values()]
            unsure = [stub for stub, life in lives if life.unsure and life.asleep]
            if unsure:
                await self._compare(unsure)
            await asyncio.sleep(TICK_S)

    async def _compare(self, asleep: list[Stub]) -> None:
        """Wake those stubs whose log has another top than they have seen: somebody has
        spoken since, or storage has lost what was shown."""
        for start in range(0, len(asleep), COMPARED_AT_ONCE):
            stubs = asleep[start : start + COMPARED_AT_ONCE]
            tops = await self._log.tops([stub.name for stub in stubs])
            for stub, top in zip(stubs, tops, strict=True):
                stub.life.unsure = False
                seen = stub.epoch, stub.seq
                # (epoch, 0) says only that nobody has spoken in that epoch.
                if top > seen or (top < seen and (top[0] < seen[0] or top[1])):
                    stub.life.wake()

    # Of all.

    async def expire_inputs(self) -> None:
        """Find what was not covered in time, and forget who is idle."""
        now = asyncio.get_running_loop().time()
        metrics.publish_traffic()
        for name, stub in list(self.by_name.items()):
            stub.overdue.expire(now)
            if stub.life.idle:
                del self.by_name[name]

    def rename(self, gateway: str, names: Mapping[str, str]) -> None:
        """The gateway has a new name, and its connections have these."""
        for stub in self.by_name.values():
            stub.life.rename(names)
        self._links.rename(gateway)

    async def close(self) -> None:
        """The gateway goes: reach for nobody more, drop every link."""
        self.watching.end()
        for stub in self.by_name.values():
            stub.life.end()
        await self._links.close()
