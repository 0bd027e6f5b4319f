"""Outcomes as a table of one's own: `domain, before, after` or `domain, change`; `se`, `n`, `metric` where known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from sts_core.errors import UserError, nearest
from sts_core.results.outcomes.outcome import SHARE, Outcome, domain_name, is_lower_better

SOURCE, METRIC = "csv", "score"
"""What a table without a column `metric` holds: something of which more is better."""
APART = 20
"""A share and a percentage are a hundred times apart, less what a training can change."""
MOST = 1e9
"""Larger numbers are a slip, and no figure could show the others beside them."""
COLUMNS = ("domain", "before", "after", "change", "se", "n", "metric")
_HINT = "Its header is to be domain,before,after or domain,change (and se, n, metric where they are known)."


def outcomes(name: str, text: str) -> list[Outcome]:
    """Every line as an outcome, its numbers as they stand: accuracies best in percentage points."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        places = _places(name, header)
        found: dict[tuple[str, str], Outcome] = {}
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise UserError(
                    f"{where} has {len(cells)} fields, the header {len(header)}", "Quote fields with commas."
                )
            outcome = _outcome({column: cells[place].strip() for column, place in places.items()}, where)
            key = (outcome.domain.casefold(), outcome.metric)
            if key in found:
                raise UserError(f"{where}: {outcome.domain} is there twice", "Keep one of the two lines.")
            found[key] = outcome
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num} is not valid CSV: {error}", "Mend that line.") from None
    if not found:
        raise UserError(f"{name} has no line below its header", _HINT)
    _refuse_two_scales(name, list(found.values()))
    return list(found.values())


def to_text(found: Sequence[Outcome]) -> str:
    """The same as a CSV that `outcomes` reads back; accuracies between 0 and 1 become percentage points."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        points = 100 if one.unit == SHARE else 1
        numbers = [None if v is None else repr(float(v * points)) for v in (one.before, one.after, one.change, one.se)]
        writer.writerow([one.domain, *numbers, one.n, one.metric])
    return text.getvalue()


def _places(name: str, header: list[str]) -> dict[str, int]:
    """Column -> its place."""
    if twice := next((column for column in COLUMNS if header.count(column) > 1), None):
        raise UserError(f"{name} has two columns named {twice!r}", "Keep one of them.")
    lacking = next((column for column in _needed(header) if column not in header), None)
    if lacking is not None and any(";" in cell or "\t" in cell for cell in header):
        raise UserError(f"{name} is not parted by commas", "Save it once more with commas between the fields.")
    if lacking is not None:
        raise UserError(f"{name} has no column {lacking!r}{nearest(lacking, header)}", _HINT)
    return {column: header.index(column) for column in COLUMNS if column in header}


def _needed(header: list[str]) -> tuple[str, ...]:
    if "before" in header or "after" in header:
        return ("domain", "before", "after")
    return ("domain", "change")


def _outcome(cells: dict[str, str], where: str) -> Outcome:
    given = {column: _number(cells[column], f"{where}, {column}") for column in COLUMNS[1:5] if cells.get(column)}
    before, after, change, se = (given.get(column) for column in COLUMNS[1:5])
    if (before is None) != (after is None):
        raise UserError(f"{where} has only one of before and after", "Give both, or neither and a change.")
    if before is not None and after is not None:
        if change is not None and not math.isclose(change, after - before, rel_tol=1e-3, abs_tol=0.011):
            raise UserError(f"{where}: change is {change}, but after − before is {after - before:.4g}", _HINT)
        change = after - before
    if change is None or not math.isfinite(change):
        raise UserError(f"{where} has no number for the change", _HINT)
    if se is not None and se < 0:
        raise UserError(f"{where}: se is {se}", "A standard error is not negative.")
    metric = cells.get("metric") or METRIC
    if len(metric) > 100:
        raise UserError(f"{where}: the metric's name is too long", "Use at most 100 characters.")
    name = domain_name(cells["domain"], where)
    n = _count(cells.get("n"), where)
    return Outcome(name, before, after, change, se, n, metric, SOURCE, "", is_lower_better(metric))


def _refuse_two_scales(name: str, found: Sequence[Outcome]) -> None:
    """Shares on one side and per cent on the other would all seem to crash, or to soar; of domains, to lie apart."""
    sides = [
        (one.domain, one.before, one.after) for one in found
        if not one.lower_is_better and one.before is not None and one.after is not None
    ]  # fmt: skip
    apart = [pair for _, *pair in sides if 0 < min(pair) <= 1 and max(pair) > APART * min(pair)]
    if len(apart) > 1 and 2 * len(apart) >= len(sides):
        before, after = apart[0]
        raise UserError(
            f"{name}: before and after seem to be of two scales: {before:g} and {after:g}",
            "Give shares on both sides or per cent on both; if it is really so, give change instead.",
        )
    shares = [domain for domain, *pair in sides if 0 < max(pair) <= 1]
    others = [domain for domain, *pair in sides if max(pair) > APART / 2]
    # A few domains that are truly low beside high ones are no slip.
    if min(len(shares), len(others)) >= max(2, len(sides) / 3) and len(shares) + len(others) == len(sides):
        raise UserError(
            f"{name}: {shares[0]} seems to be given as a share, {others[0]} in per cent",
            "Give all domains alike; if it is really so, give change instead.",
        )


def _number(text: str, where: str) -> float:
    try:
        number = float(text.replace("−", "-"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {text[:40]!r} is not a number", "Write it like -11.97, with a point.")
    if abs(number) > MOST:
        raise UserError(f"{where}: {number:g} is no score", f"Give numbers of at most {MOST:g} in size.")
    return number


def _count(text: str | None, where: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) < 1:
        raise UserError(f"{where}: n is {text[:40]!r}", "Give the number of rows, or nothing.")
    return int(text)
