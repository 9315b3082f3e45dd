"""The arithmetic of the cost model."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.model import (
    KINDS,
    Costs,
    Demand,
    Line,
    Machine,
    Point,
    fit,
    lines,
    size,
)

COSTS = Costs(
    cpu={
        "gateway": Line(50.0, 3.0, 0.0),
        "actors": Line(80.0, 0.1, 0.0),
        "valkey": Line(20.0, 0.0, 0.0),
    },
    socket_kib=20.0,
    room_kib=10.0,
    gateway_mib=60.0,
    actor_mib=45.0,
    accept_ms=1.0,
    valkey_bytes=300.0,
)


@given(
    st.floats(1, 1000),
    st.floats(0.1, 100),
    st.lists(st.integers(1, 500), min_size=2, max_size=8, unique=True),
)
def test_a_line_is_found_again(fixed: float, slope: float, xs: list[int]) -> None:
    line = fit([(x, fixed + slope * x) for x in xs])
    assert line.slope == pytest.approx(slope, rel=1e-3, abs=1e-6)
    assert line.fixed == pytest.approx(fixed, rel=1e-2, abs=1e-3)
    assert line.error < 1e-6


def test_what_is_no_line_says_how_far_off_it_is() -> None:
    assert fit([(1, 10.0), (2, 40.0), (3, 10.0)]).error > 0.2


@pytest.mark.parametrize(
    "points", [[], [(1, 1.0)], [(1, 1.0), (1, 2.0)], [(1, 0), (2, 1)]]
)
def test_too_little_for_a_line(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two different x"):
        fit(points)


def test_each_kind_of_process_has_its_own() -> None:
    points = [Point(x, {kind: 10.0 + x for kind in KINDS}) for x in (1, 2, 5)]
    found = lines(points)
    assert set(found) == set(KINDS)
    assert all(line.slope == pytest.approx(1.0) for line in found.values())


def test_twice_the_demand_takes_twice_the_cores() -> None:
    once = size(COSTS, Demand(100_000, 10_000, 1_000), Machine())
    twice = size(COSTS, Demand(200_000, 20_000, 2_000), Machine())
    assert twice.cores["gateway"] == pytest.approx(2 * once.cores["gateway"])
    assert twice.nodes >= once.nodes


def test_changes_of_status_cost_what_was_measured_and_the_registry_is_one() -> None:
    lines = {kind: Line(10.0, 2.0, 0.0) for kind in ("gateway", "actors")}
    lines["valkey"] = Line(10.0, 0.0, 0.0)
    costs = replace(COSTS, presence=lines)
    calm = size(costs, Demand(100_000, 10_000, 1_000), Machine())
    busy = Demand(100_000, 10_000, 1_000, watchers=10_000, changes_per_s=50)
    told = size(costs, busy, Machine())
    # 50 changes of 10 + 2 * 10,000 µs are a core of each of the two.
    assert told.cores["gateway"] - calm.cores["gateway"] == pytest.approx(1.0005)
    assert told.valkey_cores - calm.valkey_cores == pytest.approx(0.0005)
    assert told.limit == "the registry's process"
    assert size(COSTS, busy, Machine()).cores == calm.cores


def test_the_first_limit_is_named() -> None:
    silent = size(COSTS, Demand(1_000_000, 100_000, 10), Machine())
    assert silent.limit in ("memory", "sockets of a gateway process")
    busy = size(COSTS, Demand(100_000, 1_000, 20_000), Machine())
    assert busy.limit == "CPU"
    many = size(COSTS, Demand(100_000, 50_000, 120_000), Machine(cores=64))
    assert (many.limit, many.shards) == ("a shard's thread", 4)
    kept = size(COSTS, Demand(100_000, 100_000, 1_000, kept=10_000), Machine())
    assert (kept.limit, kept.shards) == ("a shard's memory", 7)
    assert silent.shards == 1
