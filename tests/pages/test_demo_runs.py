"""Runs that ship, on every page that shows runs: there like one's own, marked, and with no way to change them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sts_core import folders
from tests.pages.made_runs import make_run
from tests.pages.synthetic import make_result
from tests.pages.test_transfer import evaluated_run

App = Callable[..., AppTest]


def ships(run: str) -> str:
    """Move a run from this machine's jobs to those that ship."""
    place = folders.demo_runs() / run
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folders.jobs() / run, place)
    return run


@pytest.fixture(autouse=True)
def _shown(pages_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STS_DEMO_RUNS")


def words(test: AppTest) -> str:
    parts = [*test.title, *test.subheader, *test.markdown, *test.caption, *test.error]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


def buttons(test: AppTest) -> set[str]:
    return {button.label for button in test.button}


def test_the_table_of_runs_holds_them_beside_ones_own(app: App) -> None:
    shipped, own = ships(make_run("gsm, LoRA")), make_run("mine", seed=7)
    test = app("pages/views/runs.py")
    assert not test.exception
    assert "2 runs are kept" in words(test)
    assert list(test.dataframe[0].value["title"]) == ["mine", "gsm, LoRA · demo"]
    beside = app("pages/views/runs.py", compare=[shipped, own])
    assert not beside.exception
    assert "gsm, LoRA · demo" in list(beside.dataframe[0].value.columns)


def test_a_run_that_ships_can_be_run_again_and_nothing_else(app: App) -> None:
    shipped = ships(make_run("gsm, LoRA"))
    before = {path: path.read_bytes() for path in folders.demo_runs().rglob("*") if path.is_file()}
    for page, query in (("pages/views/runs.py", {"run": shipped}), ("pages/views/jobs.py", {"job": shipped})):
        test = app(page, **query)
        assert not test.exception
        assert "This run ships with the demo" in words(test)
        assert "Order it" in buttons(test)  # behind Run again, which asks once more
        assert not buttons(test) & {"Resume", "Delete for good"}
        assert not [area for area in test.text_area if area.label == "Note"]
    assert {path: path.read_bytes() for path in folders.demo_runs().rglob("*") if path.is_file()} == before


def test_the_ledger_scores_it(app: App) -> None:
    shipped = ships(make_run("gsm, LoRA"))
    test = app("pages/views/ledger.py")
    assert not test.exception
    line = test.dataframe[0].value.iloc[0]
    assert line["title"] == "gsm, LoRA · demo"
    assert shipped in line["run"]


def test_what_it_did_is_held_against_its_result(app: App, pages_cache: Path) -> None:
    """Transfer takes it as what happened, Shifted features as the other ranking, a feature's page as what moved it."""
    key = str(make_result(pages_cache / "results").manifest["key"])
    run = ships(evaluated_run(key))
    transfer = app("pages/views/transfer.py", result=key[:12])
    assert not transfer.exception
    assert transfer.selectbox(key="actual_field").value == f"run:{run}"
    assert any("· demo" in option for option in transfer.selectbox(key="actual_field").options)
    shifted = app("pages/views/shifted.py", result=key[:12])
    assert not shifted.exception
    assert any("· demo" in option for option in shifted.selectbox(key="against").options)
    feature = app("pages/views/features.py", result=key[:12], feature="3")
    assert not feature.exception
    tables = [frame.value for frame in feature.dataframe]
    moved = next(table for table in tables if "what" in table)
    assert [what for what in moved["what"] if "· demo" in what]
    workbench = app(result=key[:12])
    assert not workbench.exception
    assert "prediction, tested here by one fine-tune" in workbench.title[0].value.replace("\\", "").replace(
        "\u2011", "-"
    )
    assert "What really happened, with N = 100: STS act " in words(workbench)
    assert "(Spearman ρ = " in words(workbench)
    links = {link.proto.label: link.proto.query_string for link in workbench.get("page_link")}
    assert links["See it on Transfer"] == f"result={key[:12]}"
