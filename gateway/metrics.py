"""The gateway's figures for Prometheus: counters, gauges, histograms in seconds.

Labels are from closed sets (routes, codes, statuses), never users, rooms, addresses or
paths. With `PROMETHEUS_MULTIPROC_DIR` set (which prometheus-client reads when it is
first imported; `cfmessenger up` sets it) every process of the node keeps its figures in
files there, and any gateway's /metrics sums them all, whoever defined them.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

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
SOCKETS_CLOSED = Counter(
    "cfm_sockets_closed", "WebSockets closed, by the code they ended with.", ("code",)
)
FRAMES_RECEIVED = Counter("cfm_frames_received", "Frames that clients sent.", ("kind",))
COVERED_SECONDS = Histogram(
    "cfm_input_covered_seconds",
    "From a frame's arrival to its being committed, answered or passed on.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
DELIVERIES = Counter(
    "cfm_deliveries", "Frames written to client sockets (messages times recipients)."
)
COVERED_SECONDS = Histogram(
    "cfm_covered_seconds",
    "From a client's frame to the actor's word that it is committed or answered.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
DELIVERED_BYTES = Counter("cfm_delivered_bytes", "Bytes written to client sockets.")


def exposition() -> bytes:
    """The text of /metrics: the sum over the node's processes, or this one alone."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return generate_latest(REGISTRY)
    node = CollectorRegistry()
    MultiProcessCollector(node)  # type: ignore[no-untyped-call]
    return generate_latest(node)


def forget_process(pid: int) -> None:
    """Drops the gauges of a process that has ended; its counts stay in the sums.

    For whoever supervises: a killed process cannot do it itself.
    """
    if os.environ.get(DIRECTORY_VARIABLE):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
