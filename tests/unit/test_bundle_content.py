"""What the real bundle holds; skipped where it has not been fetched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sts_core.bundle import embedded

pytestmark = pytest.mark.skipif(not embedded.ready(), reason="the embedded bundle is not here: `sts demo fetch`")


def rows(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("domain", embedded.domain_names())
def test_a_domain_holds_well_formed_questions_and_enough_demonstrations(domain: str) -> None:
    asked, shown = rows(embedded.domain_file(domain)), rows(embedded.demo_file(domain))
    assert len(asked) >= 150
    assert len(shown) >= 5
    for row in asked + shown:
        assert row["question"].strip()
        assert len(row["options"]) == 4
        assert all(option.strip() for option in row["options"])
        assert row["answer"] in set("ABCD")
        assert embedded.subject_domains()[row["subject"]] == domain
    assert all(f"answer is ({row['answer']})" in row["cot"] for row in shown)
    keys = [json.dumps([row["question"], row["options"]]) for row in asked]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {json.dumps([row["question"], row["options"]]) for row in shown}


def test_prose_is_whole_passages_each_once() -> None:
    passages = [row["text"] for row in rows(embedded.prose_file())]
    assert len(set(passages)) == len(passages) == 2_938
    assert sum(map(len, passages)) > 1_600_000
    assert all(passage == passage.strip() for passage in passages)


def test_every_demonstration_but_one_is_parsed() -> None:
    # 285 would be five for each of 57 subjects; the prompts hold 282, and one of those answers "(E)".
    assert sum(len(rows(embedded.demo_file(domain))) for domain in embedded.domain_names()) == 281


def test_the_training_set_holds_four_thousand_different_questions() -> None:
    drawn = rows(embedded.train_file("gsm-symbolic"))
    assert len({row["question"] for row in drawn}) == len(drawn) == 4_000
    for row in drawn:
        assert float(row["answer"].rpartition("####")[2].replace(",", "")) == float(row["final"])


def test_code_and_prose_to_train_on_are_questions_with_answers_each_once() -> None:
    for name, count in (("codeio", 1_967), ("passages", 2_938)):
        found = rows(embedded.train_file(name))
        assert len({row["question"] for row in found}) >= 0.99 * len(found)
        assert len(found) == count
        assert all(row["question"].strip() and row["answer"].strip() for row in found)
    assert [row["answer"] for row in found] == [row["text"] for row in rows(embedded.prose_file())]
    for row in rows(embedded.train_file("codeio")):
        assert row["answer"].startswith("```python\n")
        assert "def main_solution(" in row["answer"]


def test_the_tokenizer_splits_as_the_model_was_trained() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedded.model_dir() / "tokenizer.json"))
    assert tokenizer.encode("Hi 123\n\n5.  7").tokens == ["Hi", "Ġ", "1", "2", "3", "ĊĊ", "5", ".", "ĠĠ", "7"]


def test_the_model_is_plain_and_complete() -> None:
    folder = embedded.model_dir()
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["num_hidden_layers"], config["hidden_size"], config["dtype"]) == (30, 576, "bfloat16")
    assert "quantization_config" not in config
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
