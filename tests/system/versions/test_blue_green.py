"""A new Ray cluster takes over a Valkey from an old one while people talk, forth and
back: room by room, by gateways that stay.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.effort import long_only
from tests.patience import within
from tests.postgresql import PostgreSQL
from tests.system.cluster.roles import Machine
from tests.system.versions.before import fetched
from tests.system.versions.stage import DIRECT, Stage, Talked, logger, staged

pytestmark = [long_only, pytest.mark.cluster]

TAKES_S = 75.0
"""A Ray node starts in it, and what has been taken over from ends."""


async def taken_over(
    stage: Stage, from_: Machine, name: str, release: str = "this"
) -> tuple[Machine, Talked]:
    """While people talk the Ray of this name takes over."""
    made: list[Machine] = []

    async def take_over() -> None:
        began = asyncio.get_running_loop().time()
        env = {"CFM_RAY_NAME": name} if name else {}
        node = stage.node(release, "--take-over", **env)
        made.append(node)
        await asyncio.to_thread(node.wait_ready)
        async with within(60.0):
            assert await asyncio.to_thread(from_.popen.wait) == 1
        took = asyncio.get_running_loop().time() - began
        said = from_.errors.read_text()
        assert said.endswith("another cluster uses this Valkey now\n"), said
        logger.info("taken over after %.1f s", took)

    what = f"taken over by {name or 'the first'}"
    told = await stage.talk(what, TAKES_S, take_over)
    return made[0], told


async def test_blue_to_green_and_back_under_load(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    async with staged(postgresql, tmp_path) as stage:
        stage.head().wait_ready()
        blue = stage.node().wait_ready()
        gateways = [stage.gateway().wait_ready() for _ in range(2)]
        stage.serve(*gateways)
        stage.head(CFM_RAY_NAME="green").wait_ready()
        was = await stage.begun()
        green, forth = await taken_over(stage, blue, "green")
        assert await stage.shown("user_2", DIRECT) == was
        _, back = await taken_over(stage, green, "")
        assert await stage.shown("user_2", DIRECT) == was
        for told in (forth, back):
            assert told.acked > 300
            assert not any(told.verdict), told.examples
            assert told.activations == 1, "each room was taken over, and once"
        assert all(each.popen.poll() is None for each in gateways)


async def test_a_release_that_cannot_hand_over_puts_its_rooms_to_sleep_first(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    async with staged(postgresql, fetched(tmp_path / "code")) as stage:
        stage.head("before").wait_ready()
        blue = stage.node("before").wait_ready()
        gateways = [stage.gateway(of).wait_ready() for of in ("this", "before")]
        stage.serve(*gateways)
        stage.head(CFM_RAY_NAME="green").wait_ready()
        was = await stage.begun()
        green, told = await taken_over(stage, blue, "green")
        assert await stage.shown("user_2", DIRECT) == was
        assert told.acked > 300 and not any(told.verdict), told.examples
        assert "rooms come all at once" in green.errors.read_text()
