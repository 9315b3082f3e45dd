"""The proof that the simulation would notice: broken products are caught."""

from __future__ import annotations

import pytest

from tests.effort import LONG
from tests.system.sim import sabotage
from tests.system.sim.sweep import caught
from tests.system.sim.world import run


@pytest.mark.parametrize("name", list(sabotage.SABOTAGES)[:: 1 if LONG else 4])
def test_the_simulation_catches(name: str) -> None:
    assert caught(name) is not None, f"{name} goes unnoticed"


def test_a_sabotage_ends_with_its_block() -> None:
    found = caught("deduplication_off")
    assert found is not None
    assert not run(found[0]).violations
