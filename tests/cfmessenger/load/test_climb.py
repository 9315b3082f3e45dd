"""A search carried out: on a live gateway, and where runs do not come about."""

from __future__ import annotations

from typing import Any

import pytest

from cfmessenger.load.capacity import Search, Step, Thresholds
from cfmessenger.load.climb import climb
from cfmessenger.load.plan import Plan, plan
from cfmessenger.load.result import HistogramData, Result
from cfmessenger.load.run import Failure, Wishes, run
from tests.cfmessenger.load.target import SHORT, HereLauncher, gateway, unique

EASY = Thresholds(p99_us=60_000_000)


def rooms_at(url: str, **flags: Any) -> Any:
    def plan_at(rate: float) -> Plan:
        sizes = {"rooms": 2, "sockets": 4, "url": url, "rate": rate}
        return plan("rooms", unique(), **SHORT | sizes | flags)

    return plan_at


async def on(made: Plan) -> Result:
    return await run(
        made,
        Wishes(),
        HereLauncher(),
        tell=lambda text: None,
        show=lambda progress: None,
    )


async def test_a_live_gateway_is_found_to_bear_what_is_tried(valkey_url: str) -> None:
    told: list[Step] = []
    async with gateway(valkey_url) as url:
        found = await climb(
            rooms_at(url),
            on,
            Search(20, 40, 0.1),
            EASY,
            limit_s=60,
            tell=told.append,
        )
    assert [step.value for step in told] == [20, 40]
    assert (found.held, found.broke, found.ended) == (40, None, "top")
    assert found.limit is None and not found.violations
    assert all(step.p99_us and step.acked_per_s for step in found.steps)
    assert (found.scenario, found.axis, found.url) == ("rooms", "rate", url)


async def test_a_limit_of_the_server_is_found(valkey_url: str) -> None:
    """Two a second and user and room may be said: four people in two rooms."""
    async with gateway(valkey_url, chat_rate="2/1") as url:
        found = await climb(
            rooms_at(url),
            on,
            Search(2, 1_000, 0.5),
            EASY,
            limit_s=60,
            tell=lambda step: None,
        )
    assert found.held is not None and found.broke is not None
    assert 2 <= found.held < found.broke <= 32
    assert found.breaking is not None
    assert any("refused or closed" in each for each in found.breaking.broke)
    assert found.limit is not None and found.limit.kind == "unknown"


def scripted(*outcomes: Result | Failure) -> Any:
    """Runs that end so, one after another; the last again and again."""
    left = list(outcomes)

    async def attempt(made: Plan) -> Result:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Failure):
            raise outcome
        outcome.rates = {"acked": made.rate}
        return outcome

    return attempt


def good() -> Result:
    data = HistogramData(count=1, p99=1_000)
    return Result(scenario="rooms", histograms={"ack": data})


async def climbed(attempt: Any, **more: Any) -> Any:
    options = {"limit_s": 60.0, "tell": lambda step: None} | more
    return await climb(
        rooms_at("http://127.0.0.1:1"), attempt, Search(10, 80, 0.5), EASY, **options
    )


async def test_who_cannot_be_reached_at_all_is_no_capacity() -> None:
    with pytest.raises(Failure, match="nobody there"):
        await climbed(scripted(Failure("nobody there")))


async def test_a_run_that_the_server_does_not_let_happen_is_one_that_broke() -> None:
    found = await climbed(scripted(good(), Failure("at capacity")))
    assert (found.held, found.broke) == (10, 15)
    assert found.breaking.broke == ["at capacity"]


async def test_when_the_time_is_over_nothing_more_is_tried() -> None:
    found = await climbed(scripted(good()), limit_s=0.0)
    assert (found.ended, found.steps) == ("time", [])


async def test_lost_messages_end_it_at_once() -> None:
    bad = good()
    bad.oracle.lost, bad.oracle.examples = 1, ["room-1: a socket saw nothing"]
    found = await climbed(scripted(good(), bad, good()))
    assert (found.ended, len(found.steps)) == ("violation", 2)
    assert found.violations == bad.oracle.examples
