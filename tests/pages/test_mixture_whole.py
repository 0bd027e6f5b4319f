"""The whole way with a tiny model and nothing made up: measured, planned, ordered, made, and ready to be trained on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sts_core.folders import results
from sts_core.jobs.folder import RESULT
from sts_core.jobs.watch import all_jobs, read
from sts_core.results import Result
from sts_core.train.mixture.manifest import read_mixture, rebuild
from tests import tiny
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE, RUNS = "pages/views/mixture.py", "pages/views/runs.py"
PATIENCE = 120.0
QUERY = {"mix_budget": "12", "mix_rows": "10", "mix_kept": "8", "mix_seed": "1", "mix_n": "20"}


@pytest.fixture
def measured(pages_cache: Path, tmp_path: Path) -> Result:
    """A tiny model's own result in the store, measured by the command."""
    (tmp_path / "world").mkdir()
    world = tiny.world(tmp_path / "world")
    command = [sys.executable, "-m", "sts_core", "run", str(world.toml()), "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    (stored,) = (folder for folder in results().iterdir() if (folder / "manifest.json").is_file())
    return Result(stored)


def plan(test: AppTest, button: str, asked: str) -> AppTest:
    next(one for one in test.button if one.label == button).click().run()
    test.session_state[asked].wait(PATIENCE)
    return test.run()


def ended(job: str) -> Any:
    until = time.monotonic() + PATIENCE
    while (now := read(job)).active and time.monotonic() < until:
        threading.Event().wait(0.1)
    return now


def test_from_a_measured_result_to_the_form_that_trains_on_it(app: App, measured: Result) -> None:
    query = {**QUERY, "mix_answers": "the model itself", "mix_tokens": "8"}
    test = plan(app(PAGE, **query), "Plan this mixture", "mix_asked")
    assert not test.exception
    assert "22 rows: 10 of target.jsonl and 12 of 2 domains" in words_of(test).replace("*", "")
    test.button(key="mix_make").click().run()
    (job,) = all_jobs()
    done = ended(job.id)
    assert done.state == "done", done.error
    made = read_mixture(done.folder / RESULT)
    assert made.counts == {"target": 10, **made.manifest["quotas"]}
    assert sum(made.manifest["quotas"].values()) == 12
    assert made.manifest["result"]["key"] == measured.manifest["key"]
    assert rebuild(done.folder / RESULT) == (done.folder / RESULT / "mixture.jsonl").read_bytes()
    assert len((done.folder / RESULT / "answers.jsonl").read_text().splitlines()) == 12
    test.run()
    said = words_of(test).replace("*", "")
    assert "target.jsonl + 12 rows by STS: 22 rows are written" in said
    assert "12 answers of the model itself" in said
    quotas = [f"{rows} from {name}" for name, rows in made.manifest["quotas"].items()]
    assert all(part in words_of(test).split("\n")[0] for part in quotas)

    filled = plan(app(RUNS, mixture=job.id, sft_rate="1e-3", sft_steps="3"), "Plan this run", "sft_asked")
    assert not filled.exception
    values = tomllib.loads(next(code.value for code in filled.code if "learning_rate" in code.value))
    assert values["target"]["data"] == str((done.folder / RESULT / "manifest.json").resolve())
    assert values["model"] == measured.manifest["spec"]["model"]
    assert values["prediction"] == measured.manifest["key"]
    assert "22 rows to train on, 3 steps" in words_of(filled)
    assert json.loads(Path(values["target"]["data"]).read_text())["kind"] == "mixture"
