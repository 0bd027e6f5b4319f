"""A sweep on the page: under way, done, come to nothing; from real job folders with a table in them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from sts_core.folders import jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, create, now
from sts_core.jobs.process import created
from sts_core.results.sweeps import COLUMNS, FORMAT, KIND, MANIFEST, write_table

APP = Path(__file__).with_name("sweep_app.py")
SAES = ("demo/smollm2-l9", "demo/smollm2-l15")
Open = Callable[..., AppTest]


@pytest.fixture
def open_sweep(pages_cache: Path) -> Open:
    """The little page, with a URL's query."""

    def open_app(**query: str) -> AppTest:
        st.cache_resource.clear()
        test = AppTest.from_file(str(APP), default_timeout=30)
        for name, value in query.items():
            test.query_params[name] = value
        return test.run()

    return open_app


def row(sae: str, choice: str, seed: int, rho: float, **more: Any) -> dict[str, Any]:
    top = choice.startswith("top")
    return {
        "kind": "score", "sae": sae, "layer": 9 if sae == SAES[0] else 15, "features": 4096, "l0": 32.1, "seed": seed,
        "pool": "query", "choice": choice, "n": 100 if top else None, "first": None if top else 101,
        "last": None if top else 200, "power": 1, "score": "sts_act", "outcome": "harm", "domains": 14, "varied": "",
        "value": "", "primary": top, "foretells": True, "spearman": rho, "r": rho, "same_order": 0.7,
        "key": "feed", **more,
    }  # fmt: skip


def make_sweep(state: str = "done", points: int = 2, outcome: bool = True, data: str = "gsm-symbolic") -> str:
    """A job's folder as its worker leaves it; its id."""
    jobs()
    spec = {"base": {"model": "smollm2", "sae": SAES[0], "target": {"data": data}}, "saes": list(SAES), "seeds": [0, 1]}
    standing: dict[str, Any] = {"started": now(), "stage": "smollm2-l9, seed 0: measuring law", "done": 1.5,
                                "total": 4, "unit": "measurements"}  # fmt: skip
    if state == "running":
        standing |= {"pid": os.getpid(), "pid_started": created(os.getpid())}
    else:
        standing |= {"ended": now(), "result": RESULT}
    standing |= {"error": "The disk is *full*", "hint": "Free some."} if state == "failed" else {}
    folder = create({"kind": "sweep", "title": "2 SAEs × 2 seeds", "spec": spec}, {"state": state, **standing})
    for number in range(points):
        append_event(
            folder, "point", number=number + 1, of=4, sae=SAES[0], layer=9, seed=number, pool="query", key=f"k{number}",
            choice="top 100", spearman=0.25, was_stored=number == 0,
        )  # fmt: skip
    if state == "done":
        write_result(folder / RESULT, outcome)
    return folder.name


def write_result(folder: Path, outcome: bool) -> None:
    folder.mkdir()
    rows = [
        row(sae, choice, seed, 0.4 * i + 0.2 * j + 0.02 * seed)
        for i, sae in enumerate(SAES)
        for j, choice in enumerate(("top 100", "ranks 101–200"))
        for seed in (0, 1)
    ]
    rows += [row(SAES[0], "", seed, -0.1, kind="baseline", score="all features, active", n=None) for seed in (0, 1)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64", "first": "Int64", "last": "Int64"})
    if not outcome:
        table = table[table["kind"] == "score"].assign(outcome="", spearman=math.nan, r=math.nan)
    write_table(folder, table)
    best = {"setting": 3, "spearman": 0.61, "p_alone": 0.01, "p_best": 0.21, "settings": 4, "sae": SAES[1],
            "pool": "query", "choice": "ranks 101–200", "power": 1}  # fmt: skip
    manifest = {
        "format": FORMAT, "kind": KIND, "actual": {"source": "a run", "metric": "nll", "domains": 14},
        "best": {"sts_act": best}, "chance": {"sts_act": {"spearman": 0.54, "r": 0.53}}, "seconds": 62.0,
        "results": [{"was_stored": True}, {"was_stored": False}], "warnings": ["One *thing* to know."],
        "baselines_not_stored": {"short LoRA probe": "needs a training of some steps"},
        "finished": "2025-11-20T20:00:00+00:00",
    }  # fmt: skip
    if not outcome:
        manifest |= {"actual": None, "best": {}, "chance": {}}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def said(test: AppTest) -> str:
    parts = [*test.subheader, *test.markdown, *test.caption, *test.error]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


def test_a_finished_sweep_answers_first(open_sweep: Open) -> None:
    test = open_sweep(job=make_sweep())
    assert not test.exception
    answer = test.subheader[0].value.replace("\\", "")
    assert answer.startswith("Of 4 settings of STS act, l15 with the features of ranks 101–200 ranks harm best")
    assert "no setting stands out" in answer
    assert "Best of the simpler numbers: all features, active of l9" in said(test)
    assert "2 measurements, 1 of them new" in said(test)
    assert "short LoRA probe: needs a training" in said(test)
    assert "One *thing* to know." in said(test)
    table = test.dataframe[0].value
    assert list(table["Spearman ρ"]) == sorted(table["Spearman ρ"], reverse=True)
    assert table["Spearman ρ"].iloc[0] == pytest.approx(0.61)
    assert set(table["Kind"]) == {"score", "baseline"}
    assert "Pool" not in table


def test_the_figure_goes_along_what_is_chosen(open_sweep: Open) -> None:
    job = make_sweep()
    test = open_sweep(job=job)
    (along,) = test.segmented_control
    assert along.options == ["SAE", "Features", "Seed"]
    figures = charts(test)
    assert len(figures) == 2
    assert places(figures[0]) == ["l9", "l15"]
    test = along.set_value("choice").run()
    assert places(charts(test)[0]) == ["top 100", "101–200"]
    assert line(charts(test)[0], "STS act") == pytest.approx([0.01, 0.21])
    sae = next(box for box in test.selectbox if box.label == "SAE")
    test = sae.set_value(SAES[1]).run()
    assert line(charts(test)[0], "STS act") == pytest.approx([0.41, 0.61])
    assert not test.exception
    linked = open_sweep(job=job, sweep_axis="Features")
    assert places(charts(linked)[0]) == ["top 100", "101–200"]


def test_without_an_outcome_there_is_one_figure_and_no_claim(open_sweep: Open) -> None:
    test = open_sweep(job=make_sweep(outcome=False))
    assert not test.exception
    assert "no outcome was named" in said(test)
    assert len(charts(test)) == 1
    assert "Spearman ρ" not in test.dataframe[0].value


def test_one_under_way_shows_its_points_so_far(open_sweep: Open) -> None:
    test = open_sweep(job=make_sweep("running"))
    assert not test.exception
    assert "1.5 of 4" in said(test) or "2 of 4 measurements" in said(test)
    table = test.dataframe[0].value
    assert list(table["From"]) == ["the store", "a new pass"]
    assert [button.label for button in test.button] == ["Cancel"]


def test_one_that_failed_says_why_and_what_is_kept(open_sweep: Open) -> None:
    test = open_sweep(job=make_sweep("failed", points=0))
    assert "The disk is *full*" in str(test.error[0].proto).replace("\\", "")
    assert "it goes on with what is missing" in said(test)
    assert "No measurement is done yet" in said(test)


def test_a_result_that_is_damaged_is_told(open_sweep: Open) -> None:
    job = make_sweep()
    (jobs() / job / RESULT / MANIFEST).write_text("{")
    test = open_sweep(job=job)
    assert not test.exception
    assert "cannot be read" in str(test.error[0].proto).replace("\\", "")


def test_the_section_offers_those_of_this_target_set(open_sweep: Open) -> None:
    first, second = make_sweep(), make_sweep()
    make_sweep(data="another.jsonl")
    test = open_sweep(target="gsm-symbolic")
    box = next(box for box in test.selectbox if box.label == "Sweep")
    assert len(box.options) == 2
    assert box.value == second
    assert "no setting stands out" in said(test)
    linked = open_sweep(target="gsm-symbolic", sweep=first)
    assert next(box for box in linked.selectbox if box.label == "Sweep").value == first
    empty = open_sweep(target="nothing")
    assert "No sweep over this target set" in said(empty)
    assert "sts sweep cache/demo/sweep.toml --plan" in empty.code[0].value


def charts(test: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


def places(figure: dict[str, Any]) -> list[str]:
    return [str(text).removeprefix("<br>") for text in figure["layout"]["xaxis"]["ticktext"]]


def line(figure: dict[str, Any], name: str) -> list[float]:
    (found,) = [trace for trace in figure["data"] if trace.get("name") == name and trace.get("hoverinfo") == "text"]
    return list(found["y"])
