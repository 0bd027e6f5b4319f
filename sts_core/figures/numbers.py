"""How a number is written for a person: one way for figures, tables and sentences alike (LOOK "Numbers").

Three significant digits, an error to one, thin separators in large counts, and an em
dash for what was not measured, never a 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

DASH = "—"
"""What stands where nothing was measured."""
THIN = "\u202f"
"""A narrow space that does not break: separates thousands, and a number from its unit."""
MINUS = "−"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def known(value: float | None) -> bool:
    """Whether this is a number at all: not None, not NaN, not infinite."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits: `0.421`, `12.3`, `1 230`, `1.2 × 10⁻⁵`; an em dash when there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return _power_of_ten(value, digits)
    return fixed(value, max(0, digits - 1 - _magnitude(value)))


def fixed(value: float | None, decimals: int) -> str:
    """A given number of decimals, a true minus sign, thin separators."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{abs(value):,.{decimals}f}".replace(",", THIN)
    return f"{MINUS}{text}" if value < 0 and float(f"{value:.{decimals}f}") != 0 else text


def signed(value: float | None, digits: int = 3) -> str:
    """The same with its sign always told."""
    text = number(value, digits)
    return f"+{text}" if value is not None and math.isfinite(value) and value > 0 else text


def column_decimals(values: Iterable[float | None], errors: Iterable[float | None]) -> int:
    """The decimals a column of values with errors shares: those that show one digit of the middle error.

    They are one more where the smallest error would else be written as 0; where no error is known, they show three
    digits of the largest value.
    """
    sizes = sorted(abs(e) for e in errors if e is not None and math.isfinite(e) and e != 0)
    if sizes:
        decimals = max(0, -_magnitude(sizes[len(sizes) // 2]))
        return min(8, decimals + (round(sizes[0], decimals) == 0))
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    return min(8, max(0, 2 - _magnitude(largest))) if largest else 2


def with_error(value: float | None, error: float | None, decimals: int | None = None) -> str:
    """`0.42 ± 0.03`; `0.421 ± —` where no error is known."""
    if value is None or not math.isfinite(value):
        return DASH
    if error is None or not math.isfinite(error):
        return f"{number(value) if decimals is None else fixed(value, decimals)} ± {DASH}"
    places = column_decimals([value], [error]) if decimals is None else decimals
    return f"{fixed(value, places)} ± {fixed(error, places)}"


def count(value: int | float | None) -> str:
    """A whole number with thin separators: `12 345`."""
    return fixed(value, 0)


def questions(n: float | None) -> str:
    """`60 questions`, `1 question`."""
    return f"{count(n)} question{'' if n == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share as percentages: `33 %`, with one decimal below ten, two below one."""
    if share is None or not math.isfinite(share):
        return DASH
    value = 100 * share
    return f"{fixed(value, 0 if abs(value) >= 10 or value == 0 else 1 if abs(value) >= 1 else 2)}{THIN}%"


def duration(seconds: float | None) -> str:
    """`3 min 20 s`, `2 h 5 min`, `under 1 s`."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 1:
        return f"under 1{THIN}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (left if not hours else 0, "s")]
    return " ".join(f"{value}{THIN}{unit}" for value, unit in parts if value) or f"{whole}{THIN}s"


def p_value(p: float | None) -> str:
    """`p = .016`; `p < .001` where it is smaller."""
    if p is None or not math.isfinite(p):
        return f"p = {DASH}"
    if p < 0.001:
        return "p < .001"
    return "p = 1" if p >= 0.9995 else "p = " + f"{p:.3f}".removeprefix("0")


def size(amount: float | None) -> str:
    """Bytes as `340 MB` or `1.2 GB`."""
    if amount is None or not math.isfinite(amount):
        return DASH
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= scale:
            scaled = amount / scale
            return f"{fixed(scaled, 1 if scaled < 10 else 0)}{THIN}{unit}"
    return f"{count(amount)}{THIN}bytes"


def day(moment: str | float | None, clock: bool = False) -> str:
    """`20 Nov 2025` from an ISO time or seconds since 1970, with `clock` also `14:03 UTC`."""
    when = _moment(moment)
    if when is None:
        return DASH
    date = f"{when.day} {_MONTHS[when.month - 1]} {when.year}"
    return f"{date}, {when:%H:%M} UTC" if clock else date


def _moment(moment: str | float | None) -> datetime | None:
    try:
        if isinstance(moment, str):
            when = datetime.fromisoformat(moment)
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        return None if moment is None else datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _power_of_ten(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', MINUS)} × 10{raised}"
