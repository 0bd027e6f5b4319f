"""What the pages read of a finished result: only the rows shown, each table once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from sts_core.errors import UserError
from sts_core.stats.ranking import concentration
from sts_core.store.features import domain_means, top_features


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
    features = top_features(Path(folder), limit=limit)
    means = domain_means(Path(folder), [int(f) for f in features["feature"]])
    by_feature = means.T.reindex(features["feature"])
    features["by_domain"] = [row.tolist() for row in by_feature.to_numpy(dtype=float)]
    strongest = np.nan_to_num(by_feature.to_numpy(dtype=float)).argmax(axis=1)
    silent = ~(by_feature.fillna(0).to_numpy() > 0).any(axis=1)
    features["most_active_in"] = ["" if s else str(means.index[i]) for i, s in zip(strongest, silent, strict=True)]
    return features


@st.cache_data(max_entries=16, show_spinner=False)
def held_by_top(folder: str, key: str, n: int) -> tuple[float, int]:
    """The share of the whole shift that the top n features hold, and how many features there are."""
    shift = _table(Path(folder) / "shift.parquet", columns=["shift_icl"])["shift_icl"].to_numpy()
    if not np.isfinite(shift).all() or shift.sum() <= 0:
        return float("nan"), len(shift)
    return float(concentration(shift)[min(n, len(shift)) - 1]), len(shift)


def _table(path: Path, **what: Any) -> pa.Table:
    try:
        return pq.read_table(path, **what)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"The result's file {path.name} cannot be read", "Measure it again, or look at another."
        ) from error
