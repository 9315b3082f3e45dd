"""The cost model: what a message, a delivery, a socket and a room cost, fitted to
measurements, and how many nodes that means. Pure.

CPU is a straight line for each kind of process: so much for a message, so much more for
each delivery of it. Nothing is known about more than was measured; `Demand` says what a
cluster is asked for, `size` what it takes, and which of its limits is met first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

KINDS = ("gateway", "actors", "valkey")


@dataclass(frozen=True)
class Point:
    """One measurement: `cpu_us` a message for each kind of process."""

    deliveries: float  # of one message
    cpu_us: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """`at(x) = fixed + slope * x`; `error` is the mean deviation as a share."""

    fixed: float
    slope: float
    error: float

    def at(self, x: float) -> float:
        return self.fixed + self.slope * x


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line of least squares, relative: a small figure counts as much as a large.

    Raises ValueError for fewer than two different x, or a y that is not positive.
    """
    if len({x for x, _ in points}) < 2 or any(y <= 0 for _, y in points):
        raise ValueError("needs two different x, and positive y")
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    below = sum(
        w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True)
    )
    slope = (
        sum(
            w * (x - mean_x) * (y - mean_y)
            for w, (x, y) in zip(weights, points, strict=True)
        )
        / below
    )
    line = Line(mean_y - slope * mean_x, slope, 0.0)
    error = sum(abs(line.at(x) / y - 1) for x, y in points) / len(points)
    return Line(line.fixed, line.slope, error)


def lines(points: Sequence[Point]) -> dict[str, Line]:
    """A line for each kind of process."""
    return {
        kind: fit([(point.deliveries, point.cpu_us[kind]) for point in points])
        for kind in KINDS
    }


@dataclass(frozen=True)
class Costs:
    """What was measured, and what of it was fitted."""

    cpu: Mapping[str, Line]  # µs a message, by deliveries
    socket_kib: float
    room_kib: float
    gateway_mib: float  # of a process that does nothing
    actor_mib: float
    accept_ms: float
    valkey_bytes: float  # of memory for a message that is kept
    presence: Mapping[str, Line] = field(default_factory=dict)
    """µs a change of status, by how many watch; empty: nothing is known of it."""


@dataclass(frozen=True)
class Demand:
    """What a cluster is asked for. Sockets are spread over the rooms evenly."""

    sockets: int
    rooms: int  # awake at once
    messages_per_s: float
    kept: int = 200  # messages in a room's log
    reconnects_per_s: float = 0.0
    watchers: int = 0  # sockets that are told who is online
    changes_per_s: float = 0.0  # of somebody's status


@dataclass(frozen=True)
class Machine:
    """A node, and how full it may be."""

    cores: int = 16
    memory_gib: float = 64.0
    cpu_share: float = 0.6
    memory_share: float = 0.7
    sockets_per_gateway: int = 50_000


@dataclass(frozen=True)
class Plan:
    """What it takes: cores and memory by kind, nodes, shards of Valkey, and what is
    short first as the demand grows."""

    cores: Mapping[str, float]
    memory_gib: Mapping[str, float]
    processes: Mapping[str, int]
    nodes: int
    limit: str
    valkey_ops_per_s: float
    valkey_cores: float
    shards: int


def size(costs: Costs, demand: Demand, machine: Machine) -> Plan:
    """How many nodes a demand takes, and how many shards of Valkey, each with a machine
    of its own: one thread of it works, and logs are spread over them evenly."""
    deliveries = demand.sockets / demand.rooms
    cores = {
        kind: demand.messages_per_s * line.at(deliveries) / 1e6
        for kind, line in costs.cpu.items()
    }
    cores["gateway"] += demand.reconnects_per_s * costs.accept_ms / 1e3
    told = {
        kind: demand.changes_per_s * max(0.0, line.at(demand.watchers)) / 1e6
        for kind, line in costs.presence.items()
    }
    for kind, more in told.items():
        cores[kind] += more
    valkey_cores = cores.pop("valkey")
    per_core = machine.cpu_share
    processes = {
        "gateway": max(
            math.ceil(cores["gateway"] / per_core),
            math.ceil(demand.sockets / machine.sockets_per_gateway),
        ),
        "actors": max(1, math.ceil(cores["actors"] / per_core)),
    }
    memory = {
        "gateway": (
            demand.sockets * costs.socket_kib / 2**20
            + processes["gateway"] * costs.gateway_mib / 2**10
        ),
        "actors": (
            demand.rooms * costs.room_kib / 2**20
            + processes["actors"] * costs.actor_mib / 2**10
        ),
        "valkey": demand.rooms * demand.kept * costs.valkey_bytes / 2**30,
    }
    wanted = {
        "CPU": sum(cores.values()) / (machine.cores * machine.cpu_share),
        "memory": (memory["gateway"] + memory["actors"])
        / (machine.memory_gib * machine.memory_share),
        "sockets of a gateway process": (
            demand.sockets / (machine.sockets_per_gateway * machine.cores)
        ),
    }
    storage = {
        "a shard's thread": valkey_cores / machine.cpu_share,
        "a shard's memory": (
            memory["valkey"] / (machine.memory_gib * machine.memory_share)
        ),
    }
    # There is one registry, and more machines make it no faster.
    alone = {"the registry's process": told.get("actors", 0.0) / machine.cpu_share}
    every = wanted | storage | alone
    return Plan(
        cores,
        memory,
        processes,
        math.ceil(max(wanted.values())),
        max(every, key=lambda each: every[each]),
        demand.messages_per_s,
        valkey_cores,
        math.ceil(max(storage.values())),
    )
