"""Every scenario, for a second or two, on real gateways and real actors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cfmessenger.chat.crowd import Crowd
from cfmessenger.client.session import Client
from cfmessenger.load.figure import value_of
from cfmessenger.load.local_workers import LocalLauncher
from cfmessenger.load.plan import CALM_SOCKETS, Scenario
from cfmessenger.load.result import Progress, Result
from cfmessenger.load.run import Failure, Wishes
from tests import patience
from tests.cfmessenger.load.target import Actors, actors, gateway, load
from tests.effort import long_only


def sound(result: Result, *, sockets: int, rooms: int) -> None:
    """Nothing went wrong, and something was looked at."""
    assert result.oracle.violations == 0, result.oracle.examples
    assert result.health.valid, result.health.reasons
    assert result.oracle.checked_sockets >= sockets
    assert result.oracle.checked_rooms == rooms
    assert not [name for name in result.counts if name.startswith("error")]


def spoken(result: Result, per_message: int | None = None) -> None:
    """What was sent was acknowledged, and came to everybody in the room."""
    counts = result.counts
    assert counts["sent"] == counts["acked"] > 0
    assert result.histograms["ack"].count == counts["acked"]
    if per_message is not None:
        assert counts["delivered"] == counts["sent"] * per_message
    assert sum(second.sent for second in result.series) == counts["sent"]
    assert sum(second.delivered for second in result.series) == counts["delivered"]


async def on_actors(found: Actors, valkey_url: str, **flags: Any) -> Result:
    wishes = Wishes(namespace_key=found.key, valkey_url=valkey_url)
    return await load(
        flags.pop("scenario"),
        "http://127.0.0.1:1",  # nobody may ask there
        wishes=wishes,
        target="actors",
        namespace=found.namespace,
        **flags,
    )


async def test_fanout_counts_each_message_at_each_socket(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        result = await load("fanout", url, sockets=8, rate=50.0)
    sound(result, sockets=8, rooms=1)
    spoken(result, per_message=8)
    assert result.counts["sent"] == pytest.approx(40, abs=1)
    assert result.counts["connected"] == 8
    assert result.histograms["connect"].count == 8
    assert result.histograms["delivery"].count == result.counts["delivered"]


async def test_a_closed_window_ends_with_its_last_message(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        flags = {"duration_s": 30.0, "warmup_s": 0.1}
        result = await load("fanout", url, sockets=4, window=3, messages=40, **flags)
    sound(result, sockets=4, rooms=1)
    spoken(result, per_message=4)
    assert result.counts["sent"] == 40
    assert result.duration_s < 20


async def test_two_processes_share_a_room_and_the_rate(valkey_url: str) -> None:
    seen: list[Progress] = []
    async with gateway(valkey_url) as url:
        result = await load(
            "fanout",
            url,
            launcher=LocalLauncher(),
            show=seen.append,
            sockets=6,
            rate=30.0,
            workers=2,
            duration_s=2.0,
        )
    sound(result, sockets=6, rooms=1)
    spoken(result, per_message=6)
    assert result.counts["sent"] == pytest.approx(60, abs=2)
    assert {progress.worker for progress in seen} == {0, 1}
    assert "measuring" in {progress.phase for progress in seen}


async def test_rooms_are_all_spoken_in(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        result = await load("rooms", url, sockets=12, rooms=4, rate=80.0)
    sound(result, sockets=12, rooms=4)
    spoken(result, per_message=3)


@long_only
async def test_mixed_people_come_and_go_and_nobody_misses_anything(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url:
        result = await load("mixed", url, sockets=30, rooms=5, rate=200.0)
    counts = result.counts
    sound(result, sockets=30 + counts["joined"], rooms=5)
    assert counts["left"] > 0 and counts["typing"] > 0
    assert counts["delivered"] > counts["acked"] > 0


@long_only
async def test_idle_sockets_stay_and_are_counted(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        result = await load("idle", url, sockets=20, duration_s=1.2)
    sound(result, sockets=20, rooms=1)
    assert result.counts["connected"] == 20
    assert result.counts.keys() <= {"connected", "frames", "bytes"}
    assert {second.sockets for second in result.series} == {20}


async def test_wake_times_a_room_that_slept(valkey_url: str) -> None:
    async with gateway(valkey_url, hibernate_after="0.2") as url:
        result = await load("wake", url, rooms=3, sleep_s=1.6)
    sound(result, sockets=3, rooms=3)
    assert result.histograms["first"].count == 3
    assert result.histograms["wake"].count == 3
    assert result.counts["sent"] == 3


async def test_churn_brings_everybody_back_with_nothing_missed(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url:
        result = await load(
            "churn", url, sockets=10, rooms=2, rate=100.0, churn_rate=30.0
        )
    sound(result, sockets=10, rooms=2)
    spoken(result, per_message=5)
    assert result.counts["reconnected"] > 0
    assert result.histograms["reconnect"].count >= result.counts["reconnected"]


@long_only
async def test_who_does_not_read_is_closed_and_the_others_do_not_notice(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url:
        result = await load(
            # By many, so that none is a flood when it makes up for being late.
            *("slow-consumer", url),
            **{"sockets": 12, "slow": 1, "rate": 1500.0, "duration_s": 3.5},
        )
    counts = result.counts
    assert result.oracle.violations == 0, result.oracle.examples
    assert counts["closed.1013"] == 1
    # A machine that is busy with other things may refuse some of so many.
    assert counts["sent"] == counts["acked"] + counts.get("errors", 0)
    assert counts["delivered"] >= 3 * counts["acked"] > 0


@pytest.mark.parametrize("presence_all", ["500", "4"])
async def test_a_presence_storm_reaches_every_socket(
    valkey_url: str, presence_all: str
) -> None:
    async with gateway(valkey_url, presence_all=presence_all) as url:
        result = await load("presence-storm", url, sockets=8, rate=15.0)
    assert result.health.valid
    assert result.counts["connected"] == 8
    assert result.counts["acked"] > 0
    assert result.counts["delivered"] > result.counts["acked"]
    assert "stale" not in result.counts


@long_only
@pytest.mark.parametrize("workers", [1, 2])
async def test_calm_rooms_are_timed_before_and_beside_a_hot_one(
    valkey_url: str, workers: int
) -> None:
    flags = {"hot_sockets": 5, "hot_rate": 60.0, "settle_s": 0.5, "workers": workers}
    async with gateway(valkey_url) as url, gateway(valkey_url) as calm_url:
        result = await load(
            "hot", url, calm_url=calm_url, rooms=10, duration_s=3.0, **flags
        )
    sound(result, sockets=25, rooms=11)
    spoken(result)
    # One second of ten calm rooms, then 1.5 of 2 s; and 2 s of the hot room.
    before, beside = (result.histograms[f"calm{when}"] for when in ("Before", "Beside"))
    assert before.count == pytest.approx(10, abs=2)
    assert beside.count == pytest.approx(15, abs=2)
    assert result.counts["sent"] == pytest.approx(30 + 120, abs=4)
    hot = result.counts["delivered"] - CALM_SOCKETS * 30
    assert hot == pytest.approx(5 * 120, abs=20)
    for figure in ("calmRatio.p50", "calmRatio.p99"):
        found = value_of(figure, result)
        assert found is not None and found > 0


async def test_a_crowd_comes_online_and_each_is_told_who_is_there(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url:
        result = await load("crowd", url, sockets=12, within_s=0.3)
    assert result.health.valid and result.counts["connected"] == 12
    entered, all_in = result.histograms["entered"], result.histograms["allIn"]
    assert (entered.count, all_in.count) == (12, 1)
    assert all_in.max >= 270_000  # the last was due then
    frames = value_of("framesPerSocket", result)
    size = value_of("bytesPerSocket", result)
    assert frames is not None and frames >= 2  # a greeting and who is there
    assert size is not None and size > 100


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_room_fills_and_all_hear_what_is_said_then(
    valkey_url: str, workers: int
) -> None:
    async with gateway(valkey_url) as url:
        result = await load("gather", url, sockets=10, within_s=0.3, workers=workers)
    sound(result, sockets=10, rooms=1)
    assert result.histograms["entered"].count == 10
    assert result.counts["acked"] == workers
    assert result.counts["delivered"] >= 10
    assert result.counts["frames"] >= 30


async def test_conversations_are_opened_at_once(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        result = await load("open", url, rooms=12, within_s=0.5)
    sound(result, sockets=12, rooms=12)
    assert result.histograms["first"].count == 12
    assert result.counts["sent"] == result.counts["acked"] == 12
    assert "refused" not in result.counts


async def test_a_conversation_that_is_refused_is_counted(valkey_url: str) -> None:
    async with gateway(valkey_url, max_sockets_per_session="4") as url:
        wishes = Wishes(users=["user_1"])
        result = await load("open", url, rooms=6, within_s=0.1, wishes=wishes)
    assert result.histograms["first"].count == 4
    assert result.counts["refused"] == result.counts["error.AT_CAPACITY"] == 2
    assert result.oracle.violations == 0, result.oracle.examples


@pytest.mark.parametrize(
    ("scenario", "flags"),
    [
        ("fanout", {"sockets": 6, "rate": 50.0}),
        ("rooms", {"sockets": 8, "rooms": 4, "rate": 80.0}),
        ("mixed", {"sockets": 20, "rooms": 4, "rate": 150.0}),
        ("idle", {"sockets": 10}),
    ],
)
async def test_actors_are_loaded_without_a_gateway(
    valkey_url: str, scenario: Scenario, flags: dict[str, Any]
) -> None:
    async with actors(valkey_url) as found:
        result = await on_actors(found, valkey_url, scenario=scenario, **flags)
    rooms = flags.get("rooms", 1)
    sound(result, sockets=flags["sockets"], rooms=rooms)
    assert result.target == "actors"
    if scenario in ("fanout", "rooms"):
        spoken(result, per_message=flags["sockets"] // rooms)


async def test_a_crowd_is_loaded_by_a_gateway_and_without(valkey_url: str) -> None:
    # Who is in knows it by a list that differs from socket to socket.
    crowd = Crowd(above=2, tick_ms=100, vast=4, vast_tick_ms=200)
    async with gateway(valkey_url, crowd) as url:
        result = await load("fanout", url, sockets=8, rate=50.0)
    sound(result, sockets=8, rooms=1)
    spoken(result, per_message=8)
    async with actors(valkey_url, crowd) as found:
        result = await on_actors(
            found, valkey_url, scenario="fanout", sockets=8, rate=50.0
        )
    sound(result, sockets=8, rooms=1)
    spoken(result, per_message=8)


async def test_actors_wake_without_a_gateway(valkey_url: str) -> None:
    async with actors(valkey_url, hibernate_after="0.2") as found:
        result = await on_actors(
            found, valkey_url, scenario="wake", rooms=2, sleep_s=1.6
        )
    sound(result, sockets=2, rooms=2)
    assert result.histograms["wake"].count == 2


async def test_a_worker_on_actors_outlives_the_moment_without_signs_of_life(
    valkey_url: str,
) -> None:
    """Actors bury a gateway that is not registered within a second or so."""
    async with actors(valkey_url) as found:
        result = await on_actors(
            found, valkey_url, scenario="fanout", sockets=2, rate=20.0, duration_s=3.0
        )
    sound(result, sockets=2, rooms=1)
    spoken(result, per_message=2)


# What the target will not have.


async def test_the_rate_of_the_server_is_an_error_and_no_violation(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url, chat_rate="5/10") as url:
        result = await load("fanout", url, sockets=2, rate=60.0)
    assert result.oracle.violations == 0
    assert result.counts["error.RATE_LIMITED"] > 0
    assert result.counts["errors"] == result.counts["error.RATE_LIMITED"]


async def test_a_room_that_may_not_be_is_told_before_any_load(valkey_url: str) -> None:
    async with gateway(valkey_url, open_rooms="0") as url:
        with pytest.raises(Failure, match="CFM_OPEN_ROOMS=1"):
            await load("fanout", url)
        result = await load("fanout", url, room="general", sockets=3, rate=30.0)
    sound(result, sockets=3, rooms=1)


async def test_too_many_sockets_of_a_session_names_the_setting(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url, max_sockets_per_session="1") as url:
        with pytest.raises(Failure, match="CFM_MAX_SOCKETS_PER_SESSION"):
            await load("fanout", url, wishes=Wishes(users=["user_1"]), sockets=3)


async def test_a_login_over_the_rate_waits_for_it(valkey_url: str) -> None:
    told: list[str] = []
    async with gateway(valkey_url, login_rate="2/1") as url:
        result = await load("idle", url, tell=told.append, sockets=4, duration_s=0.2)
    assert result.counts["connected"] == 4
    assert "CFM_LOGIN_RATE" in told[0]


async def test_sessions_that_somebody_else_began_are_used_and_live_on(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url, Client(url) as client:
        session = await client.login("user_3")
        wishes = Wishes(sessions=[session.session_id])
        result = await load("fanout", url, wishes=wishes, sockets=3, rate=30.0)
        assert (await session.me()).id == "user_3"
    sound(result, sockets=3, rooms=1)


async def test_a_session_that_is_not_valid_is_told_before_any_load(
    valkey_url: str,
) -> None:
    async with gateway(valkey_url) as url:
        with pytest.raises(Failure, match="not valid"):
            await load("fanout", url, wishes=Wishes(sessions=["x" * 40]))


async def test_an_unknown_user_is_refused(valkey_url: str) -> None:
    async with gateway(valkey_url) as url:
        with pytest.raises(Failure, match="no such user"):
            await load("fanout", url, wishes=Wishes(users=["nobody"]))


async def test_nobody_there_is_said_so() -> None:
    with pytest.raises(Failure, match="no answer from http://127.0.0.1:1") as failure:
        await load("fanout", "http://127.0.0.1:1")
    assert failure.value.unreachable


async def test_no_actors_there_is_said_so(valkey_url: str) -> None:
    with pytest.raises(Failure, match="no actors there"):
        await on_actors(Actors("unix:/nonexistent", ""), valkey_url, scenario="fanout")


async def test_a_test_that_is_given_up_leaves_no_worker(valkey_url: str) -> None:
    started = asyncio.Event()
    async with gateway(valkey_url) as url:
        task = asyncio.create_task(
            load(
                "idle",
                url,
                show=lambda progress: started.set(),
                sockets=2,
                duration_s=60.0,
            )
        )
        await patience.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
