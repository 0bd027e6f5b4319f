"""Which rows train, and as which tokens: held against TRL's own prompt/completion rows, template by template."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sts_core.text.prompts import Prompter
from sts_core.text.sides import held_out, split
from sts_core.text.sources import read_rows
from sts_core.train.sft.rows import IGNORED, RowSet, training_rows
from sts_core.train.sft.spec import SftSpec
from tests import tiny


def spec_of(data: Path, **changes: Any) -> SftSpec:
    values = {"model": "any", "learning_rate": 1e-3, "target": {"data": str(data), "answer": "cot"}, **changes}
    return SftSpec.from_dict({"evaluate": {"target_rows": 7}, **values})


def made(
    folder: Path, records: list[dict[str, Any]], style: tiny.Style = "chatml", context: int = 256, **changes: Any
) -> RowSet:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    return training_rows(spec_of(data, **changes), tiny.tokenizer(style), context)


def by_trl(tokenizer: Any, asked: list[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """What TRL's trainer makes of prompt/completion rows: ids and labels, by its own preparation."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    if tokenizer.chat_template:
        rows: list[dict[str, Any]] = [
            {
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": answer}],
            }
            for question, answer in asked
        ]
    else:
        rows = [{"prompt": f"Question: {question}\nAnswer:", "completion": f" {answer}"} for question, answer in asked]
    arguments = SFTConfig(output_dir="unused", use_cpu=True, bf16=False, report_to=[], max_length=None)
    bare = SFTTrainer.__new__(SFTTrainer)  # its preparation alone: no model is needed for it
    bare._tokenizer, bare.chat_template, bare.completion_only_loss = tokenizer, None, True
    ready = bare._prepare_dataset(Dataset.from_list(rows), tokenizer, arguments, False, None, "train")
    return [(list(row["input_ids"]), list(row["labels"])) for row in ready]


@pytest.mark.parametrize("style", tiny.STYLES)
def test_a_row_is_what_trl_makes_of_it(tmp_path: Path, style: tiny.Style) -> None:
    records = tiny.rows(40, seed=5)
    for record in records[::2]:
        record["cot"] = record["answer"]  # a digit after a blank is a token of its own, unlike a word
    found = made(tmp_path, records, style)
    assert len(found.rows) == 13
    asked = [(records[row.number]["question"], records[row.number]["cot"]) for row in found.rows]
    assert [(row.ids, row.labels) for row in found.rows] == by_trl(tiny.tokenizer(style), asked)
    assert all(0 < row.learned < len(row.ids) for row in found.rows)


@pytest.mark.parametrize("style", tiny.STYLES)
def test_there_is_one_bos_and_no_message_we_added(tmp_path: Path, style: tiny.Style) -> None:
    tokenizer = tiny.tokenizer(style)
    for row in made(tmp_path, tiny.rows(30, seed=6), style).rows:
        text = tokenizer.decode(row.ids)
        if style in ("llama3", "gemma", "plain-bos"):
            assert row.ids.count(tokenizer.bos_token_id) == 1
            assert row.ids[0] == tokenizer.bos_token_id
        assert text.count("You are a helpful tiny model") == (style == "chatml")


def test_the_queried_half_and_the_evaluated_rows_never_train(tmp_path: Path) -> None:
    records = tiny.rows(90, seed=7)
    records += [{**draw, "cot": "again"} for draw in random.Random(1).sample(records, 20)]
    found = made(tmp_path, records)
    rows = read_rows(tmp_path / "rows.jsonl", {}, ("question", "worked")).rows
    trained = {records[row.number]["question"] for row in found.rows}
    queried = {row.question for row in split(rows).queried}
    assert trained.isdisjoint(queried)
    assert trained.isdisjoint(row.question for row in found.evaluation)
    assert queried.isdisjoint(row.question for row in found.evaluation)
    assert found.evaluation == held_out(rows, 7).evaluated
    assert trained | queried | {row.question for row in found.evaluation} == {record["question"] for record in records}
    assert any("repeat the question" in told for told in found.warnings)


def test_the_order_is_the_seeds(tmp_path: Path) -> None:
    records = tiny.rows(60, seed=8)
    first, again, other = ([row.number for row in made(tmp_path, records, seed=seed).rows] for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)


def head_of(tokenizer: Any) -> str:
    return Prompter(tokenizer).skeleton(2).pieces[0].strip()


@pytest.mark.parametrize("style", tiny.STYLES)
def test_a_long_question_loses_its_beginning_and_nothing_else(tmp_path: Path, style: tiny.Style) -> None:
    tokenizer = tiny.tokenizer(style)
    records = [{"question": f"{'apple river ' * 60}{i} end", "cot": f"so seven {i}"} for i in range(12)]
    whole = {row.number: row for row in made(tmp_path, records, style, context=10_000).rows}
    cut = made(tmp_path, records, style, context=10_000, max_tokens=60)
    assert cut.shortened == len(cut.rows) == len(whole)
    for row in cut.rows:
        long = whole[row.number]
        assert len(row.ids) == 60
        assert [label for label in row.labels if label != IGNORED] == [x for x in long.labels if x != IGNORED]
        assert any(row.ids == [*long.ids[:head], *long.ids[len(long.ids) - 60 + head :]] for head in range(60))
        assert tokenizer.decode(row.ids).removeprefix("<s>").startswith(head_of(tokenizer))


def test_an_answer_that_does_not_fit_is_dropped_and_counted(tmp_path: Path) -> None:
    records = tiny.rows(30, seed=9)
    for record in records[::2]:
        record["cot"] = "train " * 300
    found = made(tmp_path, records)
    assert all(row.number % 2 for row in found.rows)
    assert found.dropped["answer longer than max_tokens"] > 0
    assert len(found.rows) + sum(found.dropped.values()) + len(found.evaluation) + found.queried == 30


@pytest.mark.parametrize("text", ["a <|im_end|> b", "lone \ud800 surrogate"])
def test_what_would_break_the_prompt_is_dropped_and_counted(tmp_path: Path, text: str) -> None:
    records = tiny.rows(40, seed=10)
    for record in records[::3]:
        record["cot"] = text
    found = made(tmp_path, records)
    assert all(row.number % 3 for row in found.rows)
    assert sum(found.dropped.values()) > 0


def test_the_answer_or_the_worked_one(tmp_path: Path) -> None:
    records = tiny.rows(30, seed=11)
    tokenizer = tiny.tokenizer("plain")
    data = tiny.write_rows(tmp_path / "rows.jsonl", records)
    for answer in ("answer", "cot"):
        spec = spec_of(data, target={"data": str(data), "answer": answer})
        for row in training_rows(spec, tokenizer, 256).rows:
            learned = [label for label in row.labels if label != IGNORED]
            assert tokenizer.decode(learned) == f" {records[row.number][answer]}{tokenizer.eos_token}"
