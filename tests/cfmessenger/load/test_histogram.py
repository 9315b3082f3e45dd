"""A latency that is recorded is found again, to three digits, after any journey."""

import math

import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from cfmessenger.load.histogram import HIGHEST_US, Histogram, HistogramData
from tests.effort import tries

latencies = st.lists(st.integers(1, HIGHEST_US), min_size=1, max_size=200)
quantiles = st.floats(0, 1, exclude_min=True)


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def slots(histogram: Histogram) -> list[tuple[int, int, int]]:
    return list(histogram.slots())


@settings(max_examples=tries(25))  # the library's own mean is slow
@given(latencies)
def test_counts_are_where_the_library_would_put_them(values: list[int]) -> None:
    library = HdrHistogram(1, HIGHEST_US, 3)
    for value in values:
        library.record_value(value)
    ours = of(values)
    read = HdrHistogram.decode(ours.encode())
    assert read.get_total_count() == len(values)
    assert list(read.get_recorded_iterator().histogram.counts) == list(library.counts)
    assert ours.max == library.get_max_value()
    assert ours.min == library.get_min_value()
    assert math.isclose(ours.mean, library.get_mean_value(), rel_tol=1e-3)


@given(latencies, quantiles)
def test_a_quantile_is_the_nearest_rank_to_three_digits(
    values: list[int], q: float
) -> None:
    rank = max(1, math.ceil(q * len(values) * (1 - 1e-12)))
    exact = sorted(values)[rank - 1]
    assert exact <= of(values).quantile(q) <= exact * 1.001 + 1


def test_a_rank_is_not_rounded_up_by_the_arithmetic() -> None:
    histogram = of(list(range(1, 101)))
    assert 0.07 * 100 > 7
    assert histogram.quantile(0.07) == 7


@given(latencies)
def test_quantiles_never_fall_and_end_at_the_maximum(values: list[int]) -> None:
    histogram = of(values)
    found = histogram.quantiles(0.5, 0.9, 0.99, 0.999, 1.0)
    assert found == sorted(found)
    assert found[-1] == histogram.max


def test_the_order_of_the_questions_is_the_order_of_the_answers() -> None:
    histogram = of(list(range(1, 1001)))
    assert histogram.quantiles(0.999, 0.5, 1.0, 0.5) == [999, 500, 1000, 500]


@given(latencies, latencies)
def test_merging_is_having_recorded_it_all_in_one(a: list[int], b: list[int]) -> None:
    merged = of(a)
    merged.merge(of(b))
    assert slots(merged) == slots(of(a + b))
    assert (merged.min, merged.max) == (of(a + b).min, of(a + b).max)


@given(latencies)
def test_nothing_is_lost_on_the_wire(values: list[int]) -> None:
    read = Histogram.decode(of(values).encode())
    assert slots(read) == slots(of(values))
    assert (read.min, read.max) == (of(values).min, of(values).max)


def test_what_was_read_can_be_recorded_into_and_merged() -> None:
    read = Histogram.decode(of([5]).encode())
    read.record(HIGHEST_US)
    read.merge(of([1, 1]))
    assert read.count == 4
    assert (read.min, read.quantile(0.75)) == (1, 5)
    assert read.max >= HIGHEST_US


def test_an_empty_histogram_changes_nothing_and_says_nothing() -> None:
    histogram, empty = of([700]), Histogram()
    histogram.merge(empty)
    assert (histogram.min, histogram.max, histogram.count) == (700, 700, 1)
    empty.merge(of([700]))
    assert (empty.min, empty.max, empty.count) == (700, 700, 1)
    nothing = Histogram.decode(Histogram().encode())
    assert (nothing.count, nothing.min, nothing.max, nothing.mean) == (0, 0, 0, 0.0)
    assert nothing.quantiles(0.5, 1.0) == [0, 0]


def test_beyond_the_range_is_counted_at_its_end() -> None:
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(0)
    histogram.record(10 * HIGHEST_US, 3)
    assert histogram.count == 5
    assert histogram.min == 1
    assert HIGHEST_US <= histogram.max <= HIGHEST_US * 1.001


def test_a_count_is_as_many_records() -> None:
    histogram = Histogram()
    histogram.record(40_000, 3)
    assert slots(histogram) == slots(of([40_000] * 3))


def test_its_data_holds_the_figures_and_the_histogram() -> None:
    data = of(list(range(1, 1001))).data()
    assert (data.unit, data.count, data.min, data.max) == ("us", 1000, 1, 1000)
    assert (data.p50, data.p90, data.p95, data.p99) == (500, 900, 950, 990)
    assert data.p999 == 999
    assert data.mean == 500.5
    assert data.histogram().quantile(0.123) == 123
    assert HistogramData().histogram().count == 0


@pytest.mark.parametrize("bad", ["", "x", "AAAA", "é", "HISTFAAAAAl42mNgYGBgZGBg"])
def test_what_is_no_histogram_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not an HDR histogram"):
        Histogram.decode(bad)
