"""A smoke of the rows: what is promised on a Valkey Cluster holds once."""

import pytest

from tests.effort import long_only
from tests.system.shards.rows import ROWS


@long_only
@pytest.mark.cluster
@pytest.mark.parametrize("row", ["slot_moved", "primary_killed"])
async def test_people_notice_a_pause_at_most(row: str) -> None:
    assert await ROWS[row](1)


async def test_rooms_are_spread_over_shards_evenly() -> None:
    assert await ROWS["spread"](1)
