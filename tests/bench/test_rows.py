"""Rows and sweeps ask their measurements for what these take, of whom can do it."""

import inspect
from typing import Any

import pytest

from tests.bench.__main__ import COUNTS, MEASURES
from tests.bench.contestants import CONTESTANTS
from tests.bench.plan import FULL, NEEDS_PRESENCE, QUICK, QUICK_CONTESTANTS, ROWS, sizes
from tests.bench.sweep import MEASURES as SWEPT
from tests.bench.sweep import points


def takes(measure: Any, asked: dict[str, float]) -> None:
    """Raises TypeError if it does not take just these."""
    inspect.signature(measure).bind(None, **asked)


@pytest.mark.parametrize("row", FULL)
def test_a_row_asks_for_what_its_measurement_takes(row: str) -> None:
    for plan in (FULL, FULL | QUICK):
        for process in (False, True):
            asked = sizes(plan, row, sleeps=True, room_process=process)
            if row != "crowd":
                asked = {key: value for key, value in asked.items() if key != "people"}
            takes(MEASURES[row], asked)


def test_every_row_is_measured_and_told() -> None:
    assert set(MEASURES) == set(FULL) == {row.key for row in ROWS}
    assert set(QUICK) <= set(FULL)


def test_what_is_a_count_is_whole() -> None:
    counts = {key for each in FULL.values() for key in each if key in COUNTS}
    assert counts == COUNTS
    whole = [v for each in FULL.values() for key, v in each.items() if key in COUNTS]
    assert all(value == int(value) for value in whole)


@pytest.mark.parametrize("point", points(), ids=lambda point: point.key)
def test_a_sweep_asks_for_what_its_measurement_takes(point: Any) -> None:
    takes(SWEPT[point.measure], point.sizes)


def test_there_is_somebody_for_every_row_and_nobody_twice() -> None:
    keys = [each.key for each in CONTESTANTS]
    assert len(keys) == len(set(keys))
    assert set(QUICK_CONTESTANTS) <= set(keys)
    assert NEEDS_PRESENCE == ("crowd",)
    assert {each.key for each in CONTESTANTS if each.presence} == {
        "auto",
        "pooled",
        "dedicated",
    }
