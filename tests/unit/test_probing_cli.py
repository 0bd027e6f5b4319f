"""`sts probe` and `sts dictionary`: tables for people, JSON for programs, and text that a terminal does not obey."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path

import pytest
import torch
import typer

from sts_core.cli import main, probing
from sts_core.cli.terminal import as_json, visible
from sts_core.measure import dictionary as measured
from sts_core.measure.run import run
from sts_core.nets.describe import find_model, find_sae
from sts_core.results.dictionary import Dictionary, dictionary_of
from sts_core.spec import Spec
from tests import tiny

HOSTILE = "a\x1b[31mred\u202eevil\x9b0m\x00 </script>\u200b\u2028end"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    """These commands alone."""
    program = typer.Typer(name="sts", rich_markup_mode=None, pretty_exceptions_enable=False)
    probing.add_to(program)
    monkeypatch.setattr("sts_core.cli._program", program)


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """Run a command that must end so; stdout and stderr."""
    capsys.readouterr()
    got = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert got == code, err
    return out, err


def of(world: tiny.World) -> list[str]:
    return ["--model", str(world.model), "--sae", str(world.sae)]


def obeyed(text: str) -> set[str]:
    """Signs in it that a terminal would obey rather than show."""
    return {sign for sign in text if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}


def test_a_program_gets_json_and_whoever_asks_a_table(world: tiny.World, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["probe", *of(world), "seven train", "--dtype", "float32", "--top", "4"]
    value = json.loads(told(capsys, *asked)[0])
    assert "".join(value["tokens"]) == "seven train"
    assert len(value["strongest"]["base"]) == 4
    assert json.loads(told(capsys, *asked, "--json")[0])["arms"] == value["arms"]
    table, err = told(capsys, *asked, "--table")
    first = value["strongest"]["base"][0]
    row = next(line for line in table.splitlines() if line.split()[:1] == [str(first["feature"])])
    assert row.split() == [str(first["feature"]), f"{first['mean']:.3g}", f"{first['max']:.3g}", str(first["tokens"])]
    token = value["arms"]["base"][0][0]
    assert f"{token['feature']}:{token['value']:.3g}" in table
    assert "sts dictionary" in err


def test_the_table_tells_all_arms_and_what_features_write(
    world: tiny.World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(Spec.from_dict(world.spec()), tmp_path / "result")
    told(capsys, "dictionary", *of(world))
    path = dictionary_of(find_model(str(world.model)), find_sae(str(world.sae)))
    assert path is not None
    asked = ["probe", *of(world), "seven train", "--result", tmp_path / "result", "--run", f"ft={world.model}"]
    table, _ = told(capsys, *asked, "--table", "--dtype", "float32")
    for words in ("Strongest over the text, icl", "Moved most, ft against base", "Furthest above their usual"):
        assert words in table
    value = json.loads(told(capsys, *asked, "--json", "--dtype", "float32")[0])
    assert value["changed"]["ft"] == []  # the same model
    first = value["strongest"]["base"][0]["feature"]
    row = next(line for line in table.splitlines() if line.split()[:1] == [str(first)])
    assert f'"{visible(Dictionary(path).of(first).promotes[0])}"' in row


def test_one_features_values_are_told_by_token(world: tiny.World, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["probe", *of(world), "seven train", "--feature", "5", "--dtype", "float32"]
    value = json.loads(told(capsys, *asked)[0])
    table = told(capsys, *asked, "--table")[0].partition("Feature 5 by token")[2]
    rows = [line.split()[-1] for line in table.strip().splitlines()[1:]]
    assert rows == [f"{number:.3g}" for number in value["values"]["base"]]


@pytest.mark.parametrize("how", ["--table", "--json"])
def test_hostile_text_is_shown_and_not_obeyed(
    world: tiny.World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HOSTILE.encode()), encoding="utf-8"))
    out, err = told(capsys, "probe", *of(world), "-", how, "--raw", "--dtype", "float32")
    assert not obeyed(out + err)
    if how == "--json":
        assert json.loads(out)["text"] == HOSTILE
    else:
        assert "\\x1b" in out
        assert "\\u202e" in out


def test_what_is_hidden_is_written_out() -> None:
    assert visible("a\nb\t\x1b\x9b\u202e\u2066\ufeff山é") == "a↵b⇥\\x1b\\x9b\\u202e\\u2066\\ufeff山é"
    every = "".join(chr(i) for i in range(0x3000) if not 0xD800 <= i < 0xE000)
    assert not obeyed(visible(every))
    text = as_json({"a": every})
    assert json.loads(text) == {"a": every}
    assert not obeyed(text)
    assert "山" in as_json("山")


def test_stdin_must_be_utf8_and_is_cut_within_no_character(
    world: tiny.World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff"), encoding="utf-8"))
    _, err = told(capsys, "probe", *of(world), "-", code=2)
    assert "not UTF-8 (byte 2)" in err
    monkeypatch.setattr(probing, "_MOST_STDIN", 10)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("seven 山山".encode()), encoding="utf-8"))
    assert json.loads(told(capsys, "probe", *of(world), "-")[0])["text"] == "seven 山"


@pytest.mark.parametrize(
    ("arguments", "told_of"),
    [
        (["x", "--run", "name"], "not NAME=FOLDER"),
        (["x", "--run", "a=b", "--run", "a=c"], "Two runs are named"),
        (["x", "--run", "base=b"], "cannot be named"),
        (["x", "--feature", "99999"], "no feature 99999"),
        ([" "], "no text"),
        (["x", "--raw", "--result", "r"], "raw"),
        (["x", "--top", "101"], "top is 101"),
    ],
)
def test_what_a_person_must_change_is_told_in_two_lines(
    world: tiny.World, capsys: pytest.CaptureFixture[str], arguments: list[str], told_of: str
) -> None:
    out, err = told(capsys, "probe", *of(world), *arguments, code=2)
    assert out == ""
    assert told_of in err
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["error", "hint"]


def test_a_dictionary_is_made_once_and_one_feature_at_once(
    world: tiny.World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = measured.meaning(find_model(str(world.model)), find_sae(str(world.sae)), [7], 3)[0]
    value = json.loads(told(capsys, "dictionary", *of(world), "--feature", "7", "--top", "3", "--json")[0])
    assert value["features"][0]["promotes"] == wanted.promotes
    assert "unembedding" in value["how"]
    text = told(capsys, "dictionary", *of(world), "--feature", "7", "--top", "3")[0]
    assert text.startswith("Feature 7\n")
    assert f'"{visible(wanted.suppresses[0])}" {wanted.suppressed[0]:+.2f}' in text
    assert f"{wanted.near[0]} ({wanted.cosine[0]:.2f})" in text
    out = tmp_path / "own.parquet"
    assert told(capsys, "dictionary", *of(world), "--out", out)[0].strip() == str(out)
    assert Dictionary(out).of(7).promotes[:3] == wanted.promotes
    first = Path(told(capsys, "dictionary", *of(world))[0].strip())
    monkeypatch.setattr(measured, "load", None)
    again = json.loads(told(capsys, "dictionary", *of(world), "--json")[0])
    assert again["file"] == str(first)
    assert again["features"] == tiny.FEATURES
    _, err = told(capsys, "dictionary", *of(world), "--feature", "1", "--out", out, code=2)
    assert "Leave one of them out" in err


def test_help_gives_examples_that_name_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("probe", "dictionary"):
        assert f"Example: sts {command} --model smollm2" in " ".join(told(capsys, command, "--help")[0].split())
