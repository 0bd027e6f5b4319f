"""The model's own answers: what greedy search gives each question alone, the same after a kill or with a seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.progress import Progress, silent
from sts_core.spec import Spec
from sts_core.train.mixture import answering
from sts_core.train.mixture.manifest import read_mixture, rebuild
from sts_core.train.mixture.plan import plan
from sts_core.train.mixture.run import run_mixture
from sts_core.train.mixture.spec import MixtureSpec
from tests import tiny

STYLES: tuple[tiny.Style, ...] = ("chatml", "llama3", "gemma", "plain", "plain-bos")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def result(world: tiny.World) -> Path:
    return run(Spec.from_dict(world.spec()), world.folder / "result").folder


def spec_of(result: Path, **changes: Any) -> MixtureSpec:
    generate = {"max_tokens": 12, "device": "cpu", "dtype": "float32", "batch": 3, **changes.pop("generate", {})}
    return MixtureSpec.from_dict({
        "result": str(result), "budget": 10, "answers": "model", "score": {"n": 20}, "generate": generate,
        "target": {"rows": 5, "evaluate_rows": 8}, **changes,
    })  # fmt: skip


def made(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "mixture.jsonl").read_text(encoding="utf-8").split("\n") if line]


def greedy(model: Any, tokenizer: Any, question: str, most: int) -> str:
    """One question alone, one token after the other, the whole prompt read anew for each."""
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    else:
        text = f"Question: {question}\nAnswer:"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token == "<s>":
        ids = [tokenizer.bos_token_id, *ids]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    said: list[int] = []
    with torch.no_grad():
        while len(said) < most:
            token = int(model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax())
            if token in special:
                break
            said.append(token)
    return str(tokenizer.decode(said, clean_up_tokenization_spaces=False)).split("\n\nQuestion:")[0].strip()


@pytest.mark.parametrize("style", STYLES)
def test_they_are_what_the_model_says_to_each_question_alone(
    tmp_path: Path, own_cache: Path, style: tiny.Style
) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    world = tiny.world(folder, style=style)
    result = run(Spec.from_dict(world.spec()), folder / "result").folder
    out = run_mixture(spec_of(result), tmp_path / "mix")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(world.model), AutoTokenizer.from_pretrained(world.model)
    records = [json.loads(line) for line in (folder / "target.jsonl").read_text().splitlines()]
    for line in made(out):
        if line["set"] == "target":
            assert line["answer"] == records[line["row"]]["answer"]
        else:
            assert line["answer"] == greedy(model, tokenizer, line["question"], 12)
    told = json.loads((out / "manifest.json").read_text())
    assert told["counts"] == {"target": 5, **told["quotas"]}
    assert any("were cut at 12 tokens" in warning for warning in told["warnings"]) == bool(told["answers"]["cut"])


def test_the_manifest_makes_the_file_again_without_the_model(
    world: tiny.World, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run_mixture(spec_of(result), tmp_path / "mix")
    before = (out / "mixture.jsonl").read_bytes()
    (world.model / "model.safetensors").unlink()
    assert rebuild(out) == before
    answers = out / "answers.jsonl"
    assert len(answers.read_text().splitlines()) == 10
    answers.write_text(answers.read_text().replace('"tokens": ', '"tokens":  '))
    with pytest.raises(UserError, match="has changed since"):
        rebuild(out)


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_killed_and_gone_on_with_it_is_the_same_mixture(
    result: Path, tmp_path: Path, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(result, generate={"temperature": temperature})
    whole = run_mixture(spec, tmp_path / "whole")
    out = tmp_path / "killed"

    def watch(step: Progress) -> None:
        if step.unit == "answers" and step.done >= 6:
            raise Killed

    with pytest.raises(Killed):
        run_mixture(spec, out, watch)
    part = out / "answers.part.jsonl"
    kept = part.read_bytes().splitlines(keepends=True)
    assert len(kept) == 6
    part.write_bytes(b"".join(kept)[:-9])  # the last line is torn: its batch is asked again
    assert not (out / "manifest.json").exists()
    asked: list[int] = []
    ask = answering.Answerer._ask

    def counting(self: answering.Answerer, batch: list[Any]) -> list[answering.Said]:
        asked.append(len(batch))
        return ask(self, batch)

    monkeypatch.setattr(answering.Answerer, "_ask", counting)
    run_mixture(spec, out)
    assert sum(asked) == 7
    for name in ("mixture.jsonl", "answers.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not part.exists()


def test_drawn_answers_are_the_seeds(result: Path, tmp_path: Path) -> None:
    warm = {"temperature": 1.0}
    torch.manual_seed(1)
    first = made(run_mixture(spec_of(result, generate=warm), tmp_path / "a"))
    torch.manual_seed(2)
    again = made(run_mixture(spec_of(result, generate=warm), tmp_path / "b"))
    rows = {"budget": None, "allocation": {"physics": 40}}
    one, other = (made(run_mixture(spec_of(result, **rows, seed=seed, generate=warm), tmp_path / f"s{seed}"))
                  for seed in (1, 2))  # fmt: skip
    assert first == again
    said = [{line["row"]: line["answer"] for line in lines if line["set"] == "physics"} for lines in (one, other)]
    assert said[0].keys() == said[1].keys()
    assert said[0] != said[1]


def test_an_answer_that_cannot_be_learned_gives_its_place_to_the_next(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third question is met with silence: rows are drawn until the quota is full, or nobody is left to ask."""
    ask = answering.Answerer._ask

    def silent_to_some(self: answering.Answerer, batch: list[Any]) -> list[answering.Said]:
        said = ask(self, batch)
        return [one._replace(answer="" if asked.row % 3 == 0 else one.answer or "so") for (asked, _), one in
                zip(batch, said, strict=True)]  # fmt: skip

    monkeypatch.setattr(answering.Answerer, "_ask", silent_to_some)
    some = run_mixture(spec_of(result, budget=None, allocation={"physics": 12}), tmp_path / "some")
    told = json.loads((some / "manifest.json").read_text())
    assert told["counts"]["physics"] == 12
    assert all(number % 3 for number in told["rows"]["physics"])
    assert told["answers"]["asked"] > 12
    every = run_mixture(spec_of(result, budget=None, allocation={"physics": 40}), tmp_path / "every")
    told = json.loads((every / "manifest.json").read_text())
    assert 20 < told["counts"]["physics"] == len(read_mixture(every).rows) - 5 < 40
    assert any("of its quota of 40" in warning for warning in told["warnings"])
    assert rebuild(every) == (every / "mixture.jsonl").read_bytes()


def test_the_plan_asks_nobody(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering.Answerer, "_ask", lambda *_: pytest.fail("the model was asked"))
    found = plan(spec_of(result))
    assert found["answers"] == {"from": "model", "to_generate": 10, "tokens_at_most": 120}
    assert found["cost"]["at_most"] == found["cost"]["tokens"] + 120


def test_how_far_it_is_is_told(result: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    events: list[tuple[str, dict[str, Any]]] = []
    run_mixture(spec_of(result), tmp_path / "mix", steps.append, lambda event, told: events.append((event, told)))
    done = [step.done for step in steps if step.unit == "answers"]
    assert done == sorted(done)
    assert done[0] == 0
    assert steps[-1].done == steps[-1].total >= 10
    assert [event for event, _ in events] == ["mixture"]
    assert events[0][1]["rows"] == 15


def test_another_model_than_the_measured_one_is_refused(world: tiny.World, result: Path, tmp_path: Path) -> None:
    tiny.save_model(world.model, "llama", "chatml", seed=5)
    with pytest.raises(UserError, match="is not the model that was measured"):
        run_mixture(spec_of(result), tmp_path / "mix", silent)
