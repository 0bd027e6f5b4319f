"""What a mixture's spec may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.train.mixture.spec import MixtureSpec
from tests import tiny

LEAST = {"result": "cache/demo/result", "budget": 220}


def made(**changes: Any) -> MixtureSpec:
    return MixtureSpec.from_dict({key: value for key, value in {**LEAST, **changes}.items() if value is not None})


def test_a_spec_comes_back_from_its_plain_values() -> None:
    full = made(
        allocation="inverse", tau=2, floor=3, cap=40, domains=["law", "physics"], answers="model", seed=4,
        score={"metric": "sts_icl", "n": 50, "power": 2}, generate={"temperature": 0.7, "max_tokens": 40, "batch": 2},
        target={"rows": 30, "evaluate_rows": 7, "answer": "cot"},
    )  # fmt: skip
    own = made(budget=None, allocation={"law": 3, "physics": 4})
    for spec in (made(), full, own):
        assert MixtureSpec.from_dict(spec.to_dict()) == spec
    assert own.budget == 7


def test_it_is_read_from_toml_with_changes_and_the_result_beside_it(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    path = tmp_path / "mix.toml"
    path.write_text(tiny.as_toml({"result": "measured", "budget": 10, "target": {"rows": 5}}))
    spec = MixtureSpec.from_toml(path, ["tau=0.5", "target.rows=all", 'domains=["law"]', "generate.max_tokens=9"])
    assert spec.result == str(tmp_path / "measured")
    assert (spec.tau, spec.target.rows, spec.domains, spec.generate.max_tokens) == (0.5, "all", ("law",), 9)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"buget": 3}, 'did you mean "budget"'),
        ({"result": None}, "no measured result"),
        ({"result": " "}, "result is"),
        ({"budget": None}, "how many rows"),
        ({"budget": -1}, "budget is -1"),
        ({"budget": 2.5}, "budget is 2.5"),
        ({"allocation": "stz"}, 'did you mean "sts"'),
        ({"allocation": 7}, "allocation is 7"),
        ({"allocation": {"law": 3}}, "add up to 3"),
        ({"allocation": {"law": -3}}, "allocation.law"),
        ({"allocation": {}}, "names no domain"),
        ({"budget": None, "allocation": {"law": 3}, "floor": 1}, "do not apply"),
        ({"tau": -1}, "tau is -1"),
        ({"tau": 1e9}, "tau is"),
        ({"tau": True}, "tau is"),
        ({"floor": 1.5}, "floor is"),
        ({"cap": -2}, "cap is"),
        ({"domains": []}, "domains is"),
        ({"domains": "law"}, "domains is"),
        ({"domains": ["law", "law"]}, "twice"),
        ({"answers": "modell"}, 'did you mean "model"'),
        ({"score": {"metric": "sts_akt"}}, 'did you mean "sts_act"'),
        ({"score": {"metrik": "sts_act"}}, 'did you mean "metric"'),
        ({"score": {"power": 3}}, "score.power"),
        ({"score": 3}, r"\[score\] must be a table"),
        ({"target": {"rows": "most"}}, "target.rows"),
        ({"target": {"row": 3}}, 'did you mean "rows"'),
        ({"target": {"answer": "all"}}, "target.answer"),
        ({"generate": {"temperature": -1}}, "generate.temperature"),
        ({"generate": {"max_tokens": 0}}, "generate.max_tokens"),
        ({"generate": {"device": "gpu"}}, "generate.device"),
        ({"seed": -1}, "seed is"),
        ({"budget": 0, "target": {"rows": 0}}, "would be empty"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        made(**changes)
    assert error.value.hint
