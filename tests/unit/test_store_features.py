"""Questions to a result's tables, held against pandas on all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sts_core.errors import UserError
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, write_result
from sts_core.results.sums import SetSums
from sts_core.store.features import domain_means, ranked_features, top_features

FEATURES = 500
DOMAINS = ("physics", "law", "it's", "biology")


@pytest.fixture(params=["plain", "o'dd [x]* ?"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A result with many equal values, in a folder with a plain and with an odd name."""
    rng = np.random.default_rng(7)

    def sums(quantities: tuple[str, ...]) -> SetSums:
        values = {name: rng.integers(-20, 20, (20, FEATURES)).astype(float) for name in quantities}
        return SetSums(values, tokens=np.full(20, 3.0), items=np.ones(20))

    sets = {name: sums(DOMAIN_SUMS) for name in DOMAINS} | {TARGET: sums(TARGET_SUMS), RAW: sums(TARGET_SUMS)}
    spec = {"domains": [{"name": name} for name in DOMAINS]}
    return write_result(tmp_path / request.param, {"key": "k", "seed": 0, "spec": spec}, sets).folder


@pytest.mark.parametrize("order", ["shift_icl", "signed_icl", "rate_base", "feature"])
@pytest.mark.parametrize("descending", [True, False])
def test_the_top_is_that_of_all_rows_sorted_lower_feature_first(folder: Path, order: str, descending: bool) -> None:
    every = pd.read_parquet(folder / "shift.parquet")
    expected = every.sort_values([order, "feature"], ascending=[not descending, True]).head(60).reset_index(drop=True)
    pd.testing.assert_frame_equal(top_features(folder, order, limit=60, descending=descending), expected)


@pytest.mark.parametrize("descending", [True, False])
def test_what_was_not_measured_comes_last(folder: Path, descending: bool) -> None:
    every = pd.read_parquet(folder / "shift.parquet")
    every.loc[every["feature"] % 2 == 0, "shift_icl"] = np.nan
    every.to_parquet(folder / "shift.parquet")
    found = top_features(folder, limit=FEATURES, descending=descending)
    assert len(found) == FEATURES
    assert found["shift_icl"].isna().tolist() == [False] * (FEATURES // 2) + [True] * (FEATURES // 2)


def test_more_rows_than_there_are_is_all_of_them(folder: Path) -> None:
    assert len(top_features(folder, limit=10_000)) == FEATURES


def test_the_means_of_chosen_features_keep_both_orders(folder: Path) -> None:
    chosen = [41, 3, 499, 0, 3]
    every = pd.read_parquet(folder / "domains.parquet").pivot(index="domain", columns="feature", values="mean_act")
    found = domain_means(folder, chosen)
    assert list(found.index) == list(DOMAINS)
    assert list(found.columns) == [41, 3, 499, 0]
    np.testing.assert_array_equal(found.to_numpy(), every.loc[list(DOMAINS), [41, 3, 499, 0]].to_numpy())


@pytest.mark.parametrize("order", ["shift", "up", "down", "gain"])
@pytest.mark.parametrize("least", [-99.0, 1.5])
def test_a_ranking_is_that_of_all_rows_filtered_and_sorted(folder: Path, order: str, least: float) -> None:
    every = pd.read_parquet(folder / "shift.parquet").assign(gain=lambda t: t["rate_icl"] - t["rate_base"])
    ranks = every.sort_values(["shift_icl", "feature"], ascending=[False, True])["feature"].tolist()
    kept = every[every[["rate_base", "rate_icl"]].max(axis=1) >= least]
    column, sign = {
        "shift": ("shift_icl", 0),
        "up": ("signed_icl", 1),
        "down": ("signed_icl", -1),
        "gain": ("gain", 1),
    }[order]
    kept = kept[kept[column] * sign > 0] if sign else kept
    expected = kept.sort_values([column, "feature"], ascending=[order == "down", True])
    found = ranked_features(folder, order, least, limit=40)
    assert found["feature"].tolist() == expected["feature"].tolist()[:40]
    assert found["rank"].tolist() == [ranks.index(feature) + 1 for feature in found["feature"]]
    assert set(found["matching"]) == {len(kept)}


def test_a_whole_ranking_has_every_feature(folder: Path) -> None:
    assert sorted(ranked_features(folder, least_rate=-99, limit=None)["feature"]) == list(range(FEATURES))
    with pytest.raises(UserError, match="did you mean"):
        ranked_features(folder, "shfit")


def test_no_feature_chosen_is_an_empty_table(folder: Path) -> None:
    assert domain_means(folder, []).shape[1] == 0


@pytest.mark.parametrize("order", ["shift_icll", "1; drop table x", 'feature" --', ""])
def test_a_column_that_is_not_there_is_refused(folder: Path, order: str) -> None:
    with pytest.raises(UserError, match="cannot be ordered") as refused:
        top_features(folder, order)
    assert "shift_icl" in refused.value.hint


def test_wrong_questions_are_refused_in_words(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no feature 500"):
        domain_means(folder, [1, 500])
    with pytest.raises(UserError, match="rows"):
        top_features(folder, limit=0)
    (folder / "shift.parquet").write_bytes(b"PAR1 but not really")
    for place in (folder, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="cannot be read") as refused:
            top_features(place)
        assert refused.value.hint
