"""`sts examples` as a person meets it: made on demand, strips as text, hostile text shown and never obeyed."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer

from sts_core.cli import examples
from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.results.gallery import gallery_of, open_gallery
from sts_core.spec import Spec
from tests import tiny

HOSTILE = "\x1b[2J\x1b]0;title\x07 seven \u202eriver\u2066 \x00 stone\u2028 apple \u200b\x9b31m\r\n\ttrain"
Sts = Callable[..., None]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def sts() -> Sts:
    """The program, with this command on it."""
    app = typer.Typer()
    app.callback()(lambda: None)
    examples.add_to(app)
    return lambda *words: app(args=["examples", *map(str, words)], standalone_mode=False)


@pytest.fixture
def result(tmp_path: Path, world: tiny.World) -> Path:
    """A result of a target set whose every question holds signs that a terminal would obey."""
    rows = [{**row, "question": f"{HOSTILE} {row['question']}"} for row in tiny.rows(30, seed=1)]
    tiny.write_rows(world.folder / "target.jsonl", rows)
    run(Spec.from_dict(world.spec()), tmp_path / "result")
    return tmp_path / "result"


def test_one_feature_is_looked_for_when_there_is_no_gallery(
    result: Path, sts: Sts, capsys: pytest.CaptureFixture[str]
) -> None:
    sts(result, "--feature", 3, "--source", "physics")
    out, err = capsys.readouterr()
    assert "Looking for the feature in physics" in err
    assert "--all" in err
    lines = [line for line in out.splitlines() if " physics " in line and "«" in line]
    assert lines
    assert all(line.count("«") == line.count("»") == 1 for line in lines)
    assert "Feature 3 · base · top: fires on" in out
    assert "Feature 3 · icl · top: fires on" in out
    # Asked again, it is read and not looked for.
    sts(result, "--feature", 3, "--source", "physics")
    again, err = capsys.readouterr()
    assert (again, err) == (out, "")
    assert gallery_of(result) is None


def test_all_makes_the_gallery_that_everything_else_reads(
    result: Path, sts: Sts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tuned = tiny.save_model(tmp_path / "tuned", seed=5)
    sts(result, "--all", "--k", 3, "--tuned", f"mine={tuned}")
    out, _ = capsys.readouterr()
    folder = gallery_of(result)
    assert folder is not None
    assert f"{open_gallery(folder).manifest['examples']:,} examples of 64 features in 3 sets" in out
    sts(result, "--feature", 3, "--feature", 8, "--arm", "mine", "--band", "q50")
    out, err = capsys.readouterr()
    assert err == ""
    assert "Feature 3 · mine · q50" in out
    assert "Feature 8 · mine · q50" in out
    assert "· base ·" not in out


def test_the_lines_are_the_strongest_over_all_sets_and_json_has_everything(
    result: Path, sts: Sts, capsys: pytest.CaptureFixture[str]
) -> None:
    sts(result, "--all")
    capsys.readouterr()
    sts(result, "--feature", 5, "--k", 4, "--arm", "base")
    printed = [line for line in capsys.readouterr().out.splitlines() if "«" in line]
    sts(result, "--feature", 5, "--arm", "base", "--json")
    (told,) = json.loads(capsys.readouterr().out)
    assert {e["arm"] for e in told["examples"]} == {"base"}
    assert {e["band"] for e in told["examples"]} == {"top", "q90", "q75", "q50", "random"}
    best = sorted((e["value"] for e in told["examples"] if e["band"] == "top"), reverse=True)[:4]
    assert [float(line.split()[0]) for line in printed] == [float(f"{value:.3g}") for value in best]
    assert {h["source"] for h in told["histograms"]} == {"target", "physics", "law"}
    assert all(sum(h["counts"]) <= h["seen"] for h in told["histograms"])
    assert len(told["edges"]) == 40
    sts(result, "--feature", 5, "--json", "--band", "q75", "--source", "law")
    (told,) = json.loads(capsys.readouterr().out)
    assert {(e["source"], e["band"]) for e in told["examples"]} <= {("law", "q75")}


def test_hostile_text_is_written_out(result: Path, sts: Sts, capsys: pytest.CaptureFixture[str]) -> None:
    sts(result, "--all")
    capsys.readouterr()
    printed = ""
    for feature in range(0, tiny.FEATURES, 3):
        sts(result, "--feature", feature, "--source", "target")
        printed += capsys.readouterr().out
    assert {unicodedata.category(sign) for sign in printed.replace("\n", "")}.isdisjoint({"Cc", "Cf", "Zl", "Zp"})
    for sign in ("\\x1b", "\\u202e", "\\x00", "\\u2028", "\\x9b", "↵", "⇥"):
        assert sign in printed
    assert all(len(line) < 2_000 for line in printed.splitlines())


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        ((), "which features", "--all"),
        (("--feature", "1", "--all"), "which features", "--all"),
        (("--feature", "64"), "no feature 64", "0 to 63"),
        (("--feature", "1", "--band", "q91"), 'did you mean "q90"', "top, q90"),
        (("--feature", "1", "--source", "phisics"), 'did you mean "physics"', "target, physics, law"),
        (("--feature", "1", "--source", "law", "--arm", "bass"), 'did you mean "base"', "base, icl"),
        (("--feature", "1", "--tuned", "mine"), "not NAME=FOLDER", "--tuned"),
        (("--feature", "1", "--tuned", "mine=nowhere"), "no model 'nowhere'", "folder"),
        (("--feature", "1", "--tuned", "../x=nowhere"), "cannot be named", "letters"),
        (("--all", "--source", "law"), "reads every set", "--source"),
    ],
)
def test_what_cannot_be_shown_is_told(result: Path, sts: Sts, words: tuple[str, ...], told: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        sts(result, *words)
    assert told in error.value.message
    assert hint in error.value.hint


def test_a_folder_without_a_result_is_told(tmp_path: Path, sts: Sts) -> None:
    with pytest.raises(UserError, match="holds no finished result"):
        sts(tmp_path, "--feature", 1)
