"""Releases beside each other, both ways, while people talk.

Old gateways with a new node and new gateways with an old one, through a replacement of
each and back: nobody loses, doubles or reorders anything, and what people had read is
as it was.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.effort import long_only
from tests.postgresql import PostgreSQL
from tests.system.cluster.roles import Machine
from tests.system.versions.before import fetched
from tests.system.versions.stage import DIRECT, Stage, Talked, staged

pytestmark = [long_only, pytest.mark.cluster]

CALM_S = 14.0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetched(tmp_path_factory.mktemp("before") / "code")


async def replaced(stage: Stage, old: Machine) -> Talked:
    """While people talk `old` ends in order; its successor is there."""

    async def end() -> None:
        assert await asyncio.to_thread(old.end) == 0

    return await stage.talk(f"{old.data.name} ends", CALM_S, end)


def faultless(told: Talked) -> None:
    assert told.acked > 100
    assert not any(told.verdict), told.examples


async def test_old_and_new_run_beside_each_other_forth_and_back(
    postgresql: PostgreSQL, before: Path
) -> None:
    async with staged(postgresql, before) as stage:
        stage.head("before").wait_ready()
        node = stage.node("before").wait_ready()
        old, new = (stage.gateway(of).wait_ready() for of in ("before", "this"))
        stage.serve(old, new)
        lacking = stage.status()["capabilities"]["handover"]
        assert [each.split()[0] for each in lacking] == ["node", "gateway"]

        was = await stage.begun()
        for release in ("this", "before"):
            successor = stage.node(release).wait_ready()
            faultless(await replaced(stage, node))
            node = successor
            assert await stage.shown("user_2", DIRECT) == was
        # Both gateways become the other, one after the other, on a node of each.
        serving = [old, new]
        for gone, release in ((old, "this"), (new, "before")):
            serving.remove(gone)
            serving.append(stage.gateway(release).wait_ready())
            stage.serve(*serving)
            faultless(await replaced(stage, gone))
            assert await stage.shown("user_2", DIRECT) == was


async def test_once_all_are_of_this_release_what_it_brings_is_on(
    postgresql: PostgreSQL, before: Path
) -> None:
    async with staged(postgresql, before) as stage:
        stage.head("before").wait_ready()
        old = stage.node("before").wait_ready()
        gateway = stage.gateway("before").wait_ready()
        stage.serve(gateway)
        stage.node().wait_ready()
        assert old.end() == 0
        lacking = stage.status()["capabilities"]["handover"]
        assert [each.split()[0] for each in lacking] == ["gateway"]
        successor = stage.gateway().wait_ready()
        stage.serve(successor)
        assert gateway.end() == 0
        assert stage.status()["capabilities"] == {"handover": []}
