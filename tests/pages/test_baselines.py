"""Transfer's baselines that need a model: told as missing, ordered by a button, then shown beside the rest."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import baselines_order
from sts_core import folders
from sts_core.folders import ensure, jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result
from sts_core.results.baselines import Baseline
from sts_core.results.kept_baselines import part_path, write_part
from tests.pages.synthetic import all_domains, make_result
from tests.pages.test_transfer import evaluated_run, figures
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/transfer.py"
PLAN = {
    "device": "cpu", "seconds": 95.0, "warnings": ["law: no question has an answer."],
    "parts": [{"part": "raw", "there": True, "seconds": 0.0}, {"part": "after", "there": False, "seconds": 40.0},
              {"part": "probe", "there": False, "seconds": 55.0}],
    "probe": {"steps": 15, "train_rows": 1900, "scored": {"law": 40, "math": 30}},
}  # fmt: skip


@pytest.fixture
def result(pages_cache: Path) -> Result:
    return make_result(folders.results(), device="cpu")


@pytest.fixture
def run(result: Result) -> Path:
    """A finished run whose model is here."""
    folder = jobs() / evaluated_run(key="0123456789abcdef0123") / RESULT
    ensure(folder / "model")
    return folder


def opened(app: App, **query: str) -> AppTest:
    """The page with its baselines unfolded."""
    test = app(PAGE, **query)
    test.session_state["baselines_open"] = True
    test.run()
    assert not test.exception
    return test


def keep(result: Result, part: str, name: str, seconds: float, mark: str = "", **told: Any) -> Baseline:
    values = {domain: 0.1 * i for i, domain in enumerate(all_domains())} | {"law": math.nan}
    one = Baseline(name, f"what {name} is", values, dict.fromkeys(values, 0.01), part != "after", None, seconds, "cpu")
    write_part(part_path(result, part, mark), {"finished": "2026-11-29", **told}, [one])
    return one


def table(test: AppTest) -> Any:
    return next(frame.value for frame in test.dataframe if "what" in frame.value).set_index("comparison")


def test_what_is_not_measured_is_told_with_a_way_to_measure_it(app: App, run: Path) -> None:
    test = opened(app)
    said = words_of(test)
    assert "raw activation: needs the model" in said
    assert "short LoRA probe: needs a training of some steps" in said
    assert "similarity before and after: needs a pass of the fine-tuned model" in said
    assert any(button.label == "Plan measuring these" for button in test.button)


def test_what_was_measured_stands_beside_the_others_with_what_it_cost(app: App, result: Result, run: Path) -> None:
    keep(result, "raw", "raw activation", 12.0)
    keep(result, "probe", "short LoRA probe, 15 steps", 130.0, "one")
    test = opened(app)
    rows = table(test)
    assert rows.loc["raw activation", "took"] == "12\u202fs on cpu"
    assert rows.loc["short LoRA probe, 15 steps", "took"] == "2\u202fmin 10\u202fs on cpu"
    assert rows.loc["all features, active", "took"] == "as STS"  # read from the same result
    both = next(frame.value for frame in test.dataframe if "took" in frame.value and "what" not in frame.value)
    assert set(both["took"]) == {"1\u202fmin 23\u202fs on cpu"}
    assert rows.loc["raw activation", "kind"] == "foretells"
    assert rows.loc["raw activation", "n"] == 13  # law was not measured
    assert rows.loc["raw activation", "rho"] > 0.5
    assert ["raw activation" in str(one["layout"]) for one in figures(test)].count(True) == 1
    said = words_of(test)
    assert "raw activation: needs" not in said
    assert "similarity before and after: needs a pass of the fine-tuned model" in said


def test_what_lies_after_a_training_is_shown_for_its_own_run_alone(app: App, result: Result, run: Path) -> None:
    name = "1 − similarity before and after, raw"
    keep(result, "after", name, 50.0, "r1", run={"folder": str(run.resolve()), "revision": "r1"})
    other = jobs() / evaluated_run(key="0123456789abcdef0123") / RESULT
    assert table(opened(app, actual=f"run:{run.parent.name}")).loc[name, "kind"] == "known after the training"
    assert name not in table(opened(app, actual=f"run:{other.parent.name}")).index


def test_without_a_run_only_what_needs_none_is_offered(app: App, result: Result) -> None:
    test = opened(app, actual="paper:Qwen2.5-7B-Instruct")
    assert "choose a run of this machine under What happened" in words_of(test)
    keep(result, "raw", "raw activation", 12.0)
    keep(result, "probe", "short LoRA probe, 15 steps", 130.0, "one")
    test = opened(app, actual="paper:Qwen2.5-7B-Instruct")
    assert not any(button.label == "Plan measuring these" for button in test.button)


def test_a_number_out_of_bounds_is_refused_by_the_plan(app: App, result: Result, run: Path) -> None:
    test = opened(app)
    test.number_input(key="probe_steps").set_value(0).run()
    next(button for button in test.button if button.label == "Plan measuring these").click().run()
    test.session_state["baselines_asked"].wait(60)
    told = [error.proto.title.replace("\\", "") for error in test.run().error]
    assert told == ["Steps of the LoRA probe (lora_steps) is 0"]


def test_the_plan_is_told_and_the_button_orders_the_job(
    app: App, result: Result, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"import json; print({json.dumps(json.dumps(PLAN))})"
    monkeypatch.setattr(baselines_order, "COMMAND", (sys.executable, "-c", told))
    ordered: list[tuple[Any, ...]] = []
    monkeypatch.setattr(baselines_order, "start", lambda *given: ordered.append(given) or "id")
    test = opened(app)
    test.number_input(key="probe_rows").set_value(10).run()
    next(button for button in test.button if button.label == "Plan measuring these").click().run()
    test.session_state["baselines_asked"].wait(20)
    test.run()
    said = words_of(test)
    assert "about 1\u202fmin 35\u202fs on cpu" in said
    assert "15 steps on 1\u202f900 rows, 70 questions" in said
    assert "no question has an answer" in said
    next(button for button in test.button if button.label == "Measure them").click().run()
    kind, values, title, options = ordered[0]
    assert kind == "baselines"
    assert values == {
        "result": str(result.folder.resolve()), "run": str(run.resolve()), "lora_steps": 15, "rows": 10
    }  # fmt: skip
    assert "gsm-symbolic" in title
    assert options == {"device": "cpu"}
