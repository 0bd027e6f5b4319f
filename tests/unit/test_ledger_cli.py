"""`sts ledger`: the sentence, the lines with nothing that a terminal would obey, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
import typer

from sts_core.cli import ledger
from sts_core.errors import UserError
from sts_core.results.ledger import COLUMNS
from tests.pages.made_ledger import make_foretold

SCORES = {name: float(i) for i, name in enumerate(("law", "math", "physics", "biology", "history", "business"))}
pytestmark = pytest.mark.usefixtures("own_cache")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    program = typer.Typer()
    ledger.add_to(program)
    program(args=list(arguments), standalone_mode=False)
    return capsys.readouterr().out


def test_an_empty_one_says_how_to_fill_it(capsys: pytest.CaptureFixture[str]) -> None:
    program = typer.Typer()
    ledger.add_to(program)
    program(args=[], standalone_mode=False)
    told = capsys.readouterr()
    assert told.out.strip() == "No prediction is written down yet."
    assert "sts sft cache/demo/sft.toml" in told.err
    assert json.loads(run(capsys, "--json"))["predictions"] == []
    assert run(capsys, "--csv").strip() == ",".join(f'"{name}"' for name in COLUMNS)


def test_the_answer_then_a_line_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    first = make_foretold(SCORES, SCORES, title="right")
    make_foretold(SCORES, {k: -v for k, v in SCORES.items()}, data="/some/where/else.jsonl", key="b" * 20)
    make_foretold(SCORES, None, state="failed", data="\x1b[31mred\u202e")
    told = run(capsys)
    assert "2 predictions scored: median Spearman 0.00 (1 of 2 above 0, sign test p" in told
    assert first in told
    assert "else.jsonl" in told
    assert "3 of 3" in told
    assert "0 of 3" in told
    assert "/some/where" not in told
    assert "cannot be scored: The run failed before it was evaluated" in told
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_json_and_csv_tell_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    make_foretold(SCORES, SCORES | {"law": 9.0}, title="mine")
    make_foretold(SCORES, None)
    told: dict[str, Any] = json.loads(run(capsys, "--json"))
    assert told["overall"]["scored"] == 1
    assert told["overall"]["hit_rate"] == pytest.approx(2 / 3)
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--csv"))))
    assert len(rows) == len(told["predictions"]) == 2
    for row, one in zip(rows, told["predictions"], strict=True):
        assert row["run"] == one["run"]
        assert (float(row["spearman"]) if row["spearman"] else None) == one["spearman"]
    assert [point["domain"] for point in told["predictions"][1]["domains"]] == list(SCORES)
    with pytest.raises(UserError, match="two forms of the same"):
        run(capsys, "--json", "--csv")


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sts ledger --csv" in run(capsys, "--help")
