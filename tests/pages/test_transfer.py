"""Transfer: the answer first, choices that answer and stand in the URL, and nothing drawn that did not happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import transfer_actual
from pages.parts.transfer_data import Choice
from sts_core import folders
from sts_core.folders import atomic_json, atomic_write, ensure, jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result
from sts_core.results.actual import MIXED, read_actual
from sts_core.results.agreement import NONE_WORSE, OTHER_SET, hold_against
from sts_core.results.outcomes.rows import AFTER, BEFORE, RowValue, read_rows, write_rows
from tests.pages.made_runs import make_run
from tests.pages.synthetic import FEATURES, all_domains, make_result
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/transfer.py"
DIGEST = "0123456789abcdef"


@pytest.fixture
def result(pages_cache: Path) -> Result:
    """Domains whose scores rise in their order."""
    return make_result(folders.results())


def evaluated_run(key: str = "", carried: str = "", **spec: Any) -> str:
    """A finished run whose domains got worse in about the order of the scores; `carried` alone got much worse."""
    run = make_run(done=20, steps=20, **spec)
    folder = ensure(jobs() / run / RESULT)
    random = np.random.default_rng(2)
    harm = {name: (0.02 * i if not carried else 0.0) + 0.02 * random.normal() for i, name in enumerate(all_domains())}
    harm |= {carried: 3.0} if carried else {}
    for phase, share in ((BEFORE, 0.0), (AFTER, 1.0)):
        rows = [
            RowValue(name, row, metric, 1.0 + share * (sign * harm[name] + 0.002 * random.normal()))
            for name in harm
            for row in range(8)
            for metric, sign in (("nll", 1), ("accuracy", -1))
        ]
        write_rows(folder, phase, rows)
    random_shift = np.random.default_rng(1).random(FEATURES)
    table = pd.DataFrame({"feature": range(FEATURES), "shift_sft": random_shift, "signed_sft": -random_shift})
    table.to_parquet(folder / "shift.parquet", index=False)
    atomic_json(folder / "manifest.json", {"prediction": key or "0123456789abcdef0123"})
    return run


def figures(test: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in figure["data"] if one.get("name") == name)


def values(entry: Any) -> list[float]:
    """Plotly's numbers, packed or not."""
    if isinstance(entry, dict):
        import base64

        return np.frombuffer(base64.b64decode(entry["bdata"]), entry["dtype"]).tolist()
    return list(entry)


def test_what_the_set_alone_did_comes_before_what_a_mixture_did(app: App, result: Result) -> None:
    """The scores foretell a training on the set; with rows of the domains in it, it is another training."""
    key = str(result.manifest["key"])
    alone = evaluated_run(key)
    mixed = evaluated_run(key, target={"data": "somewhere/manifest.json"})
    manifest = jobs() / mixed / RESULT / "manifest.json"
    atomic_json(manifest, json.loads(manifest.read_text()) | {"rows": {"mixture": {}}})
    test = app(PAGE, result=key[:12])
    assert not test.exception
    assert test.selectbox(key="actual_field").value == f"run:{alone}"
    assert MIXED not in words_of(test)
    other = app(PAGE, result=key[:12], actual=f"run:{mixed}")
    assert MIXED in words_of(other)


def test_a_run_on_another_training_set_is_no_test_of_these_scores(app: App, result: Result) -> None:
    own = result.manifest["spec"]["target"]["data"]
    for data, foreign in ((own, ""), ("passages", "passages"), ("/a/b.csv", "b.csv")):
        run = evaluated_run()
        told = {"rows": {}, "data": "0" * 64, "spec": {"target": {"data": data}}}
        atomic_json(jobs() / run / RESULT / "manifest.json", told)
        test = app(PAGE, result=str(result.manifest["key"])[:12], actual=f"run:{run}")
        assert not test.exception
        assert (OTHER_SET.format(foreign) in words_of(test)) is bool(foreign)
        assert ("Primary" in words_of(test)) is (not foreign)
        found = hold_against(result, read_actual(jobs() / run))
        assert any(one.primary for one in found.comparisons) is (not foreign)
        assert (OTHER_SET.format(foreign) in found.notes) is bool(foreign)


def test_where_no_domain_got_worse_harm_is_not_left_to_stand(app: App, result: Result) -> None:
    run = evaluated_run(str(result.manifest["key"]))
    assert NONE_WORSE not in words_of(app(PAGE, result=str(result.manifest["key"])[:12]))
    place = jobs() / run / RESULT
    after = read_rows(place).query("phase == @AFTER")
    better = [RowValue(r.set, r.row, r.metric, r.value - 5 * (r.metric == "nll")) for r in after.itertuples()]
    write_rows(place, AFTER, better)
    told = words_of(app(PAGE, result=str(result.manifest["key"])[:12]))
    assert NONE_WORSE in told
    found = hold_against(result, read_actual(place))
    assert NONE_WORSE in found.notes


def test_without_a_result_it_says_where_to_measure(app: App) -> None:
    test = app(PAGE)
    assert not test.exception
    assert "Nothing is measured yet" in words_of(test)


def test_before_anything_happened_the_prediction_stands_and_no_scatter(app: App, result: Result) -> None:
    test = app(PAGE)
    assert not test.exception
    assert "scores highest of 14 domains" in words_of(test)
    assert "Nothing happened yet" in words_of(test)
    assert len(figures(test)) == 1
    assert any("sts sft cache/demo/sft.toml" in str(code.value) for code in test.code)
    assert any(button.label == "Go to the fine-tuning runs" for button in test.button)


def test_a_run_held_against_this_result_is_the_answer(app: App, result: Result) -> None:
    run = evaluated_run()
    test = app(PAGE)
    assert not test.exception
    found = hold_against(result, read_actual(jobs() / run / RESULT), filters=["all"], with_baselines=False)
    primary = next(c.correlation for c in found.comparisons if c.primary)
    said = words_of(test)
    assert f"r = {primary.r:.2f}, n = 14, p < .001; without {primary.most_influential}" in said
    assert "STS act ranks harm better than chance" in said
    assert "Primary" in said
    assert "Reliability of the outcome" in said
    bars, scatter = figures(test)
    assert len(trace(scatter, "domains")["customdata"]) == 14
    assert trace(scatter, "domains")["error_x"]["array"]
    points = dict(zip(trace(scatter, "domains")["customdata"], values(trace(scatter, "domains")["x"]), strict=True))
    lengths = dict(zip(trace(bars, "score")["customdata"], values(trace(bars, "score")["x"]), strict=True))
    assert points == pytest.approx(lengths)


def test_one_point_that_carries_it_is_said_and_ringed(app: App, result: Result) -> None:
    evaluated_run(carried="psychology")
    test = app(PAGE)
    assert "without psychology" in words_of(test)
    assert "one point carries this" in words_of(test)
    scatter = figures(test)[1]
    assert values(trace(scatter, "ring")["y"]) == pytest.approx([3.0], abs=0.1)


@pytest.mark.parametrize(
    ("query", "choices"),
    [
        ({"top": "17"}, {"n": 17}),
        ({"top": "17", "power": "squares"}, {"n": 17, "power": 2}),
        ({"banded": "true", "band": ["21", "60"]}, {"ranks": (20, 60)}),
        ({"dims": "chance", "top": "30"}, {"n": 30, "dims": "random"}),
        ({"dims": "my list", "listed": "3, 9 40"}, {"dims": [3, 9, 40]}),
    ],
)
def test_a_link_holds_every_choice(app: App, result: Result, query: dict[str, Any], choices: dict[str, Any]) -> None:
    test = app(PAGE, **query)
    assert not test.exception
    expected = result.scores(**choices).query("metric == 'sts_act'").set_index("domain")["value"]
    bars = trace(figures(test)[0], "score")
    drawn = dict(zip(bars["customdata"], values(bars["x"]), strict=True))
    assert drawn == pytest.approx(expected.to_dict())


def test_the_runs_own_features_can_choose(app: App, result: Result) -> None:
    run = evaluated_run()
    test = app(PAGE, dims="the run itself", top="12")
    assert not test.exception
    found = hold_against(result, read_actual(jobs() / run / RESULT), n=12, dims="sft", with_baselines=False)
    bars = trace(figures(test)[0], "score")
    drawn = dict(zip(bars["customdata"], values(bars["x"]), strict=True))
    assert drawn == pytest.approx({point.domain: point.score["sts_act"] for point in found.points})
    assert "Exploratory" in words_of(test)


def test_what_cannot_be_chosen_is_told_in_words(app: App, result: Result) -> None:
    for query, words in (
        ({"dims": "the run itself"}, "The run's own features need a run"),
        ({"dims": "my list"}, "Until then, demonstrations choose."),
        ({"dims": "my list", "listed": "3, x"}, "'x' is no feature number"),
        ({"dims": "my list", "listed": "999999"}, "There is no feature 999999"),
    ):
        test = app(PAGE, **query)
        assert not test.exception
        assert words in words_of(test) + " ".join(str(error.proto) for error in test.error).replace("\\", "")


@pytest.mark.parametrize("actual", ["run:../../x", "file:../../x", "file:0123", "paper:none", "<b>", "figure:"])
def test_an_outcome_that_is_none_is_dropped_and_that_is_told(app: App, result: Result, actual: str) -> None:
    test = app(PAGE, actual=actual)
    for _ in range(2):  # for as long as the link is there
        assert not test.exception
        assert "Nothing happened yet" in words_of(test)
        assert sum("is not here; something else is shown" in one.value for one in test.markdown) == 1
        test.run()


def test_the_papers_changes_are_marked_as_of_another_model(app: App, result: Result) -> None:
    test = app(PAGE, actual="paper:Qwen2.5-7B-Instruct")
    assert not test.exception
    assert "These changes are of another model than this result's." in words_of(test)
    assert "n = 14" in words_of(test)
    assert "Exploratory" in words_of(test)


def test_the_papers_own_figure_is_shown_and_what_it_does_not_publish_is_said(app: App, result: Result) -> None:
    test = app(PAGE, actual="figure:Gemma2-9B-Instruct")
    assert not test.exception
    said = words_of(test)
    assert "r = 0.60, n = 8" in said
    assert "without engineering \u22120.23: one point carries this" in said
    bars, scatter = figures(test)
    numbers = [text.strip() for text in trace(bars, "numbers")["text"]]
    assert numbers.count("\u2014 not published") == 6
    assert len(trace(scatter, "domains")["customdata"]) == 8


def test_a_brought_file_is_held_against_the_scores(app: App, result: Result) -> None:
    lines = ["domain,change", *(f"{name},{-0.01 * i}" for i, name in enumerate(all_domains()))]
    folder = ensure(transfer_actual.uploads() / DIGEST)
    atomic_write(folder / "0-mine.csv", "\n".join(lines))
    test = app(PAGE, actual=f"file:{DIGEST}")
    assert not test.exception
    assert "n = 14" in words_of(test)
    assert "File: mine.csv" in str(test.selectbox(key="actual_field").options)


def test_a_brought_file_keeps_its_name_and_says_which_domains_it_shares(app: App, result: Result) -> None:
    known = [f"{name},{-0.01 * i}" for i, name in enumerate(all_domains()) if name != "law"]
    text = "\n".join(["domain,change", *known, "poetry,-0.3", "chess,0.1"])
    test = app(PAGE)
    test.file_uploader(key="actual_before").upload("my changes.csv", text.encode(), "text/csv").run()
    assert not test.exception
    said = words_of(test)
    assert "13 of 14 scored domains are in it. Not scored here: poetry, chess. Not in it: law." in said
    assert "File: my changes.csv" in str(test.selectbox(key="actual_field").options)
    token = str(test.selectbox(key="actual_field").value)
    assert read_actual(transfer_actual.given_of(token)).source == "my changes.csv"
    test.file_uploader(key="actual_before").set_value(("wrong.csv", b"a,b\n1,2\n", "text/csv")).run()
    assert "wrong.csv has no column" in " ".join(str(error.proto) for error in test.error).replace("\\", "")
    assert len(list(transfer_actual.uploads().iterdir())) == 1


def test_a_file_of_other_domains_takes_the_predictions_title_away(app: App, result: Result) -> None:
    folder = ensure(transfer_actual.uploads() / DIGEST)
    atomic_write(folder / "0-mine.csv", "domain,change\npoetry,-0.3\nchess,0.1\ndance,2\nopera,1\n")
    test = app(PAGE, actual=f"file:{DIGEST}")
    assert not test.exception
    assert [title.value for title in test.title] == ["No domain stands on both sides"]
    assert "what happened is of poetry, chess, dance and others. Name the domains alike." in words_of(test)
    assert len(figures(test)) == 1


def test_the_second_of_two_files_alone_is_told(app: App, result: Result) -> None:
    test = app(PAGE)
    test.file_uploader(key="actual_after").upload("after.csv", b"domain,change\nlaw,1\n", "text/csv").run()
    assert not test.exception
    assert [error.proto.title for error in test.error] == ["A file from after training alone tells no change"]
    test.file_uploader(key="actual_after").clear().run()
    assert not test.error


def test_the_metric_of_the_outcome_can_be_chosen(app: App, result: Result) -> None:
    evaluated_run()
    test = app(PAGE, measured="accuracy", outcome="size of change")
    assert not test.exception
    axis = figures(test)[1]["layout"]["yaxis"]["title"]["text"]
    assert axis == "|change|, points of accuracy"
    assert "Exploratory" in words_of(test)


def test_a_domain_shows_the_features_behind_its_score(app: App, result: Result) -> None:
    test = app(PAGE, domain="law", top="20")
    assert not test.exception
    table = next(frame.value for frame in test.dataframe if "elsewhere" in frame.value)
    expected = result.vectors.query("domain == 'law'").set_index("feature")["mean_act"]
    chosen = result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])["feature"][:20]
    best = expected[chosen].sort_values(ascending=False).index[:12]
    assert table["feature"].tolist() == best.tolist()
    assert table["here"].to_numpy() == pytest.approx(expected[best].to_numpy(), rel=1e-5)
    assert 0 < table["share"].sum() <= 100


def test_only_the_comparison_fixed_beforehand_is_primary() -> None:
    assert Choice().fixed_beforehand
    for other in (Choice(n=50), Choice("sts_icl"), Choice(power=2), Choice(dims="random"), Choice(outcome="size")):
        assert not other.fixed_beforehand
