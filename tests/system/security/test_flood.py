"""The pure parts of the flood; the rest is the experiment."""

import math

from tests.system.security.flood import SPARE_FILES, Row, affordable, quantile, table


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile(values, 1) == 100
    assert quantile([7.0], 0.01) == 7
    assert math.isnan(quantile([], 0.5))


def test_no_more_are_opened_than_there_are_files_for() -> None:
    assert affordable(10_000, 20_000) == 10_000
    assert affordable(10_000, 1_024) == 1_024 - SPARE_FILES
    assert affordable(10_000, 100) == 0


def test_the_table_is_aligned() -> None:
    rows = [
        Row("before", 0, 0, 95.4, 3.2, 1.25, 12.04),
        Row("requests", 10_000, 12, 301, 88.8, 2, 30, "of 10,000"),
    ]
    assert table(rows) == (
        "          opened  left  RSS MiB  CPU %  p50 ms  p99 ms\n"
        "before         0     0       95      3     1.2    12.0\n"
        "requests  10,000    12      301     89     2.0    30.0  of 10,000"
    )
