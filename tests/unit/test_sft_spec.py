"""What a fine-tuning spec may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.train.sft.spec import PAPER, SftSpec
from tests import tiny

LEAST = {"model": "smollm2-135m-instruct", "learning_rate": 1e-4}


def made(**changes: Any) -> SftSpec:
    return SftSpec.from_dict({**LEAST, **changes})


def test_a_spec_comes_back_from_its_plain_values() -> None:
    full = made(
        method="full", steps=30, batch=12, micro_batch=3, betas=[0.8, 0.9], keep_checkpoints=2, prediction="some-key",
        target={"data": "gsm-symbolic", "columns": {"question": "q"}, "answer": "cot"}, report="wandb",
        lora={"targets": ["q_proj"], "dropout": 0.1},
        evaluate={"domains": "mmlu", "rows": 10, "target_rows": 3, "metrics": ["nll", "nll_choice"]},
    )  # fmt: skip
    for spec in (made(), full, made(preset="paper"), made(preset="paper", steps=5)):
        assert SftSpec.from_dict(spec.to_dict()) == spec
    assert len(full.evaluate.domains) == 14


def test_the_papers_settings_and_what_wins_over_them() -> None:
    paper = made(preset="paper")
    assert (paper.betas, paper.weight_decay, paper.clip, paper.schedule) == ((0.9, 0.95), 0.01, 1.0, "cosine")
    assert (paper.warm_up, paper.epochs, paper.batch, paper.max_tokens) == (0.1, 10, 256, 8192)
    assert paper.rows_at_once * paper.accumulation == 256
    assert "learning_rate" not in PAPER
    own = made(preset="paper", batch=64, steps=100)
    assert (own.batch, own.steps, own.epochs, own.max_tokens) == (64, 100, None, 8192)


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [
        ({"steps": 7}, 100, 7),
        ({"epochs": 2, "batch": 8}, 20, 6),
        ({"epochs": 0.5, "batch": 8}, 160, 10),
        ({"batch": 8}, 3, 1),
    ],
)
def test_how_many_steps(changes: dict[str, Any], rows: int, steps: int) -> None:
    assert made(**changes).total_steps(rows) == steps


@pytest.mark.parametrize(
    ("batch", "processes", "at_once", "times"), [(8, 1, 4, 2), (6, 1, 3, 2), (7, 1, 1, 7), (8, 2, 4, 1)]
)
def test_accumulation_makes_the_batch(batch: int, processes: int, at_once: int, times: int) -> None:
    spec = made(batch=batch, processes=processes)
    assert (spec.rows_at_once, spec.accumulation) == (at_once, times)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learning_rat": 1}, 'unknown key .learning_rat. .did you mean "learning_rate"'),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"learning_rate": 20}, "learning_rate is 20"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"method": "lorra"}, 'did you mean "lora"'),
        ({"steps": 3, "epochs": 1}, "Both steps and epochs"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": True}, "steps is True"),
        ({"epochs": -1}, "epochs is -1"),
        ({"batch": 8, "micro_batch": 3}, "batch is 8, which cannot be made of micro_batch 3"),
        ({"batch": 4, "processes": 3}, "in 3 processes"),
        ({"processes": 2, "device": "cuda:1"}, "is one device"),
        ({"betas": [0.9]}, "betas is"),
        ({"betas": [0.9, 1.0]}, "betas is"),
        ({"warm_up": 10}, "warm_up is 10"),
        ({"clip": 0}, "clip is 0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"schedule": "cosin"}, 'did you mean "cosine"'),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"report": "mlflow"}, "report is 'mlflow'"),
        ({"preset": "papr"}, 'did you mean "paper"'),
        ({"max_tokens": 3}, "max_tokens is 3"),
        ({"gradient_checkpointing": "yes"}, "gradient_checkpointing is 'yes'"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        ({"prediction": ""}, "prediction is ''"),
        ({"model": " "}, "model is ' '"),
        ({"lora": {"rank": 0}}, "lora.rank is 0"),
        ({"lora": {"rnak": 4}}, 'did you mean "rank"'),
        ({"lora": {"dropout": 1.0}}, "lora.dropout is 1.0"),
        ({"lora": {"targets": []}}, "lora.targets is"),
        ({"lora": 4}, "must be a table"),
        ({"target": {"data": ""}}, "data must name a set"),
        ({"target": {"columns": {"qestion": "a"}}}, 'did you mean "question"'),
        ({"target": {"answer": "worked"}}, "answer is 'worked'"),
        ({"target": {"demos": 2}}, "unknown key 'demos'"),
        ({"evaluate": {"domains": "mmlu-pro"}}, "evaluate.domains must be"),
        ({"evaluate": {"domains": [{"name": "law"}]}}, "lacks a name or its data"),
        ({"evaluate": {"domains": [{"name": "a/b", "data": "a.csv"}]}}, "cannot be named 'a/b'"),
        ({"evaluate": {"domains": [{"name": "target", "data": "a.csv"}]}}, "cannot be named 'target'"),
        ({"evaluate": {"domains": [{"name": n, "data": "a.csv"} for n in ("law", "Law")]}}, "Two domains are named"),
        ({"evaluate": {"rows": 0}}, "evaluate.rows is 0"),
        ({"evaluate": {"metrics": ["nll_choise"]}}, "There is no metric 'nll_choise'.*nll_choice"),
        ({"epochs": 1e300}, "epochs is 1e\\+300"),
        ({"evaluate": {"metrics": []}}, "No metric is asked for"),
        ({"evaluate": {"metrics": 3}}, "evaluate.metrics must be a list of names"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        made(**changes)
    assert error.value.hint


def test_the_learning_rate_is_asked_for() -> None:
    with pytest.raises(UserError, match="the paper names none"):
        SftSpec.from_dict({"model": "smollm2-135m-instruct", "preset": "paper"})


def test_files_lie_beside_the_spec_and_changes_win(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    path = tmp_path / "spec.toml"
    path.write_text(tiny.as_toml({**LEAST, "model": "my-model", "target": {"data": "rows.jsonl"}}))
    spec = SftSpec.from_toml(path, ["steps=9", "lora.rank=2"])
    assert spec.model == str(tmp_path / "my-model")
    assert spec.target.data == str(tmp_path / "rows.jsonl")
    assert (spec.steps, spec.lora.rank) == (9, 2)


def test_the_shipped_example_is_a_good_spec() -> None:
    spec = SftSpec.from_toml(Path(__file__).resolve().parents[2] / "cache" / "demo" / "sft.toml")
    assert (spec.method, spec.steps) == ("lora", 60)
    assert Path(str(spec.prediction), "manifest.json").is_file()
