"""Runs with and without a mixture: offered where it makes sense, true to the questions, honest about the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.mixture_compare import side_by_side
from pages.parts.run_data import run
from sts_core.folders import jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result
from sts_core.results.outcomes.rows import read_rows
from tests.pages.made_mixtures import DOMAINS, make_mixture, make_source, make_trained, manifest_path
from tests.pages.test_transfer import values
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
RUNS = "pages/views/runs.py"
HARM = {"target": -0.5, "physics": 0.4, "law": 0.3, "math": 0.1, "history": 0.2}
SAVED = {"law": -0.25, "math": -0.05}
"""What mixing in takes off the harm."""


@pytest.fixture
def source(pages_cache: Path) -> Result:
    return make_source(pages_cache)


@pytest.fixture
def three(source: Result) -> list[str]:
    """By STS, without, evenly: in this order, so that the one without is found wherever it stands."""
    data = source.manifest["spec"]["target"]["data"]
    with_it = {name: harm + SAVED.get(name, 0.0) for name, harm in HARM.items()}
    mixed = manifest_path(make_mixture(source, {"law": 12, "math": 3}))
    evenly = manifest_path(make_mixture(source, {"law": 8, "math": 7}, "uniform"))
    return [
        make_trained(source, mixed, with_it, "by STS", seed=1),
        make_trained(source, data, HARM, "plain", seed=2),
        make_trained(source, evenly, with_it, "evenly", seed=3),
    ]


def panels(test: AppTest) -> list[dict[str, Any]]:
    charts = [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]
    return [chart for chart in charts if any(trace.get("name") == "change" for trace in chart["data"])]


def said(test: AppTest) -> str:
    return words_of(test).replace("*", "")


def test_the_table_of_runs_tells_what_is_in_a_mixture(app: App, three: list[str]) -> None:
    test = app(RUNS)
    assert not test.exception
    table = test.dataframe[0].value
    assert list(table["data"]) == [
        "target.jsonl + 15 rows of law and math evenly",
        "target.jsonl",
        "target.jsonl + 15 rows of law and math by STS",
    ]
    assert not table["differs"].str.contains("manifest.json").any()


def test_with_and_without_stand_beside_each_other(app: App, three: list[str]) -> None:
    test = app(RUNS, compare=three)
    assert not test.exception
    assert "With and without a mixture" in said(test)
    titles = [next(n["text"] for n in one["layout"]["annotations"] if n["name"] == "title") for one in panels(test)]
    assert titles == ["No mixture", "15 rows by STS", "15 rows evenly"]
    spans = {tuple(one["layout"]["xaxis"]["range"]) for one in panels(test)}
    assert len(spans) == 1
    bare = [[text.split(" <b>")[0] for text in one["layout"]["yaxis"]["ticktext"]] for one in panels(test)]
    assert bare[0] == bare[1] == bare[2]
    assert sorted(bare[0]) == sorted(DOMAINS)
    assert "law <b>+12</b>" in panels(test)[1]["layout"]["yaxis"]["ticktext"]
    for panel, job in zip(panels(test), [three[1], three[0], three[2]], strict=True):
        changes = run(job).changes("nll").set_index("domain")["value"]
        dots = next(trace for trace in panel["data"] if trace["name"] == "change")
        rows = dict(zip(bare[0], [None] * 4, strict=True))
        for x, y in zip(values(dots["x"]), values(dots["y"]), strict=True):
            rows[bare[0][int(y)]] = x
        assert rows == pytest.approx(changes.to_dict())


def test_the_difference_is_taken_question_by_question(app: App, three: list[str]) -> None:
    test = app(RUNS, compare=three)
    words = said(test)
    assert "15 rows by STS against no mixture:" in words
    assert "on average over the 2 mixed-in domains, better by more than two standard errors" in words
    assert "Over the 2 other domains:" in words
    assert "On the training set's own held-out rows:" in words
    assert "each question is its own control" in words
    table = next(frame.value for frame in test.dataframe if "15 rows by STS − no mixture" in frame.value)
    sides = [read_rows(jobs() / job / RESULT).query("set == 'law'") for job in three[:2]]
    changed = [
        side.pivot_table(index="row", columns="phase", values="value").eval("after - before").to_numpy()
        for side in sides
    ]
    difference = changed[0] - changed[1]
    shown = table["15 rows by STS − no mixture"]["law"].replace("−", "-")
    value, error = (float(part) for part in shown.split("±"))
    assert value == pytest.approx(difference.mean(), abs=0.001)
    assert error == pytest.approx(difference.std(ddof=1) / np.sqrt(40), abs=0.001)
    assert set(table.index) == {"target", *DOMAINS}


def test_without_kept_questions_the_errors_are_called_too_large(app: App, source: Result) -> None:
    data = source.manifest["spec"]["target"]["data"]
    mixed = manifest_path(make_mixture(source, {"law": 12}))
    runs = [make_trained(source, data, HARM, "plain"), make_trained(source, mixed, HARM, "mixed", keep_rows=False)]
    words = said(app(RUNS, compare=runs))
    assert "too large rather than too small" in words
    assert "within two standard errors of no change" in words


def test_what_else_differs_is_told(app: App, source: Result) -> None:
    data = source.manifest["spec"]["target"]["data"]
    mixed = manifest_path(make_mixture(source, {"law": 12}))
    runs = [make_trained(source, data, HARM, "plain"), make_trained(source, mixed, HARM, "mixed", learning_rate=1e-3)]
    assert "These runs differ in more than the mixture: learning_rate" in said(app(RUNS, compare=runs))


def test_two_mixtures_are_compared_without_a_plain_run(app: App, source: Result) -> None:
    runs = [
        make_trained(source, manifest_path(make_mixture(source, quotas, how)), HARM, how)
        for quotas, how in (({"law": 12}, "sts"), ({"law": 3}, "inverse"))
    ]
    assert "3 rows by inverse STS against 12 rows by STS" in said(app(RUNS, compare=runs))


def test_it_is_offered_only_where_there_is_something_to_compare(source: Result) -> None:
    data = source.manifest["spec"]["target"]["data"]
    job = make_mixture(source, {"law": 12})
    mixed = make_trained(source, manifest_path(job), HARM, "mixed")
    again = make_trained(source, manifest_path(job), HARM, "mixed again", seed=5)
    plain = make_trained(source, data, HARM, "plain")
    other = make_trained(source, "gsm-symbolic", HARM, "another set")
    runs = {name: run(job) for name, job in (("mixed", mixed), ("again", again), ("plain", plain), ("other", other))}
    assert side_by_side([runs["mixed"], runs["again"]]) == []
    assert side_by_side([runs["plain"], runs["other"]]) == []
    assert side_by_side([runs["mixed"], runs["other"]]) == []
    assert side_by_side([]) == []
    found = side_by_side([runs["mixed"], runs["again"], runs["other"], runs["plain"]])
    assert [one.run.title for one in found] == ["plain", "mixed", "mixed again"]
    assert found[1].name != found[2].name
    assert found[1].name.startswith("12 rows by STS (")
    shutil.rmtree(jobs() / job)  # nobody knows any more what it held
    assert side_by_side([runs["mixed"], runs["plain"]]) == []


def test_runs_that_were_not_evaluated_are_told(app: App, source: Result) -> None:
    data = source.manifest["spec"]["target"]["data"]
    mixed = manifest_path(make_mixture(source, {"law": 12}))
    runs = [make_trained(source, data, HARM, "plain"), make_trained(source, mixed, {}, "not evaluated")]
    test = app(RUNS, compare=runs)
    assert not test.exception
    assert "there is nothing to compare yet" in said(test)
