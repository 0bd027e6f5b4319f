"""The form that starts a fine-tune: every key of the spec, the file in step with it, nothing started that is wrong."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import launch_form
from pages.parts.launch_fields import LABELS
from pages.parts.spec_words import by_field
from sts_core import folders
from sts_core.jobs import launch, watch
from sts_core.train.sft.spec import EvaluateSpec, LoraSpec, SftSpec
from tests.pages.synthetic import make_result

RUNS = "pages/views/runs.py"
Open = Callable[..., AppTest]
PLAN: dict[str, Any] = {
    "work": {"seconds": 61.0, "memory_gb": 1.4, "disk_gb": 0.1, "parts": {"training": 40.0, "evaluation": 21.0}},
    "rows": {"train": 1_200}, "steps": 60,
    "tokens": 90_000, "checkpoints": {"kept": 5}, "warnings": ["Rows *repeat*."],
}  # fmt: skip
GIVEN: dict[str, str | int | bool | list[str]] = {
    "sft_rate": "3e-4", "sft_batch": 6, "sft_steps": 12, "sft_rows": 9, "sft_target_rows": 0, "sft_answer": "cot",
    "sft_micro": 3, "sft_tokens": 512, "sft_dtype": "float32", "sft_device": "cpu", "sft_processes": 2,
    "sft_again": True, "sft_rank": 4, "sft_alpha": "8", "sft_dropout": "0.1", "sft_targets": "q_proj, v_proj",
    "sft_schedule": "linear", "sft_warm_up": "0.2", "sft_decay": "0", "sft_clip": "0.5", "sft_beta1": "0.8",
    "sft_beta2": "0.99", "sft_seed": 7, "sft_every": 5, "sft_keep": 2, "sft_report": "tensorboard",
    "sft_metrics": ["nll", "nll_choice"],
}  # fmt: skip
"""Every field, none with the value it has when nobody chose."""


def said(test: AppTest) -> str:
    parts = [*test.title, *test.markdown, *test.caption, *test.error]
    return " ".join(f"{getattr(part, 'title', '')} {part.value}" for part in parts).replace("\\", "")


def opened(app: Open, **link: str) -> AppTest:
    """The page with its form unfolded: while it is folded it holds no field."""
    test = app(RUNS, **link)
    test.session_state["new_run"] = True
    return test.run()


def fill(test: AppTest, given: dict[str, Any]) -> AppTest:
    for key, value in given.items():
        kind = {str: "text_input", int: "number_input", bool: "checkbox", list: "multiselect"}[type(value)]
        if key in ("sft_answer", "sft_dtype", "sft_schedule", "sft_report"):
            kind = "selectbox"
        getattr(test, kind)(key=key).set_value(value)
    return test.run()


def file_of(test: AppTest) -> dict[str, Any]:
    """The spec's lines that the page shows, read."""
    return tomllib.loads(next(code.value for code in test.code if "learning_rate" in code.value))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"print({json.dumps(PLAN)!r})"
    monkeypatch.setattr(launch_form, "COMMAND", (sys.executable, "-c", script))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started ends at once."""
    monkeypatch.setattr(launch, "WORKER", ("-c", "pass"))


def test_a_folded_form_holds_no_field_unless_the_link_fills_one(app: Open) -> None:
    assert not any(field.key == "sft_rate" for field in app(RUNS).text_input)
    assert app(RUNS, sft_rate="3e-4").text_input(key="sft_rate").value == "3e-4"


def test_what_is_left_empty_is_left_to_the_spec(app: Open) -> None:
    test = fill(opened(app), {"sft_rate": "2e-4"})
    assert not test.exception
    assert file_of(test) == {
        "model": "smollm2-135m-instruct", "learning_rate": 0.0002, "method": "lora", "steps": 60,
        "target": {"data": "gsm-symbolic"}, "evaluate": {"domains": "mmlu", "rows": 60},
    }  # fmt: skip
    assert test.number_input(key="sft_batch").placeholder == "8"


def test_every_field_reaches_its_key(app: Open) -> None:
    test = fill(opened(app), GIVEN)
    assert not test.exception
    spec = SftSpec.from_dict(file_of(test))
    plain = SftSpec.from_dict({"model": "any", "learning_rate": 1e-4})
    same = {f.name for f in fields(SftSpec) if getattr(spec, f.name) == getattr(plain, f.name)}
    # Two choices at the top of the form, the other way to say how long, and what only a measured result brings.
    assert same == {"method", "preset", "prediction"}
    assert spec.epochs is None
    assert {f.name for f in fields(LoraSpec) if getattr(spec.lora, f.name) == getattr(plain.lora, f.name)} == set()
    assert {f.name for f in fields(EvaluateSpec) if getattr(spec.evaluate, f.name) == getattr(plain.evaluate, f.name)}\
        == set()  # fmt: skip
    assert spec.target.answer == "cot"
    assert (spec.lora.targets, spec.betas, spec.report) == (("q_proj", "v_proj"), (0.8, 0.99), "tensorboard")


def test_full_has_no_adapter(app: Open) -> None:
    test = opened(app)
    fill(test, {"sft_rate": "1e-5", "sft_rank": 4})
    test.session_state["sft_method"] = "full"
    test.run()
    assert file_of(test)["method"] == "full"
    assert "lora" not in file_of(test)


def test_the_papers_settings_show_in_the_fields_and_what_is_given_wins(app: Open) -> None:
    test = fill(opened(app), {"sft_rate": "1e-5"})
    test.segmented_control(key="sft_preset").set_value("paper").run()
    assert not test.exception
    assert test.number_input(key="sft_batch").placeholder == "256"
    assert test.number_input(key="sft_tokens").placeholder == "8192"
    assert "steps" not in file_of(test)
    spec = SftSpec.from_dict(file_of(fill(test, {"sft_batch": 64})))
    assert (spec.preset, spec.batch, spec.epochs, spec.max_tokens) == ("paper", 64, 10.0, 8192)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sft_rate": "fast"}, "Learning rate (learning_rate) is 'fast'"),
        ({"sft_rate": "-1"}, "Learning rate (learning_rate) is -1"),
        ({"sft_rate": "nan"}, "Learning rate (learning_rate) is nan"),
        ({"sft_rate": "1e-4", "sft_steps": -5}, "Steps is -5 Give a whole number of at least 1."),
        ({"sft_rate": "1e-4", "sft_steps": 0}, "Steps is 0"),
        ({"sft_rate": "1e-4", "sft_every": 0}, "Steps between checkpoints (checkpoint_every) is 0"),
        ({"sft_rate": "1e-4", "sft_rows": -1}, "Questions a domain (evaluate.rows) is -1"),
        ({"sft_rate": "1e-4", "sft_alpha": "x"}, "Alpha (lora.alpha) is 'x'"),
        ({"sft_rate": "2"}, "Common ones are 1e-5"),
        (
            {"sft_rate": "1e-4", "sft_batch": 6, "sft_micro": 4},
            "batch) is 6, which cannot be made of Rows at once",
        ),
        ({"sft_rate": "1e-4", "sft_warm_up": "3"}, "Give a share of the steps"),
        ({"sft_rate": "1e-4", "sft_beta2": "1"}, "Give two numbers from 0"),
        ({"sft_rate": "1e-4", "sft_dropout": "1"}, "Dropout (lora.dropout) is 1"),
        ({"sft_rate": "1e-4", "sft_device": "gpu"}, "cuda:1"),
        ({"sft_rate": "1e-4", "sft_processes": 2, "sft_batch": 7}, "in 2 processes"),
    ],
)
def test_what_cannot_be_is_told_and_cannot_be_planned(app: Open, given: dict[str, Any], told: str) -> None:
    test = fill(opened(app), given)
    assert not test.exception
    assert told in said(test)
    assert not [button for button in test.button if button.label == "Plan this run"]
    assert watch.all_jobs() == []


def test_keys_are_named_as_the_form_names_them(app: Open) -> None:
    test = opened(app)
    fields = (test.text_input, test.number_input, test.selectbox, test.multiselect)
    labels = {field.label for kind in fields for field in kind} | {"Passes", "AdamW beta 1 and 2"}
    assert set(LABELS.values()) <= labels
    assert by_field("Choose a batch that is a multiple of micro_batch.", LABELS) == (
        "Choose a batch that is a multiple of Rows at once (micro_batch)."
    )
    assert by_field("keep fewer (keep_checkpoints)", LABELS) == "keep fewer (Checkpoints that stay, keep_checkpoints)"
    assert by_field("The steps of my_warm_up: none", LABELS) == "The steps of my_warm_up: none"


@pytest.mark.usefixtures("planned", "started")
def test_what_is_started_is_what_the_file_says(app: Open) -> None:
    test = fill(opened(app), {"sft_rate": "2e-4", "sft_rank": 4})
    asked = SftSpec.from_dict(file_of(test))
    next(button for button in test.button if button.label == "Plan this run").click().run()
    test.session_state["sft_asked"].wait(30)
    test.run()
    assert "gsm-symbolic: 1\u202f200 rows to train on" in said(test)
    assert "5 checkpoints and room for one more, 0.10 GB on the disk" in said(test)
    assert "about 1\u202fmin 1\u202fs (training 40\u202fs, evaluation 21\u202fs)" in said(test).replace("\\", "")
    assert "Rows *repeat*" in said(test)
    test.button(key="sft_start").click().run()
    assert not test.exception
    (job,) = watch.all_jobs()
    assert SftSpec.from_dict(job.spec) == asked
    assert job.spec == asked.to_dict()
    assert job.title == "gsm-symbolic, LoRA, 60 steps"
    assert test.query_params["run"] == job.id


@pytest.mark.usefixtures("planned")
def test_a_plan_is_for_the_settings_it_was_made_of(app: Open) -> None:
    test = fill(opened(app), {"sft_rate": "2e-4"})
    next(button for button in test.button if button.label == "Plan this run").click().run()
    test.session_state["sft_asked"].wait(30)
    assert test.run().button(key="sft_start")
    fill(test, {"sft_seed": 5})
    assert [button.key for button in test.button if button.key == "sft_start"] == []


def test_a_plan_that_fails_says_why_and_is_made_again(app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = "import sys; sys.exit('error: There is no such model\\nhint: Name another')"
    monkeypatch.setattr(launch_form, "COMMAND", (sys.executable, "-c", refused))
    test = fill(opened(app), {"sft_rate": "2e-4"})
    for word in ("Plan this run", "Plan again"):
        next(button for button in test.button if button.label == word).click().run()
        test.session_state["sft_asked"].wait(30)
        assert not test.run().exception
        assert "There is no such model" in said(test)


def test_the_prediction_is_that_of_the_result_on_top_and_can_be_left_out(app: Open, pages_cache: Path) -> None:
    key = make_result(folders.results()).manifest["key"]
    test = fill(opened(app), {"sft_rate": "2e-4"})
    assert file_of(test)["prediction"] == key
    fill(test, {"sft_foretold": False})
    assert "prediction" not in file_of(test)
