"""A figure asked for by name is the one meant, and unknown is not zero."""

import pytest

from cfmessenger.load.figure import closes_of, errors_of, kind_of, value_of
from cfmessenger.load.quantity import Kind
from cfmessenger.load.result import Histogram, Oracle, Result

from . import samples


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("p99", "duration"),
        ("p99.999", "duration"),
        ("p100", "duration"),
        ("delivery.p50", "duration"),
        ("connect.mean", "duration"),
        ("lag", "duration"),
        ("loss", "count"),
        ("error.RATE_LIMITED", "count"),
        ("closed.1011", "count"),
        ("count.wink", "count"),
        ("rate.delivered", "rate"),
        ("errorRate", "share"),
        ("ackedShare", "share"),
        ("memory", "bytes"),
        ("cpuUsPerDelivery", "number"),
    ],
)
def test_every_figure_has_its_kind(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    "name",
    ["", "p", "p101", "p999", "ack", "ack.p", "other.p99", "p99.", "error.", "P99"],
)
def test_what_is_no_figure_is_none(name: str) -> None:
    assert kind_of(name) is None
    with pytest.raises(KeyError):
        value_of(name, samples.result())


def test_latencies_are_of_acks_unless_another_is_named() -> None:
    result = samples.result()
    ack, delivery = result.histograms["ack"], result.histograms["delivery"]
    assert value_of("p99", result) == value_of("ack.p99", result) == ack.p99
    assert value_of("delivery.p99.9", result) == delivery.p999
    assert value_of("connect.min", result) == result.histograms["connect"].min
    assert value_of("p100", result) == value_of("max", result) == ack.max
    assert value_of("mean", result) == ack.mean


def test_any_percentile_can_be_asked_for() -> None:
    histogram = Histogram()
    for us in range(1, 1001):
        histogram.record(us)
    result = Result(scenario="steady", histograms={"ack": histogram.data()})
    assert value_of("p12.3", result) == 123
    assert value_of("p0", result) == 1


def test_what_was_not_measured_is_unknown() -> None:
    result = Result(scenario="idle", histograms={"ack": Histogram().data()})
    for name in ("p99", "delivery.p50", "rate", "loss", "cpuUsPerDelivery", "memory"):
        assert value_of(name, result) is None, name
    assert value_of("errorRate", result) is None
    assert value_of("ackedShare", result) is None
    assert value_of("errors", result) == 0


def test_nothing_checked_is_not_nothing_lost() -> None:
    assert value_of("loss", Result(scenario="x", oracle=Oracle(lost=0))) is None
    checked = Result(scenario="x", oracle=Oracle(checked_sockets=1, lost=2, gaps=1))
    assert value_of("loss", checked) == 2
    assert value_of("violations", checked) == 3


def test_what_each_socket_got_is_known_where_frames_were_counted() -> None:
    counts = {"connected": 4, "frames": 10, "bytes": 4096}
    result = Result(scenario="crowd", counts=counts)
    assert value_of("framesPerSocket", result) == 2.5
    assert value_of("bytesPerSocket", result) == 1024
    assert kind_of("entered.p99") == kind_of("allIn.max") == "duration"
    assert value_of("bytesPerSocket", Result(scenario="crowd")) is None


def test_errors_and_closes_are_added_over_their_codes() -> None:
    counts = {
        "sent": 200,
        "acked": 150,
        "error.RATE_LIMITED": 3,
        "error.STORAGE_UNAVAILABLE": 1,
        "closed.1012": 2,
        "closed.1000": 0,
        "wink": 4,
    }
    result = Result(scenario="x", counts=counts)
    assert value_of("errors", result) == 4
    assert value_of("errorRate", result) == 0.02
    assert value_of("ackedShare", result) == 0.75
    assert value_of("error.RATE_LIMITED", result) == 3
    assert value_of("error.INTERNAL", result) == 0
    assert value_of("closed", result) == 2
    assert value_of("count.wink", result) == 4
    assert list(errors_of(result)) == ["RATE_LIMITED", "STORAGE_UNAVAILABLE"]
    assert closes_of(result) == {"1012": 2}
