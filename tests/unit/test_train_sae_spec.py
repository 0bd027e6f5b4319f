"""What a SAE spec accepts and refuses, and what its corpora give."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sts_core.errors import UserError
from sts_core.folders import PROJECT
from sts_core.text import corpora
from sts_core.train.sae.spec import CorpusSpec, SaeSpec, SaeTable

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
        ({"sae": {"name": "a"}}, "[[sae]]"),
        ({"sae": [{"width": 64}]}, "has the name ''"),
        ({"sae": [{"name": "../a"}]}, "has the name '../a'"),
        ({"sae": [{"name": "a"}, {"name": "A"}]}, "Two SAEs have the name 'A'"),
        ({"sae": [{"name": "a", "widht": 64}]}, 'did you mean "width"'),
        ({"sae": [{"name": "a", "batch": 64}]}, "unknown key 'batch'"),
        ({"sae": [{"name": "a"}, {"name": "b", "width": 0}]}, "[[sae]] b: width is 0"),
        ({"sae": [{"name": "b", "k": 9, "width": 8}]}, "[[sae]] b: k is 9"),
        ({"sae": [{"name": "b", "layer": -1}]}, "[[sae]] b: layer is -1"),
        ({"sae": [{"name": "b", "tokens": 1024}]}, "[[sae]] b: 1024 tokens are fewer"),
        ({"sae": [{"name": "b", "lr": 1e-5}]}, "[[sae]] b: lr_end"),
        ({"sae": [{"name": "b", "architecture": "topkk"}]}, '(did you mean "topk"?)'),
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


def test_several_saes_share_what_they_do_not_set_themselves(tmp_path: Path) -> None:
    tables = [{"name": "default"}, {"name": "wide.2", "width": 8192, "k": 64}, {"name": "low", "layer": 9, "lr": 1e-3}]
    spec = SaeSpec.from_dict({**GOOD, "sae": tables}, tmp_path)
    each = spec.each()
    assert list(each) == ["default", "wide.2", "low"]
    assert each["default"] == replace(spec, sae=())
    assert each["wide.2"] == replace(spec, sae=(), width=8192, k=64)
    assert (each["low"].layer, each["low"].hook, each["low"].lr) == (9, "blocks.9.hook_resid_post", 1e-3)
    path = tmp_path / "spec.toml"
    path.write_text(spec.to_toml(), encoding="utf-8")
    assert SaeSpec.from_toml(path) == spec
    for one in each.values():
        path.write_text(one.to_toml(), encoding="utf-8")
        assert SaeSpec.from_toml(path) == one
        assert one.each() == {"": one}


def test_the_layer_may_stand_with_the_saes_alone() -> None:
    values = {key: value for key, value in GOOD.items() if key != "layer"}
    each = SaeSpec.from_dict({**values, "sae": [{"name": "a", "layer": 3}, {"name": "b", "layer": 7}]}, Path()).each()
    assert [one.layer for one in each.values()] == [3, 7]
    with pytest.raises(UserError, match="which layer"):
        SaeSpec.from_dict({**values, "sae": [{"name": "a", "layer": 3}, {"name": "b"}]}, Path())


def test_every_key_is_in_the_docs() -> None:
    told = (PROJECT / "docs" / "SPEC.md").read_text(encoding="utf-8").split("## A spec for `sts sae train`")[1]
    keys = [field.name for kind in (SaeSpec, CorpusSpec, SaeTable) for field in fields(kind) if field.name != "base"]
    assert [key for key in keys if f"`{key}`" not in told and f"[[{key}]]" not in told] == []


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


def test_a_hub_set_is_fetched_once_and_read_like_a_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str]] = []

    def load(name: str, split: str) -> Any:
        asked.append((name, split))
        return datasets.Dataset.from_list([{"q": "q0", "a": "a0"}, {"q": "q1", "a": None}, {"q": "q2", "a": "a2"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    columns = {"question": "q", "answer": "a"}
    found = corpora.find("org/name:test", own_cache, columns)
    assert [document.turns for document in found.documents()] == [
        (("user", "q0"), ("assistant", "a0")),
        (("user", "q2"), ("assistant", "a2")),  # a row without an answer is none
    ]
    again = corpora.find("org/name:test", own_cache, columns)
    assert (again.name, again.sha256) == ("org/name:test", found.sha256)
    assert asked == [("org/name", "test")]
    plain = corpora.find("org/name", own_cache, {"text": "a"})
    assert [document.text for document in plain.documents()] == ["a0", "a2"]
    assert asked[1:] == [("org/name", "train")]


def test_a_hub_set_that_is_not_to_be_had_is_told(own_cache: Path) -> None:
    with pytest.raises(UserError, match="'nobody/nothing'") as caught:
        corpora.find("nobody/nothing", own_cache)
    assert "connection" in caught.value.hint


@pytest.mark.parametrize("name", ["mmlu/physics", "gsm-symbolc", "text"])
def test_what_is_no_corpus_is_told(tmp_path: Path, name: str) -> None:
    """A domain alone is none: of the embedded sets only the scoring half is trained on."""
    with pytest.raises(UserError, match="There is no corpus") as caught:
        corpora.find(name, tmp_path)
    assert "hub id" in caught.value.hint


def test_records_of_other_formats_are_read_as_lines_are(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"text": "one"}, {"text": " "}, {"text": "two"}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "a.csv").write_text('text\n"one"\n" "\n"two"\n')
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    for ending in ("json", "csv", "parquet"):
        assert [document.text for document in corpora.find(f"a.{ending}", tmp_path).documents()] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("torn.jsonl", b'{"text": "a"}\n{"text": ', "line 2"),
        ("list.jsonl", b'["a"]\n', "line 1"),
        ("latin.txt", "é".encode("latin-1"), "not UTF-8 (byte 0)"),
        ("torn.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-12], "gzip"),
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


@pytest.mark.parametrize("key", ["tokens", "context", "width"])
def test_a_number_beyond_any_machine_is_refused_at_once(key: str, tmp_path: Path) -> None:
    values = {"model": "m", "layer": 1, "corpus": [{"data": "stdlib", "share": 1}], key: 10**15}
    with pytest.raises(UserError, match=f"{key} is 1000000000000000") as refused:
        SaeSpec.from_dict(values, tmp_path)
    assert "at most 1,000,000,000,000" in refused.value.hint
