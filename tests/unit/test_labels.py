"""Label tables and a person's words: what wins, what is kept, two writers at once, damaged and hostile files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from sts_core import folders
from sts_core.errors import UserError
from sts_core.results.label_text import plain
from sts_core.results.labels import (
    Label,
    label_of,
    labels_of,
    read_labels,
    read_person,
    rescored_of,
    set_label,
    set_note,
    set_star,
    write_labels,
)

SAE, MODEL = "0123abcd", "feed-c1"
HOSTILE = "<script>alert(1)</script>\x00\x1b[31m\u202eab\u2066cd\u200b\r\n[x](javascript:alert(1))"


@pytest.fixture(autouse=True)
def _own(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")


def row(feature: int) -> dict[str, object]:
    found = label_of(SAE, feature)
    assert found is not None
    return found


def test_what_a_judge_said_is_read_back_whole() -> None:
    said = [Label(7, "math", "digits", detection=0.9, evidence='{"share": 1.0}', asked="q"), Label(3, None)]
    write_labels(SAE, MODEL, "provenance", said)
    read = read_labels(SAE, MODEL, "provenance")
    assert [(label.feature, label.label, label.judge, label.asked) for label in read] == [
        (3, None, "provenance", ""),
        (7, "math", "provenance", "q"),
    ]
    assert math.isnan(read[0].detection)
    assert read[1].detection == 0.9
    assert row(7)["evidence"] == '{"share": 1.0}'
    assert all(label.at for label in read)


def test_a_later_answer_replaces_the_feature_alone() -> None:
    write_labels(SAE, MODEL, "p", [Label(1, "math"), Label(2, "code")])
    write_labels(SAE, MODEL, "p", [Label(2, "prose")])
    assert [label.label for label in read_labels(SAE, MODEL, "p")] == ["math", "prose"]


def test_the_newest_judge_that_said_something_is_shown() -> None:
    write_labels(SAE, MODEL, "old", [Label(1, "math", at="2026-01-01"), Label(2, "code", at="2026-01-01")])
    write_labels(SAE, MODEL, "new", [Label(1, "prose", at="2026-01-02"), Label(2, None, at="2026-01-02")])
    write_labels(SAE, "other-model", "new", [Label(1, "code", at="2026-01-03")])
    assert (row(1)["label"], row(1)["judge"]) == ("code", "new")
    assert dict(labels_of(SAE, MODEL)[["feature", "label"]].values) == {1: "prose", 2: "code"}
    assert dict(labels_of(SAE, MODEL, "old")[["feature", "label"]].values) == {1: "math", 2: "code"}


def test_a_persons_label_wins_and_no_judge_changes_it() -> None:
    write_labels(SAE, MODEL, "p", [Label(1, "math", "digits", detection=0.8)])
    set_label(SAE, 1, "tables of numbers")
    write_labels(SAE, MODEL, "p", [Label(1, "code", "again", detection=0.7)])
    found = row(1)
    assert (found["label"], found["judge"], found["human"]) == ("tables of numbers", "person", True)
    assert found["explanation"] == ""  # the judge's words and score were about its own label
    assert math.isnan(float(str(found["detection"])))
    set_label(SAE, 1, "code")
    assert (row(1)["human"], row(1)["explanation"], row(1)["detection"]) == (True, "again", 0.7)
    set_label(SAE, 1, None)
    assert (row(1)["label"], row(1)["judge"], row(1)["human"]) == ("code", "p", False)


def test_notes_and_stars_stand_without_any_label() -> None:
    set_note(SAE, 5, "look\nagain")
    set_star(SAE, 9, True)
    assert (row(5)["note"], row(5)["label"], row(5)["starred"]) == ("look\nagain", None, False)
    assert (row(9)["starred"], row(9)["judge"], row(9)["human"]) == (True, "", False)
    set_note(SAE, 5, "  ")
    set_star(SAE, 9, False)
    assert labels_of(SAE).empty
    assert list(labels_of(SAE).columns) == [
        "feature", "label", "explanation", "judge", "detection", "human", "note", "starred", "evidence", "at"
    ]  # fmt: skip


def test_hostile_words_are_kept_short_and_without_control_signs() -> None:
    set_label(SAE, 1, HOSTILE)
    set_note(SAE, 1, HOSTILE + "x" * 1_000_000)
    words = str(row(1)["label"])
    assert words == "<script>alert(1)</script>[31mabcd [x](javascript:alert(1))"
    assert len(str(row(1)["note"])) <= 4_000
    assert not set(str(row(1)["note"])) & set("\x00\x1b\u202e\u2066\u200b\r")
    assert plain("a\u2028b\ud800c", 10) == "a bc"
    assert plain("abcdef", 4) == "abc…"


def test_a_judges_labels_that_ship_are_read_under_those_made_here() -> None:
    """So the tables of names come out of a fresh clone, and what ships is not asked again."""
    write_labels(SAE, MODEL, "p", [Label(1, "math"), Label(2, "code")])
    (folders.DEMO / "labels").parent.mkdir(parents=True)
    (folders.cache() / "labels").rename(folders.DEMO / "labels")
    assert [label.label for label in read_labels(SAE, MODEL, "p")] == ["math", "code"]
    write_labels(SAE, MODEL, "p", [Label(2, "prose"), Label(3, "math")])
    assert [(label.feature, label.label) for label in read_labels(SAE, MODEL, "p")] == [
        (1, "math"), (2, "prose"), (3, "math"),
    ]  # fmt: skip


def test_what_ships_is_read_and_ones_own_wins() -> None:
    write_labels(SAE, MODEL, "p", [Label(1, "math", at="2026-01-01"), Label(2, "code", at="2026-01-01")])
    set_star(SAE, 2, True)
    (folders.DEMO / "labels").parent.mkdir(parents=True)
    (folders.cache() / "labels").rename(folders.DEMO / "labels")
    write_labels(SAE, MODEL, "p", [Label(1, "prose", at="2026-02-01")])
    set_label(SAE, 2, "mine")
    assert dict(labels_of(SAE)[["feature", "label"]].values) == {1: "prose", 2: "mine"}
    assert row(2)["starred"]


def test_scores_on_another_model_stay_apart() -> None:
    write_labels(SAE, MODEL, "p", [Label(1, "math", detection=0.9)])
    write_labels(SAE, "tuned", "p", [Label(1, "math", detection=0.6)], again=True)
    assert row(1)["detection"] == 0.9
    assert rescored_of(SAE)[["model", "feature", "detection"]].values.tolist() == [["tuned", 1, 0.6]]
    assert rescored_of("ffff").empty


WRITER = """
import sys
from sts_core.results.labels import Label, set_note, write_labels
sae, model, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for number in range(first, 24, 4):
    write_labels(sae, model, "p", [Label(number, "math")])
    set_note(sae, number, f"note {number}")
"""


def test_writers_at_once_lose_nothing() -> None:
    command = [sys.executable, "-c", WRITER, SAE, MODEL]
    writers = [
        subprocess.Popen([*command, str(first)], stdin=subprocess.PIPE, cwd=folders.PROJECT) for first in range(4)
    ]
    for writer in writers:  # all at once: each has loaded its libraries by the time it reads
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert [label.feature for label in read_labels(SAE, MODEL, "p")] == list(range(24))
    assert read_person(SAE).notes == {n: f"note {n}" for n in range(24)}


@pytest.mark.parametrize("revision", ["../x", "", "a/b", ".", "..", "x" * 200, "é"])
def test_a_revision_that_is_a_path_is_refused(revision: str) -> None:
    with pytest.raises(UserError, match="no revision"):
        labels_of(revision)


def test_judges_of_any_name_have_their_own_file() -> None:
    names = ["endpoint:a/b@h:1", "endpoint:a/b@h", "../../x", "Ü", "x" * 300, "x" * 301]
    places = {write_labels(SAE, MODEL, name, [Label(1, "math")]) for name in names}
    assert len(places) == len(names)
    assert all(place.parent == folders.cache() / "labels" / SAE / MODEL for place in places)
    assert {label.judge for name in names for label in read_labels(SAE, MODEL, name)} == set(names)


@pytest.mark.parametrize("feature", [-1, True, "3", 2**31])
def test_what_is_no_feature_is_refused(feature: object) -> None:
    with pytest.raises(UserError, match="no feature"):
        set_star(SAE, feature, True)  # type: ignore[arg-type]


def test_a_damaged_file_is_told() -> None:
    place = write_labels(SAE, MODEL, "p", [Label(1, "math")])
    place.write_bytes(place.read_bytes()[:50])
    with pytest.raises(UserError, match=r"p\.parquet cannot be read"):
        labels_of(SAE)
    place.unlink()
    own = folders.cache() / "labels" / SAE / "person.json"
    own.write_text(json.dumps({"labels": {"1": "no table"}}))
    with pytest.raises(UserError, match="Your own labels"):
        labels_of(SAE)
    with pytest.raises(UserError, match="Your own labels"):
        set_star(SAE, 1, True)  # what cannot be read is not written over
    assert own.read_text() == '{"labels": {"1": "no table"}}'
