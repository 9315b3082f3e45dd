"""A smoke of the rows: what is promised of a failover holds once, with real servers.

In one process, without Ray; `python -m tests.system.failover` has a whole messenger.
"""

import pytest

from tests.effort import long_only
from tests.system.chaos.here import Here
from tests.system.failover import ground
from tests.system.failover.rows import ROWS

HELD = ("kill_primary_replica", "planned_failover")


@long_only
@pytest.mark.parametrize("row", HELD)
async def test_people_notice_a_pause_at_most(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "KIND", Here)
    assert await ROWS[row](1)
