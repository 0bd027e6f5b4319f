"""The whole path on a tiny model and dictionary, against the same method computed the plain way in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from sts_core.measure.run import run
from sts_core.results import Result
from sts_core.spec import Spec
from tests import dense, tiny

LAYER = 1
EXACT = 1e-5
"""Relative: float32 against float64; beside it a millionth of a column's largest value."""
MARKED = "zz"
"""A piece of text whose token's embedding is made huge in one of the worlds."""


class Case(NamedTuple):
    """A finished run, and what the plain way gives."""

    result: Result
    spec: dict[str, Any]
    sets: dict[str, dense.Tokens]
    """After dropping outliers."""
    net: dense.Dense
    dropped: dict[str, int]
    one_arm: dict[str, int]
    """Tokens of each set that exceed the threshold in just one of the arms."""

    def features(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.net.features(self.sets[name].base), self.net.features(self.sets[name].icl)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def plant_outlier(world: tiny.World) -> None:
    """Every third question of the target and of physics holds a token of huge norm."""
    tokenizer = tiny.tokenizer("llama3")
    (marked,) = set(tokenizer(MARKED, add_special_tokens=False)["input_ids"])
    weights = load_file(world.model / "model.safetensors")
    weights["model.embed_tokens.weight"][marked] *= 300
    save_file(weights, world.model / "model.safetensors", metadata={"format": "pt"})
    for name in ("target", "physics"):
        path = world.folder / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows[::3]:
            row["question"] += f" {MARKED}"
        tiny.write_rows(path, rows)


CASES: dict[str, dict[str, Any]] = {
    "query": {},
    "both spans, filter off": {"pool": {"tokens": "query+answer", "outliers": "off"}},
    "answer": {"pool": {"tokens": "answer"}},
    "outliers": {"pool": {"outliers": 6.0}},
    "outliers in one arm": {"pool": {"outliers": 1.1}},
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("world")
    planted = "outliers" in request.param
    world = tiny.world(folder, style="llama3" if planted else "chatml")
    if planted:
        plant_outlier(world)
    plain = world.spec(**CASES[request.param])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(folder / "cache"))
        result = run(Spec.from_dict(plain), folder / "out", fresh=True)
    net = dense.Dense(world.model, world.sae, LAYER)
    pool = plain.get("pool", {}).get("tokens", "query")
    used = result.manifest["sets"]
    parts = {"target": plain["target"], **{domain["name"]: domain for domain in plain["domains"]}}
    sets = {name: net.set(part, used[name], pool) for name, part in parts.items()}
    dropped, one_arm = dict.fromkeys(sets, 0), dict.fromkeys(sets, 0)
    medians = plain.get("pool", {}).get("outliers", 8.0)
    if medians != "off":
        most = dense.outlier_norm(sets["target"], medians)
        assert result.manifest["outlier_norm"] == pytest.approx(most, rel=EXACT)
        kept = {name: dense.without_outliers(tokens, most) for name, tokens in sets.items()}
        dropped = {name: len(sets[name].item) - len(kept[name].item) for name in sets}
        over = {name: [np.linalg.norm(arm, axis=1) > most for arm in (s.base, s.icl)] for name, s in sets.items()}
        one_arm = {name: int((base != icl).sum()) for name, (base, icl) in over.items()}
        sets = kept
    return Case(result, plain, sets, net, dropped, one_arm)


def assert_columns(table: pd.DataFrame, expected: dict[str, np.ndarray]) -> None:
    for column, values in expected.items():
        got = table[column].to_numpy()
        np.testing.assert_allclose(got, values, rtol=EXACT, atol=1e-6 * np.abs(values).max(), err_msg=column)


def test_the_shift(case: Case) -> None:
    table = pq.read_table(case.result.folder / "shift.parquet").to_pandas()
    expected = dense.shift_columns(*case.features("target"))
    assert list(table.columns) == ["feature", *expected, "shift_noise"]
    assert table["feature"].tolist() == list(range(tiny.FEATURES))
    assert (expected["shift_icl"] > 0).sum() > tiny.FEATURES / 2  # there is something to get wrong
    assert_columns(table, expected)


def test_the_raw_shift(case: Case) -> None:
    table = pq.read_table(case.result.folder / "shift_raw.parquet").to_pandas()
    assert table["feature"].tolist() == list(range(tiny.WIDTH))
    assert_columns(table, dense.shift_columns(case.sets["target"].base, case.sets["target"].icl))


def test_the_domains(case: Case) -> None:
    table = pq.read_table(case.result.folder / "domains.parquet").to_pandas()
    assert list(dict.fromkeys(table["domain"])) == ["physics", "law"]
    for name in ("physics", "law"):
        part = table[table["domain"] == name]
        expected = dense.domain_columns(*case.features(name))
        assert list(part.columns) == ["domain", "feature", *expected]
        assert part["feature"].tolist() == list(range(tiny.FEATURES))
        assert_columns(part, expected)


def test_the_groups(case: Case) -> None:
    groups = case.result.groups
    for name in ("target", "physics", "law"):
        tokens = case.sets[name]
        base, icl = case.features(name)
        group = tokens.item % min(20, tokens.items)
        quantities = {"base": base, "absdiff": np.abs(icl - base), "sqdiff": (icl - base) ** 2}
        if name == "target":
            quantities["diff"] = icl - base
        else:
            quantities["base_sq"] = base**2
        for quantity, values in quantities.items():
            expected = np.stack([values[group == g].sum(0) for g in range(20)])
            got = groups[name].sums[quantity]
            # Signed sums cancel, so what rounding leaves is judged by the size of the largest.
            np.testing.assert_allclose(got, expected, rtol=EXACT, atol=1e-5 * np.abs(expected).max())
        assert groups[name].tokens.tolist() == [(group == g).sum() for g in range(20)]
        assert groups[name].items.sum() == tokens.items


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n", [10, 50])
def test_the_scores_and_their_errors(case: Case, n: int, power: int) -> None:
    table = pq.read_table(case.result.folder / "scores.parquet").to_pandas()
    assert list(table.columns) == ["domain", "metric", "n", "power", "value", "se", "tokens", "items"]
    shift = dense.shift_columns(*case.features("target"))["shift_icl"]
    dims = sorted(range(tiny.FEATURES), key=lambda i: (-shift[i], i))[:n]
    asked = case.result.scores(n=n, power=power)
    for name in ("physics", "law"):
        base, icl = case.features(name)
        tokens = case.sets[name]
        for metric, values in (("sts_act", base), ("sts_icl", np.abs(icl - base))):
            value, se = dense.score((values[:, dims] ** power).mean(1), tokens.item, tokens.items)
            where = f"domain == '{name}' and metric == '{metric}'"
            for (row,) in (
                table.query(f"{where} and n == {n} and power == {power}").itertuples(),
                asked.query(where).itertuples(),
            ):
                assert row.value == pytest.approx(value, rel=EXACT)
                assert (row.tokens, row.items) == (len(tokens.item), tokens.items)
                if se is None:
                    assert np.isnan(row.se)
                else:
                    assert row.se == pytest.approx(se, rel=EXACT * max(1, value / se))


def test_fewer_than_five_items_leave_the_error_null(case: Case) -> None:
    assert case.sets["law"].items == 4
    column = pq.read_table(case.result.folder / "scores.parquet", filters=[("domain", "=", "law")])["se"]
    assert all(value is None or value != value for value in column.to_pylist())
    assert (
        pq.read_table(case.result.folder / "scores.parquet", filters=[("domain", "=", "physics")])["se"].null_count == 0
    )


def test_outliers_are_dropped_in_both_arms_and_counted(case: Case) -> None:
    manifest = case.result.manifest
    assert {name: manifest["sets"][name]["outliers"] for name in case.sets} == case.dropped
    assert manifest["tokens"]["dropped_outliers"] == sum(case.dropped.values())
    assert {name: manifest["sets"][name]["tokens"] for name in case.sets} == {
        n: len(t.item) for n, t in case.sets.items()
    }
    if case.spec.get("pool", {}).get("outliers") == 6.0:
        assert case.dropped["target"] > 0
        assert case.dropped["physics"] > 0
        assert case.dropped["law"] == 0
    if case.spec.get("pool", {}).get("outliers") == 1.1:
        assert min(case.one_arm.values()) > 0


def test_the_manifest_says_what_was_done(case: Case) -> None:
    manifest = case.result.manifest
    assert manifest["spec"]["target"]["data"] == case.spec["target"]["data"]
    assert Spec.from_dict(manifest["spec"]).to_dict() == manifest["spec"]
    assert (manifest["seed"], manifest["device"], manifest["dtype"]) == (3, "cpu", "float32")
    assert manifest["seconds"] > 0
    assert manifest["resolved"]["model"]["revision"]
    assert manifest["resolved"]["sae"]["revision"]
    assert {"python", "torch", "transformers", "sae-lens"} <= set(manifest["versions"])
    assert set(manifest["sets"]) == {"target", "physics", "law"}
    for entry in manifest["sets"].values():
        assert {"demo_rows", "query_rows", "dropped"} <= set(entry)
    text = json.dumps(manifest["resolved"])
    assert str(case.result.folder.parent) not in text.replace(case.spec["model"], "").replace(case.spec["sae"], "")


def test_every_data_file_is_named_by_its_hash(case: Case) -> None:
    import hashlib

    files = case.result.manifest["resolved"]["files"]
    for domain in case.spec["domains"]:
        for key in ("data", "demo_data"):
            if key in domain:
                assert files[domain["name"]][key] == hashlib.sha256(Path(domain[key]).read_bytes()).hexdigest()


def test_budgets_are_reached_in_whole_items(case: Case) -> None:
    for name in ("target", "physics"):
        asked = next(
            s["tokens"] for s in [case.spec["target"], *case.spec["domains"]] if s.get("name", "target") == name
        )
        tokens = case.sets[name]
        pooled = len(tokens.item) + case.dropped[name]
        last = (tokens.item == tokens.items - 1).sum() + case.dropped[name]
        # Answers are so short that the rows may end first; that is then a warning.
        warned = any(w.startswith(f"{name}:") for w in case.result.manifest["warnings"])
        assert warned or pooled >= asked > pooled - last


def test_too_few_rows_is_a_warning_in_the_manifest(case: Case) -> None:
    tokens = case.result.manifest["sets"]["law"]["tokens"] + case.dropped["law"]
    assert any(f"law: {tokens:,} of the 100,000 tokens" in warning for warning in case.result.manifest["warnings"])


@pytest.mark.parametrize("architecture", ["jumprelu", "topk", "gated"])
def test_other_dictionaries_are_encoded_as_saelens_does(
    tmp_path: Path, own_cache: Path, architecture: tiny.Architecture
) -> None:
    world = tiny.world(tmp_path, architecture)
    plain = world.spec()
    result = run(Spec.from_dict(plain), tmp_path / "out")
    net = dense.Dense(world.model, world.sae, LAYER)
    tokens = net.set(plain["target"], result.manifest["sets"]["target"])
    most = dense.outlier_norm(tokens, 8.0)
    tokens = dense.without_outliers(tokens, most)
    encode = tiny.sae(architecture).double().encode
    with torch.inference_mode():
        base, icl = (encode(torch.tensor(stream)).numpy() for stream in (tokens.base, tokens.icl))
    assert_columns(result.shift, dense.shift_columns(base, icl))


@pytest.mark.parametrize("style", ["llama3", "gemma"])
def test_other_templates_give_the_same_as_the_plain_way(tmp_path: Path, own_cache: Path, style: tiny.Style) -> None:
    world = tiny.world(tmp_path, style=style)
    plain = world.spec(pool={"outliers": "off"})
    result = run(Spec.from_dict(plain), tmp_path / "out")
    net = dense.Dense(world.model, world.sae, LAYER)
    tokens = net.set(plain["target"], result.manifest["sets"]["target"])
    assert_columns(result.shift, dense.shift_columns(net.features(tokens.base), net.features(tokens.icl)))


def test_a_dictionary_of_another_model_is_a_warning(tmp_path: Path, own_cache: Path) -> None:
    world = tiny.world(tmp_path)
    other = tiny.save_sae(tmp_path / "other", model_name="gpt2-small")
    result = run(Spec.from_dict(world.spec(sae=str(other))), tmp_path / "out")
    assert any("gpt2-small" in warning for warning in result.manifest["warnings"])
