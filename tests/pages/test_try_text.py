"""Trying a text on the feature browser: what the process that keeps the model is asked, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import feature_try
from sts_core import folders
from sts_core.errors import UserError
from sts_core.measure.probe import ProbeRequest
from sts_core.results import Result
from tests.pages.made_runs import make_run
from tests.pages.synthetic import make_result
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/features.py"
TOKENS = ["<b>Nina</b>", " reads", "\n", " 30"]


@pytest.fixture
def result(pages_cache: Path) -> Result:
    return make_result(folders.results())


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked; the answer has the shape `measure.probed` gives."""
    asked: list[dict[str, Any]] = []

    def ask(what: str, question: dict[str, Any], patience: float = 60.0) -> dict[str, Any]:
        assert what == "probe"
        ProbeRequest.from_dict(question)
        asked.append(question)
        arms = ["base", "icl", *question.get("runs", {})]
        mean = [
            {"feature": 5, "mean": 2.5, "max": 9.0, "tokens": 3},
            {"feature": 9, "mean": 1.0, "max": 2.0, "tokens": 1},
        ]
        return {
            "tokens": TOKENS, "device": "cpu", "seconds": 0.085, "notes": ["The text was *cut*."],
            "arms": {arm: [[{"feature": 5, "value": 3.25}], [], [{"feature": 9, "value": 2.0}], []] for arm in arms},
            "strongest": dict.fromkeys(arms, mean),
            "risen": {arm: [{**one, "usual": 0.5} for one in mean] for arm in arms},
            "changed": {arm: [{"feature": 9, "shift": 0.75, "base": 0, "here": 1}] for arm in arms[1:]},
            **({"values": {arm: [0.0, 4.0, 0.0, 1.0] for arm in arms}} if "feature" in question else {}),
        }  # fmt: skip

    monkeypatch.setattr(feature_try.warm, "ask", ask)
    monkeypatch.setattr(feature_try.warm, "find", lambda: None)
    return asked


def type_in(test: AppTest, text: str) -> AppTest:
    test.text_area(key="try_text").set_value(text)
    next(button for button in test.button if button.label == "Try it").click()
    return test.run()


def test_a_text_is_followed_through_the_feature_on_the_page(
    app: App, result: Result, questions: list[dict[str, Any]]
) -> None:
    test = type_in(app(PAGE, feature="7"), "Nina reads\n 30")
    assert not test.exception
    assert questions == [
        {"model": "smollm2-135m-instruct", "sae": "demo/smollm2-l15", "text": "Nina reads\n 30",
         "result": str(result.folder), "top": feature_try.MOST_FEATURES, "feature": 7}
    ]  # fmt: skip
    strip = json.loads(test.get("bidi_component")[-1].proto.json)["strips"][0]
    assert strip["tokens"][0] == ["<b>Nina</b>"]
    assert [line["arm"] for line in strip["lines"]] == ["base", "ICL"]
    assert strip["peak"] == 1
    told = words_of(test).replace("\\", "")
    assert "4 tokens, read in two ways in 85 ms on cpu." in told
    assert "The text was *cut*." in told
    tables = [frame.value for frame in test.dataframe if "value" in frame.value]
    assert tables[0]["feature"].tolist() == [5, 9]
    assert tables[0]["value"].tolist() == [2.0, 0.5]  # above the usual
    each = next(frame.value for frame in test.dataframe if "Token" in frame.value)
    assert each["Token"].tolist() == ["<b>Nina</b>", " reads", "↵", " 30"]
    assert each["base"].tolist() == ["5 (3.25)", "", "9 (2.00)", ""]


def test_the_same_text_is_not_asked_twice(app: App, result: Result, questions: list[dict[str, Any]]) -> None:
    test = type_in(app(PAGE, feature="7"), "Nina")
    test.session_state["try_way"] = "changed"
    test.run()
    assert len(questions) == 1
    assert [frame.value["value"].tolist() for frame in test.dataframe if "value" in frame.value] == [[0.75]]


def test_without_a_feature_the_list_tries_a_text_too(app: App, result: Result, questions: list[dict[str, Any]]) -> None:
    test = type_in(app(PAGE), "Nina")
    assert not test.exception
    assert "feature" not in questions[0]
    assert not test.get("bidi_component")


def test_another_feature_asks_again_only_while_the_model_is_loaded(
    app: App, result: Result, questions: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = type_in(app(PAGE, feature="7"), "Nina")
    test.query_params["feature"] = "8"
    test.run()
    assert [question["feature"] for question in questions] == [7]
    assert "not loaded any more" in words_of(test)
    monkeypatch.setattr(feature_try.warm, "find", lambda: object())
    test.run()
    assert [question["feature"] for question in questions] == [7, 8]


def test_an_empty_text_asks_nothing(app: App, result: Result, questions: list[dict[str, Any]]) -> None:
    test = type_in(app(PAGE), " \n ")
    assert not test.exception
    assert questions == []


def test_a_run_that_left_a_model_can_stand_beside(app: App, result: Result, questions: list[dict[str, Any]]) -> None:
    make_run("without a model")
    job = make_run("with a model")
    folder = folders.ensure(folders.jobs() / job / "result" / "model")
    test = app(PAGE, feature="7")
    choice = test.selectbox(key="try_run")
    assert list(feature_try.tuned_models()) == [job]
    choice.set_value(job)
    test = type_in(test, "Nina")
    assert not test.exception
    assert questions[-1]["runs"] == {job: str(folder)}
    strip = json.loads(test.get("bidi_component")[-1].proto.json)["strips"][0]
    assert [line["arm"] for line in strip["lines"]] == ["base", "ICL", job]


def test_what_hinders_it_is_told(app: App, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any) -> dict[str, Any]:
        raise UserError("The process that keeps the model loaded has gone", "Try again: a new one starts.")

    monkeypatch.setattr(feature_try.warm, "ask", ask)
    test = type_in(app(PAGE, feature="7"), "Nina")
    assert not test.exception
    assert any("has gone" in error.title for error in test.error)
