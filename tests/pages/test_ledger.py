"""The ledger's page: the answer first, a line a prediction, and ways to the run and to Transfer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import ledger_figures, ledger_table
from pages.parts.ledger_data import read
from sts_core import folders
from sts_core.spec import MMLU_DOMAINS
from sts_core.store import keeper
from tests.pages.made_ledger import KEY, evaluate_again, make_foretold
from tests.pages.synthetic import make_result

Open = Callable[..., AppTest]
Show = Callable[[], AppTest]
PAGE = "pages/views/ledger.py"
SCORES = {name: float(i) for i, name in enumerate(MMLU_DOMAINS)}
WRONG = {name: -value for name, value in SCORES.items()}


def words(test: AppTest) -> str:
    parts = [*test.title, *test.markdown, *test.caption, *test.error]
    return " ".join(str(part.value) for part in parts).replace("\\", "").replace("\u00a0", " ")


def figures(test: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


@pytest.fixture
def shown(app: Open, pages_cache: Path) -> Show:
    """Open the ledger once the job folders have been read in: what its polling does in a browser."""

    def open_ledger() -> AppTest:
        test = app(PAGE)
        keeper.catch_up()
        return test.run()

    return open_ledger


def pick(test: AppTest, row: int) -> AppTest:
    """As a click on a line's box does it."""
    test.session_state["ledger"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return test.run()


def test_without_a_prediction_there_is_one_thing_to_do(shown: Show) -> None:
    test = shown()
    assert not test.exception
    assert words(test).startswith("No prediction is written down yet.")
    assert [button.label for button in test.button if "run" in button.label] == ["Start a fine-tuning run"]
    assert not figures(test)


def test_the_answer_stands_first_and_counts_training_sets(shown: Show) -> None:
    make_foretold(SCORES, SCORES, title="right")
    make_foretold(SCORES, SCORES, title="right again")
    make_foretold(SCORES, WRONG, title="wrong", data="else", key="a" * 20)
    test = shown()
    assert not test.exception
    title = str(test.title[0].value).replace("\\", "").replace("\u00a0", " ").replace("\u202f", " ")
    assert title == (
        "3 predictions scored: median Spearman 1.00 (2 of 3 above 0; by training set 1 of 2, sign test p = 1); "
        "top-three hit rate 67 % against 21 % by chance."
    )
    assert "from 2 distinct training sets" in words(test)
    assert "With 2 of them p cannot fall below .500" in words(test)
    ranks, hits = figures(test)
    assert len(ranks["data"][0]["hovertext"]) == 3
    assert [trace["name"] for trace in hits["data"]] == ["named", "by chance"]
    table = test.dataframe[0].value
    assert list(table["title"]) == ["wrong", "right again", "right"]
    assert list(table["state"]) == ["✓ scored"] * 3
    assert list(table["hits"]) == [0, 3, 3]


def test_one_prediction_claims_no_rate(shown: Show) -> None:
    make_foretold(SCORES, SCORES)
    told = words(shown())
    assert told.startswith("One prediction is scored: Spearman 1.00 over 14 domains, p < .001; 3 of the 3 hit hardest")
    assert "One run says little about the next." in told
    assert "hit rate" not in told.split("Every prediction")[0].split("Scores as")[0]


def test_what_waits_and_what_cannot_be_scored_stands_in_the_table(shown: Show) -> None:
    make_foretold(SCORES, None, state="running", title="going")
    make_foretold(SCORES, None, state="failed", title="broken")
    make_foretold(SCORES, None, title="not evaluated")
    test = shown()
    assert words(test).startswith("3 predictions are written down; none is scored yet.")
    assert not figures(test)
    table = test.dataframe[0].value
    assert list(table["state"]) == ["○ waits for its evaluation", "✕ cannot be scored", "▷ waits for its run"]
    assert "The loss is not finite" in table["why"][1]


def test_a_line_that_is_picked_shows_its_domains_and_its_ways(shown: Show) -> None:
    make_result(folders.results(), key=KEY)
    run = make_foretold(SCORES, SCORES | {"target": -1.0}, title="mine")
    by = evaluate_again(run, SCORES)
    test = pick(shown(), 0)
    assert not test.exception
    told = words(test)
    assert "STS act against harm in answer log-likelihood: Spearman 1.00, n = 14, p < .001" in told
    assert f"Evaluated 2 times; the newest counts ({by})." in told
    assert next(iter(test.dataframe[1].value["domain"])) == MMLU_DOMAINS[-1]
    links = {link.proto.label: link.proto.query_string for link in test.get("page_link")}
    assert links["Open the run"] == f"run={run}"
    assert links["See it on Transfer"] == f"result={KEY[:12]}&actual=run%3A{by}"
    row = test.dataframe[0].value.iloc[0]
    assert row["run"] == f"/runs?run={run}"
    assert row["transfer"] == f"/transfer?{links['See it on Transfer']}"


def test_where_the_result_is_gone_there_is_no_way_to_transfer(shown: Show) -> None:
    make_foretold(SCORES, SCORES)
    test = pick(shown(), 0)
    assert "what was written down stands" in words(test)
    assert "See it on Transfer" not in [link.proto.label for link in test.get("page_link")]
    assert test.dataframe[0].value["transfer"][0] is None


def test_nothing_is_claimed_while_the_folders_are_read_in(shown: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    test = shown()
    monkeypatch.setattr(keeper, "keep", lambda: keeper.Standing(True, None, "", None))
    told = words(test.run())
    assert "are being read in" in told
    assert "No prediction" not in told
    monkeypatch.undo()


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "[x](javascript:alert(1)) **b**", "$x$ :red[a]"])
def test_names_are_text(shown: Show, hostile: str) -> None:
    make_foretold({hostile: 1.0, **SCORES}, {hostile: 1.0, **SCORES}, title=hostile, measure=f"{hostile} STS act")
    make_foretold(SCORES, {**SCORES, hostile: 1.0}, measure=hostile, data=hostile)
    for row in (0, 1):
        test = pick(shown(), row)
        assert not test.exception
        marked = [str(part.value) for part in [*test.title, *test.markdown, *test.caption]]
        assert not any(hostile in text for text in marked if "<style>" not in text)
    for figure in figures(test):
        assert "<script" not in json.dumps(figure)


def test_the_csv_has_every_line(shown: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_table, "MOST_LINES", 2)
    for i in range(3):
        make_foretold(SCORES, SCORES, title=f"run {i}")
    test = shown()
    assert len(test.dataframe[0].value) == 2
    assert "The newest 2 of 3 predictions; the CSV has all." in words(test)
    from sts_core.results.ledger import to_csv

    assert len(list(csv.DictReader(io.StringIO(to_csv(read().entries))))) == 3


def test_of_many_the_newest_are_drawn(shown: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_figures, "MOST_ROWS", 2)
    for i in range(3):
        make_foretold(SCORES, SCORES, title=f"run {i}")
    test = shown()
    ranks = figures(test)[0]
    assert len(ranks["data"][0]["hovertext"]) == 2
    assert any("The newest 2 of 3" in note["text"] for note in ranks["layout"]["annotations"])


def test_an_evaluation_without_a_prediction_is_told(shown: Show) -> None:
    run = make_foretold(SCORES, SCORES)
    events = folders.jobs() / run / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    events.write_text("".join(line for line in lines if '"prediction"' not in line), encoding="utf-8")
    test = shown()
    assert words(test).startswith("No prediction is written down yet.")
    assert "One run was evaluated without a prediction and stands in no line here" in words(test)
