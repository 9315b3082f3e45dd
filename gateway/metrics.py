"""The gateway's figures for Prometheus: counters, gauges, histograms in seconds.

Labels are from closed sets (routes, codes, statuses), never users, rooms, addresses or
paths. With `PROMETHEUS_MULTIPROC_DIR` set (which prometheus-client reads when it is
first imported; `cfmessenger up` sets it) every process of the node keeps its figures in
files there, and any gateway's /metrics sums them all, whoever defined them.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter(
    "cfm_http_requests",
    "Answered HTTP requests and WebSocket handshakes.",
    ("method", "route", "status"),
)
REQUEST_SECONDS = Histogram(
    "cfm_http_request_seconds",
    "From the request's head to the last byte of its answer; handshakes to theirs.",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REFUSED_CONNECTIONS = Counter(
    "cfm_refused_connections",
    "Connections ended below the application.",
    ("reason",),
)
SOCKETS = Gauge(
    "cfm_sockets",
    "Open WebSockets.",
    ("kind",),
    multiprocess_mode="livesum",
)
CUT_OFF = Gauge(
    "cfm_cut_off",
    "Gateways that are cut off from what others have, and so refuse sockets: 0 or 1.",
    multiprocess_mode="livesum",
)
STORAGE_MEMORY = Gauge(
    "cfm_storage_memory_ratio",
    "What is used of Valkey's maxmemory, 0 to 1; 0: it has no limit.",
    multiprocess_mode="livemax",
)
SOCKETS_CLOSED = Counter(
    "cfm_sockets_closed", "WebSockets closed, by the code they ended with.", ("code",)
)
FRAMES_RECEIVED = Counter(
    "cfm_frames_received", "Frames that clients sent, pings aside.", ("kind",)
)
DELIVERIES = Counter(
    "cfm_deliveries",
    "Fanned out to client sockets: events times recipients.",
    ("kind",),
)
DELIVERED_BYTES = Counter(
    "cfm_delivered_bytes", "Bytes fanned out to client sockets.", ("kind",)
)
COVERED_SECONDS = Histogram(
    "cfm_covered_seconds",
    "From a client's frame to the actor's word that it is committed or answered.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
GOODBYES = Counter(
    "cfm_goodbyes",
    "Objects that left or began anew, as gateways were told: idle, moved, fault, …",
    ("reason",),
)

PLACEMENT_MOVES = Counter(
    "cfm_placement_moves",
    "Rooms that moved between a pool and an actor of their own, as each gateway "
    "learned: hot, lived, pinned and public began to have one; ended: no more.",
    ("reason",),
)


class Durations:
    """What a histogram is to observe, since the last `publish`.

    Prometheus takes some microseconds for each, in files where a node has several
    processes; this takes a fraction of one, for what is observed in the hot path.
    """

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds = histogram._upper_bounds  # the last one is infinite
        self._counts = [0] * len(self._bounds)  # of each bucket alone
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """As the histogram's."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def publish(self) -> None:
        """Tell the histogram. It has no way to be told many at once, but what it does
        for one is this."""
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        if any(self._counts):
            self._histogram._sum.inc(self._sum)
            self._counts, self._sum = [0] * len(self._bounds), 0.0


COVERED = Durations(COVERED_SECONDS)
"""`COVERED_SECONDS`, observed for each frame."""


class Traffic:
    """What went through some stubs since the last `take`.

    `frames` that clients sent, `deliveries` (frames times sockets) and
    `delivered_bytes` of fan-outs. Plain integers, for they are counted in the hot path.
    """

    __slots__ = ("delivered_bytes", "deliveries", "frames")

    def __init__(self) -> None:
        self.frames = self.deliveries = self.delivered_bytes = 0

    def take(self) -> tuple[int, int, int]:
        """(frames, deliveries, delivered_bytes), which begin at 0 again."""
        taken = self.frames, self.deliveries, self.delivered_bytes
        self.frames = self.deliveries = self.delivered_bytes = 0
        return taken


TRAFFIC = {"room": Traffic(), "presence": Traffic()}
"""By kind of object. Counted for each frame and fan-out; Prometheus is told the sums by
`publish_traffic`."""


def publish_traffic() -> None:
    """Add what was counted since the last time; a few times a second will do."""
    COVERED.publish()
    for kind, traffic in TRAFFIC.items():
        counters = (FRAMES_RECEIVED, DELIVERIES, DELIVERED_BYTES)
        for counter, amount in zip(counters, traffic.take(), strict=True):
            if amount:
                counter.labels(kind).inc(amount)


class BotFigures:
    """Today's figures of the bots, as this process last read them in Valkey.

    Counted there for the whole cluster, so they are not summed over processes; each
    begins again at midnight (UTC), as a counter may. The bots are a closed set.
    """

    def __init__(self) -> None:
        # As last shown; empty until then.
        self._figures: Mapping[str, Mapping[str, int]] = {}

    def show(self, figures: Mapping[str, Mapping[str, int]]) -> None:
        """By bot, then by figure (`replies`, `refused_quota_day`)."""
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Nothing is known beforehand."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One counter a figure; refusals are one, by their reason."""
        families: dict[str, CounterMetricFamily] = {}
        for bot, figures in sorted(self._figures.items()):
            for figure, amount in sorted(figures.items()):
                name, refused, reason = figure.partition("refused_")
                if figure == "latency_ms":
                    name, value = "latency_seconds", amount / 1000
                else:
                    name, value = "refusals" if refused else figure, float(amount)
                labels = ("bot", "reason") if refused else ("bot",)
                family = families.get(name)
                if family is None:
                    family = families[name] = CounterMetricFamily(
                        f"cfm_bot_{name}", "Of the bots today, in all.", labels=labels
                    )
                family.add_metric([bot, reason] if refused else [bot], value)
        return families.values()


BOTS = BotFigures()
REGISTRY.register(BOTS)


class PlacementFigures:
    """Of the placement, as this process last read it in Valkey.

    The whole cluster's, so they are not summed over processes, and nothing is told
    until something was read.
    """

    def __init__(self) -> None:
        # As last shown; None: nothing was read, or not the last time.
        self._exceptions: Mapping[str, int] | None = None
        self._hottest = 0.0

    def show(self, exceptions: Mapping[str, int] | None, hottest: float = 0.0) -> None:
        """Exceptions counted by their reason; None: nobody knows.

        `hottest`: the largest share (0 to 1) that one of them takes of its process.
        """
        self._exceptions, self._hottest = exceptions, hottest

    def describe(self) -> Iterable[Metric]:
        """Nothing is known beforehand."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Two gauges."""
        if self._exceptions is None:
            return
        text = "Rooms that have an actor of their own beside the pools, by reason."
        family = GaugeMetricFamily("cfm_placement_exceptions", text, labels=("why",))
        for why, count in sorted(self._exceptions.items()):
            family.add_metric([why], count)
        yield family
        text = "Of its process's time, 0 to 1, what the busiest of these rooms takes."
        yield GaugeMetricFamily("cfm_hottest_room_share", text, self._hottest)


PLACEMENT = PlacementFigures()
REGISTRY.register(PLACEMENT)


class DamageFigures:
    """Of what storage has lost, as this process last read it in Valkey.

    Actors count there for the whole cluster, so it is not summed over processes, and
    nothing is told while it cannot be read: an older figure would look like a fall. It
    may fall, where a failover has lost it.
    """

    def __init__(self) -> None:
        # As last shown; None: nothing was read, or not the last time.
        self._counts: Mapping[str, int] | None = None

    def show(self, counts: Mapping[str, int] | None) -> None:
        """By what became of them: `healed`, `lost`, `aside`; None: nobody knows."""
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Nothing is known beforehand."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Three counters, which begin at 0: what rises from nothing rises unseen."""
        if self._counts is None:
            return
        for what, text in (
            ("events_lost", "Events that storage has lost for good, as rooms tell."),
            ("events_healed", "Events that storage had lost, and rooms gave back."),
            ("mirrors_aside", "Mirrors of a later release, which were put aside."),
        ):
            count = self._counts.get(what.partition("_")[2], 0)
            yield CounterMetricFamily(f"cfm_{what}", text, count)


DAMAGE = DamageFigures()
REGISTRY.register(DAMAGE)


def exposition() -> bytes:
    """The text of /metrics: the sum over the node's processes, or this one alone."""
    publish_traffic()
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return generate_latest(REGISTRY)
    node = CollectorRegistry()
    MultiProcessCollector(node)  # type: ignore[no-untyped-call]
    node.register(BOTS)
    node.register(PLACEMENT)
    node.register(DAMAGE)
    return generate_latest(node)
