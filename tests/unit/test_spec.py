"""A spec: defaults of its own, everything checked, every refusal with a hint, the same values in and out."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_core.errors import UserError
from sts_core.spec import DOMAIN_NAME, Spec
from sts_core.spec_file import apply_change, to_toml
from tests.tiny import as_toml

LEAST: dict[str, Any] = {"model": "m", "sae": "s"}
FULL: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "sae": "demo/smollm2-l15",
    "layer": 15,
    "target": {"data": "gsm-symbolic", "columns": {"question": "q", "answer": "a"}, "demos": 3, "tokens": 300},
    "domains": [
        {"name": "physics", "data": "org/physics", "demos": 5, "tokens": 100, "demo_data": "org/physics_cot",
         "demo_columns": {"cot": "why"}},
        {"name": "R&D law-2_x", "data": "mmlu/law"},
    ],
    "pool": {"tokens": "query+answer", "outliers": "off"},
    "run": {"seed": 7, "device": "cuda:1", "dtype": "bfloat16", "preset": "reference"},
}  # fmt: skip
DOMAIN = {"name": "physics", "data": "org/physics"}


def refused(values: dict[str, Any], base: Path | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        Spec.from_dict(values, base)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_model_and_sae_are_enough() -> None:
    spec = Spec.from_dict(LEAST)
    assert (spec.layer, spec.target.data, spec.target.demos, spec.target.tokens) == (None, "gsm-symbolic", 2, 20_000)
    assert len(spec.domains) == 14
    assert {(d.demos, d.tokens) for d in spec.domains} == {(5, 10_000)}
    assert (spec.pool.tokens, spec.pool.outliers) == ("query", 8.0)
    assert (spec.run.seed, spec.run.device, spec.run.dtype, spec.run.preset) == (0, "auto", "auto", "default")
    assert Spec.from_dict({**LEAST, "domains": "mmlu"}) == spec


@pytest.mark.parametrize("values", [LEAST, FULL])
def test_plain_values_give_the_same_spec_again(values: dict[str, Any]) -> None:
    spec = Spec.from_dict(values)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_everything_in_the_contract_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(as_toml(FULL))
    spec = Spec.from_toml(path)
    assert spec == Spec.from_dict(FULL)
    physics, law = spec.domains
    assert (physics.demo_data, physics.demo_columns) == ("org/physics_cot", {"cot": "why"})
    assert (law.name, law.demos, law.tokens) == ("R&D law-2_x", 5, 10_000)
    (tmp_path / "spec.json").write_text(json.dumps(FULL))
    assert Spec.from_toml(tmp_path / "spec.json") == spec


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Spec.from_dict(LEAST).model = "other"  # type: ignore[misc]


def test_files_are_taken_from_the_specs_folder(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        'model = "model"\nsae = "../sae"\n[target]\ndata = "rows.jsonl"\n'
        '[[domains]]\nname = "a"\ndata = "sub/a.csv"\ndemo_data = "d.parquet"\n'
    )
    (tmp_path / "model").mkdir()
    spec = Spec.from_toml(tmp_path / "spec.toml")
    assert spec.model == str(tmp_path / "model")
    assert spec.sae == str(tmp_path.parent / "sae")
    assert spec.target.data == str(tmp_path / "rows.jsonl")
    assert (spec.domains[0].data, spec.domains[0].demo_data) == (
        str(tmp_path / "sub/a.csv"),
        str(tmp_path / "d.parquet"),
    )


def test_names_stay_names(tmp_path: Path) -> None:
    spec = Spec.from_dict({**LEAST, "model": "Qwen/Qwen2.5-7B", "sae": "release:id/3"}, base=tmp_path)
    assert (spec.model, spec.sae, spec.target.data) == ("Qwen/Qwen2.5-7B", "release:id/3", "gsm-symbolic")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sae": "s"}, "which model"),
        ({"model": "m"}, "which sae"),
        ({**LEAST, "model": ""}, "model must be named"),
        ({**LEAST, "model": 3}, "model must be named"),
        ({**LEAST, "sae": ["s"]}, "sae must be named"),
        ({**LEAST, "modle": "x"}, "'modle' (did you mean \"model\"?)"),
        ({**LEAST, "run": {"sede": 1}}, "'sede' (did you mean \"seed\"?)"),
        ({**LEAST, "pool": {"token": "query"}}, 'did you mean "tokens"?'),
        ({**LEAST, "target": {"data": "d", "token": 3}}, 'did you mean "tokens"?'),
        ({**LEAST, "target": {"data": "d", "name": "t"}}, "'name'"),
        ({**LEAST, "target": {"data": "d", "columns": {"questoin": "q"}}}, 'did you mean "question"?'),
        ({**LEAST, "target": {"data": "d", "columns": {"question": 3}}}, "map fields to column names"),
        ({**LEAST, "target": {"data": "d", "columns": "q"}}, "map fields to column names"),
        ({**LEAST, "target": {}}, "where its rows are"),
        ({**LEAST, "target": "gsm-symbolic"}, "[target] must be a table"),
        ({**LEAST, "target": {"data": 3}}, "data must name"),
        ({**LEAST, "target": {"data": "d", "demo_data": 3}}, "demo_data"),
        ({**LEAST, "target": {"data": "d", "demo_data": ""}}, "demo_data"),
        ({**LEAST, "target": {"data": "d", "tokens": -5}}, "tokens is -5"),
        ({**LEAST, "target": {"data": "d", "tokens": 0}}, "tokens is 0"),
        ({**LEAST, "target": {"data": "d", "tokens": 1.5}}, "tokens is 1.5"),
        ({**LEAST, "target": {"data": "d", "tokens": True}}, "tokens is True"),
        ({**LEAST, "target": {"data": "d", "tokens": "many"}}, "tokens is 'many'"),
        ({**LEAST, "target": {"data": "d", "demos": 0}}, "demos is 0"),
        ({**LEAST, "target": {"data": "a\0b.jsonl"}}, "a\\x00b.jsonl"),
        ({**LEAST, "layer": -1}, "layer is -1"),
        ({**LEAST, "layer": "3"}, "layer is '3'"),
        ({**LEAST, "layer": True}, "layer is True"),
        ({**LEAST, "run": {"seed": -1}}, "seed is -1"),
        ({**LEAST, "run": {"device": "tpu"}}, "device is 'tpu'"),
        ({**LEAST, "run": {"device": 0}}, "device is 0"),
        ({**LEAST, "run": {"dtype": "float23"}}, 'did you mean "float32"?'),
        ({**LEAST, "run": {"dtype": ["float32"]}}, "dtype is"),
        ({**LEAST, "run": {"preset": "paper"}}, "preset is 'paper'"),
        ({**LEAST, "run": 3}, "[run] must be a table"),
        ({**LEAST, "pool": {"tokens": "all"}}, "pool.tokens is 'all'"),
        ({**LEAST, "pool": {"outliers": 1}}, "outliers is 1"),
        ({**LEAST, "pool": {"outliers": True}}, "outliers is True"),
        ({**LEAST, "pool": {"outliers": math.nan}}, "outliers is nan"),
        ({**LEAST, "pool": {"outliers": math.inf}}, "outliers is inf"),
        ({**LEAST, "pool": {"outliers": "on"}}, "outliers is 'on'"),
        ({**LEAST, "domains": []}, "No domain"),
        ({**LEAST, "domains": "mmul"}, "mmul"),
        ({**LEAST, "domains": 3}, "[[domains]]"),
        ({**LEAST, "domains": ["physics"]}, "[[domains]]"),
        ({**LEAST, "domains": [{"data": "d"}]}, "has no name"),
        ({**LEAST, "domains": [{"name": 3, "data": "d"}]}, "has no name"),
        ({**LEAST, "domains": [{"name": "a"}]}, "where its rows are"),
        ({**LEAST, "domains": [DOMAIN, DOMAIN]}, "Two domains are named 'physics'"),
        ({**LEAST, "domains": [DOMAIN, {**DOMAIN, "name": "Physics"}]}, "Two domains are named"),
        ({**LEAST, "domains": {"data": "mmlu", "names": ["law"]}}, "'names'"),
        ({**LEAST, "domains": {"demos": 0}}, "demos is 0"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    assert told in refused(values, tmp_path).message


@pytest.mark.parametrize("name", ["../../x", "a/b", "target", "", "x" * 65, "a\n", "ä:b", ".", "a.b", "a\0"])
def test_a_domain_cannot_be_named_so(name: str) -> None:
    assert "cannot be named" in refused({**LEAST, "domains": [{**DOMAIN, "name": name}]}).message


@given(st.text(max_size=70))
def test_a_domain_name_that_passes_is_safe_in_a_path(name: str) -> None:
    if DOMAIN_NAME.fullmatch(name):
        assert 1 <= len(name) <= 64
        assert not set(name) & set("/\\.\0\n:*")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'model = "m', "not valid TOML"),
        (b"model = m", "not valid TOML"),
        (b'model = "m"\nmodel = "n"', "not valid TOML"),
        (b'model = "caf\xe9"', "not UTF-8"),
        (b"x = " + b"[" * 50_000, "not valid TOML"),
        (b"", "which model"),
    ],
)
def test_an_unreadable_file_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Spec.from_toml(path)
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_an_unreadable_json_spec_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(UserError):
        Spec.from_toml(tmp_path / "spec.json")


def test_a_missing_file_or_a_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UserError):
            Spec.from_toml(path)


def test_changes_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(as_toml(FULL))
    changes = ["run.seed=8", "domains.tokens=55", "target.data=mmlu/math", "pool.outliers=6.5", 'model="x y"']
    spec = Spec.from_toml(path, changes)
    assert (spec.run.seed, spec.target.data, spec.pool.outliers, spec.model) == (8, "mmlu/math", 6.5, "x y")
    assert [domain.tokens for domain in spec.domains] == [55, 55]
    assert spec.target.tokens == 300


@pytest.mark.parametrize("domains", [{}, {"domains": "mmlu"}, {"domains": {"data": "mmlu", "demos": 3}}])
def test_a_budget_for_the_fourteen_can_be_set(domains: dict[str, Any]) -> None:
    values = {**LEAST, **domains}
    apply_change(values, "domains.tokens=200")
    assert {domain.tokens for domain in Spec.from_dict(values).domains} == {200}


@pytest.mark.parametrize(
    "change",
    [
        "run.seed",
        "=3",
        "",
        "model.name=3",
        "run.seed.x=3",
        "domains.0.tokens=3",
        "domains.geo.tokens=7",
        "run.seed=1\nfoo=2",
    ],
)
def test_a_change_that_is_none_is_told(tmp_path: Path, change: str) -> None:
    (tmp_path / "spec.toml").write_text(as_toml({**FULL, "domains": [DOMAIN]}))
    with pytest.raises(UserError) as caught:
        Spec.from_toml(tmp_path / "spec.toml", [change])
    assert caught.value.hint


def test_a_change_of_domains_that_are_no_tables_is_told() -> None:
    with pytest.raises(UserError):
        apply_change({**LEAST, "domains": ["physics"]}, "domains.tokens=3")


def test_another_budget_leaves_all_else() -> None:
    spec = Spec.from_dict(FULL)
    quick = spec.with_budget(11, 12)
    assert [part.tokens for part in quick.sets] == [11, 12, 12]
    assert quick.with_budget(300, 100).domains[0] == spec.domains[0]


_PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**53), 2**53), st.booleans(),
    st.floats(allow_nan=False),
)  # fmt: skip
_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_TABLES = st.recursive(
    st.dictionaries(_NAMES, st.one_of(_PLAIN, st.lists(_PLAIN, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(_NAMES, st.one_of(_PLAIN, inner, st.lists(inner, max_size=3)), max_size=4),
    max_leaves=12,
)


@given(_TABLES)
def test_whatever_is_written_as_toml_is_read_back_equal(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values
