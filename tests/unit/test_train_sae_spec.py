"""What a SAE spec accepts and refuses, and what its corpora give."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.text import corpora
from sts_core.train.sae_spec import SaeSpec

GOOD = {"model": "smollm2-135m-instruct", "layer": 15, "corpus": [{"data": "stdlib", "share": 1}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": 0}, "width is 0"),
        ({"k": 5000}, "only 4096 features"),
        ({"k": 0}, "k is 0"),
        ({"layer": -1}, "layer is -1"),
        ({"layer": "15"}, "layer is '15'"),
        ({"widht": 64}, "width"),
        ({"architecture": "batchtopkk"}, "batchtopk"),
        ({"hook": "blocks.14.hook_resid_post"}, "after layer 15"),
        ({"hook": "blocks.15.hook_mlp_out"}, "after layer 15"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": 0.001, "lr_end": 0.1}, "above lr"),
        ({"tokens": 1000}, "warm-up"),
        ({"device": "tpu"}, "device"),
        ({"model": " "}, "model must be named"),
        ({"corpus": []}, "No text"),
        ({"corpus": "stdlib"}, "[[corpus]]"),
        ({"corpus": [{"share": 1}]}, "where its text is"),
        ({"corpus": [{"data": "stdlib", "share": 0}]}, "share is 0"),
        ({"corpus": [{"data": "stdlib", "shore": 1}]}, "share"),
        ({"corpus": [{"data": "stdlib", "share": 1}] * 2}, "named twice"),
        ({"corpus": [{"data": "a.jsonl", "share": 1, "columns": {"answer": "b"}}]}, "a question and its answer"),
        ({"corpus": [{"data": "a.jsonl", "share": 1, "rows_per_chat": 0}]}, "rows_per_chat is 0"),
    ],
)
def test_a_wrong_spec_is_refused_with_a_hint(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        SaeSpec.from_dict({**GOOD, **changes}, Path())
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("lacking", ["model", "layer"])
def test_a_spec_must_say_which_model_and_layer(lacking: str) -> None:
    with pytest.raises(UserError, match=f"which {lacking}"):
        SaeSpec.from_dict({key: value for key, value in GOOD.items() if key != lacking}, Path())


def test_a_spec_is_read_back_from_its_own_toml(tmp_path: Path) -> None:
    columns = {"question": 'the "question"', "answer": "a"}
    corpus = [*GOOD["corpus"], {"data": "é.jsonl.gz", "share": 0.25, "columns": columns, "rows_per_chat": 3}]  # type: ignore[misc]
    spec = SaeSpec.from_dict({**GOOD, "corpus": corpus, "lr": 0.002}, tmp_path)
    path = tmp_path / "spec.toml"
    path.write_text(spec.to_toml(), encoding="utf-8")
    assert SaeSpec.from_toml(path) == spec
    assert str(tmp_path) not in path.read_text()


def test_the_shipped_spec_is_valid_and_names_no_place_on_a_machine() -> None:
    from sts_core.folders import DEMO

    path = DEMO / "smollm2-l15" / "spec.toml"
    spec = SaeSpec.from_toml(path)
    assert spec.hook == "blocks.15.hook_resid_post"
    assert not any(Path(entry.data).is_absolute() for entry in spec.corpus)


def test_equal_documents_are_on_one_side_and_about_a_twelfth_is_held_out() -> None:
    documents = [corpora.Document(text=f"text {number}") for number in range(3000)]
    held = [document.held_out for document in documents]
    assert held == [corpora.Document(text=document.text).held_out for document in documents]
    assert 0.06 < sum(held) / len(held) < 0.11


def test_rows_become_chats_of_several_turns(tmp_path: Path) -> None:
    lines = [json.dumps({"q": f"q{number}", "a": f"a{number}"}) for number in range(5)]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = corpora.find("rows.jsonl.gz", tmp_path, {"question": "q", "answer": "a"}, rows_per_chat=2)
    documents = list(found.documents())
    assert [len(document.turns) for document in documents] == [4, 4, 2]
    assert documents[0].turns == (("user", "q0"), ("assistant", "a0"), ("user", "q1"), ("assistant", "a1"))
    assert list(found.documents()) == documents


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("torn.jsonl", b'{"text": "a"}\n{"text": ', "line 2"),
        ("list.jsonl", b'["a"]\n', "line 1"),
        ("latin.txt", "é".encode("latin-1"), "not UTF-8 (byte 0)"),
        ("torn.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-12], "gzip"),
        ("not.txt.gz", b"plain", "gzip"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(corpora.find(name, tmp_path).documents())
    assert told in caught.value.message
    assert name in caught.value.message


def test_the_embedded_sets_give_their_scoring_half_alone(bundle_cache: Path) -> None:
    from sts_core.text.sides import split
    from sts_core.text.sources import locate, read_rows

    both = split(read_rows(locate("gsm-symbolic"), {}, need=("question", "answer")).rows)
    documents = list(corpora.find("gsm-symbolic", bundle_cache).documents())
    asked = {document.turns[0][1] for document in documents}
    assert asked == {row.question for row in both.queried}
    assert not asked & {row.question for row in both.kept}
    questions = [document.turns[0][1] for document in corpora.find("mmlu", bundle_cache).documents()]
    kept = split(read_rows(locate("mmlu/law"), {}, need=("question", "answer")).rows).kept
    assert len(questions) > 1000
    assert not set(questions) & {row.question for row in kept}
