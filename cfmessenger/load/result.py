"""What a load test found out: the file it writes, and what its workers send home.

Owns the shapes, their version, and how the shares of several workers become one result.
Field names in JSON are camelCase; durations are `_s` floats or `_us` integers. A reader
takes exactly the version it knows; fields may be added within a version, never changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from cfmessenger.wire.complaint import UNREADABLE

from .histogram import Histogram, HistogramData

__all__ = [
    "LATENCIES",
    "MAX_EXAMPLES",
    "VERSION",
    "Expectation",
    "Health",
    "Histogram",
    "HistogramData",
    "Host",
    "Merged",
    "Oracle",
    "Phase",
    "Process",
    "Progress",
    "Result",
    "Second",
    "Server",
    "Share",
    "merge",
    "merge_oracles",
    "merge_seconds",
    "read",
    "write",
]

VERSION = 1
MAX_EXAMPLES = 20
LATENCIES = ("ack", "delivery", "connect", "wake")
"""Names of histograms, the most telling first."""

Phase = Literal["connecting", "warm-up", "measuring", "draining"]


class _Struct(msgspec.Struct, rename="camel"):
    pass


class Host(_Struct, kw_only=True):
    """The machine that made the load."""

    name: str = ""
    cpus: int = 0
    model: str = ""
    memory_bytes: int = 0
    kernel: str = ""
    python: str = ""


class Second(_Struct, kw_only=True):
    """One second of the measurement; latencies are of the acks that came in it."""

    t: int  # seconds since the measurement began
    sent: int = 0
    acked: int = 0
    delivered: int = 0
    errors: int = 0
    joined: int = 0
    left: int = 0
    sockets: int = 0
    p50_us: int | None = None
    p99_us: int | None = None
    max_us: int | None = None
    lag_us: int = 0  # the furthest the generator was behind its schedule


class Oracle(_Struct, kw_only=True):
    """What was checked against the promises of delivery, and what broke them."""

    checked_sockets: int = 0
    checked_rooms: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    gaps: int = 0
    examples: list[str] = []

    @property
    def violations(self) -> int:
        return self.lost + self.duplicated + self.reordered + self.gaps


class Health(_Struct, kw_only=True):
    """Whether the generator itself kept up; if not, the figures are about it."""

    valid: bool = True
    reasons: list[str] = []
    max_lag_us: int = 0
    cpu_share: float = 0.0  # of one core, the busiest worker's
    loop_lag_us: int = 0


class Process(_Struct, kw_only=True):
    """What one of the server's processes did in the measured time, in shares of a core.

    `waited` is for a core, when it could have run; `threads` has the busiest by name.
    """

    pid: int
    name: str = ""
    user: float = 0.0
    system: float = 0.0
    waited: float = 0.0
    threads: dict[str, float] = {}

    @property
    def share(self) -> float:
        """All that it computed."""
        return self.user + self.system


class Server(_Struct, kw_only=True):
    """What the load cost the server; None is unknown. `processes` has the busiest
    first, `machine` is how much of all its cores was taken, by whomever."""

    cpu_s: float | None = None
    cpu_us_per_delivery: float | None = None
    cpu_us_per_message: float | None = None
    kib_per_socket: float | None = None
    memory_bytes: int | None = None
    processes: list[Process] = []
    machine: float | None = None


class Expectation(_Struct, kw_only=True):
    """An expectation as it was written, what was found, and whether that meets it."""

    text: str
    value: float | None = None  # in the unit of the text; None: nothing to measure
    holds: bool = False


class Share(_Struct, kw_only=True):
    """What a worker sends home when it ends."""

    worker: int
    counts: dict[str, int] = {}
    histograms: dict[str, str] = {}  # name: Histogram.encode()
    series: list[Second] = []
    acks: dict[int, str] = {}  # Second.t: its ack latencies, Histogram.encode()
    oracle: Oracle = msgspec.field(default_factory=Oracle)
    health: Health = msgspec.field(default_factory=Health)


class Progress(_Struct, kw_only=True):
    """What a worker sends home each second."""

    worker: int
    second: Second
    counts: dict[str, int] = {}  # since the measurement began
    histogram: str | None = None  # ack latencies of this second, Histogram.encode()
    phase: Phase = "measuring"
    done: float = 0.0  # of the phase, 0 to 1


class Result(_Struct, kw_only=True):
    """A whole load test."""

    version: int = VERSION
    scenario: str
    target: Literal["gateway", "actors"] = "gateway"
    url: str = ""
    started_at: str = ""  # ISO 8601, UTC
    duration_s: float = 0.0
    warmup_s: float = 0.0
    workers: int = 1
    worker_kind: Literal["local", "ray"] = "local"
    worker_hosts: dict[str, int] = {}  # how many workers were on each machine
    settings: dict[str, Any] = {}
    host: Host = msgspec.field(default_factory=Host)
    versions: dict[str, str] = {}
    # sent, acked, delivered, connected, reconnected, typing, ...,
    # closed.<close code>, error.<ERROR_CODE>
    counts: dict[str, int] = {}
    rates: dict[str, float] = {}  # sent, acked, delivered, each per second
    # ack: intended send to own echo; delivery: intended send to any socket;
    # connect: dial to greeting; wake: to the first answer after sleep.
    # In the order of LATENCIES.
    histograms: dict[str, HistogramData] = {}
    series: list[Second] = []
    oracle: Oracle = msgspec.field(default_factory=Oracle)
    health: Health = msgspec.field(default_factory=Health)
    server: Server | None = None
    expectations: list[Expectation] = []

    @property
    def machines(self) -> str:
        """Where its workers were, for people; nothing if all were on one."""
        hosts = sorted(self.worker_hosts)
        return f" on {', '.join(hosts)}" if len(hosts) > 1 else ""


class Merged(NamedTuple):
    """The parts of a `Result` that come from its workers."""

    counts: dict[str, int]
    histograms: dict[str, HistogramData]
    series: list[Second]
    oracle: Oracle
    health: Health


def merge(shares: Iterable[Share]) -> Merged:
    """One result's parts from all its workers' shares, whatever their order."""
    shares = sorted(shares, key=lambda share: share.worker)
    counts: Counter[str] = Counter()
    histograms: dict[str, Histogram] = {}
    seconds: dict[int, list[tuple[Second, str | None]]] = {}
    for share in shares:
        counts.update(share.counts)
        for name, encoded in share.histograms.items():
            histograms.setdefault(name, Histogram()).merge(Histogram.decode(encoded))
        for second in share.series:
            part = (second, share.acks.get(second.t))
            seconds.setdefault(second.t, []).append(part)
    return Merged(
        counts=dict(sorted(counts.items())),
        histograms={n: histograms[n].data() for n in sorted(histograms, key=_rank)},
        series=[merge_seconds(seconds[t]) for t in sorted(seconds)],
        oracle=merge_oracles([share.oracle for share in shares]),
        health=_merge_health(shares),
    )


def _rank(name: str) -> tuple[int, str]:
    known = name in LATENCIES
    return (LATENCIES.index(name) if known else len(LATENCIES), name)


def merge_seconds(parts: Sequence[tuple[Second, str | None]]) -> Second:
    """The same second of several workers, each with its encoded ack latencies.

    Exact if every worker that measured latencies sent them; otherwise each percentile
    is the worst worker's, which the true one does not exceed.
    """
    seconds = [second for second, _ in parts]
    merged = Second(
        t=seconds[0].t,
        sent=sum(second.sent for second in seconds),
        acked=sum(second.acked for second in seconds),
        delivered=sum(second.delivered for second in seconds),
        errors=sum(second.errors for second in seconds),
        joined=sum(second.joined for second in seconds),
        left=sum(second.left for second in seconds),
        sockets=sum(second.sockets for second in seconds),
        lag_us=max(second.lag_us for second in seconds),
    )
    measured = [part for part in parts if part[0].max_us is not None]
    if len(measured) > 1 and all(encoded for _, encoded in measured):
        acks = Histogram()
        for _, encoded in measured:
            acks.merge(Histogram.decode(encoded or ""))
        merged.p50_us, merged.p99_us = acks.quantiles(0.5, 0.99)
        merged.max_us = acks.max
    elif measured:
        merged.p50_us = max(second.p50_us or 0 for second, _ in measured)
        merged.p99_us = max(second.p99_us or 0 for second, _ in measured)
        merged.max_us = max(second.max_us or 0 for second, _ in measured)
    return merged


def merge_oracles(oracles: Sequence[Oracle]) -> Oracle:
    """What several workers checked, added up."""
    # The first of each, then the second of each: no worker's crowd out the others'.
    most = max((len(oracle.examples) for oracle in oracles), default=0)
    examples = [
        oracle.examples[n]
        for n in range(most)
        for oracle in oracles
        if n < len(oracle.examples)
    ]
    return Oracle(
        checked_sockets=sum(oracle.checked_sockets for oracle in oracles),
        checked_rooms=sum(oracle.checked_rooms for oracle in oracles),
        lost=sum(oracle.lost for oracle in oracles),
        duplicated=sum(oracle.duplicated for oracle in oracles),
        reordered=sum(oracle.reordered for oracle in oracles),
        gaps=sum(oracle.gaps for oracle in oracles),
        examples=examples[:MAX_EXAMPLES],
    )


def _merge_health(shares: Sequence[Share]) -> Health:
    healths = [share.health for share in shares]
    return Health(
        valid=all(health.valid for health in healths),
        reasons=[
            f"worker {share.worker}: {reason}" if len(shares) > 1 else reason
            for share in shares
            for reason in share.health.reasons
        ],
        max_lag_us=max((health.max_lag_us for health in healths), default=0),
        cpu_share=max((health.cpu_share for health in healths), default=0.0),
        loop_lag_us=max((health.loop_lag_us for health in healths), default=0),
    )


class _Versioned(msgspec.Struct):
    version: int


def decode(data: bytes | str) -> Result:
    """A result from JSON; ValueError says what is wrong with it, or its version."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version == VERSION:
            return msgspec.json.decode(data, type=Result)
    except UNREADABLE as error:
        raise ValueError(f"not the result of a load test: {error}") from error
    raise ValueError(f"a result of version {version}; only {VERSION} can be read here")


def encode(result: Result) -> bytes:
    """The JSON of a result, indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def read(path: str | os.PathLike[str]) -> Result:
    """The result in a file; ValueError names the file, OSError as `open` raises it."""
    try:
        return decode(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error


def write(path: str | os.PathLike[str], result: Result) -> None:
    """Write a result where it is whole or not at all; OSError as `open` raises it."""
    replace(path, encode(result))


def replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` in a file, so that no reader ever sees half of it."""
    whole = Path(path)
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)
