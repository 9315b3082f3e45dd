"""Quantities read as a person would write them, with one unit that suits."""

import pytest

from cfmessenger.load.quantity import (
    Kind,
    clock,
    counted,
    digits,
    duration,
    moment,
    show,
)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 µs"),
        (1, "1.00 µs"),
        (850, "850 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (12_345, "12.3 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (59_960_000, "60.0 s"),
        (600_000_000, "10.0 min"),
        (None, "–"),
    ],
)
def test_a_duration_has_three_digits_and_its_unit(us: float | None, text: str) -> None:
    assert duration(us) == text


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1234567, "count", "1,234,567"),
        (0, "count", "0"),
        (1234.5, "rate", "1,234 /s"),
        (0.0314, "share", "3.14 %"),
        (512, "bytes", "512 B"),
        (220 * 2**20, "bytes", "220 MiB"),
        (1.5 * 2**30, "bytes", "1.50 GiB"),
        (52.04, "number", "52.0"),
        (None, "count", "–"),
    ],
)
def test_each_kind_shows_its_unit(value: float | None, kind: Kind, text: str) -> None:
    assert show(value, kind) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "4.0e-04"),
        (0.5, "0.500"),
        (0.9996, "1.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-2.5, "-2.50"),
        (1e6, "1,000,000"),
    ],
)
def test_three_digits_carry_over_at_their_limits(value: float, text: str) -> None:
    assert digits(value) == text


def test_a_span_reads_as_on_a_watch() -> None:
    assert clock(7.2) == "0:07"
    assert clock(750) == "12:30"
    assert clock(3723) == "1:02:03"
    assert clock(-1) == "0:00"


@pytest.mark.parametrize(
    ("iso", "text"),
    [
        ("2026-03-01T13:00:05.25+01:00", "2026-03-01 12:00:05 UTC"),
        ("2026-03-01T12:00:05Z", "2026-03-01 12:00:05 UTC"),
        ("2026-03-01T12:00:05", "2026-03-01 12:00:05 UTC"),
        ("yesterday", "yesterday"),
        ("0001-01-01T00:00:00+02:00", "0001-01-01T00:00:00+02:00"),
        ("", ""),
    ],
)
def test_a_moment_is_in_utc_to_the_second(iso: str, text: str) -> None:
    assert moment(iso) == text


def test_one_thing_is_not_many() -> None:
    assert [counted(n, "room") for n in (0, 1, 2000)] == [
        "0 rooms",
        "1 room",
        "2,000 rooms",
    ]
