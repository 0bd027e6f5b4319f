"""Labels in and out: what is exported comes back, strangers' files are looked at whole before a line is kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sts_core import folders
from sts_core.errors import UserError
from sts_core.results import label_exchange
from sts_core.results.label_exchange import export_labels, import_labels
from sts_core.results.labels import (
    Label,
    forget_labels,
    labels_of,
    read_labels,
    set_label,
    set_note,
    set_star,
    write_labels,
)

SAE, OTHER, MODEL = "0123abcd", "4567", "feed"
FORMULA = "=HYPERLINK(1)"


@pytest.fixture(autouse=True)
def _own(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")


def fill() -> None:
    write_labels(
        SAE, MODEL, "provenance", [Label(1, "math", '8 of 10, "quoted"', detection=0.75, evidence='{"of": 10}')]
    )
    write_labels(SAE, MODEL, "local:x", [Label(2, FORMULA, "'=1", at="2026-01-01"), Label(3, None, "words alone")])
    set_label(SAE, 4, "mine, truly")
    set_note(SAE, 1, "two\nlines")
    set_star(SAE, 9, True)


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_what_is_exported_comes_back_the_same(tmp_path: Path, ending: str) -> None:
    fill()
    path = tmp_path / f"labels{ending}"
    assert export_labels(SAE, path) == 5
    brought = import_labels(OTHER, MODEL, path, features=10)
    assert (brought.labels, brought.human, brought.skipped) == (3, 3, 0)
    pd.testing.assert_frame_equal(labels_of(OTHER), labels_of(SAE))


def test_an_imported_file_can_be_forgotten_and_what_it_covered_is_back(tmp_path: Path) -> None:
    fill()
    path = tmp_path / "own.csv"
    path.write_text("feature,label\n1,theirs\n", encoding="utf-8")
    brought = import_labels(SAE, MODEL, path, features=10)
    assert labels_of(SAE).set_index("feature")["label"][1] == "theirs"
    assert forget_labels(SAE, brought.own_name) == 1
    assert labels_of(SAE).set_index("feature")["label"][1] == "math"
    with pytest.raises(UserError, match="no labels of 'provenanc' to forget") as error:
        forget_labels(SAE, "provenanc")
    assert "local:x, provenance" in error.value.hint


def test_a_feature_that_a_file_names_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("feature,label\n1,a\n1,b\n", encoding="utf-8")
    with pytest.raises(UserError, match="feature 1 is there twice"):
        import_labels(SAE, MODEL, path, features=10)
    assert labels_of(SAE).empty


def test_what_a_person_said_since_stays(tmp_path: Path) -> None:
    fill()
    path = tmp_path / "labels.json"
    export_labels(SAE, path)
    set_label(SAE, 4, "later")
    set_note(SAE, 1, "another note")
    import_labels(SAE, MODEL, path, features=10)
    found = labels_of(SAE).set_index("feature")
    assert (found["label"][4], found["note"][1]) == ("later", "another note")
    entry = [{"feature": 4, "label": "latest", "human": True, "at": "2999-01-01"}]
    path.write_text(json.dumps(entry))
    import_labels(SAE, MODEL, path, features=10)
    assert labels_of(SAE).set_index("feature")["label"][4] == "latest"


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    fill()
    export_labels(SAE, tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert f"'{FORMULA}" in cells
    assert "''=1" in cells
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]


def test_neuronpedias_explanations_are_words_under_no_label(tmp_path: Path) -> None:
    entries = [
        {"modelId": "gemma-2-2b", "layer": "12-res", "index": index, "description": text, "explanationModelName": "gpt"}
        for index, text in [("5", "digits\u202e in <b>sums</b>"), (6, "code"), ("5", "a second one"), (7, "")]
    ]
    path = tmp_path / "explanations.json"
    path.write_text(json.dumps(entries))
    brought = import_labels(SAE, MODEL, path, features=8)
    assert (brought.labels, brought.human, brought.skipped) == (2, 0, 2)
    first = read_labels(SAE, MODEL, "neuronpedia")[0]
    assert (first.feature, first.label, first.explanation) == (5, None, "digits in <b>sums</b>")
    assert json.loads(first.evidence) == {"source": "gemma-2-2b/12-res", "model": "gpt"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.json", "{", "not valid JSON"),
        ("x.json", "{}", "not a list"),
        ("x.json", "[" * 100_000, "not valid JSON"),
        ("x.json", '[{"feature": 8, "label": "a"}]', "entry 1: '8' is no feature"),
        ("x.json", '[{"feature": 1, "label": "a"}, {"feature": -1, "label": "a"}]', "entry 2: '-1' is no feature"),
        ("x.json", '[{"feature": true, "label": "a"}]', "'True' is no feature"),
        ("x.json", '[{"feature": 1.5, "label": "a"}]', "'1.5' is no feature"),
        ("x.json", '[{"label": "a"}]', "'None' is no feature"),
        ("x.json", '[{"feature": 1, "label": "a", "detection": 2}]', "detection is '2'"),
        ("x.json", '[{"feature": 1, "label": "a", "detection": "well"}]', "detection is 'well'"),
        ("x.json", '[{"feature": 1, "label": "a", "starred": "maybe"}]', "starred is 'maybe'"),
        ("x.json", '[{"feature": 1, "label": "a", "evidence": [1]}]', "evidence is not"),
        ("x.json", '[{"feature": 1, "label": "a", "evidence": {"x": "' + "y" * 5_000 + '"}}]', "evidence is not"),
        ("x.csv", "label\nmath\n", "no column feature"),
        ("x.csv", "feature,label\n1,a,b\n", "too many fields"),
        ("x.csv", 'feature,label\n1,"a\n', "not valid CSV"),
        ("x.txt", "", "no kind of label file"),
        (
            "x.json",
            '[{"modelId": "a", "layer": "1", "index": "1", "description": "x"},'
            ' {"modelId": "a", "layer": "2", "index": "1", "description": "x"}]',
            "explanations of 2 SAEs",
        ),
    ],
)
def test_a_bad_file_is_refused_whole(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as refused:
        import_labels(SAE, MODEL, tmp_path / name, features=8)
    assert told in refused.value.message
    assert refused.value.hint
    assert labels_of(SAE).empty


def test_a_file_too_large_and_one_not_in_utf8_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match="not UTF-8"):
        import_labels(SAE, MODEL, path, features=8)
    monkeypatch.setattr(label_exchange, "LARGEST", 3)
    with pytest.raises(UserError, match="larger than"):
        import_labels(SAE, MODEL, path, features=8)
    with pytest.raises(UserError, match="cannot be read"):
        import_labels(SAE, MODEL, tmp_path / "none.json", features=8)
    with pytest.raises(UserError, match="cannot be written"):
        export_labels(SAE, tmp_path / "x.xlsx")


def test_hostile_words_lose_their_signs_and_length(tmp_path: Path) -> None:
    entry: dict[str, Any] = {
        "feature": 1, "label": "\u202e<img src=x>\x00" + "y" * 10_000, "explanation": "\x1b[2J" + "z" * 1_000_000,
        "judge": "../../etc/passwd\x00", "note": "a\x07b",
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps([entry]))
    import_labels(SAE, MODEL, tmp_path / "x.json", features=8)
    found = labels_of(SAE).iloc[0]
    assert found["label"].startswith("<img src=x>yyy")
    assert len(found["label"]) == 120
    assert len(found["explanation"]) == 400
    assert (found["judge"], found["note"]) == ("../../etc/passwd", "ab")
    kept = [path.relative_to(folders.cache()).parts[0] for path in folders.cache().rglob("*.parquet")]
    assert kept == ["labels"]
