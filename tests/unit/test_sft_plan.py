"""What is told before anything is trained: bad data of every kind, and a plan that a run keeps to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.train.sft.plan import check_room, plain_model, plan
from sts_core.train.sft.spec import SftSpec
from tests import tiny

GOOD = tiny.rows(40, seed=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("sft") / "tiny", "llama", "chatml")


@pytest.fixture(autouse=True)
def _own_cache(own_cache: Path) -> None:
    """No remembered rate from elsewhere."""


def spec_of(model: Path, data: Path, **changes: Any) -> SftSpec:
    values = {"model": str(model), "learning_rate": 1e-3, "steps": 10, "batch": 4, "target": {"data": str(data)}}
    return SftSpec.from_dict({"evaluate": {"target_rows": 4}, "device": "cpu", "dtype": "float32", **values, **changes})


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def changed(**values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} for row in GOOD]


def write(name: str, text: str | bytes) -> Callable[[Path], Path]:
    def into(folder: Path) -> Path:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / name

    return into


BAD = {
    "no file": (lambda folder: folder / "none.jsonl", "There is no file"),
    "a folder": (lambda folder: folder, "There is no data set"),
    "another kind of file": (write("rows.txt", "hello"), "no kind of file"),
    "empty": (write("rows.jsonl", ""), "holds no rows"),
    "wrong JSON on line 700": (write("rows.jsonl", lines((GOOD * 18)[:699]) + "{,\n"), "line 700 is not valid"),
    "a list on a line": (write("rows.jsonl", lines([*GOOD, [1, 2]])), "line 41 is not a JSON object"),
    "not UTF-8": (write("rows.jsonl", lines(GOOD).encode() + b"\xff\xfe\n"), "is not UTF-8"),
    "no question column": (write("rows.jsonl", lines([{"prompt": "a", "answer": "b"}] * 9)), "no column 'question'"),
    "no answer column": (write("rows.jsonl", lines([{"question": "a", "anwser": "b"}] * 9)), 'did you mean "anwser"'),
    "all answers empty": (write("rows.jsonl", lines(changed(answer=" "))), "leave none to train on"),
    "all questions empty": (write("rows.jsonl", lines(changed(question=""))), "leave none to train on"),
    "answers that are lists": (write("rows.jsonl", lines(changed(answer=["a"]))), "leave none to train on"),
    "one row": (write("rows.jsonl", lines(GOOD[:1])), "leave none to train on"),
    "one question over and over": (write("rows.jsonl", lines([GOOD[0]] * 50)), "leave none to train on"),
    "all answers too long": (write("rows.jsonl", lines(changed(answer="train " * 400))), "answer longer than"),
    "all hold markers": (write("rows.jsonl", lines(changed(answer="<|im_end|>"))), "template's special tokens"),
    "all lone surrogates": (write("rows.jsonl", lines(changed(answer="\ud800"))), "not valid Unicode"),
    "a torn Parquet file": (write("rows.parquet", b"PAR1 and no more"), "is not a Parquet file"),
    "a CSV with a column twice": (write("rows.csv", "question,answer,answer\na,b,c\n"), "two columns named 'answer'"),
    "a CSV with a long line": (write("rows.csv", "question,answer\na,b,c\n"), "more fields than the header"),
    "an unclosed quote in a CSV": (write("rows.csv", 'question,answer\n"a,b\n'), "is not valid CSV"),
    "JSON that is no list": (write("rows.json", '{"question": "a"}'), "not a list of JSON objects"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_is_told_before_training(model: Path, tmp_path: Path, kind: str) -> None:
    make, told = BAD[kind]
    with pytest.raises(UserError, match=told) as error:
        plan(spec_of(model, make(tmp_path)))
    assert error.value.hint


def test_a_row_of_ten_megabytes_costs_its_beginning_alone(model: Path, tmp_path: Path) -> None:
    rows = changed()
    for row in rows[::4]:
        row["question"] = "apple river " * 900_000 + row["question"]
    told = plan(spec_of(model, tiny.write_rows(tmp_path / "rows.jsonl", rows)))
    found = told["rows"]
    assert found["shortened"] > 0
    assert found["longest"] == 256
    assert found["dropped"] == {}
    assert any("not evaluated (too long: " in warning for warning in told["warnings"])


def test_what_is_odd_but_no_refusal_is_a_warning(model: Path, tmp_path: Path) -> None:
    rows = [{**row, "id": 7} for row in GOOD] + GOOD[:15]  # one id for all, and questions twice
    rows[3]["answer"] = ""
    found = plan(spec_of(model, tiny.write_rows(tmp_path / "rows.jsonl", rows), batch=64, checkpoint_every=50))
    told = " ".join(found["warnings"])
    for words in ("repeat the question", "no answer: 1", "fewer than one batch", "only its end is kept"):
        assert words in told


def test_the_plan_counts_what_is_there(model: Path, tmp_path: Path) -> None:
    found = plan(spec_of(model, tiny.write_rows(tmp_path / "rows.jsonl", GOOD), checkpoint_every=3, lora={"rank": 2}))
    assert found["rows"]["train"] == 16
    assert found["rows"]["evaluation"] == 4
    assert found["rows"]["never_trained_on"] == 20
    assert (found["steps"], found["epochs"]) == (10, 2.5)
    assert found["checkpoints"]["made"] == 4
    from transformers import AutoModelForCausalLM

    real = AutoModelForCausalLM.from_pretrained(model)
    assert found["parameters"]["model"] == sum(p.numel() for p in real.parameters())
    linear = [m for name, m in real.named_modules() if type(m).__name__ == "Linear" and name != "lm_head"]
    assert found["parameters"]["trained"] == sum(2 * (m.in_features + m.out_features) for m in linear)
    assert found["work"]["seconds"] > 0
    assert not found["work"]["rate_measured_here"]


def test_a_module_that_is_not_there_is_told(model: Path, tmp_path: Path) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    with pytest.raises(UserError, match=r'no module .q_porj. for LoRA .did you mean "q_proj"'):
        plan(spec_of(model, data, lora={"targets": ["q_porj"]}))


def test_too_little_room_is_told(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(model, tmp_path / "rows.jsonl", method="full")
    check_room(spec, plain_model(spec), tmp_path)
    data = tiny.write_rows(tmp_path / "rows.jsonl", GOOD)
    each = plan(spec_of(model, data))["checkpoints"]["bytes_each"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3 * each})())
    many = plan(spec_of(model, data, steps=8, checkpoint_every=1))
    assert any("keep_checkpoints" in warning for warning in many["warnings"])
    assert not any("keep_checkpoints" in w for w in plan(spec_of(model, data, steps=8, checkpoint_every=8))["warnings"])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": each // 10})())
    with pytest.raises(UserError, match="too little room"):
        check_room(spec, plain_model(spec), tmp_path)


def test_what_would_end_a_run_later_is_told_by_its_plan(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(20, seed=1))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for changes, told in (
        ({"prediction": "nope"}, "no finished result 'nope'"),
        ({"report": "wandb"}, "W&B has no key here"),
        ({"lora": {"rank": 100_000}}, "lora.rank is 100,000, more than the"),
    ):
        with pytest.raises(UserError, match=told):
            plan(spec_of(model, data, **changes))
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert plan(spec_of(model, data, report="wandb"))["steps"]
