"""When messages are due: the rate must be what was asked for."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfmessenger.load.arrivals import constant, poisson, zipf


def test_a_constant_rate_begins_at_once_and_is_even() -> None:
    assert list(itertools.islice(constant(4.0), 5)) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_workers_with_their_phases_make_one_even_beat() -> None:
    whole = list(itertools.islice(constant(12.0), 30))
    parts = [itertools.islice(constant(4.0, n / 3), 10) for n in range(3)]
    assert sorted(itertools.chain(*parts)) == pytest.approx(whole)


@given(rate=st.floats(10, 10_000), seed=st.integers())
def test_poisson_arrivals_come_in_order_at_the_rate(rate: float, seed: int) -> None:
    times = list(itertools.islice(poisson(rate, random.Random(seed)), 4000))
    assert times == sorted(times)
    # The mean of 4,000 gaps is within 6 of its standard deviations.
    assert times[-1] * rate / 4000 == pytest.approx(1.0, abs=6 / 4000**0.5)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    one, other = (
        poisson(100.0, random.Random("7-0")),
        poisson(100.0, random.Random("7-0")),
    )
    assert list(itertools.islice(one, 50)) == list(itertools.islice(other, 50))


@given(
    total=st.integers(1, 5000),
    parts=st.integers(1, 300),
    exponent=st.floats(0, 5),
)
def test_zipf_hands_out_everything_largest_first_and_nobody_goes_empty(
    total: int, parts: int, exponent: float
) -> None:
    if parts > total:
        with pytest.raises(ValueError, match="cannot be split"):
            zipf(total, parts, exponent)
        return
    sizes = zipf(total, parts, exponent)
    assert sum(sizes) == total
    assert len(sizes) == parts
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1


def test_zipf_follows_the_law_and_exponent_zero_is_even() -> None:
    sizes = zipf(10_000, 10, 1.0)
    assert sizes[0] / sizes[1] == pytest.approx(2.0, rel=0.01)
    assert sizes[0] / sizes[4] == pytest.approx(5.0, rel=0.01)
    assert zipf(12, 5, 0.0) == [3, 3, 2, 2, 2]
