"""What the pages read of a finished result: only the rows shown, each table once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from pages.parts.selection import open_stored
from sts_core.errors import UserError
from sts_core.results.folder import TARGET
from sts_core.results.spread import Spread, held_by, one_feature, read_spread, size_of
from sts_core.stats.jackknife import Estimate
from sts_core.stats.ranking import concentration
from sts_core.store.features import domain_means, ranked_features, top_features


@st.cache_data(max_entries=64, show_spinner=False)
def standard_scores(folder: str, key: str) -> pd.DataFrame:
    """The scores that lie ready in the result, for power 1: `domain, metric, n, value, se, tokens, items`."""
    return _table(Path(folder) / "scores.parquet", filters=[("power", "==", 1)]).to_pandas()


def scores(folder: str, key: str, metric: str, n: int) -> pd.DataFrame:
    """One metric over the top n, a row a domain."""
    table = standard_scores(folder, key)
    return table[(table["metric"] == metric) & (table["n"] == n)].reset_index(drop=True)


def sizes(folder: str, key: str) -> list[int]:
    """The N there are scores for, ascending."""
    return sorted(int(n) for n in standard_scores(folder, key)["n"].unique())


@st.cache_data(max_entries=16, show_spinner=False)
def most_shifted(folder: str, key: str, limit: int) -> pd.DataFrame:
    """The most shifted features with the domain each is most active in; the first is shifted most."""
    return _with_domains(Path(folder), top_features(Path(folder), limit=limit))


@st.cache_data(max_entries=16, show_spinner=False)
def held_by_top(folder: str, key: str, n: int) -> tuple[float, int]:
    """The share of the whole shift that the top n features hold, and how many features there are."""
    shift = _table(Path(folder) / "shift.parquet", columns=["shift_icl"])["shift_icl"].to_numpy()
    if not np.isfinite(shift).all() or shift.sum() <= 0:
        return float("nan"), len(shift)
    return float(concentration(shift)[min(n, len(shift)) - 1]), len(shift)


@st.cache_resource(max_entries=4, show_spinner=False)
def spread(folder: str, key: str) -> Spread:
    """How the shift is spread over all features."""
    return read_spread(Path(folder))


@st.cache_data(max_entries=32, show_spinner=False)
def held_with_error(folder: str, key: str, n: int) -> Estimate:
    """The share of the shift that the n most shifted features hold, with its error."""
    return held_by(Path(folder), spread(folder, key).order[:n])


@st.cache_data(max_entries=16, show_spinner=False)
def ranked(folder: str, key: str, order: str, least_rate: float, limit: int) -> pd.DataFrame:
    """The first features in an order, with the domain each is most active in."""
    return _with_domains(Path(folder), ranked_features(Path(folder), order, least_rate, limit))


def whole_ranking(folder: Path) -> pd.DataFrame:
    """Every feature, most shifted first, with the share of the shift held up to it. Made anew: it may be large."""
    table = ranked_features(folder, limit=None).drop(columns="matching")
    shift = table["shift_icl"].to_numpy(dtype=float)
    table.insert(3, "held", np.cumsum(shift) / shift.sum() if shift.sum() > 0 else np.nan)
    return table


@st.cache_data(max_entries=64, show_spinner=False)
def one_row(folder: str, key: str, feature: int) -> dict[str, float]:
    """One feature's row of the shift, with its rank."""
    rank = int(np.flatnonzero(spread(folder, key).order == feature)[0]) + 1
    table = _table(Path(folder) / "shift.parquet", filters=[("feature", "==", feature)])
    row = {name: values[0] for name, values in table.to_pydict().items()}
    return {name: float("nan") if value is None else float(value) for name, value in row.items()} | {"rank": rank}


@st.cache_data(max_entries=64, show_spinner=False)
def in_domains(folder: str, key: str, feature: int) -> pd.DataFrame:
    """One feature's mean activation in each domain, with errors: `domain, value, se, tokens, items`."""
    rows = []
    for domain in open_stored(folder, key).domains:
        (value, se), tokens, items = one_feature(Path(folder), domain, "base", feature)
        rows.append({"domain": domain, "value": value, "se": se, "tokens": tokens, "items": items})
    return pd.DataFrame(rows).astype({"se": "float64"})


@st.cache_data(max_entries=64, show_spinner=False)
def on_target(folder: str, key: str, feature: int) -> dict[str, Estimate]:
    """One feature on the target set, with errors: its shift, signed shift, and means without and with."""
    quantities = {"shift": "absdiff", "signed": "diff", "without": "base", "with": "icl"}
    return {name: one_feature(Path(folder), TARGET, q, feature)[0] for name, q in quantities.items()}


@st.cache_data(max_entries=16, show_spinner=False)
def target_size(folder: str, key: str) -> tuple[int, int]:
    """Tokens pooled of the target set, and its questions."""
    return size_of(Path(folder), TARGET)


def _with_domains(folder: Path, features: pd.DataFrame) -> pd.DataFrame:
    """The same rows with each feature's mean activation by domain, and the domain it is most active in."""
    means = domain_means(folder, [int(f) for f in features["feature"]])
    by_feature = means.T.reindex(features["feature"])
    values = by_feature.to_numpy(dtype=float)
    features["by_domain"] = [row.tolist() for row in values]
    strongest = np.nan_to_num(values).argmax(axis=1) if len(features) else []
    silent = ~(np.nan_to_num(values) > 0).any(axis=1)
    features["most_active_in"] = ["" if s else str(means.index[i]) for i, s in zip(strongest, silent, strict=True)]
    return features


def _table(path: Path, **what: Any) -> pa.Table:
    try:
        return pq.read_table(path, **what)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"The result's file {path.name} cannot be read", "Measure it again, or look at another."
        ) from error
