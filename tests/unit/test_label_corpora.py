"""Corpora that labels come from: equal in kind, the target's rows left out, some kept aside; the embedded three."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sts_core.bundle import embedded
from sts_core.errors import UserError
from sts_core.text.label_corpora import (
    FEWEST_CHARACTERS,
    LABEL_CORPORA,
    MOST_CHARACTERS,
    MOST_PIECES,
    label_corpora,
    target_texts,
)
from tests import tiny


def texts_of(folder: Path, *, left_out: tuple[str, ...] = (), held_out: bool = False) -> dict[str, list[str]]:
    chosen = {"one": "one.jsonl", "two": "two.jsonl"}
    found = {}
    for corpus in label_corpora(chosen, left_out, folder, held_out):
        documents = list(corpus.documents())
        assert [d.turns for d in documents] == [d.turns for d in corpus.documents()]
        assert all(len(d.turns) == 1 and d.turns[0][0] == "user" and not d.text for d in documents)
        found[corpus.name] = [d.turns[0][1] for d in documents]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plain = [{"text": f"number {n} " + "and a word " * 10} for n in range(240)]
    long = [{"text": "\n".join(f"line {n} {i} " + "x" * 70 for i in range(200))} for n in range(24)]
    tiny.write_rows(tmp_path / "one.jsonl", plain)
    tiny.write_rows(tmp_path / "two.jsonl", [*long, {"text": "too short"}, {"text": "y" * 2_000}])
    return tmp_path


def test_pieces_are_short_end_where_lines_do_and_are_well_mixed(folder: Path) -> None:
    found = texts_of(folder)
    assert list(found) == ["labels/one", "labels/two"]
    for pieces in found.values():
        assert all(FEWEST_CHARACTERS <= len(piece) <= MOST_CHARACTERS for piece in pieces)
        digests = [hashlib.sha256(piece.encode()).hexdigest() for piece in pieces]
        assert digests == sorted(digests)
    lines = [piece for piece in found["labels/two"] if piece.startswith("line")]
    assert all(line.startswith("line") and line.endswith("x" * 70) for piece in lines for line in piece.split("\n"))
    of_first = [piece for piece in lines if piece.startswith("line 0 ") or "\nline 0 " in piece]
    assert len(of_first) in (0, MOST_PIECES)  # 0: kept aside
    assert "too short" not in found["labels/two"]


def test_what_is_kept_aside_is_never_shown(folder: Path) -> None:
    shown, aside = texts_of(folder), texts_of(folder, held_out=True)
    for name in shown:
        assert aside[name]
        assert not set(shown[name]) & set(aside[name])
    assert len(shown["labels/one"]) + len(aside["labels/one"]) == 240
    corpora = [
        label_corpora({"one": "one.jsonl", "two": "two.jsonl"}, (), folder, held)[0].sha256 for held in (False, True)
    ]
    assert len(set(corpora)) == 2


def test_the_targets_rows_are_left_out(folder: Path) -> None:
    whole = texts_of(folder)["labels/one"]
    left = texts_of(folder, left_out=(f" {whole[3]}\n", whole[7]))["labels/one"]
    assert set(whole) - set(left) == {whole[3], whole[7]}
    digests = {label_corpora({"a": "one.jsonl", "b": "two.jsonl"}, out, folder)[0].sha256 for out in ((), (whole[3],))}
    assert len(digests) == 2


def test_a_results_own_rows_are_told_by_its_manifest(tmp_path: Path) -> None:
    rows = tiny.rows(6)
    path = tiny.write_rows(tmp_path / "target.jsonl", rows)
    manifest = {
        "spec": {"target": {"data": str(path)}},
        "sets": {"target": {"demo_rows": [1], "query_rows": [4, 0]}},
    }
    assert target_texts(manifest) == {rows[n][field] for n in (0, 1, 4) for field in ("question", "answer")}
    with pytest.raises(UserError, match="does not say which target rows"):
        target_texts({"spec": {}})


@pytest.mark.parametrize(
    "chosen", [{"one": "one.jsonl"}, {}, {"a/b": "one.jsonl", "two": "two.jsonl"}, {" a": "x", "b": "y"}]
)
def test_what_cannot_name_features_is_refused(folder: Path, chosen: dict[str, str]) -> None:
    with pytest.raises(UserError):
        label_corpora(chosen, (), folder)


@pytest.mark.skipif(not embedded.ready(), reason="the embedded bundle is not here: `sts demo fetch`")
def test_the_embedded_three_hold_enough_text_and_no_target_row() -> None:
    rows = [json.loads(line) for line in embedded.train_file("gsm-symbolic").read_text().splitlines()[:2_000]]
    questions = [row["question"] for row in rows]
    for corpus in label_corpora(left_out=questions):
        pieces = [document.turns[0][1] for document in corpus.documents()]
        assert sum(map(len, pieces)) > 400_000  # characters, so about 100,000 tokens
        assert not {piece for piece in pieces for question in questions[:50] if question in piece}
    assert list(LABEL_CORPORA) == ["math", "code", "prose"]
