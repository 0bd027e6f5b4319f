"""Fine-tuning runs on their page: what the table, a run and a comparison say, from real job folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sts_core.jobs.folder import jobs
from sts_core.store.note import read_note
from tests.pages.made_runs import make_run

RUNS = "pages/views/runs.py"
Open = Callable[..., AppTest]


def said(test: AppTest) -> str:
    return " ".join(str(part.value) for part in [*test.title, *test.markdown, *test.caption, *test.error])


def plain(text: str) -> str:
    return text.replace("\\", "")


def test_without_a_run_it_says_how_to_start_one(app: Open) -> None:
    test = app(RUNS)
    assert plain(test.title[0].value) == "No fine-tuning run yet."
    assert "sts sft cache/demo/sft.toml" in plain(said(test))
    assert not test.exception


def test_the_table_tells_runs_apart(app: Open, pages_cache: Path) -> None:
    make_run("first")
    make_run("second", learning_rate=1e-5, method="full")
    make_run("third", "failed", done=12)
    test = app(RUNS)
    assert "3 runs are kept; none is under way" in plain(test.title[0].value)
    table = test.dataframe[0].value
    assert list(table["title"]) == ["third", "second", "first"]
    assert list(table["state"]) == ["✕ failed", "✓ done", "✓ done"]
    assert "learning_rate 1e-05" in table["differs"][1]
    assert table["done"][2] == 100
    assert 20 <= len(table["loss"][2]) <= 60
    assert table["last"][2] == pytest.approx(0.65, abs=0.25)


def test_a_run_says_first_whether_the_prediction_came_true(app: Open, pages_cache: Path) -> None:
    run = make_run()
    test = app(RUNS, run=run)
    assert not test.exception
    title = plain(test.title[0].value)
    assert title.startswith("70 of the 100 predicted features really shifted, where rounding alone gives 70: no claim")
    assert "of 14 domains got worse" in title
    assert "In 60 steps the loss fell from" in plain(said(test))
    assert "The SAE still holds on the fine-tuned model" in plain(said(test))
    tables = [frame.value for frame in test.dataframe]
    assert any("Overlap@100" in table for table in tables)
    assert any(len(table) == 15 and "Before" in table for table in tables)


def test_a_failed_run_says_where_and_why(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, run=make_run("short", "failed", done=12))
    assert "This run failed after step 12: The loss is not finite" in plain(test.title[0].value)


def test_a_run_that_is_not_there_is_told(app: Open, pages_cache: Path) -> None:
    test = app(RUNS, run="20260101-000000-000000-abcdef")
    assert "sts jobs` lists those there are" in plain(said(test))
    assert not test.exception


def test_runs_beside_each_other_show_only_what_differs(app: Open, pages_cache: Path) -> None:
    runs = [make_run("first"), make_run("second", seed=7)]
    test = app(RUNS, compare=runs)
    assert not test.exception
    assert "Of 2 runs" in plain(test.title[0].value)
    settings = test.dataframe[0].value
    assert list(settings.index) == ["seed"]
    assert list(settings.iloc[0]) == ["0", "7"]
    changes = test.dataframe[1].value
    assert len(changes) == 16  # fourteen domains, the target and the overlap


def test_a_note_is_kept_in_the_runs_folder(app: Open, pages_cache: Path) -> None:
    run = make_run()
    test = app(RUNS, run=run)
    test.text_area(key=f"note_{run}").set_value("seed 0 of three").run()
    assert read_note(jobs() / run) == "seed 0 of three"


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "[x](javascript:alert(1)) **b**", "$x$ :red[a]"])
def test_names_are_text(app: Open, pages_cache: Path, hostile: str) -> None:
    run = make_run(hostile, "failed", done=3)
    for query in ({"run": run}, {"compare": [run, make_run("other")]}, {}):
        test: Any = app(RUNS, **query)
        assert not test.exception
        marked = [str(part.value) for part in [*test.title, *test.markdown, *test.caption]]
        assert not any(hostile in text for text in marked if "<style>" not in text)


def test_a_run_needs_a_learning_rate_and_then_shows_the_command(app: Open, pages_cache: Path) -> None:
    test = app(RUNS)
    assert "Choose a learning rate" in plain(said(test))
    test.text_input(key="sft_rate").set_value("2e-4").run()
    code = test.code[0].value
    assert "learning_rate = 0.0002" in code
    assert 'data = "gsm-symbolic"' in code
