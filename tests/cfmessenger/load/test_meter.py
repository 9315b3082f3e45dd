"""A worker's figures."""

from __future__ import annotations

from cfmessenger.load.meter import Meter, count_in
from cfmessenger.load.result import Histogram


def test_the_warm_up_is_shown_and_then_forgotten() -> None:
    meter = Meter(0.02)
    meter.counts["connected"] += 3
    meter.counts["sent"] += 5
    meter.error("RATE_LIMITED")
    count_in(meter.warm_ack, 0.001)
    count_in(meter.warm_delivery, 0.001)
    second, _ = meter.second(0)
    assert (second.sent, second.acked, second.delivered, second.errors) == (5, 1, 1, 1)
    meter.record("connect", 0.01)
    meter.begin()
    assert dict(meter.counts) == {"connected": 3}
    share = meter.share(0)
    assert share.series == []
    assert set(share.histograms) == {"connect"}


def test_seconds_add_up_to_the_whole() -> None:
    meter = Meter(0.02)
    meter.begin()
    for t in range(3):
        meter.counts["sent"] += 2
        for us in (500, 1000, 2000):
            count_in(meter.ack, us / 1e6)
            count_in(meter.delivery, us / 1e6)
        meter.foreign[0] = 4
        meter.strain.late(0.001 * t)
        second, acks = meter.second(t)
        assert (second.t, second.sent, second.acked, second.delivered) == (t, 2, 3, 7)
        assert second.p50_us == 1000 and second.p99_us == 2000
        assert acks is not None and Histogram.decode(acks).count == 3
        assert second.lag_us == 1000 * t
    share = meter.share(7)
    assert share.worker == 7
    assert share.counts == {"sent": 6, "acked": 9, "delivered": 21}
    assert len(share.series) == 3 and sorted(share.acks) == [0, 1, 2]
    assert Histogram.decode(share.histograms["delivery"]).count == 9


def test_a_rest_in_which_nothing_happened_is_no_second() -> None:
    meter = Meter(0.02)
    meter.begin()
    meter.second(0, last=True)
    assert meter.series == []
    meter.counts["sent"] += 1
    meter.second(0, last=True)
    assert len(meter.series) == 1


def test_what_others_sent_counts_from_before_our_own_beginning() -> None:
    meter = Meter(0.02)
    count_in(meter.foreign, 0.0)
    meter.second(0)
    meter.begin()
    assert meter.second(0)[0].delivered == 1
