"""Numbers are written in one way, and what is not a number is never written as one."""

from __future__ import annotations

import math

import pytest

from sts_core.figures.numbers import (
    column_decimals,
    count,
    day,
    duration,
    number,
    p_value,
    percent,
    signed,
    size,
    with_error,
)

NONE = [None, math.nan, math.inf]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42134, "0.421"),
        (12.345, "12.3"),
        (1234.5, "1\u202f234"),
        (0, "0"),
        (-0.5, "−0.500"),
        (1.234e-7, "1.23 × 10⁻⁷"),
        (-5.6e9, "−5.60 × 10⁹"),
        (0.0009994, "0.000999"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_number_is_a_dash_everywhere(value: float | None) -> None:
    written = [f(value) for f in (number, signed, count, percent, duration, size)]
    assert written == ["—"] * 6
    assert p_value(value) == "p = —"
    assert with_error(value, 0.1) == "—"


def test_an_error_shows_one_digit_and_the_value_follows_it() -> None:
    assert with_error(0.4213, 0.0312) == "0.42 ± 0.03"
    assert with_error(12.34, 3.2) == "12 ± 3"
    assert with_error(0.4213, None) == "0.421 ± —"
    assert with_error(0.4213, math.nan) == "0.421 ± —"


def test_a_column_shares_its_decimals() -> None:
    assert column_decimals([0.1, 0.2, 0.3], [0.003, 0.0021, 0.0008]) == 3
    assert column_decimals([0.1, 0.2, 0.3], [0.003, 0.0021, 0.0004]) == 4
    assert column_decimals([0.1, 0.2, 0.3], [0.003, 0.0021, 0.0000008]) == 4
    assert column_decimals([4.3, 1.2], [None, math.nan]) == 2
    assert column_decimals([0.0123], [None]) == 4
    assert column_decimals([], []) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (200, "3\u202fmin 20\u202fs"),
        (0.2, "under 1\u202fs"),
        (59.7, "1\u202fmin"),
        (7500, "2\u202fh 5\u202fmin"),
        (3600, "1\u202fh"),
        (12, "12\u202fs"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_p_percent_size_and_signs() -> None:
    assert [p_value(p) for p in (0.016, 0.0004, 0.99999)] == ["p = .016", "p < .001", "p = 1"]
    assert [percent(p) for p in (0.33, 0.0123, 0.00123, 0)] == [
        "33\u202f%",
        "1.2\u202f%",
        "0.12\u202f%",
        "0\u202f%",
    ]
    assert [size(b) for b in (340e6, 1.24e9, 12)] == ["340\u202fMB", "1.2\u202fGB", "12\u202fbytes"]
    assert signed(0.5) == "+0.500"
    assert count(12345) == "12\u202f345"


def test_a_date_is_told_in_utc() -> None:
    assert day("2025-11-20T01:03:00+02:00", clock=True) == "19 Nov 2025, 23:03 UTC"
    assert day(0) == "1 Jan 1970"
    assert day("no date") == "—"
