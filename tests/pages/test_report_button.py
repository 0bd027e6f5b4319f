"""The report's button: made by a child when it is asked for, the same as the command's, and a failure is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import report_button, transfer_actual
from sts_core import folders
from sts_core.errors import UserError
from sts_core.figures.report.page import report
from sts_core.folders import jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result, imported
from sts_core.results.outcomes.outcome import Outcome
from sts_core.store.results import Stored, listing
from tests.pages.synthetic import all_domains, make_result
from tests.pages.test_transfer import evaluated_run

App = Callable[..., AppTest]
CHILD = """
import sys, typer
from sts_core.cli import exporting
from sts_core.errors import UserError
program = typer.Typer()
exporting.add_to(program)
try:
    program(args=sys.argv[1:], standalone_mode=False)
except UserError as error:
    sys.exit(f"error: {error.message}\\nhint: {error.hint}")
"""
"""The command by itself, however the program hangs it in."""


@pytest.fixture
def result(pages_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr(report_button, "COMMAND", (sys.executable, "-c", CHILD))
    return make_result(folders.results())


def outcomes() -> list[Outcome]:
    return [Outcome(name, None, None, float(i), None, None, "score", "csv") for i, name in enumerate(all_domains())]


def test_it_is_the_command_s_report(result: Result) -> None:
    assert report_button.made(result.folder) == report(result.folder).encode()
    run = evaluated_run()
    made = report_button.made(result.folder, transfer_actual.given_of(f"run:{run}"), "accuracy").decode()
    assert "What really happened" in made
    assert f"{run}) (accuracy)" in made  # it is called by its title and id, not by its folder


def test_every_choice_of_transfer_can_be_handed_on(pages_cache: Path) -> None:
    kept = imported.keep("mine", outcomes(), "csv", ["x.csv"])
    for token, given in {
        "run:x": str(jobs() / "x" / RESULT), "imported:mine": str(kept.folder),
        "paper:Qwen2.5-7B-Instruct": "paper:Qwen2.5-7B-Instruct",
    }.items():  # fmt: skip
        assert report_button._happened(transfer_actual.given_of(token), None) == ["--actual", given]


def test_a_pair_of_files_is_handed_on_as_a_pair() -> None:
    assert report_button._happened([Path("a.json"), Path("b.json")], "acc") == [
        "--actual", "a.json", "--actual", "b.json", "--metric", "acc",
    ]  # fmt: skip
    assert report_button._happened("paper:x", "accuracy") == ["--actual", "paper:x"]
    assert report_button._happened(None, "nll") == []


def test_a_report_that_cannot_be_made_says_why(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    (result.folder / "shift.parquet").write_text("<b>")
    told = report_button.made(result.folder).decode()
    assert "There is no report" in told
    assert "<b>" not in told
    monkeypatch.setattr(report_button, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    assert "code 3" in report_button.made(result.folder).decode()
    monkeypatch.setattr(report_button, "COMMAND", (sys.executable, "-c", "input()"))
    monkeypatch.setattr(report_button, "LONGEST", 0.0)
    assert "takes too long" in report_button.made(result.folder).decode()


def test_the_button_stands_on_a_page_and_costs_nothing_until_it_is_pressed(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_button, "COMMAND", ("/nowhere",))

    def app() -> None:
        from pages.parts.report_button import report_button
        from sts_core.store.results import listing

        report_button(listing()[0], "paper:Qwen2.5-7B-Instruct", "accuracy")

    test = AppTest.from_function(app).run()
    assert not test.exception
    (button,) = test.get("download_button")
    assert button.proto.label == "Report"
    assert isinstance(listing()[0], Stored)


def test_what_was_imported_is_a_choice_of_transfer(app: App, result: Result) -> None:
    imported.keep("mine", outcomes(), "csv", ["x.csv"])
    test = app("pages/views/transfer.py", actual="imported:mine")
    assert not test.exception
    chosen = next(box for box in test.selectbox if box.label == "What happened")
    assert chosen.value == "imported:mine"
    assert "Imported: mine" in chosen.options
    assert "n\u00a0=\u00a014" in test.title[0].value.replace("\\", "")


def test_what_was_imported_with_several_metrics_shows_the_first(app: App, result: Result) -> None:
    both = outcomes() + [one._replace(metric="other", change=-one.change) for one in outcomes()]
    imported.keep("both", both, "csv", ["x.csv"])
    test = app("pages/views/transfer.py", actual="imported:both")
    assert not test.exception
    assert transfer_actual.read("imported:both").metric == "score"
    assert transfer_actual.read("imported:both", "other").metric == "other"


def test_what_is_imported_no_more_is_told(pages_cache: Path) -> None:
    with pytest.raises(UserError, match="Nothing was imported"):
        transfer_actual.given_of("imported:gone")
    with pytest.raises(UserError, match="Nothing was imported"):
        transfer_actual.given_of("imported:../../etc")
