"""The table: what is done to which machine, and how long it takes.

A row is measured whatever today's code makes of it; what must hold for every build is
that nothing acknowledged is lost, doubled or reordered.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from cfmessenger.load.result import read
from tests.system.machines import faults
from tests.system.machines.ground import Ground, ground
from tests.system.machines.load import MAX_LAG_MS, Figures, Verdict, planned, play
from tests.system.machines.topology import bare

AWAY_S = 20.0
CUT_S = 30.0
SPREAD = 300


class Row(NamedTuple):
    """A fault. `seconds` is what it takes on a calm machine."""

    what: str
    hurt: Callable[[Ground], Awaitable[None]]
    seconds: float = 0.0


async def _nothing(on: Ground) -> None:
    pass


async def _sigterm_node(on: Ground) -> None:
    await faults.term(on.victim.started["node"])


async def _sigterm_machine(on: Ground) -> None:
    await faults.term(*on.victim.started.values())


async def _ray_drain(on: Ground) -> None:
    node, env = await on.ray_node(on.victim), await on.ray_env()
    await faults.ray_drain(on.victim, node, env)
    await on.victim.started["node"].gone(faults.DEADLINE_S)


async def _sigterm_headless(on: Ground) -> None:
    on.head.kill()
    await faults.term(on.victim.started["node"])
    await on.start_head(on.head)


async def _kill9_node(on: Ground) -> None:
    faults.kill9(on.victim)


async def _cut(on: Ground) -> None:
    faults.cut(on.victim)
    await asyncio.sleep(CUT_S)
    faults.heal(on.victim)


async def _namespace_black_hole(on: Ground) -> None:
    faults.black_hole(on.victim, on.topology.namespace_port)
    await asyncio.sleep(CUT_S)
    faults.heal(on.victim)


async def _control_store_away(on: Ground) -> None:
    on.head.kill()
    await asyncio.sleep(AWAY_S)
    await on.start_head(on.head)


async def _head_lost(on: Ground) -> None:
    on.head.kill()
    await on.start_head(on.spare)


async def _rolling_restart(on: Ground) -> None:
    for role in on.topology.restarts:
        for machine in on.nodes:
            await faults.term(machine.started[role])
            await on.start(machine, role)


ROWS = {
    "calm": Row("nothing is broken", _nothing),
    "sigterm_node": Row("SIGTERM to a node", _sigterm_node, 10),
    "sigterm_machine": Row("SIGTERM to a node and its gateway", _sigterm_machine, 10),
    "ray_drain": Row("Ray is told to drain a node", _ray_drain, 10),
    "sigterm_headless": Row(
        "SIGTERM to a node while Ray's control store is away", _sigterm_headless, 30
    ),
    "kill9_node": Row("kill -9 of a node's raylet and actors", _kill9_node),
    "cut_30s": Row("a node's line is off the bridge for 30 s", _cut, CUT_S),
    "namespace_black_hole": Row(
        "a node's namespace is silent for 30 s", _namespace_black_hole, CUT_S
    ),
    "control_store_away_20s": Row(
        "Ray's control store is killed and away for 20 s", _control_store_away, AWAY_S
    ),
    "head_lost": Row("the head is gone and begins elsewhere", _head_lost, 60),
    "rolling_restart": Row("one machine after the other", _rolling_restart, 45),
}


class Played(NamedTuple):
    """One run of a row."""

    figures: Figures
    verdict: Verdict
    theirs: tuple[str, ...]
    """The rooms that lived where it was done."""
    logs: Path
    """Where they are, if they were kept."""


async def row(name: str, keep: bool = False) -> Played:
    """On a ground of its own, whose logs may be kept."""
    async with ground(keep) as on:
        return await played(on, ROWS[name])


async def played(on: Ground, what: Row) -> Played:
    """On this ground, which is broken afterwards."""
    plan = planned(on.balancer.url, what.seconds)
    rooms = [plan.room_name(n) for n in range(plan.rooms)]
    where: dict[str, str] = {}

    async def hurt() -> None:
        where.update(await on.spots(rooms))
        on.choose(where)
        await what.hurt(on)

    figures = await play(plan, await on.tokens(), hurt)
    hit = on.victim.name
    verdict = figures.judged(await on.logs(rooms))
    theirs = tuple(room for room in rooms if where[room] == hit)
    return Played(figures, verdict, theirs, on.kept)


async def spread() -> Counter[str]:
    """How many of 300 rooms live in each machine."""
    async with ground() as on:
        found = await on.spots(f"spread-{n}" for n in range(SPREAD))
        return Counter({each.name: 0 for each in on.nodes} | Counter(found.values()))


async def load_ray() -> str:
    """`cfmessenger load --cluster` on a node, with a worker on each of two machines."""
    async with ground() as on:
        asks = on.nodes[0]
        asks.path("/tmp/sessions").write_text("\n".join(await on.tokens()))
        command = [
            sys.executable,
            "-m",
            "cfmessenger",
            "load",
            "rooms",
            "--allow-remote",
        ]
        command += ["--allow-remote", "--cluster", on.storage.valkey_url]
        command += ["--url", on.balancer.url]
        command += ["--sessions", "/tmp/sessions", "--json", "/tmp/result.json"]
        command += ["--workers", "2", "--rooms", "10", "--sockets", "40"]
        command += ["--rate", "100", "--max-lag", str(MAX_LAG_MS)]
        made = asks.start("load", command, bare())
        await made.gone(120.0)
        assert made.code == 0, made.tail()
        found = read(asks.path("/tmp/result.json"))
    assert len(found.worker_hosts) == 2, found.worker_hosts
    assert not found.oracle.violations
    hosts = ", ".join(f"{n} on {host}" for host, n in found.worker_hosts.items())
    return f"workers {hosts}; {found.counts['acked']} acknowledged, nothing amiss"
