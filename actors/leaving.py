"""A node gives up its actors: their objects go to sleep, and wake on other nodes.

Asked of each actor, so that it mirrors what it has and says goodbye. What is left then,
or while Ray's control store is away, is ended by signals: Ray has the handler of those
in an actor's process, so that ends without a mirror, as a crash does.
"""

from __future__ import annotations

import asyncio
import contextlib

import psutil  # type: ignore[import-untyped]

from actors.ray_driver import RayDriver, outcomes
from actors.raylet import Raylet
from cfmessenger.errors import Unavailable

AT_ONCE = 20
"""Actors that end together: their successors start elsewhere."""
ASLEEP_SHARE = 0.8
"""Of the time that there is, for objects to go to sleep in order."""
ASLEEP_S = 1.0
"""For a batch of them; who needs longer still goes on."""
GONE_S = 1.0
"""By then an actor's process has ended whose objects sleep."""


async def leave(ray: RayDriver, node: str, raylet: Raylet, timeout_s: float) -> int:
    """Have no actor on this node, which is this raylet's; how many are left."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    with contextlib.suppress(Unavailable, TimeoutError):
        async with asyncio.timeout(timeout_s * ASLEEP_SHARE):
            await _put_to_sleep(ray, node, raylet)
    while (left := raylet.actors()) and loop.time() < end:
        await asyncio.to_thread(_end, left[:AT_ONCE], end - loop.time())
    return len(left)


async def _put_to_sleep(ray: RayDriver, node: str, raylet: Raylet) -> None:
    mine = [name for name, where in (await ray.where()).items() if where == node]
    leaving = raylet.actors()
    for at in range(0, len(mine), AT_ONCE):
        calls = [await ray.call(name, "drain") for name in mine[at : at + AT_ONCE]]
        await outcomes([call for call in calls if call is not None], ASLEEP_S)
    await asyncio.to_thread(psutil.wait_procs, leaving, GONE_S)


def _end(processes: list[psutil.Process], timeout_s: float) -> None:
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.terminate()
    psutil.wait_procs(processes, timeout=max(timeout_s, 0.1))
