"""Shifted features: the answer first, the curve, the ranking, and one feature opened by the URL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.measured import whole_ranking
from pages.parts.ranking import _pick
from sts_core import folders
from sts_core.results import Result
from sts_core.store.results import listing
from tests.pages.synthetic import FEATURES, make_result, make_spec
from tests.pages.test_workbench import words_of

App = Callable[..., AppTest]
PAGE = "pages/views/shifted.py"


@pytest.fixture
def result(pages_cache: Path) -> Result:
    return make_result(folders.results())


def rows_of(test: AppTest) -> pd.DataFrame:
    return next(frame.value for frame in test.dataframe if "shift_icl" in frame.value)


def test_the_answer_comes_first_and_claims_its_numbers_only(app: App, result: Result) -> None:
    test = app(PAGE, n="10")
    shift = result.shift["shift_icl"].sort_values(ascending=False)
    held = f"{100 * shift[:10].sum() / shift.sum():.1f}"
    assert not test.exception
    assert f"10 of {FEATURES} features hold {held}\u202f% of the shift" in test.title[0].value.replace("\\", "")
    assert "raw dimensions would need" in words_of(test)
    assert "Measured 20 Nov 2025 on cpu" in words_of(test)


def test_the_curve_is_drawn_with_few_points(app: App, result: Result) -> None:
    figure = json.loads(app(PAGE).get("plotly_chart")[0].proto.spec)
    assert sum(len(trace["x"]) for trace in figure["data"]) <= 500
    assert [trace["name"] for trace in figure["data"]][:2] == ["SAE features", "raw dimensions"]


def test_noise_that_was_not_measured_is_a_dash_with_its_reason(app: App, pages_cache: Path) -> None:
    make_result(folders.results(), warnings=["The noise of rounding was not measured in bfloat16: out of memory"])
    test = app(PAGE)
    assert "not measured in bfloat16: out of memory" in words_of(test)
    facts = next(table.value for table in test.table if "Shift from rounding alone" in table.value.index)
    assert facts.loc["Shift from rounding alone"].iloc[0] == "—"


def test_the_table_holds_the_ranking(app: App, result: Result) -> None:
    rows = rows_of(app(PAGE))
    expected = result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])
    assert rows["feature"].tolist() == expected["feature"].tolist()
    assert rows["rank"].tolist() == list(range(1, FEATURES + 1))
    assert rows["way"].str.startswith("data:image/svg+xml,").all()


@pytest.mark.parametrize(("order", "first"), [("up", 1), ("down", 0)])
def test_the_order_can_be_chosen(app: App, result: Result, order: str, first: int) -> None:
    test = app(PAGE)
    test.session_state["order"] = order
    rows = rows_of(test.run())
    assert len(rows) == FEATURES // 2
    assert set(rows["feature"] % 2) == {first}
    assert rows["signed_icl"].abs().is_monotonic_decreasing


def test_an_order_without_rows_says_so(app: App, result: Result) -> None:
    test = app(PAGE)
    test.session_state["order"] = "gain"
    test.run()
    assert not test.exception
    assert f"No feature of {FEATURES} that fire more often." in words_of(test)


def test_a_feature_of_the_url_is_opened_with_its_errors(app: App, result: Result) -> None:
    test = app(PAGE, feature="7")
    assert not test.exception
    assert "Feature 7" in words_of(test)
    figure = json.loads(test.get("plotly_chart")[1].proto.spec)
    assert len(figure["layout"]["yaxis"]["ticktext"]) == 14
    assert len(figure["data"][1]["error_x"]["array"]) == 14
    facts = next(table.value for table in test.table if "Signed shift" in table.value.index)
    assert facts.loc["Signed shift"].iloc[0].startswith("\\+")


def test_a_feature_can_be_closed(app: App, result: Result) -> None:
    test = app(PAGE, feature="7")
    test.button(key="close_feature").click().run()
    assert "feature" not in test.query_params
    assert "Feature 7" not in words_of(test)


@pytest.mark.parametrize("feature", ["-1", "128", "99999999999", "x", "1e3", "²", "<b>"])
def test_a_feature_that_is_none_is_dropped(app: App, result: Result, feature: str) -> None:
    test = app(PAGE, feature=feature, order="nonsense", fires="2", n="0")
    assert not test.exception
    assert "feature" not in test.query_params
    assert len(rows_of(test)) == FEATURES


def test_a_feature_of_another_sae_is_dropped(app: App, result: Result) -> None:
    other = make_spec(sae="/models/other")
    make_result(folders.results(), key="bbbbbbbbbbbbbbbb", spec=other, finished="2020-01-01T00:00:00+00:00")
    test = app(PAGE, feature="7", result="0123456789ab")
    test.query_params["result"] = "bbbbbbbbbbbb"
    test.run()
    assert "feature" not in test.query_params


@pytest.mark.parametrize(
    ("picked", "feature"),
    [
        ({"rows": [1], "cells": []}, 30),
        ({"rows": [], "cells": [(2, "shift_icl")]}, 40),
        ({"rows": [], "cells": []}, None),
    ],
)
def test_a_picked_row_or_cell_is_the_feature(
    result: Result, monkeypatch: pytest.MonkeyPatch, picked: dict[str, Any], feature: int | None
) -> None:
    state: dict[str, Any] = {"t": {"selection": picked}, "shown_feature": (9, "x")}
    query: dict[str, str] = {"feature": "9"}
    monkeypatch.setattr("streamlit.session_state", state)
    monkeypatch.setattr("streamlit.query_params", query)
    _pick(listing()[0], "t", [20, 30, 40])
    assert query.get("feature") == (None if feature is None else str(feature))
    assert state["t"]["selection"]["cells"] == []


def test_the_whole_ranking_holds_every_feature_and_the_share(result: Result) -> None:
    table = whole_ranking(result.folder)
    assert table["rank"].tolist() == list(range(1, FEATURES + 1))
    assert table["held"].iloc[-1] == pytest.approx(1)
    assert table["held"].is_monotonic_increasing


def test_nothing_measured_leads_to_the_workbench(app: App) -> None:
    test = app(PAGE)
    assert not test.exception
    assert "Nothing is measured yet" in words_of(test)
    assert any(button.label == "Go to the Workbench" for button in test.button)


def test_a_damaged_result_is_told(app: App, result: Result) -> None:
    (result.folder / "shift_raw.parquet").write_bytes(b"no parquet")
    test = app(PAGE)
    assert not test.exception
    assert "Measure again" in words_of(test)
