"""`python -m tests.bench.cost`: sweeps load, fits the cost model, plans a cluster.

Each sweep changes one thing over a decade and keeps the others; every point gets a
server that has just been started. What is printed says which figures were measured and
which follow from them. `--write` puts it into deploy/CAPACITY.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import uvloop

from cfmessenger.cli import process
from tests.bench import machine, measures
from tests.bench.contestants import messenger
from tests.bench.loader import a_room, joined
from tests.bench.meter import Meter
from tests.bench.model import (
    KINDS,
    Costs,
    Demand,
    Line,
    Machine,
    Plan,
    Point,
    fit,
    lines,
    size,
)
from tests.bench.page import replaced

PAGE = Path(__file__).parents[2] / "deploy" / "CAPACITY.md"
WARM_S, SECONDS = 1.0, 4.0
SOCKETS = (4, 20, 60, 200)  # in one room
RATE_OF_SOCKETS = 200.0
ROOMS = (10, 100, 400)  # of four sockets
RATE_OF_ROOMS = 400.0
RATES = (100.0, 400.0, 1500.0)  # over 50 rooms of four
GATEWAYS = (1, 2, 4)
POOLS = (1, 2, 4)
IDLE = (500, 5000)
AWAKE = (200, 4000)
DEMANDS = (
    ("a million sockets, 100,000 rooms, quiet", Demand(1_000_000, 100_000, 2_000)),
    ("the same, each room a line every 10 s", Demand(1_000_000, 100_000, 10_000)),
    ("the same, and 1 % of the sockets return a minute",
     Demand(1_000_000, 100_000, 10_000, reconnects_per_s=167)),
    ("the same, when every log has its 10,000",
     Demand(1_000_000, 100_000, 10_000, kept=10_000)),
    ("a tenth of that", Demand(100_000, 10_000, 1_000)),
)  # fmt: skip


class ByKind(Meter):
    """Also knows the kind of each process. `spent`: between first and last reading."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._readings: list[dict[str, float]] = []
        super().__init__([root])

    def _kinds(self) -> Iterator[tuple[str, psutil.Process]]:
        for row in process.descendants(self._root):
            try:
                each = psutil.Process(row.pid)
                line = " ".join(each.cmdline())
            except psutil.Error:
                continue
            if "cfmessenger gateway" in line:
                yield "gateway", each
            elif line.startswith("ray::ObjectActor"):
                yield "actors", each
            elif "valkey-server" in line:
                yield "valkey", each
            else:
                yield "rest", each

    def cpu_s(self) -> float:
        self._readings.append(self._cpu_s())
        return sum(self._readings[-1].values())

    @property
    def spent_s(self) -> dict[str, float]:
        """CPU seconds between the first reading and the last."""
        first, last = self._readings[0], self._readings[-1]
        return {kind: last[kind] - first[kind] for kind in last}

    def _cpu_s(self) -> dict[str, float]:
        found = dict.fromkeys((*KINDS, "rest"), 0.0)
        for kind, each in self._kinds():
            times = each.cpu_times()
            found[kind] += times.user + times.system
        return found

    def memory_kib(self, kind: str) -> float:
        """USS of all processes of a kind."""
        return sum(
            each.memory_full_info().uss / 1024
            for found, each in self._kinds()
            if found == kind
        )


class Sweep:
    """Measures points, and keeps a line of each for the page."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    async def cpu(
        self, rooms: int, per_room: int, rate: float, **settings: str
    ) -> Point:
        """CPU a message by kind of process, at a steady rate."""
        async with messenger("pooled", **settings) as server:
            server.meter = meter = ByKind(server.meter.family[0])
            figures = await measures.paced(
                server,
                rooms=rooms,
                per_room=per_room,
                rate=rate,
                warm_s=WARM_S,
                seconds=SECONDS,
            )
        messages = figures["messages_per_s"] * SECONDS
        cpu_us = {kind: 1e6 * each / messages for kind, each in meter.spent_s.items()}
        what = ", ".join(f"{key[4:].lower()} {val}" for key, val in settings.items())
        parts = " | ".join(f"{cpu_us[kind]:.0f}" for kind in (*KINDS, "rest"))
        said = (
            f"| {rooms} × {per_room} | {rate:.0f} | {what or '–'} | {parts} | "
            f"{sum(cpu_us.values()):.0f} | {figures['p50_ms']:.1f} | "
            f"{figures['p99_ms']:.1f} |"
        )
        self.rows.append(said)
        sys.stderr.write(said + "\n")
        return Point(per_room, cpu_us)

    async def memory(self, kind: str, one_each: bool, counts: tuple[int, ...]) -> Line:
        """KiB by number of sockets (of one room) or of rooms (of one socket)."""
        points: list[tuple[float, float]] = []
        async with messenger("pooled", CFM_HIBERNATE_AFTER="600") as server:
            meter = ByKind(server.meter.family[0])
            held, name = 0, a_room()
            async with AsyncExitStack() as stack:
                for count in counts:
                    places = [
                        (f"{name}{n}" if one_each else name, n)
                        for n in range(held, count)
                    ]
                    members = await stack.enter_async_context(joined(server, places))
                    for member in members if one_each else ():
                        member.say(0.0)
                    held = count
                    await asyncio.sleep(2.0)
                    points.append((count, meter.memory_kib(kind)))
        line = fit(points)
        sys.stderr.write(f"{kind}: {line.slope:.1f} KiB each, {line.fixed:.0f} fixed\n")
        return line


async def measure() -> str:
    """All sweeps, the fit and the plans, as Markdown."""
    sweep = Sweep()
    by_sockets = [await sweep.cpu(1, k, RATE_OF_SOCKETS) for k in SOCKETS]
    for rooms in ROOMS:
        await sweep.cpu(rooms, 4, RATE_OF_ROOMS)
    for rate in RATES:
        await sweep.cpu(50, 4, rate)
    for gateways in GATEWAYS:
        await sweep.cpu(50, 4, RATE_OF_ROOMS, CFM_GATEWAYS=str(gateways))
    for pool in POOLS:
        await sweep.cpu(50, 4, RATE_OF_ROOMS, CFM_POOL_SIZE=str(pool))
    sockets = await sweep.memory("gateway", False, IDLE)
    rooms_kib = await sweep.memory("actors", True, AWAKE)
    costs = Costs(
        cpu=lines(by_sockets),
        socket_kib=sockets.slope,
        room_kib=rooms_kib.slope,
        gateway_mib=sockets.fixed / 1024,
        actor_mib=rooms_kib.fixed / 1024 / len(os.sched_getaffinity(0)),
        accept_ms=1.0,
        valkey_bytes=350.0,
    )
    return _page(sweep.rows, costs)


def _page(rows: list[str], costs: Costs) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in machine.facts().items())
    fitted = [
        f"| {kind} | {line.fixed:.0f} | {line.slope:.2f} | {line.error:.0%} |"
        for kind, line in costs.cpu.items()
    ]
    plans = [
        _plan_row(title, demand, size(costs, demand, Machine()))
        for title, demand in DEMANDS
    ]
    return "\n".join(
        [
            f"Measured on: {facts}.",
            "",
            "CPU in µs a message by kind of process; latency in ms.",
            "",
            "| rooms × sockets | messages/s | | gateway | actors | Valkey | rest | all "
            "| p50 | p99 |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Fitted over the first four rows (one room, 4 to 200 sockets):",
            "",
            "| | µs a message | µs a delivery | mean deviation |",
            "|---|---|---|---|",
            *fitted,
            "",
            f"A socket takes {costs.socket_kib:.1f} KiB of its gateway, an awake room "
            f"{costs.room_kib:.1f} KiB of its pool; a gateway that does nothing "
            f"{costs.gateway_mib:.0f} MiB, a pool's process {costs.actor_mib:.0f} MiB.",
            "",
            "Planned, on nodes of 16 cores and 64 GiB that may be 60 % busy and 70 % "
            "full; each shard of Valkey on such a machine of its own, of which it uses "
            "one core:",
            "",
            "| demand | gateways (cores) | actors (cores) | GiB: gateways, actors, "
            "Valkey | Valkey: appends/s, share of a thread | shards | nodes | first "
            "limit |",
            "|---|---|---|---|---|---|---|---|",
            *plans,
        ]
    )


def _plan_row(title: str, demand: Demand, plan: Plan) -> str:
    cores, memory = plan.cores, plan.memory_gib
    return (
        f"| {title} | {plan.processes['gateway']} ({cores['gateway']:.1f}) | "
        f"{plan.processes['actors']} ({cores['actors']:.1f}) | "
        f"{memory['gateway']:.0f}, {memory['actors']:.1f}, {memory['valkey']:.1f} | "
        f"{plan.valkey_ops_per_s:,.0f}, {plan.valkey_cores:.0%} | {plan.shards} | "
        f"{plan.nodes} | "
        f"{plan.limit} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost")
    parser.add_argument("--write", action="store_true", help="update CAPACITY.md")
    options = parser.parse_args()
    text = uvloop.run(measure())
    sys.stdout.write(text + "\n")
    if options.write:
        page = PAGE.read_text()
        PAGE.write_text(replaced(page, text))


if __name__ == "__main__":
    main()
