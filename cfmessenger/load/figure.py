"""The figures of a result by name: what each is, and what it was.

Owns the names that expectations, comparisons and reports share. A figure that was not
measured is None, never 0: nothing checked is not nothing lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from .quantity import Kind
from .result import LATENCIES, Oracle, Result, Server

# What may be asked for, one line a kind of question.
VOCABULARY: Final = (
    "latency: p50, p99, p99.9 or any percentile, min, mean, max: of acks, or as "
    "delivery.p99, connect.max, wake.p50, ... (us, ms, s, min)",
    "correctness: loss, duplicated, reordered, gaps, violations, errors, error.<CODE>, "
    "errorRate, ackedShare, closed, closed.<code>",
    "beside a hot room: calmBefore.p99, calmBeside.p99, ..., calmRatio.p50, "
    "calmRatio.p99 (of the second to the first)",
    "of who comes: entered.p99, allIn.max, framesPerSocket, bytesPerSocket (B to GiB)",
    "rate: rate (of acks), rate.sent, rate.delivered (per second)",
    "count: sent, acked, delivered, connected, reconnected, count.<name>",
    "server: cpuS, cpuUsPerDelivery, cpuUsPerMessage, kibPerSocket, memory (B to GiB)",
    "generator: lag, loopLag (us, ms, s, min), cpuShare",
)

_COUNTS = ("sent", "acked", "delivered", "connected", "reconnected")
_COUNT_OF = re.compile(r"(?:error|closed|count)\.[\w.-]+", re.ASCII)
_NAMED = (*LATENCIES, "first", "calmBefore", "calmBeside", "entered", "allIn")
_LATENCY = re.compile(
    rf"(?:(?P<histogram>{'|'.join(_NAMED)})\.)?"
    r"(?:(?P<statistic>min|mean|max)|p(?P<percentile>100|\d{1,2}(?:\.\d{1,6})?))",
    re.ASCII,
)


class _Figure(NamedTuple):
    kind: Kind
    value: Callable[[Result], float | None]


def _rate(name: str) -> _Figure:
    return _Figure("rate", lambda result: result.rates.get(name))


def _checked(count: Callable[[Oracle], int]) -> _Figure:
    return _Figure(
        "count",
        lambda result: count(result.oracle) if result.oracle.checked_sockets else None,
    )


def _served(kind: Kind, cost: Callable[[Server], float | None]) -> _Figure:
    return _Figure(
        kind, lambda result: None if result.server is None else cost(result.server)
    )


_FIGURES: Final[dict[str, _Figure]] = {
    "loss": _checked(lambda oracle: oracle.lost),
    "duplicated": _checked(lambda oracle: oracle.duplicated),
    "reordered": _checked(lambda oracle: oracle.reordered),
    "gaps": _checked(lambda oracle: oracle.gaps),
    "violations": _checked(lambda oracle: oracle.violations),
    "errors": _Figure("count", lambda result: sum(errors_of(result).values())),
    "errorRate": _Figure("share", lambda result: _of_sent(result, "errors")),
    "ackedShare": _Figure("share", lambda result: _of_sent(result, "acked")),
    "closed": _Figure("count", lambda result: sum(closes_of(result).values())),
    "rate": _rate("acked"),
    "rate.sent": _rate("sent"),
    "rate.acked": _rate("acked"),
    "rate.delivered": _rate("delivered"),
    "cpuS": _served("number", lambda server: server.cpu_s),
    "cpuUsPerDelivery": _served("number", lambda server: server.cpu_us_per_delivery),
    "cpuUsPerMessage": _served("number", lambda server: server.cpu_us_per_message),
    "kibPerSocket": _served("number", lambda server: server.kib_per_socket),
    "memory": _served("bytes", lambda server: server.memory_bytes),
    "framesPerSocket": _Figure("number", lambda result: _per_socket(result, "frames")),
    "bytesPerSocket": _Figure("bytes", lambda result: _per_socket(result, "bytes")),
    "calmRatio.p50": _Figure("number", lambda result: _ratio("p50", result)),
    "calmRatio.p99": _Figure("number", lambda result: _ratio("p99", result)),
    "lag": _Figure("duration", lambda result: result.health.max_lag_us),
    "loopLag": _Figure("duration", lambda result: result.health.loop_lag_us),
    "cpuShare": _Figure("share", lambda result: result.health.cpu_share),
}


def kind_of(name: str) -> Kind | None:
    """What kind of quantity `name` is; None if there is no such figure."""
    if figure := _FIGURES.get(name):
        return figure.kind
    if name in _COUNTS or _COUNT_OF.fullmatch(name):
        return "count"
    return "duration" if _LATENCY.fullmatch(name) else None


def value_of(name: str, result: Result) -> float | None:
    """The figure in its kind's base unit; None: not measured.

    KeyError if there is no such figure.
    """
    if figure := _FIGURES.get(name):
        return figure.value(result)
    if match := _LATENCY.fullmatch(name):
        return _latency(match, result)
    if kind_of(name) is None:
        raise KeyError(name)
    return result.counts.get(name.removeprefix("count."), 0)


def errors_of(result: Result) -> dict[str, int]:
    """Error codes and how often each came, the most frequent first."""
    return ranked("error.", result.counts)


def closes_of(result: Result) -> dict[str, int]:
    """Close codes and how often each came, the most frequent first."""
    return ranked("closed.", result.counts)


def ranked(prefix: str, counts: dict[str, int]) -> dict[str, int]:
    """The counts whose names begin with `prefix`, without it, most frequent first."""
    found = (
        (name.removeprefix(prefix), count)
        for name, count in counts.items()
        if name.startswith(prefix) and count
    )
    return dict(sorted(found, key=lambda item: (-item[1], item[0])))


def _of_sent(result: Result, name: str) -> float | None:
    sent = result.counts.get("sent", 0)
    return (value_of(name, result) or 0) / sent if sent else None


def _per_socket(result: Result, name: str) -> float | None:
    connected, count = (result.counts.get(each) for each in ("connected", name))
    return count / connected if connected and count is not None else None


def _ratio(percentile: str, result: Result) -> float | None:
    """What calm rooms see beside a hot one, to what they saw before."""
    before = value_of(f"calmBefore.{percentile}", result)
    beside = value_of(f"calmBeside.{percentile}", result)
    return beside / before if before and beside is not None else None


def _latency(match: re.Match[str], result: Result) -> float | None:
    data = result.histograms.get(match["histogram"] or "ack")
    if data is None or not data.count:
        return None
    if match["statistic"]:
        return float(getattr(data, match["statistic"]))
    known = {"50": data.p50, "90": data.p90, "95": data.p95, "99": data.p99}
    known |= {"99.9": data.p999, "100": data.max}
    if (value := known.get(match["percentile"])) is not None:
        return value
    return data.histogram().quantile(float(match["percentile"]) / 100)
