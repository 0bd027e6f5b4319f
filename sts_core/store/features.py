"""Questions to one result's tables, answered in SQL, so that only the rows shown are ever read into the program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from sts_core.errors import UserError, nearest

_SETTINGS: dict[str, Any] = {"threads": 2, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
"""A small question needs no more threads, and no answer of ours is fetched from the network."""


def top_features(folder: Path, order: str = "shift_icl", limit: int = 200, descending: bool = True) -> pd.DataFrame:
    """The first rows of shift.parquet by one of its columns: of equal values the lower feature first, NaN last."""
    if limit < 1:
        raise UserError(f"{limit} rows cannot be shown", "Ask for at least one.")
    source = _source(folder / "shift.parquet")
    with _asking(folder) as connection:
        columns = [row[0] for row in connection.execute(f"describe select * from {source}").fetchall()]
        if order not in columns:
            raise UserError(
                f"Features cannot be ordered by {order!r}{nearest(order, columns)}", f"Columns: {', '.join(columns)}."
            )
        name = '"' + order.replace('"', '""') + '"'
        way = "desc" if descending else "asc"
        question = f"select * from {source} order by isnan({name}::double), {name} {way} nulls last, feature limit ?"
        return connection.execute(question, [limit]).df()


def domain_means(folder: Path, features: Sequence[int]) -> pd.DataFrame:
    """Mean activation per token, [domain × feature]: domains in the result's order, features in the order asked for."""
    wanted = list(dict.fromkeys(int(feature) for feature in features))
    source = _source(folder / "domains.parquet", "file_row_number=true")
    chosen = f"select domain, feature, mean_act from {source} where feature in (select unnest(?))"
    with _asking(folder) as connection:
        rows = connection.execute(f"{chosen} order by file_row_number", [wanted]).df()
    unknown = sorted(set(wanted) - set(rows["feature"]))
    if unknown:
        raise UserError(f"The SAE has no feature {unknown[0]}", "Features are numbered from 0.")
    domains = pd.Index(rows["domain"].unique(), name="domain")
    table = rows.pivot(index="domain", columns="feature", values="mean_act")
    return table.reindex(index=domains, columns=pd.Index(wanted, name="feature"))


@contextmanager
def _asking(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own, in memory, for one question."""
    try:
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            yield connection
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The tables in {folder} cannot be read: {reason}", "Measure again with --fresh.") from error


def _source(path: Path, *options: str) -> str:
    """The SQL for a Parquet file. Its name stands for itself, also where it holds what SQL or a file pattern means."""
    plain = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path)).replace("'", "''")
    return "read_parquet(" + ", ".join([f"'{plain}'", *options]) + ")"
