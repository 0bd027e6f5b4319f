"""Tables that go out, as CSV and as Parquet: the names and columns of the result folder, equal bytes for equal tables.

A cell of text that a spreadsheet would run as a formula gets an apostrophe before it, as spreadsheets themselves write
text; numbers stay numbers, and what was not measured is an empty cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sts_core.errors import UserError
from sts_core.results.agreement import Agreement
from sts_core.results.overlap import Comparison
from sts_core.stats.correlation import Correlation

NAMES = ("scores", "domains", "shift", "shift_raw", "examples", "histograms")
"""The tables a finished result may hold, each in a file of its name."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet would take for a formula, or step over to one."""


def result_tables(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """Name and table of each that the folder has, one at a time: the largest have millions of rows."""
    for name in NAMES:
        path = folder / f"{name}.parquet"
        if path.is_file():
            yield name, read(path)


def read(path: Path) -> pa.Table:
    """A Parquet file of ours."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise UserError(f"{path} is gone or damaged", "Measure again with `sts run … --fresh`.") from None


def agreement_tables(found: Agreement) -> dict[str, pa.Table]:
    """`points` (a row a domain on both sides), `correlations` (a row a comparison) and `baselines`."""
    told = found.public()
    rows: list[dict[str, Any]] = [
        {"score": c.score, "outcome": c.outcome, "filter": c.filter, "primary": c.primary, **_numbers(c.correlation)}
        for c in found.comparisons
    ]
    simple = [
        {"baseline": one.name, "foretells": one.foretells, **_numbers(correlation), "seconds": one.seconds,
         "device": one.device}
        for one, correlation in found.baselines
    ]  # fmt: skip
    tables = {"points": _table(told["points"]), "correlations": _table(rows)}
    return tables | ({"baselines": _table(simple)} if simple else {})


def overlap_table(found: Comparison) -> pa.Table:
    """A row a k: the overlap, its interval and its nulls."""
    rows = []
    for one in found.rows:
        low, high = one.interval or (None, None)
        nulls = {name: None if name not in one.nulls else one.nulls[name].mean for name in _NULLS}
        uppers = {f"{name}_upper": None if name not in one.nulls else one.nulls[name].upper for name in _NULLS}
        rows.append(
            {"k": one.k, "overlap": one.value, "shared": one.shared, "low": low, "high": high, **nulls, **uppers,
             "highest_null": one.highest, "claimed": one.claimed}
        )  # fmt: skip
    return _table(rows)


def csv_bytes(table: pa.Table) -> bytes:
    """The table as CSV in UTF-8, its columns in their order."""
    plain = table.replace_schema_metadata(None)
    for place, field in enumerate(plain.schema):
        column = plain.column(place)
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type))
        elif (
            pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_dictionary(field.type)
        ):
            column = _safe(column.cast(pa.string()))
        elif pa.types.is_nested(field.type):
            told = [None if value is None else " ".join(str(part) for part in value) for value in column.to_pylist()]
            column = _safe(pa.chunked_array([pa.array(told, pa.string())]))
        plain = plain.set_column(place, field.name, column)
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(plain, sink)
    return bytes(sink.getvalue().to_pybytes())


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


_RISKY = r"^[\s\p{Z}\p{C}]*[" + "".join(FORMULA).replace("-", r"\-") + r"]|^[\t\r\n]"
_NULLS = ("chance", "activation", "matched", "noise")


def _safe(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text that no spreadsheet runs, also where blanks or unseen signs stand before the formula's own."""
    risky = pc.match_substring_regex(column, _RISKY)
    return pc.if_else(pc.fill_null(risky, False), pc.binary_join_element_wise("'", column, ""), column)


def _numbers(c: Correlation) -> dict[str, Any]:
    low, high = c.ci or (None, None)
    least, most = c.loo_range or (None, None)
    return {
        "n": c.n, "r": c.r, "r2": c.r2, "p_perm": c.p_perm, "p_exact": c.p_exact, "low": low, "high": high,
        "spearman": c.spearman, "p_spearman": c.p_spearman, "loo_min": least, "loo_max": most,
        "most_influential": c.most_influential, "r_without_it": c.r_without_it,
        "spearman_without_it": c.spearman_without_it, "reliability": c.reliability, "ceiling": c.ceiling,
    }  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of plain values; a column without any value is one of numbers that are not known."""
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        numbers = [value for value in values if isinstance(value, float | np.floating)]
        kind = pa.float64() if numbers or all(value is None for value in values) else None
        columns[name] = pa.array(values, kind)
    return pa.table(columns)
