"""Plans: what can be asked for, what cannot, and who does what of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.plan import (
    SCENARIOS,
    PlanError,
    Scenario,
    check_reach,
    parts,
    plan,
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_a_plan_without_any_flag(scenario: Scenario) -> None:
    made = plan(scenario, "abc")
    assert made.scenario == scenario
    assert made.room == "load-abc"
    assert sum(len(part.places) for part in parts(made)) == made.sockets


@pytest.mark.parametrize(
    ("scenario", "flags", "message"),
    [
        ("fanout", {"sockets": 0}, r"^--sockets: expected `int` >= 1"),
        ("fanout", {"duration_s": 4000.0}, r"^--duration: expected `float` <= 3600"),
        ("fanout", {"rate": 0.0}, r"^--rate: must be more than 0"),
        ("fanout", {"window": 4, "rate": 5.0}, r"^--window: replaces --rate"),
        ("fanout", {"workers": 300}, r"^--workers: expected `int` <= 256"),
        ("fanout", {"sockets": 2, "workers": 3}, r"^--workers: more than --sockets"),
        ("fanout", {"room": "Bad Room"}, r"^--room: "),
        ("fanout", {"room": "admin_x"}, r"^--room: "),
        ("fanout", {"room": "dm_user_1__user_2"}, r"^--room: a group room"),
        ("rooms", {"rooms": 9, "sockets": 8}, r"^--rooms: 9 rooms need as many"),
        ("rooms", {"rooms": 0}, r"^--rooms: at least one"),
        ("rooms", {"window": 3}, r"^--window: only fanout"),
        ("wake", {"rooms": 3, "sockets": 4}, r"^--sockets: wake has one"),
        ("slow-consumer", {"slow": 50}, r"^--slow: somebody must read"),
        ("slow-consumer", {"duration_s": 3600.0}, r"^--duration: too long"),
        ("churn", {"target": "actors"}, r"^--target: churn is about gateways"),
        ("presence-storm", {"target": "actors"}, r"^--target: "),
        ("hot", {"target": "actors"}, r"^--target: hot is about gateways"),
        ("hot", {"hot_sockets": 0}, r"^--hot-sockets: expected `int` >= 1"),
        ("hot", {"hot_rate": 0.0}, r"^--hot-rate: expected `float` > 0"),
        ("hot", {"duration_s": 7.0}, r"^--duration: nothing is left"),
        ("open", {"rooms": 0}, r"^--rooms|^--sockets"),
        ("open", {"within_s": -1.0}, r"^--within: expected `float` >= 0"),
        ("fanout", {"arrivals": "sometimes"}, r"^--arrivals: "),
        ("fanout", {"tick_ms": -1.0}, r"^--tick: expected `float` >= 0"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_names_the_flag(
    scenario: Scenario, flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        plan(scenario, "abc", **flags)


def test_what_is_not_given_is_the_scenario_s_own() -> None:
    assert plan("slow-consumer", "a").size == 2000
    assert plan("slow-consumer", "a", size=None).size == 2000
    assert plan("slow-consumer", "a", size=7).size == 7
    assert plan("wake", "a", rooms=3).sockets == 3
    assert plan("open", "a", rooms=3).sockets == 3
    assert plan("hot", "a").sockets == 2 * 200 + 100
    assert plan("hot", "a", rooms=3, hot_sockets=7).sockets == 2 * 3 + 7
    assert plan("hot", "a", rooms=3).rate == 3.0


def test_the_hot_room_is_one_of_its_own_and_in_one_worker() -> None:
    made = plan("hot", "abc", rooms=4, hot_sockets=6, workers=2)
    where = Counter(place.room for part in parts(made) for place in part.places)
    assert where == {f"load-abc-{n}": 2 for n in range(4)} | {"load-abc-hot": 6}
    workers = [p for p in parts(made) if "load-abc-hot" in {s.room for s in p.places}]
    assert len(workers) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://localhost",
        "http://[::1]:8000",
        "unix:/tmp/s",
        "tcp://127.0.0.1:7000",
    ],
)
def test_this_machine_may_be_loaded(url: str) -> None:
    check_reach(url, allow_remote=False)


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3:8000", "https://chat.example", "tcp://chat.example:7"]
)
def test_another_machine_needs_the_flag_that_the_error_names(url: str) -> None:
    with pytest.raises(PlanError, match="--allow-remote"):
        check_reach(url, allow_remote=False)
    check_reach(url, allow_remote=True)


@given(
    sockets=st.integers(1, 200),
    rooms=st.integers(1, 60),
    workers=st.integers(1, 20),
)
def test_every_socket_has_one_worker_and_a_room_as_few_as_may_be(
    sockets: int, rooms: int, workers: int
) -> None:
    if rooms > sockets or workers > sockets:
        return
    made = plan("mixed", "a", sockets=sockets, rooms=rooms, workers=workers)
    found = parts(made)
    numbers = [place.number for part in found for place in part.places]
    assert sorted(numbers) == list(range(sockets))
    assert sum(part.share for part in found) == pytest.approx(1.0)
    hosts = Counter(
        room for part in found for room in {place.room for place in part.places}
    )
    assert len(hosts) == rooms
    if rooms >= workers:
        assert set(hosts.values()) == {1}
        assert all(part.places for part in found)


def test_the_last_places_are_those_that_do_not_read() -> None:
    (part,) = parts(plan("slow-consumer", "a", sockets=5, slow=2, rate=10.0))
    assert [place.slow for place in part.places] == [False, False, False, True, True]


def test_presence_places_are_in_no_room() -> None:
    (part,) = parts(plan("presence-storm", "a", sockets=3))
    assert {place.room for place in part.places} == {None}
