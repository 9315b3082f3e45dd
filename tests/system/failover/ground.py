"""A messenger, three Valkeys in a row, and a replica that can be made late.

`one` is the primary; `two` follows it over a line that delays the stream; `three`
follows `two`, so that after a promotion there is again a replica to confirm. Must not
decide what fails (`rows`).
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from tests.gateway.node import eventually
from tests.replicated import SERVICE, Pair, Relay, Replicated, sentinel
from tests.system.chaos import history as h
from tests.system.chaos.experiment.scene import Scene, scene
from tests.system.chaos.messenger import Messenger
from tests.system.chaos.report import waits

Level = Literal["disk", "replica"]
Way = Literal["relay", "hosts", "sentinel"]
"""How the messenger finds the primary: by an address behind which it moves, by all of
their addresses, by a Sentinel."""

LIMIT_S = 5.0
"""By when whoever is not acknowledged is told so (wire.md §5)."""
SLACK_S = 1.0
"""What clients on a busy machine may see later than it was said."""


KIND: type[Messenger] = Messenger
"""Which is started; `--here` changes it."""


class Ground(NamedTuple):
    """`front` is where the messenger looks for its primary, if that is a relay."""

    scene: Scene
    pair: Pair
    three: Replicated
    front: Relay

    def lead_to(self, server: Replicated) -> None:
        """New connections of the messenger go there."""
        self.front.target = server.port

    def fault(self, kind: str, began: float) -> None:
        """Note what was done, for the checker."""
        now = time.monotonic()
        self.scene.history.add(h.Fault(began, now, f"valkey-{kind}", "one", []))

    async def seated(self, rooms: int, sockets: int) -> None:
        """So many people in each of so many rooms."""
        for room in range(rooms):
            for seat in range(sockets):
                n = (room + seat) % PEOPLE
                await self.scene.chatter(f"r{room}-{seat}", n, f"r{room}")
        await self.scene.connected()

    async def judged(self) -> None:
        """Once all is quiet, what everybody saw is compared with the log."""
        scene = self.scene
        scene.expect(await scene.settled(30.0), "not everything was answered")
        await scene.read_logs()
        scene.expect(not scene.verdict(), "the checker's verdict")

    def spoke_again(self, since: float) -> float:
        """Seconds from then until something said since was acknowledged."""
        said = {
            (i.client, i.id): i.t
            for i in self.scene.history.all(h.Invoke)
            if i.t >= since
        }
        acknowledged = (
            ok.t for ok in self.scene.history.all(h.Ok) if (ok.client, ok.id) in said
        )
        return min(acknowledged, default=float("inf")) - since

    def acknowledged(self, begin: float, end: float) -> list[float]:
        """How long each that was said between waited for its echo, however often it was
        refused before; who never got one, until the end."""
        found = waits(self.scene.history)
        return [at - each.t for each, at, _ in found if begin <= each.t < end]

    def answered(self, begin: float, end: float) -> list[float]:
        """How long each that was said between waited until it was told anything."""
        history = self.scene.history
        first: dict[tuple[str, str], float] = {}
        both: list[h.Ok | h.Refused] = [*history.all(h.Ok), *history.all(h.Refused)]
        for each in both:
            key = each.client, each.id
            first[key] = min(each.t, first.get(key, each.t))
        return [
            first.get((each.client, each.id), history.ended) - each.t
            for each in history.all(h.Invoke)
            if begin <= each.t < end
        ]


PEOPLE = 25


@asynccontextmanager
async def ground(
    seed: int, level: Level, way: Way = "relay", **env: str
) -> AsyncIterator[Ground]:
    """Everything runs, in step, and nobody is there yet."""
    async with AsyncExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="cfm-failover-"))
        lines: Sequence[str] = ()
        if level == "replica":
            lines = ("min-replicas-to-write 1", "min-replicas-max-lag 10")
        one, two, three = (
            Replicated(Path(name, each), *lines) for each in ("one", "two", "three")
        )
        line = await stack.enter_async_context(Relay(one.port).listening())
        front = await stack.enter_async_context(Relay(one.port).listening())
        for server in (one, two, three):
            stack.callback(server.kill)
            await server.start().answers()
        two.follow(line.port)
        await eventually(lambda: two.in_step, within=20)
        three.follow(two.port)
        await eventually(lambda: three.in_step, within=20)
        pair = Pair(one, two, line)
        url = one.url.replace(f":{one.port}", f":{front.port}")
        if way == "hosts":
            url = pair.urls
        elif way == "sentinel":
            port = stack.enter_context(sentinel(Path(name), one, 1000))
            url = f"valkey-sentinel://cfm:own@127.0.0.1:{port}/{SERVICE}"
        usual = {
            "CFM_VALKEY_URL": url,
            "CFM_DURABILITY": level,
            "CFM_BOTS_ACTIVE": "0",
            "CFM_PLACEMENT": "auto",
        }
        made = await stack.enter_async_context(
            scene(PEOPLE, seed, None, KIND, **usual | env)
        )
        made.say(f"{level}, by {way}: ready after {made.messenger.start_s:.1f} s")
        yield Ground(made, pair, three, front)


async def is_primary(server: Replicated, within_s: float = 30.0) -> float:
    """When (monotonic) it was seen to be one."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if (await asyncio.to_thread(server.replication)).get("role") == "master":
            return time.monotonic()
        await asyncio.sleep(0.02)
    raise TimeoutError("nobody was promoted")
