"""Trained on a mixture: its rows and no others, and nothing that is trained on is evaluated or foretold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.progress import silent
from sts_core.results.outcomes.rows import read_rows as read_scores
from sts_core.spec import Spec
from sts_core.text.sources import read_rows
from sts_core.train.mixture.run import run_mixture
from sts_core.train.mixture.spec import MixtureSpec
from sts_core.train.sft.evaluated import evaluation_sets
from sts_core.train.sft.plan import plan
from sts_core.train.sft.rows import IGNORED, training_rows
from sts_core.train.sft.run import run_sft
from sts_core.train.sft.spec import SftSpec
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def result(world: tiny.World) -> Path:
    return run(Spec.from_dict(world.spec()), world.folder / "result").folder


@pytest.fixture
def mixture(world: tiny.World, result: Path) -> Path:
    return run_mixture(mixture_spec(result), world.folder / "mix")


def mixture_spec(result: Path, **changes: Any) -> MixtureSpec:
    return MixtureSpec.from_dict({
        "result": str(result), "budget": 12, "score": {"n": 20}, "target": {"evaluate_rows": 5, "rows": 10}, **changes,
    })  # fmt: skip


def spec_of(world: tiny.World, data: Path, **changes: Any) -> SftSpec:
    domains = [{"name": name, "data": str(world.folder / f"{name}.jsonl")} for name in ("physics", "law")]
    return SftSpec.from_dict({
        "model": str(world.model), "learning_rate": 0.01, "steps": 4, "batch": 4, "checkpoint_every": 2,
        "device": "cpu", "dtype": "float32", "lora": {"rank": 4}, "target": {"data": str(data)},
        "evaluate": {"target_rows": 5, "domains": domains}, **changes,
    })  # fmt: skip


def lines(mixture: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (mixture / "mixture.jsonl").read_text(encoding="utf-8").splitlines()]


def test_from_mixture_to_scores_no_row_is_on_two_sides(
    world: tiny.World, result: Path, mixture: Path, tmp_path: Path
) -> None:
    """The whole way: every evaluated row and every query of the prediction is none of those trained on."""
    spec = spec_of(world, mixture / "manifest.json", prediction=str(result))
    out = run_sft(spec, tmp_path / "run", silent)
    trained = lines(mixture)
    manifest = json.loads((out / "manifest.json").read_text())
    told = json.loads((mixture / "manifest.json").read_text())
    assert manifest["data"] == manifest["rows"]["mixture"]["sha256"] == told["file"]["sha256"]
    assert manifest["rows"]["train_rows"] == list(range(22))
    scored = read_scores(out)
    texts = {name: {row.number: row.question for row in read_rows(world.folder / f"{name}.jsonl", {}, ()).rows}
             for name in ("target", "physics", "law")}  # fmt: skip
    questions = {line["question"] for line in trained}
    for name, numbers in texts.items():
        evaluated = set(scored[scored["set"] == name]["row"])
        assert evaluated
        assert evaluated.isdisjoint(line["row"] for line in trained if line["set"] == name)
        assert questions.isdisjoint(numbers[row] for row in evaluated)
    assert len(set(scored[scored["set"] == "target"]["row"])) == 5
    queried = json.loads((result / "manifest.json").read_text())["sets"]["target"]["query_rows"]
    assert questions.isdisjoint(texts["target"][row] for row in queried)
    assert (out / "shift.parquet").is_file()


@pytest.mark.parametrize("named", ["manifest.json", "", "relative"])
def test_the_right_rows_train(world: tiny.World, mixture: Path, named: str) -> None:
    """Named by manifest or folder, also beside the spec file; each row with the answer the mixture gives it."""
    if named == "relative":
        path = world.folder / "sft.toml"
        path.write_text('model = "tiny-llama"\nlearning_rate = 0.01\ntarget.data = "mix"\n')
        spec = SftSpec.from_toml(path)
    else:
        spec = spec_of(world, mixture / named)
    tokenizer = tiny.tokenizer("chatml")
    found = training_rows(spec, tokenizer, 256)
    expected = lines(mixture)
    assert sorted(row.number for row in found.rows) == list(range(len(expected)))
    for row in found.rows:
        learned = tokenizer.decode([label for label in row.labels if label != IGNORED])
        assert learned.startswith(expected[row.number]["answer"])
        assert expected[row.number]["question"] in tokenizer.decode(row.ids)


def test_worked_answers_of_the_target_are_learned_and_evaluated(world: tiny.World, result: Path) -> None:
    target = {"evaluate_rows": 5, "rows": 10, "answer": "cot"}
    mixture = run_mixture(mixture_spec(result, target=target), world.folder / "worked")
    records = [json.loads(line) for line in (world.folder / "target.jsonl").read_text().splitlines()]
    spec = spec_of(world, mixture)
    for line in lines(mixture):
        if line["set"] == "target":
            assert line["answer"] == records[line["row"]]["cot"]
    asked = evaluation_sets(spec).sets[0]
    assert asked.name == "target"
    assert len(asked.questions) == 5
    assert all(question.gold == records[question.row]["cot"].strip() for question in asked.questions)


def test_the_same_rows_of_the_target_are_evaluated_with_and_without(
    world: tiny.World, mixture: Path, result: Path
) -> None:
    alone = training_rows(spec_of(world, world.folder / "target.jsonl"), tiny.tokenizer("chatml"), 256)
    mixed = training_rows(spec_of(world, mixture), tiny.tokenizer("chatml"), 256)
    assert mixed.evaluation == alone.evaluation
    assert mixed.queried == alone.queried
    every = run_mixture(mixture_spec(result, target={"evaluate_rows": 5}), world.folder / "all")
    own = {line["row"] for line in lines(every) if line["set"] == "target"}
    assert own == {row.number for row in alone.rows}


def test_the_plan_tells_of_the_mixture_and_what_it_takes_from_evaluation(world: tiny.World, mixture: Path) -> None:
    found = plan(spec_of(world, mixture))
    assert found["mixture"]["counts"] == json.loads((mixture / "manifest.json").read_text())["counts"]
    assert found["rows"]["train"] == found["rows"]["records"] == 22
    assert not any("not evaluated" in told for told in found["warnings"])
    # Fifteen of the target's thirty kept rows: some of them train, since the mixture kept five back.
    more = plan(spec_of(world, mixture, evaluate={"target_rows": 15}))
    own = {line["row"] for line in lines(mixture) if line["set"] == "target"}
    asked = training_rows(
        spec_of(world, world.folder / "target.jsonl", evaluate={"target_rows": 15}), tiny.tokenizer("chatml"), 256
    ).evaluation
    met = sum(row.number in own for row in asked)
    assert met
    assert f"target: {met} rows are not evaluated, because they are trained on." in more["warnings"]
    assert more["rows"]["evaluation"] == 15 - met


def test_a_row_trained_on_is_not_evaluated_from_another_file(world: tiny.World, mixture: Path, tmp_path: Path) -> None:
    """The domain's rows stand in another file too, in which others keep them company: there they may lie elsewhere."""
    copies = [{"question": line["question"], "answer": "7"} for line in lines(mixture) if line["set"] == "physics"]
    tiny.write_rows(tmp_path / "copy.jsonl", [*tiny.rows(3, seed=8), *copies])
    domains = [{"name": "copy", "data": str(tmp_path / "copy.jsonl")}]
    spec = spec_of(world, mixture, evaluate={"target_rows": 0, "domains": domains})
    warnings = plan(spec)["warnings"]
    assert any(told.startswith("copy: ") and "not evaluated" in told for told in warnings)
    run_sft(spec, tmp_path / "run", silent)
    scored = read_scores(tmp_path / "run")
    assert set(scored["row"]) <= {0, 1, 2}
    tiny.write_rows(tmp_path / "copy.jsonl", copies)
    with pytest.raises(UserError, match="every row that would be evaluated is trained on"):
        plan(spec)


def test_a_mixture_that_was_changed_is_refused_before_anything_begins(world: tiny.World, mixture: Path) -> None:
    path = mixture / "mixture.jsonl"
    path.write_text(path.read_text().replace("apple", "river"))
    with pytest.raises(UserError, match="SHA-256 is another"):
        plan(spec_of(world, mixture))
    (mixture / "manifest.json").unlink()
    with pytest.raises(UserError, match="There is no"):
        plan(spec_of(world, mixture / "manifest.json"))


@pytest.mark.parametrize(
    ("target", "told"), [({"columns": {"question": "q"}}, "no columns"), ({"answer": "cot"}, "was made with 'answer'")]
)
def test_what_a_mixture_settles_is_not_settled_again(
    world: tiny.World, mixture: Path, target: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        plan(spec_of(world, mixture, target={"data": str(mixture), **target}))


def test_a_result_is_no_mixture(world: tiny.World, result: Path) -> None:
    with pytest.raises(UserError, match="no mixture's manifest"):
        plan(spec_of(world, result))


def test_a_prediction_must_be_of_the_mixtures_target_and_of_rows_it_does_not_train_on(
    world: tiny.World, result: Path, mixture: Path
) -> None:
    assert plan(spec_of(world, mixture, prediction=str(result)))["mixture"]
    seen = json.loads((result / "manifest.json").read_text())
    seen["sets"]["target"]["query_rows"].append(next(line["row"] for line in lines(mixture) if line["set"] == "target"))
    (result / "manifest.json").write_text(json.dumps(seen))
    with pytest.raises(UserError, match="trains on 1 of the rows that the prediction"):
        plan(spec_of(world, mixture, prediction=str(result)))
    values = world.spec(target={"data": str(world.folder / "physics.jsonl"), "demos": 2, "tokens": 250})
    other = run(Spec.from_dict(values), world.folder / "other").folder
    with pytest.raises(UserError, match="another training set"):
        plan(spec_of(world, mixture, prediction=str(other)))


def test_another_mixture_in_the_same_place_is_another_run(
    world: tiny.World, result: Path, mixture: Path, tmp_path: Path
) -> None:
    spec = spec_of(world, mixture, evaluate={"target_rows": 0})
    run_sft(spec, tmp_path / "run", silent)
    mixture.rename(world.folder / "first")
    run_mixture(mixture_spec(result, seed=5), mixture)
    with pytest.raises(UserError, match="the training set"):
        run_sft(spec, tmp_path / "run", silent)


def test_the_models_own_answers_are_trained_on(world: tiny.World, result: Path, tmp_path: Path) -> None:
    generate = {"max_tokens": 8, "device": "cpu", "dtype": "float32"}
    out = run_mixture(mixture_spec(result, answers="model", generate=generate), tmp_path / "own")
    spec = spec_of(world, out)
    assert plan(spec)["mixture"]["answers"] == "model"
    other = tiny.save_model(tmp_path / "other", "llama", "chatml", seed=9)
    told = plan(spec_of(world, out, model=str(other)))["warnings"]
    assert any("answers are those of" in warning for warning in told)
    run_sft(spec, tmp_path / "run", silent)
    assert (tmp_path / "run" / "model").is_dir()
