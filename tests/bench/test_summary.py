"""Statistics of repetitions: what a reader would be misled by if it were wrong."""

import math

import pytest

from tests.bench.summary import (
    Entrant,
    Failure,
    Result,
    Sample,
    Spread,
    merged,
    quantile,
    ratios,
    spread,
    values,
)


def sample(contestant: str, repetition: int, value: float, row: str = "r") -> Sample:
    return Sample(row, contestant, repetition, {"f": value})


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)]
)
def test_a_quantile_is_the_smallest_value_that_covers_its_share(
    share: float, expected: float
) -> None:
    assert quantile([float(n) for n in range(1, 101)], share) == expected


def test_a_quantile_of_few_values_is_one_of_them_and_of_none_is_no_number() -> None:
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([1.0, 9.0], 0.99) == 9.0
    assert math.isnan(quantile([], 0.5))


def test_a_spread_names_median_and_both_ends() -> None:
    assert spread([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0)
    assert spread([]) is None


def test_a_figure_is_found_by_row_contestant_and_repetition() -> None:
    samples = [sample("a", 1, 5.0), sample("a", 2, 6.0), sample("b", 1, 7.0)]
    assert values([*samples, sample("a", 1, 9.0, "other")], "r", "a", "f") == {
        1: 5.0,
        2: 6.0,
    }
    assert values(samples, "r", "a", "unknown") == {}


def test_a_ratio_is_taken_within_a_repetition_before_the_median_is() -> None:
    # The machine was ten times slower in the second: the ratio does not know of it.
    samples = [sample("a", 1, 1.0), sample("b", 1, 2.0)]
    samples += [sample("a", 2, 10.0), sample("b", 2, 20.0)]
    samples += [sample("a", 3, 3.0), sample("b", 3, 4.0)]
    assert ratios(samples, "r", "f", "a", "b") == Spread(0.5, 0.5, 0.75)


def test_a_repetition_that_one_of_them_missed_has_no_ratio() -> None:
    samples = [sample("a", 1, 1.0), sample("b", 2, 2.0), sample("a", 3, 6.0)]
    assert ratios(samples, "r", "f", "a", "b") is None
    assert ratios([*samples, sample("b", 3, 3.0)], "r", "f", "a", "b") == Spread(
        2.0, 2.0, 2.0
    )


def test_nothing_is_divided_by_a_figure_of_zero() -> None:
    assert (
        ratios([sample("a", 1, 1.0), sample("b", 1, 0.0)], "r", "f", "a", "b") is None
    )


def run(*samples: Sample, repetitions: int = 1, key: str = "a") -> Result:
    plan = {each.row: {"n": float(repetitions)} for each in samples}
    failures = [Failure("r", "z", 1, "why")]
    entrants = [Entrant(key, key, "")]
    return Result(key, {}, {}, plan, repetitions, entrants, [*samples], failures)


def test_runs_are_joined_so_that_no_ratio_is_taken_across_them() -> None:
    first = run(sample("a", 1, 1.0), sample("a", 2, 2.0), repetitions=2)
    other = run(sample("a", 1, 9.0, "other"))
    last = run(sample("b", 1, 3.0), key="b")
    joined = merged([first, other, last])
    assert values(joined.samples, "r", "a", "f") == {1: 1.0, 2: 2.0}
    assert values(joined.samples, "r", "b", "f") == {3: 3.0}
    assert values(joined.samples, "other", "a", "f") == {1: 9.0}
    assert ratios(joined.samples, "r", "f", "a", "b") is None
    assert joined.repetitions == 3 and joined.started_at == "a, b"
    assert [each.key for each in joined.entrants] == ["a", "b"]
    assert [each.repetition for each in joined.failures] == [1, 3, 3]
    with pytest.raises(ValueError, match="expected a result"):
        merged([])
