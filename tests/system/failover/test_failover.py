"""A smoke of the rows: what is promised of a failover holds once, with real servers."""

import pytest

from tests.effort import long_only
from tests.system.failover.rows import ROWS

HELD = ("kill_primary_replica", "planned_failover")


@long_only
@pytest.mark.cluster
@pytest.mark.parametrize("row", HELD)
async def test_people_notice_a_pause_at_most(row: str) -> None:
    assert await ROWS[row](1)
