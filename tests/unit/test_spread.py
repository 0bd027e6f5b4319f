"""How a shift is spread, held against the same numbers computed on all rows at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sts_core.errors import UserError
from sts_core.results.folder import DOMAIN_SUMS, NOISE, RAW, TARGET, TARGET_SUMS, Result, write_result
from sts_core.results.spread import held_by, one_feature, read_spread, size_of
from sts_core.results.sums import SetSums

FEATURES, WIDTH, GROUPS = 400, 30, 20


def sums(quantities: tuple[str, ...], features: int, seed: int, scale: float = 1.0) -> SetSums:
    rng = np.random.default_rng(seed)
    level = rng.lognormal(0, 2, features) * (rng.random(features) < 0.8)
    values = {name: scale * level * rng.uniform(0.5, 1.5, (GROUPS, features)) for name in quantities}
    if "diff" in values:
        values["diff"] = values["diff"] * np.where(np.arange(features) % 3, 1, -1)
    return SetSums(values, tokens=np.full(GROUPS, 7.0), items=np.full(GROUPS, 2.0))


def make(folder: Path, noise: bool = True, **changes: SetSums) -> Result:
    sets = {TARGET: sums(TARGET_SUMS, FEATURES, 1), RAW: sums(TARGET_SUMS, WIDTH, 2), "law": sums(DOMAIN_SUMS, 400, 3)}
    if noise:
        sets[NOISE] = sums(TARGET_SUMS, FEATURES, 4, 0.01)
    spec = {"domains": [{"name": "law"}]}
    return write_result(folder, {"key": "k", "seed": 0, "spec": spec}, sets | changes)


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return make(tmp_path / "result")


def test_the_first_n_hold_what_a_plain_sum_says(result: Result) -> None:
    shift = result.shift["shift_icl"].sort_values(ascending=False, kind="stable")
    found = read_spread(result.folder)
    assert found.order[:50].tolist() == shift.index[:50].tolist()
    assert found.held(50) == pytest.approx(shift[:50].astype(float).sum() / shift.astype(float).sum(), rel=1e-9)
    assert found.held(10 * FEATURES) == pytest.approx(1)
    assert (found.moved, found.firing) == (int((shift > 0).sum()), int((shift > 0).sum()))


@pytest.mark.parametrize("n", [1, 10, 100, FEATURES])
def test_raw_dimensions_needed_are_the_fewest_that_hold_as_much(result: Result, n: int) -> None:
    found = read_spread(result.folder)
    needed = found.raw_needed(found.held(n))
    assert needed is not None
    raw = np.sort(result.shift_raw["shift_icl"].to_numpy(float))[::-1]
    share = np.cumsum(raw) / raw.sum()
    assert share[needed - 1] >= found.held(n) - 1e-9
    assert needed == 1 or share[needed - 2] < found.held(n)


def test_directions_are_the_signs_of_the_leading(result: Result) -> None:
    signs = np.sign(result.shift.sort_values("shift_icl", ascending=False)["signed_icl"][:60])
    assert read_spread(result.folder).directions(60) == (int((signs > 0).sum()), int((signs < 0).sum()))


def test_noise_is_a_share_and_an_overlap_beside_chance(result: Result) -> None:
    found, table = read_spread(result.folder), result.shift
    assert found.noise is not None
    assert found.noise.share == pytest.approx(float(table["shift_noise"].sum() / table["shift_icl"].sum()), rel=1e-5)
    mine, its = (set(table.nlargest(40, name)["feature"]) for name in ("shift_icl", "shift_noise"))
    assert found.shared_with_noise(40) == len(mine & its)
    assert found.shared_by_chance(40) == pytest.approx(40 * 40 / found.firing)


def test_a_feature_that_did_not_move_is_shared_with_nothing(tmp_path: Path) -> None:
    still = sums(TARGET_SUMS, FEATURES, 1, 0.0)
    found = read_spread(make(tmp_path / "r", **{NOISE: still}).folder)
    assert found.shared_with_noise(FEATURES) == 0


def test_noise_that_was_not_measured_is_none_and_never_zero(tmp_path: Path) -> None:
    found = read_spread(make(tmp_path / "r", noise=False).folder)
    assert found.noise is None
    assert found.shared_with_noise(10) is None


def test_a_table_from_before_the_noise_column_is_read(result: Result) -> None:
    table = pd.read_parquet(result.folder / "shift.parquet").drop(columns="shift_noise")
    table.to_parquet(result.folder / "shift.parquet")
    assert read_spread(result.folder).noise is None


def test_no_shift_at_all_holds_nothing(tmp_path: Path) -> None:
    still = {TARGET: sums(TARGET_SUMS, FEATURES, 1, 0.0), RAW: sums(TARGET_SUMS, WIDTH, 1, 0.0)}
    found = read_spread(make(tmp_path / "r", **still).folder)
    assert np.isnan(found.held(10))
    assert found.raw_needed(found.held(10)) is None
    assert (found.moved, found.shared_by_chance(10)) == (0, 0.0)


def test_the_error_of_a_share_is_the_jackknife_over_groups(result: Result) -> None:
    of = result.groups[TARGET].sums["absdiff"]
    chosen = read_spread(result.folder).order[:25]
    total = of.sum(axis=0)
    without = [(total - row)[chosen].sum() / (total - row).sum() for row in of]
    se = np.sqrt((GROUPS - 1) / GROUPS * np.sum((np.array(without) - np.mean(without)) ** 2))
    found = held_by(result.folder, chosen)
    assert found.value == pytest.approx(total[chosen].sum() / total.sum(), rel=1e-9)
    assert found.se == pytest.approx(se, rel=1e-9)


def test_one_feature_is_the_mean_of_its_column(result: Result) -> None:
    (value, se), tokens, items = one_feature(result.folder, "law", "base", 17)
    assert value == pytest.approx(float(result.vectors.set_index("feature")["mean_act"][17]), rel=1e-5)
    assert se is not None
    assert (tokens, items) == size_of(result.folder, "law") == (140, 40)


def test_wrong_questions_are_refused_in_words(result: Result) -> None:
    with pytest.raises(UserError, match="no feature 400"):
        one_feature(result.folder, "law", "base", FEATURES)
    with pytest.raises(UserError, match="damaged"):
        one_feature(result.folder, "physics", "base", 0)
    (result.folder / "shift.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="damaged"):
        read_spread(result.folder)


def test_a_shift_of_no_token_is_refused(result: Result) -> None:
    table = pd.read_parquet(result.folder / "shift.parquet")
    table["shift_icl"] = np.nan
    table.to_parquet(result.folder / "shift.parquet")
    with pytest.raises(UserError, match="no shift"):
        read_spread(result.folder)
