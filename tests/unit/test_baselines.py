"""The baselines that need a model, against dense float64; kept, read back, and held to the rows they may use."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.cli import baselines as command
from sts_core.errors import UserError
from sts_core.jobs.folder import Job
from sts_core.jobs.worker import KINDS
from sts_core.measure.run import run
from sts_core.progress import silent
from sts_core.results.baselines import NOT_STORED
from sts_core.results.folder import Result
from sts_core.results.kept_baselines import AFTER, PROBE, RAW, Part, folder_of, kept_baselines
from sts_core.spec import DataSpec, Spec
from sts_core.text.sides import held_out, split
from sts_core.text.sources import read_rows
from sts_core.train.baselines.order import BaselinesOrder, find_run, probe_spec
from sts_core.train.baselines.run import measure_baselines
from sts_core.train.evaluation.sets import domain_set, target_set
from sts_core.train.sft.training import train
from tests import tiny
from tests.dense import Dense, score
from tests.unit.test_tuned import changed

LAYER, STEPS, ROWS = 1, 4, 6
DOMAINS = ("physics", "law")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def result(world: tiny.World) -> Result:
    return run(Spec.from_dict(world.spec()), world.folder / "result")


def order(result: Result, **changes: Any) -> BaselinesOrder:
    return BaselinesOrder.from_dict({
        "result": str(result.folder), "lora_steps": STEPS, "rows": ROWS, "device": "cpu", **changes
    })  # fmt: skip


def measured(result: Result, **changes: Any) -> dict[str, Part]:
    return {part.manifest["part"]: part for part in measure_baselines(order(result, **changes))}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pooled(world: tiny.World, result: Result, model: Path, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """The residuals of a set's query tokens by a dense pass of each question: [tokens, width], whose, how many."""
    dense = Dense(model, world.sae, LAYER)
    rows = records(world.folder / f"{name}.jsonl")
    found, item = [], []
    queries = result.manifest["sets"][name]["query_rows"]
    for position, number in enumerate(queries):
        found.append(dense.residuals([rows[number]["question"]], 1))
        item += [position] * len(found[-1])
    return np.concatenate(found), np.array(item), len(queries)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_raw_level_and_likeness_are_those_of_a_dense_pass(world: tiny.World, result: Result) -> None:
    level, alike = measured(result, parts=["raw"])[RAW].baselines
    most = result.manifest["outlier_norm"]
    target, _, _ = pooled(world, result, world.model, "target")
    target = target[np.linalg.norm(target, axis=1) <= most].mean(axis=0)
    for name in DOMAINS:
        tokens, item, items = pooled(world, result, world.model, name)
        kept = np.linalg.norm(tokens, axis=1) <= most
        value, se = score(np.abs(tokens[kept]).mean(axis=1), item[kept], items)
        assert level.values[name] == pytest.approx(value, rel=1e-5)
        assert level.se[name] == (None if se is None else pytest.approx(se, rel=1e-3))
        assert alike.values[name] == pytest.approx(cosine(tokens[kept].mean(axis=0), target), rel=1e-5)
    assert level.se["law"] is None  # four questions
    assert alike.se["physics"]
    assert level.foretells
    assert level.seconds
    assert level.seconds > 0


@pytest.mark.parametrize("pool", ["features", "raw"])
def test_the_turn_of_a_domain_is_that_of_two_dense_passes(world: tiny.World, result: Result, pool: str) -> None:
    tuned = changed(world, by=0.3)
    part = measured(result, parts=["after"], run=str(tuned))[AFTER]
    found = {one.name: one for one in part.baselines}[f"1 − similarity before and after, {pool}"]
    most = result.manifest["outlier_norm"]
    for name in DOMAINS:
        before, _, _ = pooled(world, result, world.model, name)
        after, _, _ = pooled(world, result, tuned, name)
        kept = np.maximum(np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)) <= most
        before, after = before[kept], after[kept]
        if pool == "features":
            dense = Dense(world.model, world.sae, LAYER)
            before, after = dense.features(before), dense.features(after)
        expected = 1 - cosine(before.mean(axis=0), after.mean(axis=0))
        assert expected > 0.005
        assert found.values[name] == pytest.approx(expected, rel=1e-3)
    assert not found.foretells


def nll(model: Any, tokenizer: Any, question: str, answer: str) -> float:
    """−mean ln p of the answer's tokens after the chat prompt, in float64, one row alone."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    begin = text.rindex(answer)
    own = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if b > begin and a < begin + len(answer)]
    with torch.inference_mode():
        logps = model(torch.tensor([encoded["input_ids"]])).logits[0].double().log_softmax(dim=-1)
    return -float(np.mean([logps[i - 1, encoded["input_ids"][i]] for i in own]))


def test_the_probe_is_a_short_training_seen_from_every_question(world: tiny.World, result: Result) -> None:
    """Trained once more apart, the adapter put on the model in float64, every question asked alone."""
    part = measured(result, parts=["probe"], learning_rate=0.01)[PROBE]
    found = part.baselines[0]
    spec = probe_spec(order(result, learning_rate=0.01), result, None)
    adapter = train(spec, world.folder / "again").model
    words = AutoTokenizer.from_pretrained(world.model)
    before = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float64).eval()
    base = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float64)
    after = PeftModel.from_pretrained(base, str(adapter)).eval()
    for name in DOMAINS:
        rows = records(world.folder / f"{name}.jsonl")
        rises = []
        for number, was, became in part.manifest["nll"][name]:
            asked = rows[number]["question"], rows[number]["answer"]
            expected = nll(before, words, *asked), nll(after, words, *asked)
            assert (was, became) == pytest.approx(expected, rel=1e-4)
            rises.append(expected[1] - expected[0])
        assert found.values[name] == pytest.approx(np.mean(rises), rel=1e-3)
        expected_se = np.std(rises, ddof=1) / math.sqrt(len(rises)) if len(rises) >= 5 else None
        assert found.se[name] == (None if expected_se is None else pytest.approx(expected_se, rel=1e-3))
        assert abs(found.values[name]) > 1e-3
    assert found.name == f"short LoRA probe, {STEPS} steps"
    assert found.foretells
    assert part.manifest["seconds"].keys() == {"scoring before", "training", "scoring after"}
    assert found.seconds == pytest.approx(sum(part.manifest["seconds"].values()), abs=0.05)
    assert len(part.manifest["losses"]) == STEPS
    assert [path.name for path in folder_of(result).iterdir()] == [part.path.name]  # nothing of the training is left


def test_the_probe_looks_at_no_row_that_a_fine_tune_is_judged_by(world: tiny.World, result: Result) -> None:
    manifest = measured(result, parts=["probe"])[PROBE].manifest
    for name in DOMAINS:
        data = DataSpec(name=name, data=str(world.folder / f"{name}.jsonl"))
        evaluated = {question.row for question in domain_set(data).questions}
        scored = set(manifest["scored_rows"][name])
        assert scored
        assert scored <= set(result.manifest["sets"][name]["query_rows"])
        assert not scored & evaluated
        assert len(scored) == min(ROWS, len(result.manifest["sets"][name]["query_rows"]))
    target = world.folder / "target.jsonl"
    rows = read_rows(target, {}, ("question",)).rows
    trained = set(manifest["train_rows"])
    assert trained == {row.number for row in held_out(rows, 100).trained}
    assert not trained & {row.number for row in split(rows).queried}
    evaluated = {q.row for q in target_set(DataSpec(name="target", data=str(target)), 100).questions}
    assert evaluated
    assert not trained & evaluated


def test_what_is_kept_is_read_back_and_not_measured_again(world: tiny.World, result: Result) -> None:
    tuned = changed(world, by=0.3)
    parts = measured(result, run=str(tuned))
    assert list(parts) == [RAW, AFTER, PROBE]
    written = {part.path: part.path.stat().st_mtime_ns for part in parts.values()}
    kept = kept_baselines(result, tuned)
    assert kept.missing == {}
    assert kept.baselines == [one for part in parts.values() for one in part.baselines]
    again = measured(result, run=str(tuned))
    assert {part.path: part.path.stat().st_mtime_ns for part in again.values()} == written
    anew = measure_baselines(order(result, parts=["raw"]), fresh=True)
    assert anew[0].path.stat().st_mtime_ns != written[anew[0].path]
    assert [one.values for one in anew[0].baselines] == [one.values for one in parts[RAW].baselines]


def test_what_is_not_there_is_told(world: tiny.World, result: Result, tmp_path: Path) -> None:
    assert kept_baselines(result).missing == NOT_STORED
    tuned = changed(world, by=0.3)
    raw = measured(result, parts=["raw", "after"], run=str(tuned))[RAW]
    assert set(kept_baselines(result).missing) == {"similarity before and after", "short LoRA probe"}
    assert set(kept_baselines(result, tmp_path).missing) == {"similarity before and after", "short LoRA probe"}
    assert set(kept_baselines(result, tuned).missing) == {"short LoRA probe"}
    raw.path.write_text(raw.path.read_text()[:-200])
    found = kept_baselines(result)
    assert "damaged" in found.missing["raw activation"]
    assert found.baselines == []
    measured(result, parts=["raw"])
    assert set(kept_baselines(result).missing) == {"similarity before and after", "short LoRA probe"}


def test_of_two_probes_the_one_measured_last_counts(result: Result) -> None:
    measured(result, parts=["probe"])
    last = measured(result, parts=["probe"], lora_steps=2)[PROBE]
    assert len(list(folder_of(result).iterdir())) == 2
    assert kept_baselines(result).baselines == last.baselines


def test_a_domain_without_answers_is_left_out_and_told(world: tiny.World) -> None:
    bare = [{"question": row["question"]} for row in tiny.rows(30, seed=8)]
    tiny.write_rows(world.folder / "physics.jsonl", bare)
    spec = world.spec()
    tiny.write_rows(world.folder / "demos.jsonl", tiny.rows(5, seed=9))
    spec["domains"][0]["demo_data"] = str(world.folder / "demos.jsonl")
    result = run(Spec.from_dict(spec), world.folder / "bare")
    part = measured(result, parts=["probe"])[PROBE]
    assert math.isnan(part.baselines[0].values["physics"])
    assert math.isfinite(part.baselines[0].values["law"])
    assert any("physics: no question has an answer" in line for line in part.manifest["warnings"])


def test_a_run_lends_the_probe_its_settings_and_keeps_its_own_rows_back(world: tiny.World, result: Result) -> None:
    folder = world.folder / "job" / "result"
    (folder / "model").mkdir(parents=True)
    told = {
        "model": str(world.model), "learning_rate": 0.003, "method": "lora", "batch": 2, "lora": {"rank": 3},
        "target": {"data": "elsewhere.jsonl", "answer": "cot"}, "evaluate": {"target_rows": 7}, "steps": 900,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"spec": told}))
    run_ = find_run(str(folder.parent))
    assert run_.model == str(folder / "model")
    spec = probe_spec(order(result), result, run_)
    assert (spec.learning_rate, spec.batch, spec.lora.rank, spec.steps) == (0.003, 2, 3, STEPS)
    assert (spec.target.answer, spec.evaluate.target_rows) == ("cot", 7)
    assert spec.target.data == str(world.folder / "target.jsonl")
    told["method"] = "full"
    (folder / "manifest.json").write_text(json.dumps({"spec": told}))
    assert probe_spec(order(result), result, find_run(str(folder))).learning_rate == 5e-4


def test_what_a_person_must_change_is_told_before_anything_is_measured(
    world: tiny.World, result: Result, tmp_path: Path
) -> None:
    for changes, words in (
        ({"parts": ["row"]}, "no part 'row'"),
        ({"parts": ["after"]}, "needs the trained model"),
        ({"lora_steps": 0}, "lora_steps is 0"),
        ({"rows": 1}, "rows is 1"),
        ({"answer": "none"}, "answer is 'none'"),
        ({"stpes": 3}, "unknown key 'stpes'"),
        ({"run": str(tmp_path)}, "holds no fine-tuned model"),
        ({"run": str(tmp_path / "nowhere")}, "no model"),
        ({"result": str(tmp_path)}, "no finished result"),
    ):
        with pytest.raises(UserError, match=words):
            measure_baselines(BaselinesOrder.from_dict({"result": str(result.folder), **changes}))
    with pytest.raises(UserError, match="96"):
        measure_baselines(order(result, run=str(tiny.save_model(tmp_path / "wide", hidden_size=96))))
    tuned = changed(world, by=0.3)
    job = tmp_path / "job"
    job.mkdir()
    tuned.rename(job / "model")
    (job / "manifest.json").write_text(json.dumps({"model": {"revision": "of another"}}))
    with pytest.raises(UserError, match="not trained from"):
        measure_baselines(order(result, run=str(job)))
    tiny.write_rows(world.folder / "law.jsonl", tiny.rows(9, seed=3))
    with pytest.raises(UserError, match=r"data of law .* has changed"):
        measure_baselines(order(result))
    assert not folder_of(result).exists()


def sts(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    program = typer.Typer()
    command.add_to(program)
    program(args=[str(argument) for argument in arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_the_command_plans_measures_and_takes_a_file(
    world: tiny.World, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--rows", ROWS, "--lora-steps", STEPS, "--device", "cpu")
    planned = json.loads(sts(capsys, result.folder, *few, "--plan", "--json"))
    assert [one["part"] for one in planned["parts"]] == [RAW, PROBE]
    assert not any(one["there"] for one in planned["parts"])
    assert planned["probe"]["scored"] == {"physics": ROWS, "law": 4}
    assert not folder_of(result).exists()
    table = sts(capsys, result.folder, *few)
    assert "raw similarity" in table
    assert "physics" in table
    assert "took" in table
    file = world.folder / "order.toml"
    file.write_text(f'result = "result"\nrows = {ROWS}\nlora_steps = {STEPS}\ndevice = "cpu"\n')
    planned = json.loads(sts(capsys, file, "--plan", "--json"))
    assert all(one["there"] for one in planned["parts"])
    assert planned["seconds"] == 0


def test_a_job_measures_them(result: Result, tmp_path: Path) -> None:
    plain = order(result, parts=["raw"]).to_dict()
    assert BaselinesOrder.from_dict(plain) == order(result, parts=["raw"])
    job = Job(id="x", folder=tmp_path, kind="baselines", spec=plain)
    assert KINDS["baselines"](job, silent) == result.manifest["key"]
    assert [one.name for one in kept_baselines(result).baselines] == ["raw activation", "raw similarity"]
    assert '"baselines"' in (tmp_path / "events.jsonl").read_text()
