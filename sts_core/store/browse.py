"""Browsing a result's features: all of them in a small table of their own, asked in SQL for the few that are shown.

The table is made once a result (a row a feature: its shift, where it is strongest, how often it fires) and lives in
memory; labels change while one looks, so they are joined anew for every question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sts_core.errors import UserError, nearest
from sts_core.store.features import SETTINGS

ORDERS = {
    "shift": ("shift_icl desc", "true"),
    "up": ("signed_icl desc", "signed_icl > 0"),
    "down": ("signed_icl asc", "signed_icl < 0"),
    "gain": ("gain desc", "gain > 0"),
    "density": ("density desc", "true"),
    "rare": ("density asc", "density > 0"),
    "active": ("activity desc", "activity > 0"),
}
"""What features can be ranked by -> the order in SQL, and which features it makes sense for."""
LABELS = {
    "feature": "int64", "label": "string", "explanation": "string", "judge": "string", "detection": "float64",
    "human": "boolean", "note": "string", "starred": "boolean",
}  # fmt: skip
"""What is known of a feature by name; absent columns are empty."""
SILENT = "silent in every domain"
"""What stands for the strongest domain of a feature that fires in none."""
Polygon = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Question:
    """Which features, in which order."""

    order: str = "shift"
    """One of ORDERS."""
    domain: str = ""
    """Only those that are strongest in this domain."""
    label: str = ""
    """Only those with this label."""
    starred: bool = False
    least: float = 0.0
    """Only those that fire on at least this share of all tokens looked at."""
    text: str = ""
    """Only those of this number, or with these words in label, explanation or note."""
    among: tuple[int, ...] = ()
    """Features that answer the text as well, such as those with it in their examples."""
    drawn: Polygon = ()
    """Only those inside this line around points (log₁₀ density, log₁₀ shift)."""
    limit: int = 300


class Found(NamedTuple):
    """The answer."""

    rows: pd.DataFrame
    """The first of them: `feature, rank, shift_icl, …, density, strongest, by_domain, label, …`."""
    matching: int
    """How many there are."""
    cells: pd.DataFrame
    """All of them, counted on a grid: `x, y` (log₁₀ density, log₁₀ shift), `many`, but for those with a zero."""


class Place(NamedTuple):
    """A feature in a ranking; nothing where it is not part of it."""

    place: int | None
    of: int | None
    before: int | None
    after: int | None


class _Known(NamedTuple):
    """Labels in the shapes that answer fastest."""

    given: pd.DataFrame | None
    """What they were made of."""
    rows: pd.DataFrame
    """A row a feature that has any, found by its number."""
    arrow: pa.Table
    names: list[str]
    """The labels there are, the most frequent first."""


@dataclass(frozen=True)
class Features:
    """All features of one result. Made by `read_features`; any thread may ask."""

    connection: duckdb.DuckDBPyConnection
    table: pd.DataFrame
    """What the database holds, by a feature's number: a few rows are fetched here, in a tenth of the time."""
    domains: list[str]
    means: np.ndarray
    """[features, domains]: mean activation a token."""
    count: int
    tokens: int
    """Tokens looked at in all sets: the denominator of every density."""
    _last: list[_Known] = field(default_factory=list, repr=False)
    """The labels that were asked with last."""

    def share_in(self, domain: str) -> float | None:
        """The share of all features that fire in a domain, that are strongest in this one."""
        asked = "select avg((strongest = ?)::int) from features where activity > 0"
        with self.connection.cursor() as cursor:
            found = cursor.execute(asked, [domain]).fetchall()[0][0]
        return None if found is None else float(found)

    def names(self, labels: pd.DataFrame | None) -> list[str]:
        """The labels there are, the most frequent first."""
        return self._known(labels).names

    def ask(self, question: Question, labels: pd.DataFrame | None = None) -> Found:
        """The features that answer a question, of equal ones the lower number first; NaN last."""
        with self._chosen(question, labels) as (cursor, order):
            cells = cursor.execute(_GRID).df()
            if question.drawn:
                _keep_inside(cursor, question.drawn)
            asked = f"select feature from chosen order by {order} limit ?"
            first = cursor.execute(asked, [question.limit]).fetchnumpy()
            matching = cursor.execute("select count(*) from chosen").fetchall()[0][0]
        rows = self.table.loc[first["feature"]].join(self._known(labels).rows).reset_index()
        rows["by_domain"] = [row.tolist() for row in self.means[rows["feature"]]]
        return Found(rows, int(matching), cells)

    def place(self, question: Question, feature: int, labels: pd.DataFrame | None = None) -> Place:
        """Where a feature stands in the ranking that a question asks for, and which come before and after it."""
        with self._chosen(question, labels) as (cursor, order):
            if question.drawn:
                _keep_inside(cursor, question.drawn)
            row = cursor.execute(
                f"""select place, of, before, after from (
                    select feature, row_number() over way as place, count(*) over () as of,
                        lag(feature) over way as before, lead(feature) over way as after
                    from chosen window way as (order by {order})
                ) where feature = ?""",
                [feature],
            ).fetchone()
        return Place(*row) if row else Place(None, None, None, None)

    @contextmanager
    def _chosen(
        self, question: Question, labels: pd.DataFrame | None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """A table `chosen` of the features a question keeps, for a moment, and the order it asks for.

        It holds what they are counted and ordered by, and no more: copied whole, they would take most of the time.
        """
        if question.order not in ORDERS:
            close = nearest(question.order, ORDERS)
            raise UserError(f"Features cannot be ordered by {question.order!r}{close}", f"Use {', '.join(ORDERS)}.")
        by, kept = ORDERS[question.order]
        column, _, way = by.partition(" ")
        where, values = _conditions(question)
        with self.connection.cursor() as cursor:
            cursor.register("given", self._known(labels).arrow)
            cursor.execute(
                f"""create temp table chosen as select feature, density, shift_icl, {column} as ordered
                from features left join given using (feature) where {" and ".join([kept, *where])}""",
                values,
            )
            yield cursor, f"isnan(ordered), ordered {way}, feature"

    def _known(self, labels: pd.DataFrame | None) -> _Known:
        """Made once of each table of labels, which nobody changes."""
        for known in self._last:
            if known.given is labels:
                return known
        rows = _labels(labels)
        names = [str(name) for name in rows["label"].dropna().value_counts().index]
        known = _Known(labels, rows.set_index("feature"), pa.Table.from_pandas(rows, preserve_index=False), names)
        self._last[:] = [known]
        return known


_GRID = """
    select round(log10(density) / 0.08) * 0.08 as x, round(log10(shift_icl) / 0.08) * 0.08 as y, count(*)::int as many
    from chosen where density > 0 and shift_icl > 0 group by all order by all
"""


def read_features(folder: Path, tokens: Mapping[str, int], target: str = "target") -> Features:
    """Read a result's tables; `tokens` is how many tokens each set has, the target set among them."""
    try:
        shift = pq.read_table(folder / "shift.parquet").to_pandas()
        domains, means, rates = _by_domain(folder / "domains.parquet", int(shift["feature"].max()) + 1)
    except (OSError, pa.ArrowException, KeyError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The tables in {folder} cannot be read: {reason}", "Measure again with --fresh.") from error
    active = np.nan_to_num(means[shift["feature"]])
    activity = active.max(axis=1, initial=0.0)
    names = np.array([*domains, SILENT], dtype=object)
    # Counts of tokens are whole, so they are made so again: equal densities are then equal to the last bit.
    sizes = np.array([tokens.get(name, 0) for name in domains], dtype=float)
    fired = np.rint(np.nan_to_num(rates[shift["feature"]]) * sizes).sum(axis=1)
    fired += np.rint(np.nan_to_num(shift["rate_base"]) * tokens.get(target, 0))
    shift = shift.assign(
        gain=shift["rate_icl"] - shift["rate_base"],
        strongest=names[np.where(activity > 0, active.argmax(axis=1) if len(domains) else 0, len(domains))],
        activity=activity,
        density=fired / max(1, sum(tokens.values())),
    )
    connection = duckdb.connect(":memory:", config=SETTINGS)
    connection.register("shift", shift)
    order = "isnan(shift_icl), shift_icl desc, feature"
    connection.execute(f"create table features as select row_number() over (order by {order}) as rank, * from shift")
    connection.unregister("shift")
    table = connection.execute("select * from features").df().set_index("feature")
    return Features(connection, table, domains, means, len(shift), sum(tokens.values()))


def _by_domain(path: Path, features: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The domains in the result's order; mean activation and firing rate, [features, domains], NaN where not told."""
    table = pq.read_table(path, columns=["domain", "feature", "mean_act", "rate"])
    coded = table["domain"].combine_chunks().dictionary_encode()
    domains = [str(name) for name in coded.dictionary.to_pylist()]
    where = table["feature"].to_numpy(), coded.indices.to_numpy()
    found = [np.full((features, len(domains)), np.nan, np.float32) for _ in range(2)]
    for values, name in zip(found, ("mean_act", "rate"), strict=True):
        values[where] = table[name].to_numpy()
    return domains, found[0], found[1]


def _conditions(question: Question) -> tuple[list[str], list[Any]]:
    """The filters as SQL, and what stands for their question marks."""
    where: list[str] = ["density >= ?"]
    values: list[Any] = [question.least]
    for column, wanted in (("strongest", question.domain), ("label", question.label)):
        if wanted:
            where.append(f"{column} = ?")
            values.append(wanted)
    if question.starred:
        where.append("coalesce(starred, false)")
    words = question.text.casefold().split()
    if words:
        named = "lower(concat_ws(' ', label, explanation, note))"
        either = " and ".join(f"contains({named}, ?)" for _ in words)
        number = re.sub(r"[\s,]", "", question.text).removeprefix("#")  # as the page writes it, in groups of three
        ids = list(question.among) + (
            [int(number)] if number.isascii() and number.isdigit() and len(number) < 10 else []
        )
        where.append(f"(({either}) or feature in (select unnest(?::int[])))")
        values += [*words, ids]
    return where, values


def _labels(labels: pd.DataFrame | None) -> pd.DataFrame:
    """A row a feature with the columns of LABELS, whatever was given."""
    given = pd.DataFrame({"feature": []}) if labels is None else labels.drop_duplicates("feature")
    return pd.DataFrame({name: given.get(name) for name in LABELS}).astype(LABELS)


def _keep_inside(cursor: duckdb.DuckDBPyConnection, drawn: Polygon) -> None:
    """Drop from `chosen` what does not lie inside the line."""
    points = cursor.execute(
        """select feature, log10(density) as x, log10(shift_icl) as y from chosen where density > 0 and shift_icl > 0"""
    ).fetchnumpy()
    inside = points["feature"][within(points["x"], points["y"], drawn)]
    cursor.register("inside", pd.DataFrame({"feature": inside}))
    cursor.execute("delete from chosen where feature not in (select feature from inside)")


def within(x: np.ndarray, y: np.ndarray, polygon: Polygon) -> np.ndarray:
    """Which points lie inside a closed line: a ray from such a point crosses it an odd number of times."""
    found = np.zeros(len(x), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        if y0 == y1:
            continue
        crosses = ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        found ^= crosses
    return found
