"""Scores from stored sums: any N, any band, any list, any power, against plain NumPy over the tokens themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from sts_core.errors import UserError
from sts_core.results import Result, SetSums
from sts_core.results.folder import RAW, TARGET, write_result
from tests import dense

FEATURES, WIDTH = 600, 12
DOMAINS = {"physics": 31, "R&D law": 4}
"""Domain -> its number of items."""


class Made(NamedTuple):
    """A result, and the tokens it was made of: name -> (base, icl, item)."""

    result: Result
    tokens: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def some_tokens(draw: np.random.Generator, items: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    item = np.repeat(np.arange(items), draw.integers(2, 9, items))
    base, icl = np.maximum(draw.normal(size=(2, len(item), features)), 0)
    return base, icl, item


def sums(base: np.ndarray, icl: np.ndarray, item: np.ndarray) -> SetSums:
    items = int(item.max()) + 1
    group = item % min(20, items)
    values = {
        "base": base, "base_sq": base**2, "icl": icl, "absdiff": np.abs(icl - base), "sqdiff": (icl - base) ** 2,
        "diff": icl - base, "active_base": base > 0, "active_icl": icl > 0,
    }  # fmt: skip
    totals = {
        name: np.stack([value[group == g].sum(0, dtype=float) for g in range(20)]) for name, value in values.items()
    }
    dealt = np.arange(items) % min(20, items)
    counts = [np.array([(place == g).sum() for g in range(20)], dtype=float) for place in (group, dealt)]
    return SetSums(totals, *counts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    draw = np.random.default_rng(8)
    tokens = {TARGET: some_tokens(draw, 25, FEATURES)}
    tokens |= {name: some_tokens(draw, items, FEATURES) for name, items in DOMAINS.items()}
    # Features 5 to 8 shift alike, far more than any other, and not at all in the last hundred.
    tokens[TARGET][1][:, 5:9] = tokens[TARGET][0][:, 5:9] + 50
    tokens[TARGET][1][:, -100:] = tokens[TARGET][0][:, -100:]
    sets = {name: sums(*value) for name, value in tokens.items()}
    sets[RAW] = sums(*some_tokens(draw, 25, WIDTH))
    manifest = {"key": "k", "seed": 4, "spec": {"domains": [{"name": name} for name in DOMAINS]}}
    return Made(write_result(tmp_path_factory.mktemp("result"), manifest, sets), tokens)


def ranking(made: Made) -> list[int]:
    base, icl, _ = made.tokens[TARGET]
    # As float32 keeps it, so that what is equal there is taken in order.
    shift = np.abs(icl - base).mean(0).astype(np.float32)
    return sorted(range(FEATURES), key=lambda i: (-shift[i], i))


def assert_scores(made: Made, expected: list[int], power: int, **asked: Any) -> None:
    table = made.result.scores(power=power, **asked)
    assert table.columns.tolist() == ["domain", "metric", "n", "power", "value", "se", "tokens", "items"]
    assert list(zip(table["domain"], table["metric"], strict=True)) == [
        (domain, metric) for metric in ("sts_act", "sts_icl") for domain in DOMAINS
    ]
    assert set(table["n"]) == {len(expected)}
    assert set(table["power"]) == {power}
    for row in table.itertuples():
        base, icl, item = made.tokens[row.domain]
        values = base if row.metric == "sts_act" else np.abs(icl - base)
        value, se = dense.score((values[:, expected] ** power).mean(1), item, DOMAINS[row.domain])
        assert row.value == pytest.approx(value, rel=1e-6)
        assert np.isnan(row.se) if se is None else row.se == pytest.approx(se, rel=1e-4)
        assert (row.tokens, row.items) == (len(item), DOMAINS[row.domain])


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n", [1, 3, 100, 317, FEATURES])
def test_any_n(made: Made, n: int, power: int) -> None:
    assert_scores(made, ranking(made)[:n], power, n=n)


def test_equal_shifts_give_the_lower_index(made: Made) -> None:
    assert ranking(made)[:4] == [5, 6, 7, 8]
    assert ranking(made)[-100:] == list(range(FEATURES - 100, FEATURES))


@pytest.mark.parametrize(("first", "last"), [(0, 100), (100, 200), (599, 600), (7, 8)])
def test_a_band_of_ranks(made: Made, first: int, last: int) -> None:
    assert_scores(made, ranking(made)[first:last], 1, ranks=(first, last))


def test_a_band_that_is_none_is_told_in_ranks(made: Made) -> None:
    with pytest.raises(UserError, match="Ranks 20 to 11 are no band"):
        made.result.scores(ranks=(19, 11))


def test_a_list_of_ones_own(made: Made, tmp_path: Path) -> None:
    dims = [3, 599, 0, 77]
    assert_scores(made, dims, 2, dims=dims)
    for name, text in (("a", "3 599\n0,77"), ("b", " [3, 599, 0, 77]")):
        (tmp_path / name).write_text(text)
        assert_scores(made, dims, 1, dims=tmp_path / name)
        assert_scores(made, dims, 1, dims=str(tmp_path / name))


def test_chance_is_drawn_with_the_seed_of_the_run(made: Made) -> None:
    first, again = made.result.scores(n=50, dims="random"), made.result.scores(n=50, dims="random")
    assert first.equals(again)
    assert not first["value"].equals(made.result.scores(n=50)["value"])
    assert made.result.scores(n=FEATURES, dims="random")["value"].tolist() == pytest.approx(
        made.result.scores(n=FEATURES)["value"].tolist()
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"n": 0}, {"n": FEATURES + 1}, {"n": -1}, {"dims": "random", "n": FEATURES + 1}, {"power": 3}, {"power": 0},
        {"ranks": (5, 5)}, {"ranks": (9, 3)}, {"ranks": (0, FEATURES + 1)}, {"ranks": (-1, 5)}, {"dims": []},
        {"dims": [1, 1]}, {"dims": [-1]}, {"dims": [FEATURES]}, {"dims": "nowhere.txt"}, {"dims": "sft"},
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told(made: Made, asked: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        made.result.scores(**asked)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "one two", "[1.5]", "[true]", '["3"]', "[[1]]", "{}", "1.5", "[1,", "[" * 100_000]
)
def test_a_list_that_is_none_is_told(made: Made, tmp_path: Path, text: str) -> None:
    (tmp_path / "dims").write_text(text)
    with pytest.raises(UserError):
        made.result.scores(dims=tmp_path / "dims")


def test_halves_add_up_to_the_whole(made: Made) -> None:
    base, icl, item = made.tokens["physics"]
    whole = sums(base, icl, item)
    early = item < 20
    parts = [SetSums(**_kept(base, icl, item, keep)) for keep in (early, ~early)]
    for order in (parts, parts[::-1], [SetSums.zeros(tuple(whole.sums), FEATURES), *parts]):
        total = order[0]
        for part in order[1:]:
            total = total + part
        assert np.array_equal(total.tokens, whole.tokens)
        for name, value in whole.sums.items():
            np.testing.assert_allclose(total.sums[name], value, rtol=1e-12, atol=1e-12)


def _kept(base: np.ndarray, icl: np.ndarray, item: np.ndarray, keep: np.ndarray) -> dict[str, Any]:
    group = item % 20
    values = {"base": base, "base_sq": base**2, "icl": icl, "absdiff": np.abs(icl - base), "sqdiff": (icl - base) ** 2,
              "diff": icl - base, "active_base": base > 0, "active_icl": icl > 0}  # fmt: skip
    totals = {n: np.stack([v[keep & (group == g)].sum(0, dtype=float) for g in range(20)]) for n, v in values.items()}
    tokens = np.array([(keep & (group == g)).sum() for g in range(20)], dtype=float)
    return {"sums": totals, "tokens": tokens, "items": np.zeros(20)}


def test_without_tokens_a_mean_is_not_a_number() -> None:
    assert np.isnan(SetSums.zeros(("base",), 3).mean("base")).all()


def test_a_folder_without_a_manifest_is_no_result(tmp_path: Path, made: Made) -> None:
    shutil.copytree(made.result.folder, tmp_path / "half")
    (tmp_path / "half" / "manifest.json").unlink()
    for folder in (tmp_path / "half", tmp_path / "none", tmp_path / "half" / "shift.parquet"):
        with pytest.raises(UserError, match="no finished result"):
            Result(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_torn_manifest_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        Result(tmp_path)


@pytest.mark.parametrize("name", ["shift.parquet", "groups.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 torn"])
def test_a_damaged_result_is_told(tmp_path: Path, made: Made, name: str, content: bytes | None) -> None:
    shutil.copytree(made.result.folder, tmp_path / "out")
    path = tmp_path / "out" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match="gone or damaged"):
        Result(tmp_path / "out").scores()


def test_the_standard_scores_are_the_asked_ones(made: Made) -> None:
    import pandas as pd
    import pyarrow.parquet as pq

    table = pq.read_table(made.result.folder / "scores.parquet").to_pandas()
    assert sorted(set(table["n"])) == [10, 50, 100, 200, 500]
    for n in (10, 500):
        for power in (1, 2):
            part = table.query(f"n == {n} and power == {power}").reset_index(drop=True)
            pd.testing.assert_frame_equal(part, made.result.scores(n=n, power=power), rtol=1e-6, check_dtype=False)


def test_the_manifest_is_written_last(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fills at the manifest, the folder is no result."""
    from sts_core.results import folder

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "atomic_json", full)
    sets = {name: sums(*value) for name, value in made.tokens.items()} | {RAW: sums(*made.tokens["physics"])}
    with pytest.raises(OSError, match="No space"):
        write_result(tmp_path / "out", json.loads("{}"), sets)
    assert not (tmp_path / "out" / "manifest.json").exists()
