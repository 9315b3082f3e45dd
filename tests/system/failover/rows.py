"""Each row: what fails, and what people may notice of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.system.chaos import history as h
from tests.system.chaos.report import percentile
from tests.system.failover.ground import (
    LIMIT_S,
    SLACK_S,
    Ground,
    Level,
    Way,
    ground,
    is_primary,
)

WARM_S, LATE_S, AFTER_S = 4.0, 8.0, 8.0
LAG_S = 3.0
AGAIN_S = 3.0
"""By when people are heard again after a promotion."""
RATE = 100.0


async def _killed(
    seed: int,
    level: Level,
    way: Way,
    rooms: int = 4,
    rate: float = RATE,
    lag_s: float = LAG_S,
) -> bool:
    """The primary dies while its replica is behind, and that one is promoted."""
    async with ground(seed, level, way) as g:
        s = g.scene
        await g.seated(rooms, 12 // rooms)
        talk = s.talk(s.chatters, rate)
        await asyncio.sleep(WARM_S)
        late = time.monotonic()
        g.pair.line.lag_s = lag_s
        await asyncio.sleep(LATE_S)
        died = time.monotonic()
        g.pair.one.kill()
        g.pair.line.cut()
        g.lead_to(g.pair.two)
        if way != "sentinel":
            g.pair.two.promote()
        promoted = await is_primary(g.pair.two)
        g.fault("killed", died)
        await asyncio.sleep(AFTER_S)
        talk.cancel()
        await g.judged()
        s.say(f"the replica was {lag_s:g} s behind")
        _told(g, late, died, promoted)
        return not s.failed


def _told(g: Ground, late: float, died: float, promoted: float) -> None:
    s = g.scene
    waited, again = g.answered(late, died), g.spoke_again(promoted)
    refused = [no for no in s.history.all(h.Refused) if late <= no.t < promoted]
    codes = sorted({no.code for no in refused})
    s.say(
        f"before the death: {len(waited)} said, answered after p50 "
        f"{percentile(waited, 0.5):.2f} s, max {max(waited, default=0):.2f} s; "
        f"{len(refused)} refused {codes}"
    )
    acknowledged = g.acknowledged(late, died)
    s.say(
        f"acknowledged after p50 {percentile(acknowledged, 0.5):.2f} s, max "
        f"{max(acknowledged, default=0):.2f} s, refusals and the failover included"
    )
    s.say(
        f"promoted {promoted - died:.2f} s after the death; heard again {again:.2f} s "
        "after that"
    )
    s.expect(set(codes) <= {"STORAGE_UNAVAILABLE"}, "refused for another reason")
    s.expect(max(waited, default=0.0) <= LIMIT_S + SLACK_S, "not told within 5 s")
    s.expect(again <= AGAIN_S, f"not heard again within {AGAIN_S:g} s")


async def kill_primary_replica(seed: int) -> bool:
    """Level `replica`: nothing that was acknowledged is lost."""
    return await _killed(seed, "replica", "relay")


async def kill_primary_sentinel(seed: int) -> bool:
    """A Sentinel promotes the replica. It also has that follow the primary where it
    knows it, past the line that makes it late."""
    return await _killed(seed, "replica", "sentinel", lag_s=0.0)


async def kill_primary_disk(seed: int) -> bool:
    """Level `disk`, one room at 300 a second: what its actor still knows is healed."""
    return await _killed(seed, "disk", "relay", rooms=1, rate=300.0)


async def planned_failover(seed: int) -> bool:
    """FAILOVER, and nobody's connection is cut."""
    async with ground(seed, "disk", "relay") as g:
        s, one, two = g.scene, g.pair.one, g.pair.two
        await g.seated(4, 3)
        talk = s.talk(s.chatters, RATE)
        await asyncio.sleep(WARM_S)
        began = time.monotonic()
        g.lead_to(two)
        with one.admin() as admin:
            admin.execute_command("FAILOVER", "TO", "127.0.0.1", two.port)
        promoted = await is_primary(two)
        g.fault("planned", began)
        await asyncio.sleep(AFTER_S)
        talk.cancel()
        await g.judged()
        longest = max(g.acknowledged(began - 1.0, began + AFTER_S), default=0.0)
        s.say(
            f"promoted after {promoted - began:.2f} s; heard again "
            f"{g.spoke_again(promoted):.2f} s after that; the longest wait was "
            f"{longest:.2f} s"
        )
        s.expect(longest <= AGAIN_S, f"somebody waited for more than {AGAIN_S:g} s")
        role = (await asyncio.to_thread(one.replication))["role"]
        s.expect(role == "slave", "the old primary is a replica")
        return not s.failed


async def levels(seed: int) -> bool:
    """What an acknowledgement takes at each level."""
    good = True
    levels: tuple[Level, ...] = ("disk", "replica")
    for level in levels:
        async with ground(seed, level) as g:
            await g.seated(4, 3)
            talk = g.scene.talk(g.scene.chatters, RATE)
            await asyncio.sleep(WARM_S)
            began = time.monotonic()
            await asyncio.sleep(AFTER_S)
            end = time.monotonic()
            talk.cancel()
            await g.judged()
            took = [each * 1000 for each in g.acknowledged(began, end)]
            g.scene.say(
                f"{level}: {len(took)} acknowledged, p50 {percentile(took, 0.5):.1f} "
                f"ms, p99 {percentile(took, 0.99):.1f} ms"
            )
            good &= not g.scene.failed
    return good


ROWS: dict[str, Callable[[int], Coroutine[Any, Any, bool]]] = {
    row.__name__: row
    for row in (
        kill_primary_replica,
        kill_primary_sentinel,
        kill_primary_disk,
        planned_failover,
        levels,
    )
}
