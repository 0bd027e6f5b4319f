"""Shifted features against a fine-tune's: shown for runs that were held against this very result, with its nulls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from sts_core import folders
from sts_core.folders import atomic_json, jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result
from tests.pages.made_runs import make_run
from tests.pages.synthetic import FEATURES, make_result
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/shifted.py"


@pytest.fixture
def result(pages_cache: Path) -> Result:
    return make_result(folders.results())


def held_run(result: Result, key: str = "") -> str:
    """A finished run whose features shifted nearly as demonstrations said, but for a few."""
    run = make_run(done=20, steps=20)
    folder = folders.ensure(jobs() / run / RESULT)
    shift = result.shift["shift_icl"].to_numpy() * np.random.default_rng(1).uniform(0.2, 1.8, FEATURES)
    table = pd.DataFrame({"feature": range(FEATURES), "shift_sft": shift, "signed_sft": -shift})
    table.to_parquet(folder / "shift.parquet", index=False)
    atomic_json(folder / "manifest.json", {"prediction": key or result.manifest["key"]})
    return run


def test_nothing_is_said_where_no_run_was_held_against_this_result(app: App, result: Result) -> None:
    held_run(result, key="another")
    assert "Do they really shift?" not in [part.value for part in app(PAGE).header]


def test_the_overlap_stands_beside_its_nulls_and_claims_nothing_without_an_interval(app: App, result: Result) -> None:
    held_run(result)
    test = app(PAGE, n="10")
    assert not test.exception
    assert "Do they really shift?" in [part.value for part in test.header]
    words = words_of(test)
    assert "of the 10 predicted features really shifted, where" in words
    assert "no claim" in words
    assert "The noise of rounding was not measured" in words
    figures = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    overlap = next(f for f in figures if any(trace.get("name") == "shared" for trace in f["data"]))
    assert {"activation", "matched", "chance"} <= {trace["name"] for trace in overlap["data"]}


def test_the_table_lists_features_that_lead_one_ranking_alone(app: App, result: Result) -> None:
    run = held_run(result)
    test = app(PAGE, n="10")
    table = next(frame.value for frame in test.dataframe if "leads" in frame.value)
    assert set(table["leads"]) <= {"demonstrations alone", "the fine-tune alone"}
    sft = pd.read_parquet(jobs() / run / RESULT / "shift.parquet").sort_values("shift_sft", ascending=False)
    icl = result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])
    alone = set(sft["feature"][:10]) ^ set(icl["feature"][:10])
    assert set(table["feature"]) == alone
