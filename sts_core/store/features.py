"""Questions to one result's tables, answered in SQL, so that only the rows shown are ever read into the program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from sts_core.errors import UserError, nearest

SETTINGS: dict[str, Any] = {"threads": 2, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
"""A small question needs no more threads, and no answer of ours is fetched from the network."""
ORDERS = {
    "shift": ("shift_icl desc", "true"),
    "up": ("signed_icl desc", "signed_icl > 0"),
    "down": ("signed_icl asc", "signed_icl < 0"),
    "gain": ("gain desc", "gain > 0"),
}
"""What features can be ranked by -> the order in SQL, and which features it makes sense for."""


def top_features(folder: Path, order: str = "shift_icl", limit: int = 200, descending: bool = True) -> pd.DataFrame:
    """The first rows of shift.parquet by one of its columns: of equal values the lower feature first, NaN last."""
    if limit < 1:
        raise UserError(f"{limit} rows cannot be shown", "Ask for at least one.")
    source = parquet(folder / "shift.parquet")
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


def ranked_features(
    folder: Path, order: str = "shift", least_rate: float = 0.0, limit: int | None = 300
) -> pd.DataFrame:
    """Features with their `rank` by shift among all, `gain` in firing rate, and `matching`, how many there are of them.

    `order` is one of ORDERS. Kept are features that fire on at least this share of tokens in one of the two arms; in
    the orders of one direction, those that went that way at all. Without a limit it is all of them.
    """
    if order not in ORDERS:
        raise UserError(f"Features cannot be ordered by {order!r}{nearest(order, ORDERS)}", f"Use {', '.join(ORDERS)}.")
    by, kept = ORDERS[order]
    question = f"""
        with ranked as (
            select row_number() over (order by isnan(shift_icl), shift_icl desc, feature) as rank, *,
                rate_icl - rate_base as gain
            from {parquet(folder / "shift.parquet")}
        )
        select *, count(*) over () as matching from ranked
        where greatest(rate_base, rate_icl) >= ? and {kept}
        order by isnan({by.split()[0]}), {by}, feature limit ?
    """
    with _asking(folder) as connection:
        return connection.execute(question, [least_rate, limit]).df()


def domain_means(folder: Path, features: Sequence[int]) -> pd.DataFrame:
    """Mean activation per token, [domain × feature]: domains in the result's order, features in the order asked for."""
    wanted = list(dict.fromkeys(int(feature) for feature in features))
    source = parquet(folder / "domains.parquet", "file_row_number=true")
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
        with duckdb.connect(":memory:", config=SETTINGS) as connection:
            yield connection
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The tables in {folder} cannot be read: {reason}", "Measure again with --fresh.") from error


def parquet(path: Path, *options: str) -> str:
    """The SQL for a Parquet file. Its name stands for itself, also where it holds what SQL or a file pattern means."""
    plain = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path)).replace("'", "''")
    return "read_parquet(" + ", ".join([f"'{plain}'", *options]) + ")"
