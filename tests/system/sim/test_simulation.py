"""Some hundred worlds, each with its own misfortunes: nothing of the promises breaks.

`make sim SEEDS=20000` looks further; `make sim SEED=n` shows what happened in one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from cfmessenger.chat.crowd import USUAL, Crowd
from tests.effort import tries
from tests.system.sim.history import CHAT, GUEST, Heard
from tests.system.sim.plan import EXCEPTIONS, FAULTS, MOVES, STRUCK_TWICE, Plan
from tests.system.sim.plan import FAILS_OVER as FAILOVER
from tests.system.sim.sweep import (
    CONFIRMS,
    FAILS_OVER,
    GAZES,
    LOSSES,
    RARE,
    SEEDS,
    report,
)
from tests.system.sim.world import Result, run

ROOT = Path(__file__).parents[3]
CHUNK = 40
TRACE_LINES = 60


def _verdict(seed: int) -> Counter[str]:
    """Fails with the trace of a seed that breaks a rule; what happened otherwise."""
    result = run(seed)
    if result.violations:
        again = run(seed, tracing=True)
        pytest.fail(
            f"{report(again, TRACE_LINES)}\nmake sim SEED={seed}   # the whole of it",
            pytrace=False,
        )
    return Counter(result.faults)


@pytest.mark.parametrize("start", SEEDS[::CHUNK])
def test_no_misfortune_breaks_a_promise(start: int) -> None:
    for seed in range(start, start + tries(CHUNK)):
        _verdict(seed)


@pytest.mark.parametrize("start", FAILS_OVER[::8])
def test_no_failover_to_a_replica_that_lags_loses_what_was_shown(start: int) -> None:
    struck = Counter[str]()
    for seed in range(start, start + 8):
        if seed >= start + tries(8) and struck[FAILOVER]:
            break  # where few are tried, one of them has to fail over all the same
        struck += _verdict(seed)
    assert struck[FAILOVER]


@pytest.mark.parametrize("start", LOSSES[::8])
def test_what_a_failover_loses_for_good_is_named_and_nothing_else_is(
    start: int,
) -> None:
    struck = Counter[str]()
    for seed in range(start, start + 8):
        if seed >= start + tries(8) and struck[STRUCK_TWICE]:
            break  # as above
        struck += _verdict(seed)
    assert struck[STRUCK_TWICE]


@pytest.mark.parametrize("start", CONFIRMS[::CHUNK])
def test_no_failover_loses_what_replicas_had_confirmed(start: int) -> None:
    for seed in range(start, start + tries(CHUNK)):
        _verdict(seed)


@pytest.mark.parametrize("start", GAZES[::20])
def test_nobody_is_shown_online_who_is_not_in_a_crowd_or_out_of_it(start: int) -> None:
    for seed in range(start, start + tries(20)):
        _verdict(seed)


@pytest.mark.parametrize("seed", RARE)
def test_no_rare_misfortune_does(seed: int) -> None:
    _verdict(seed)


def test_a_world_without_misfortune_answers_everything_at_once() -> None:
    result = run(1, plan=Plan(chaos_s=10.0))
    assert not result.violations
    history = result.history
    sent = [each for socket in history.sockets for each in socket.sent]
    errors = [h.frame for s in history.sockets for h in s.heard]
    codes = {frame["code"] for frame in errors if frame["type"] == "error"}
    assert len(sent) > 50
    # Who is eager says an id again with other words.
    assert codes <= {"RATE_LIMITED", "UNKNOWN_TYPE", "ID_REUSED"}
    assert result.settled_s < 5.0


def lists(result: Result) -> list[list[Heard]]:
    """What each socket was told of who is there."""
    every = [socket.heard for socket in result.history.sockets]
    return [[h for h in heard if h.frame["type"] == "participants"] for heard in every]


def test_a_crowd_without_misfortune_is_told_no_more_often_than_it_should() -> None:
    crowd = Crowd(above=2, tick_ms=700, vast=5, vast_tick_ms=1_500)
    calm = Plan(people=6, chaos_s=20.0, crowd=crowd, spikes_s=0.0, leave_p=0.2)
    result = run(1, plan=calm)
    assert not result.violations
    waits = Counter[bool]()
    for told in lists(result):
        for one, other in pairwise(told):
            total = other.frame.get("total")
            if total is not None and "total" in one.frame:
                least_s = crowd.interval_ms(total) / 1000
                waits[total > crowd.vast] += 1
                assert other.at - one.at > least_s - 5 * calm.base_s
    assert min(waits[True], waits[False]) > 10


def test_worlds_become_crowds_and_cease_to_be_ones() -> None:
    crowded = [seed for seed in SEEDS if Plan.of(seed).crowd is not USUAL]
    crossed = Counter[bool]()
    for seed in crowded[: tries(100)]:
        for told in lists(run(seed)):
            for one, other in pairwise(told):
                if ("total" in one.frame) != ("total" in other.frame):
                    crossed["total" in other.frame] += 1
    assert min(crossed[True], crossed[False]) > 5


def test_every_misfortune_strikes_within_ci() -> None:
    # Otherwise the seeds above prove less than they seem to.
    planned = {name for seed in SEEDS for name in Plan.of(seed).faults}
    assert planned == {*FAULTS, MOVES, *EXCEPTIONS}
    modes = Counter(Plan.of(seed).placement.mode for seed in SEEDS)
    assert modes["auto"] > len(SEEDS) / 3
    assert min(modes["pooled"], modes["dedicated"]) > 25
    assert sum(Plan.of(seed).poison_p > 0 for seed in SEEDS) > 30
    assert sum(Plan.of(seed).guest for seed in SEEDS) > 20


def test_a_guest_answers_what_is_said_in_a_room_and_each_message_once() -> None:
    result = run(1, plan=Plan(chaos_s=10.0, guest=True))
    assert not result.violations
    log = [entry.message for entry in result.history.logs["general"]]
    chats = [said for said in log if said["type"] == CHAT]
    asked = [f"re.{said['seq']}" for said in chats if said["senderId"] != GUEST]
    answered = [said["id"] for said in chats if said["senderId"] == GUEST]
    assert len(answered) > 30
    assert sorted(answered) == sorted(asked)


def test_a_room_that_fails_at_what_is_said_in_it_goes_on() -> None:
    result = run(1, plan=Plan(chaos_s=10.0, leave_p=0.0, poison_p=0.2))
    assert not result.violations
    history = result.history
    poison = [sent for each in history.sockets for sent in each.sent if sent.poison]
    told = [h.frame for s in history.sockets for h in s.heard]
    codes = [frame["code"] for frame in told if frame["type"] == "error"]
    assert len(poison) > 3
    assert codes.count("INTERNAL_ERROR") == len(poison)
    assert "STORAGE_UNAVAILABLE" not in codes


def test_a_seed_is_one_world_whatever_the_hashes_of_the_process() -> None:
    script = (
        "import hashlib; from tests.system.sim.world import run;"
        "r = run(3, tracing=True);"
        "print(hashlib.sha256(chr(10).join(r.trace).encode()).hexdigest())"
    )
    traces = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        traces.add(done.stdout)
    assert len(traces) == 1
