"""The pickers: what the catalogue shows and hides, the paper's models, and files that are looked into."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.parts import catalogue, uploads
from pages.parts.choices import DEFAULTS
from sts_core.bundle.embedded import TRAIN_NAMES
from sts_core.nets.presets import PRESETS
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
GEMMA = "google/gemma-2-9b-it"
LINES = '{"prompt": "What is **1** <b>+ 1</b>?", "solution": "2"}\n{"prompt": "And 2 + 2?", "solution": ""}\n'


def searching(test: AppTest, part: str) -> AppTest:
    """The page with a folded part open."""
    test.session_state[part] = True
    return test.run()


def field(test: AppTest, key: str) -> list[str]:
    return next(box.options for box in test.selectbox if box.key == key)


def test_the_catalogue_is_not_read_before_somebody_searches(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue.catalogue, "models", lambda: pytest.fail("it was read"))
    assert not app().exception
    assert catalogue._started() == {}


def test_a_catalogue_that_does_not_come_does_not_hold_the_page(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_reading", Future)
    monkeypatch.setattr(catalogue, "PATIENCE", 0.01)
    test = app()
    test.session_state["model_catalogue"] = True
    test.run()
    assert not test.exception
    assert "still being read" in words_of(test)


def test_models_are_found_with_their_saes_and_licences(app: App) -> None:
    test = searching(app(), "model_catalogue")
    assert not test.exception
    named = field(test, "model_found")
    assert named[0].startswith("smollm2-135m-instruct")
    assert any(name.startswith(f"{GEMMA} ·") and "licence to accept" in name for name in named)


def test_a_found_model_is_chosen_and_the_search_is_empty_again(app: App) -> None:
    test = searching(app(), "model_catalogue")
    next(box for box in test.selectbox if box.key == "model_found").select(GEMMA).run()
    assert test.session_state["model"] == GEMMA
    assert test.session_state["model_found"] is None
    assert "Accept Google's Gemma terms" in words_of(test)


def test_saes_that_cannot_be_used_are_hidden_and_counted(app: App) -> None:
    test = searching(app(model="google/gemma-2-9b"), "sae_catalogue")
    said = words_of(test)
    assert "SAEs of this model can be measured with here" in said
    assert "are hidden." in said
    assert "heads of attention" in said
    assert 0 < len(field(test, "sae_found")) < 200


def test_a_model_nobody_knows_is_told_with_a_hint(app: App) -> None:
    test = searching(app(model="google/gemma-2-9b-itt"), "sae_catalogue")
    assert not test.exception
    assert any("No SAE of" in str(error.proto.title).replace("\\", "") for error in test.error)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_a_model_of_the_paper_brings_its_sae_and_its_note(app: App, preset: catalogue.presets.Preset) -> None:
    test = app()
    test.button(key=f"preset_{preset.name}").click().run()
    assert (test.session_state["model"], test.session_state["sae"]) == (preset.model, preset.saes[0])
    assert preset.note[:40] in words_of(test)


def file(name: str, content: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, getvalue=lambda: content.encode())


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("torn.jsonl", '{"question": "a"}\n{"question": ', "line 2 is not valid JSON"),
        ("empty.jsonl", "\n", "holds no rows"),
        ("list.json", '{"question": "a"}', "not a list"),
        ("no.parquet", "PAR1", "not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_does_not_stay(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, told: str
) -> None:
    state = {"target_file": file(name, content)}
    monkeypatch.setattr(st, "session_state", state)
    uploads.keep_target_file()
    assert "target" not in state
    assert told in str(state["target_refused"])
    assert [path for path in (own_cache / "uploads").rglob("*") if path.is_file()] == []


def test_two_domains_of_one_name_are_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"domain_files": [file("law.jsonl", LINES), file("law.csv", "question\nq\n")]}
    monkeypatch.setattr(st, "session_state", state)
    uploads.keep_domain_files()
    assert "domain_folder" not in state
    assert "one name" in str(state["domain_refused"])


def look(app: App, path: Path, **more: str) -> AppTest:
    test = app(target=str(path), **more)
    test.session_state["look_target"] = True
    return test.run()


def test_a_file_is_looked_into_as_plain_text(app: App, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(LINES)
    test = look(app, path)
    assert not test.exception
    assert "Columns: prompt, solution" in words_of(test)
    assert "Name the right column above" in words_of(test)
    assert any("What is **1** <b>+ 1</b>?" in code.value for code in test.code)


def test_with_its_columns_named_the_usable_rows_are_counted(app: App, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(LINES)
    assert "1 of 2 rows can be used." in words_of(look(app, path, target_question="prompt", target_answer="solution"))


def test_a_file_too_large_is_not_read_by_the_page(app: App, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as out:
        out.truncate(uploads.MOST_MB * 1_000_000 + 1)
    assert "too large to look into" in words_of(look(app, path))


@pytest.mark.parametrize("target", ["/no/such.jsonl", "a\x00b.jsonl", "~nobody/x.csv", DEFAULTS["target"]])
def test_what_is_no_file_here_is_not_looked_into(app: App, target: str) -> None:
    test = app(target=target)
    assert not test.exception
    assert not any(box.label.startswith("Look into") for box in test.expander)


@pytest.mark.parametrize("target", TRAIN_NAMES)
def test_an_embedded_set_is_offered_and_needs_no_columns(app: App, target: str) -> None:
    test = app(target=target)
    assert not test.exception
    assert set(TRAIN_NAMES) <= set(field(test, "target"))
    assert not any(box.key == "target_question" for box in test.text_input)
