"""`sts export`: the tables come back equal, spreadsheets run nothing, nothing is overwritten, equal bytes each time."""

from __future__ import annotations

import csv
import io
import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_core import folders
from sts_core.cli import exporting, importing
from sts_core.errors import UserError
from sts_core.folders import ensure, jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT
from sts_core.results import Result, shelf
from sts_core.results.actual import read_actual
from sts_core.results.agreement import hold_against
from sts_core.results.outcomes.rows import BEFORE, RowValue, write_rows
from sts_core.results.overlap import compare
from sts_core.results.tables import csv_bytes, parquet_bytes
from sts_core.store.run_tables import run_tables
from tests.pages.made_runs import make_run
from tests.pages.synthetic import make_result
from tests.pages.test_transfer import evaluated_run

KEY = "0123456789abcdef0123"
RESULT_TABLES = ("scores", "domains", "shift", "shift_raw")


def run(command: Any, *arguments: Any) -> None:
    program = typer.Typer()
    command.add_to(program)
    program(args=[str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def result(own_cache: Path) -> Result:
    return make_result(folders.results(), key=KEY)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_parquet_is_the_result_and_comes_back_on_another_machine(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(exporting, KEY, "--format", "parquet", "--out", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(result.folder)
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "another"))
    (tmp_path / "another").mkdir()
    run(importing, tmp_path / "out")
    there = shelf.find(KEY)
    assert there is not None
    pd.testing.assert_frame_equal(Result(there).scores(), result.scores())


@pytest.mark.parametrize("name", RESULT_TABLES)
def test_csv_comes_back_equal(result: Result, tmp_path: Path, name: str) -> None:
    run(exporting, result.folder, "--format", "csv", "--out", tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(RESULT_TABLES)
    before = pd.read_parquet(result.folder / f"{name}.parquet")
    back = pd.read_csv(tmp_path / "out" / f"{name}.csv")
    assert list(back.columns) == list(before.columns)  # the names of the result folder, in their order
    for column in before:
        if before[column].dtype.kind == "f":
            same = back[column].to_numpy(float).astype(before[column].dtype)
            np.testing.assert_array_equal(same, before[column].to_numpy())
        else:
            assert list(back[column]) == list(before[column])


def test_equal_inputs_give_equal_bytes(result: Result, tmp_path: Path) -> None:
    run_id = evaluated_run(KEY)
    for place in ("one", "two"):
        run(exporting, KEY, "--actual", run_id, "--format", "csv,parquet,html", "--out", tmp_path / place)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert {"report.html", "points.csv", "correlations.parquet", "overlap.csv"} <= set(contents(tmp_path / "one"))


def test_what_happened_is_told_in_tables_as_it_is_correlated(result: Result, tmp_path: Path) -> None:
    run_id = evaluated_run(KEY)
    run(exporting, KEY, "--actual", run_id, "--format", "csv", "--out", tmp_path)
    found = hold_against(result, read_actual(jobs() / run_id / RESULT), n=100)
    told = pd.read_csv(tmp_path / "correlations.csv")
    assert told["r"].tolist() == pytest.approx([one.correlation.r for one in found.comparisons])
    assert told["primary"].tolist() == [one.primary for one in found.comparisons]
    points = pd.read_csv(tmp_path / "points.csv")
    assert points["harm"].tolist() == pytest.approx([point.outcome.harm for point in found.points])
    overlap, rows = pd.read_csv(tmp_path / "overlap.csv"), compare(result.folder, jobs() / run_id / RESULT).rows
    assert overlap["k"].tolist() == [row.k for row in rows]
    assert overlap["matched"].tolist() == pytest.approx([row.matched.mean for row in rows])


def test_a_run_is_exported_as_it_told(own_cache: Path, tmp_path: Path) -> None:
    run_id = make_run(done=20, steps=20)
    append_event(jobs() / run_id, "step", step=20, loss=9.5)  # told again after a resume: the later counts
    append_event(
        jobs() / run_id, "evaluation", phase="after", domain="law", metric="nll", value=7.5, se=None, n=3, source="own"
    )
    (jobs() / run_id / "events.jsonl").open("ab").write(b'{"seq": 9')  # torn by a kill
    run(exporting, run_id, "--format", "csv,parquet", "--out", tmp_path / "out")
    tables = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in run_tables(jobs() / run_id)}
    assert sorted(tables) == ["curves", "dims", "evaluations", "prediction", "trajectory"]
    curves = tables["curves"]
    assert curves["step"].tolist() == list(range(1, 21))
    assert curves["loss"].iloc[-1] == 9.5
    assert curves["epoch"].iloc[-1] == 20 / 50
    assert tables["trajectory"]["overlap_100"].tolist() == [pytest.approx(0.6)]
    evaluations = tables["evaluations"].set_index(["phase", "domain", "metric"])
    assert evaluations.loc[("after", "law", "nll"), "value"] == 7.5
    assert not evaluations.index.duplicated().any()
    assert tables["prediction"]["key"].unique().tolist() == [KEY]
    assert tables["dims"]["feature"].tolist() == list(range(5))
    for name, table in tables.items():
        back = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        pd.testing.assert_frame_equal(back, table, check_dtype=False)


def test_the_report_of_a_run_is_that_of_its_prediction_held_against_it(result: Result, tmp_path: Path) -> None:
    run_id = evaluated_run(KEY)
    run(exporting, run_id, "--out", tmp_path / "a.html")
    run(exporting, KEY, "--actual", run_id, "--out", tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert run_id in (tmp_path / "a.html").read_text()


def test_a_key_and_an_id_may_be_typed_in_part(result: Result, tmp_path: Path) -> None:
    run_id = evaluated_run(KEY)
    run(exporting, KEY[:7], "--actual", run_id[-6:], "--out", tmp_path / "a.html")
    run(exporting, run_id, "--out", tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    make_result(folders.results(), key=f"{KEY[:9]}aaaaaaaaaaa")
    with pytest.raises(UserError, match="2 results have keys like"):
        run(exporting, KEY[:7], "--out", tmp_path / "c.html")
    with pytest.raises(UserError, match="no stored result"):
        run(exporting, KEY[:5], "--out", tmp_path / "c.html")


def test_nothing_is_overwritten_but_by_force(result: Result, tmp_path: Path) -> None:
    run(exporting, KEY, "--format", "csv", "--out", tmp_path / "out")
    run(exporting, KEY, "--format", "csv", "--out", tmp_path / "out")  # the very same is no conflict
    (tmp_path / "out" / "scores.csv").write_text("mine")
    with pytest.raises(UserError, match="with other content") as refused:
        run(exporting, KEY, "--format", "csv", "--out", tmp_path / "out")
    assert "--force" in refused.value.hint
    assert (tmp_path / "out" / "scores.csv").read_text() == "mine"
    run(exporting, KEY, "--format", "csv", "--out", tmp_path / "out", "--force")
    assert (tmp_path / "out" / "scores.csv").read_text() != "mine"


def test_a_link_is_not_written_through(result: Result, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError):
        run(exporting, KEY, "--format", "csv", "--out", tmp_path / "out", "--force")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nosuchkey"], "no stored result and no run"),
        (["/nowhere/at/all"], "is no folder"),
        ([KEY, "--format", "pdf"], "no format 'pdf'"),
        ([KEY, "--format", ","], "no format"),
        ([KEY, "--format", "csv,html", "--out", "x.html"], "is one file"),
        ([KEY, "--format", "csv", "--out", "t.CSV"], "would be a folder"),
        ([KEY, "--actual", "nothing-of-this-name"], "Nothing was imported"),
        ([KEY, "--actual", "a", "--actual", "b", "--actual", "c"], "given 3 times"),
        ([KEY, "--actual", "paper:bert"], "no model"),
        ([KEY, "--actual", "paper"], "one is exported at a time"),
        ([KEY, "--metric", "nll"], "nothing is named"),
        ([KEY, "--actual", "gone.csv"], "no file"),
        ([KEY, "--actual", "20250101-000000-000000-abcdef"], "no job"),
        (["20250101-000000-000000-abcdef"], "no job"),
    ],
)
def test_what_cannot_be_is_told(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        run(exporting, *arguments)
    assert told in refused.value.message
    assert refused.value.hint
    assert not list(tmp_path.rglob("*.html"))


def test_it_does_not_write_into_what_it_reads(result: Result) -> None:
    with pytest.raises(UserError, match="lies in what is exported"):
        run(exporting, KEY, "--out", result.folder / "report")
    run_id = make_run()
    with pytest.raises(UserError, match="lies in what is exported"):
        run(exporting, run_id, "--format", "csv", "--out", jobs() / run_id)


def test_a_run_that_is_not_done_or_has_no_prediction_here_is_told(own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not ended"):
        run(exporting, make_run(state="running"), "--format", "csv", "--out", tmp_path / "a")
    for predicted, told in ((False, "held against no result"), (True, "is not on this machine")):
        with pytest.raises(UserError, match=told) as refused:
            run(exporting, make_run(predicted=predicted), "--out", tmp_path / "b")
        assert "csv" in refused.value.hint


def test_a_run_that_was_broken_off_gives_what_it_has(result: Result, tmp_path: Path) -> None:
    run_id = make_run(state="cancelled", done=5, steps=20)
    write_rows(ensure(jobs() / run_id / RESULT), BEFORE, [RowValue("law", row, "nll", 1.0) for row in range(8)])
    run(exporting, run_id, "--format", "csv", "--out", tmp_path / "out")
    assert {"curves.csv", "rows.csv", "prediction.csv"} <= set(contents(tmp_path / "out"))
    assert "correlations.csv" not in contents(tmp_path / "out")
    with pytest.raises(UserError, match="one side only"):
        run(exporting, run_id, "--out", tmp_path / "x.html")


def test_a_result_that_is_not_whole_is_not_exported_as_one(result: Result, tmp_path: Path) -> None:
    shutil.copytree(result.folder, tmp_path / "half")
    (tmp_path / "half" / "groups.safetensors").unlink()
    with pytest.raises(UserError, match="not whole"):
        run(exporting, tmp_path / "half", "--format", "parquet", "--out", tmp_path / "out")


def test_json_lists_the_files(result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(exporting, KEY, "--format", "csv,html", "--out", tmp_path / "out", "--json")
    told = json.loads(capsys.readouterr().out)
    assert {Path(one["file"]).name: one["bytes"] for one in told} == {
        path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()
    }


RISKY = (
    "=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1", "\x0b=1", "\u00a0=1", "\u200f=1", "\uff1d1",
    "\uff0d2", "=cmd|'/c calc'!A1", '=HYPERLINK("x")',
)  # fmt: skip


def _seen(text: str) -> str:
    """A text from its first sign on that is seen."""
    unseen = {"Zs", "Zl", "Zp", "Cc", "Cf", "Co"}
    return next((text[i:] for i, sign in enumerate(text) if unicodedata.category(sign) not in unseen), "")


@pytest.mark.parametrize("text", RISKY)
def test_a_spreadsheet_runs_no_cell_of_text(text: str) -> None:
    rows = list(
        csv.reader(io.StringIO(csv_bytes(pa.table({"domain": [text, "law"], "x": [-1.5, 2.0]})).decode(), newline=""))
    )
    assert rows == [["domain", "x"], [f"'{text}", "-1.5"], ["law", "2"]]


def test_numbers_are_no_text_and_what_was_not_measured_is_empty() -> None:
    table = pa.table(
        {"x": [-1.5, float("nan"), float("-inf"), None], "n": pa.array([-3, None, 0, 1]), "many": [[1, 2]] * 4}
    )
    assert csv_bytes(table).decode().splitlines() == [
        '"x","n","many"',
        '-1.5,-3,"1 2"',
        ',,"1 2"',
        ',0,"1 2"',
        ',1,"1 2"',
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.floats(width=32)), max_size=20))
def test_any_text_and_any_number_come_back(rows: list[tuple[str, float]]) -> None:
    try:
        names = pa.array([name for name, _ in rows], pa.string())
    except (UnicodeEncodeError, pa.ArrowException):  # half a surrogate pair is no text
        return
    table = pa.table({"name": names, "value": pa.array([value for _, value in rows], pa.float32())})
    back = list(csv.reader(io.StringIO(csv_bytes(table).decode(), newline="")))[1:]
    assert len(back) == len(rows)
    for (name, value), (told, number) in zip(rows, back, strict=True):
        assert told in (name, f"'{name}")
        assert not _seen(told).startswith(("=", "+", "-", "@"))
        assert (number == "") != np.isfinite(value)
        assert number == "" or np.float32(number) == np.float32(value)
    assert parquet_bytes(table) == parquet_bytes(table)
