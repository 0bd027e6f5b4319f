"""What a sweep's spec may say, how it is read, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.measure.sweep.spec import Choice, SweepSpec
from tests import tiny

BASE: dict[str, Any] = {"model": "tiny", "sae": "one", "target": {"data": "rows.jsonl"}, "run": {"seed": 4}}


def made(**changes: Any) -> SweepSpec:
    values = {"base": BASE, **changes}
    return SweepSpec.from_dict({key: value for key, value in values.items() if value is not None})


def test_what_is_left_out_is_what_the_base_says() -> None:
    spec = made()
    assert (spec.saes, spec.seeds, spec.pools, spec.powers) == (("one",), (4,), ("query",), (1,))
    assert spec.choices == (Choice(100, None, 1),)
    assert spec.measurements == 1


def test_a_spec_comes_back_from_its_plain_values() -> None:
    full = made(
        saes=["one", "two"], seeds=[0, 7], pools=["query", "answer"], n=[5, 9], rank_bands=[[1, 4], [5, 9]],
        powers=[1, 2], probes=["raw", "pca"], actual=["before.json", "after.json"], metric="acc",
    )  # fmt: skip
    for spec in (made(), full):
        assert SweepSpec.from_dict(spec.to_dict()) == spec
    assert full.measurements == 2 * 3 * 2 * 2
    assert len(full.choices) == 4 * 2
    assert full.title == "2 SAEs × 2 seeds × 2 pools × 8 choices of features on rows.jsonl"


def test_bands_are_counted_from_one_with_both_ends() -> None:
    (choice,) = made(n=[], rank_bands=[[101, 200]]).choices
    assert (choice.ranks, choice.size, choice.last, choice.words) == ((100, 200), 100, 200, "ranks 101–200")


def test_the_bases_own_seed_is_not_said_twice() -> None:
    other = {**BASE, "run": {"seed": 9}, "sae": "two"}
    assert made(saes=["one"], seeds=[1]) == made(base=other, saes=["one"], seeds=[1])


def test_it_is_read_from_toml_with_the_base_beside_it_and_changes_of_both(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "base.toml").write_text(tiny.as_toml({**BASE, "target": {"data": "own.jsonl"}}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "changes.csv").write_text("domain,change\n")
    path = tmp_path / "sweep.toml"
    path.write_text(tiny.as_toml({"base": "specs/base.toml", "saes": ["mine", "other"], "actual": "changes.csv"}))
    spec = SweepSpec.from_toml(path, ["seeds=[2, 3]", "base.target.tokens=77", "base.domains.tokens=50"])
    assert spec.base.target.data == str(tmp_path / "specs" / "own.jsonl")
    assert spec.saes == (str(tmp_path / "mine"), "other")
    assert spec.actual == str(tmp_path / "changes.csv")
    assert (spec.seeds, spec.base.target.tokens) == ((2, 3), 77)
    assert {domain.tokens for domain in spec.base.domains} == {50}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seads": [1]}, 'did you mean "seeds"'),
        ({"base": None}, "what is measured"),
        ({"base": 7}, "base is 7"),
        ({"base": " "}, "base is"),
        ({"base": "nowhere.toml"}, "no file nowhere.toml"),
        ({"base": {"sae": "one"}}, "which model"),
        ({"base": {**BASE, "modle": 1}}, 'did you mean "model"'),
        ({"saes": "one"}, "saes is 'one'"),
        ({"saes": []}, "saes is an empty list"),
        ({"seeds": []}, "seeds is an empty list"),
        ({"pools": []}, "pools is an empty list"),
        ({"powers": []}, "powers is an empty list"),
        ({"n": []}, "n is an empty list"),
        ({"saes": ["one", 3]}, "saes names 3"),
        ({"saes": ["one", " "]}, "saes names ' '"),
        ({"saes": ["one", "one"]}, "'one' twice"),
        ({"seeds": 3}, "seeds is 3"),
        ({"seeds": [-1]}, "seeds is -1"),
        ({"seeds": [True]}, "seeds is True"),
        ({"seeds": [1, 1]}, "holds 1 twice"),
        ({"pools": ["qery"]}, 'did you mean "query"'),
        ({"n": [0]}, "n is 0"),
        ({"n": [2.5]}, "n is 2.5"),
        ({"n": {"a": 1}}, "n is"),
        ({"rank_bands": [[0, 5]]}, r"rank_bands has \[0, 5\]"),
        ({"rank_bands": [[9, 5]]}, r"rank_bands has \[9, 5\]"),
        ({"rank_bands": [[1, 2, 3]]}, "rank_bands has"),
        ({"rank_bands": [1, 100]}, "rank_bands has 1"),
        ({"rank_bands": [[1, 5], [1, 5]]}, "twice"),
        ({"powers": [3]}, "powers is 3"),
        ({"probes": ["pac"]}, 'did you mean "pca"'),
        ({"actual": 5}, "actual is 5"),
        ({"actual": ["a", "b", "c"]}, "actual is"),
        ({"actual": ""}, "actual is"),
        ({"metric": "acc"}, "not what happened"),
        ({"actual": "a.csv", "metric": 3}, "metric is 3"),
        ({"seeds": list(range(501))}, "501 measurements"),
        ({"n": list(range(1, 5003))}, "5,002 points"),
        ({"base": {**BASE, "run": {"preset": "reference"}}, "pools": ["answer"]}, "pools query tokens alone"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        made(**changes)
    assert error.value.hint
