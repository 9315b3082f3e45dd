"""What becomes of people's messages when the machine turns against us.

Real processes under load, with the chaos run's checker: nothing that was acknowledged
is lost, nothing is there twice, and it heals by itself.
"""

import pytest

from tests.effort import long_only
from tests.system.chaos.experiment import survival

pytestmark = [
    pytest.mark.cluster,
    long_only,
    pytest.mark.skipif(not survival.possible(), reason="needs root to mount a disk"),
]


async def test_a_year_in_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """An immutable data folder, a full disk, a cleaner in /tmp, processes that hang."""
    passed = await survival.year(seed=1)
    assert passed, capsys.readouterr().out
