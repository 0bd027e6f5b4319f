"""`sts import`: what it recognised, what it keeps by name, and what it refuses, each in words a person can act on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from safetensors.numpy import load_file, save_file

from sts_core import folders
from sts_core.cli import correlating, importing
from sts_core.errors import UserError
from sts_core.folders import jobs
from sts_core.jobs.folder import RESULT
from sts_core.results import Result, imported, receiving, shelf
from sts_core.results.actual import read_actual
from sts_core.results.outcomes.outcome import Outcome
from sts_core.store.results import listing
from tests.pages.synthetic import all_domains, make_result
from tests.pages.test_transfer import evaluated_run

KEY = "0123456789abcdef0123"
Alter = Callable[[Path], None]


def run(command: Any, *arguments: Any) -> None:
    """One command, as the program runs it."""
    program = typer.Typer()
    command.add_to(program)
    program(args=[str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def elsewhere(own_cache: Path, tmp_path: Path) -> Path:
    """A result's folder of another machine: not in this cache."""
    make_result(tmp_path / "other", key=KEY)
    return tmp_path / "other" / KEY


def changes(path: Path, sign: float = 1.0) -> Path:
    lines = [f"{name},{sign * i}" for i, name in enumerate(all_domains())]
    path.write_text("domain,change\n" + "\n".join(lines) + "\n")
    return path


def lm_eval(path: Path, add: float) -> Path:
    results = {
        name: {"acc,none": 0.3 + add * i, "acc_stderr,none": 0.01} for i, name in enumerate(("law", "math", "health"))
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"results": results}))
    return path


# A result


def test_a_result_is_checked_and_stored(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(importing, elsewhere)
    said = capsys.readouterr()
    assert "recognised: a finished result of 14 domains and 128 features" in said.err
    there = shelf.find(KEY)
    assert there is not None
    assert KEY in said.out
    for name in (*shelf.FILES, shelf.MANIFEST):
        assert (there / name).read_bytes() == (elsewhere / name).read_bytes()
    assert [one.key for one in listing() if not one.demo] == [KEY]
    assert sorted(path.name for path in folders.results().iterdir()) == [KEY]


def test_the_same_result_again_changes_nothing(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(importing, elsewhere)
    before = {path: path.stat().st_mtime_ns for path in (folders.results() / KEY).iterdir()}
    run(importing, elsewhere, "--json")
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["new"] is False
    assert before == {path: path.stat().st_mtime_ns for path in (folders.results() / KEY).iterdir()}


def test_another_result_of_the_same_key_is_a_conflict(elsewhere: Path) -> None:
    run(importing, elsewhere)
    manifest = elsewhere / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seconds": 1.0}))
    with pytest.raises(UserError, match="another result") as refused:
        run(importing, elsewhere)
    assert "--force" in refused.value.hint
    assert Result(folders.results() / KEY).manifest["seconds"] == 83.0
    run(importing, elsewhere, "--force")
    assert Result(folders.results() / KEY).manifest["seconds"] == 1.0
    assert sorted(path.name for path in folders.results().iterdir()) == [KEY]


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Alter:
    def alter(folder: Path) -> None:
        change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)

    return alter


def manifest(**changes: Any) -> Alter:
    def alter(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return alter


def text(name: str, content: str | bytes) -> Alter:
    def alter(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return alter


def gone(name: str) -> Alter:
    return lambda folder: (folder / name).unlink()


def linked(name: str) -> Alter:
    def alter(folder: Path) -> None:
        aside = folder.parent / f"aside-{name}"
        (folder / name).rename(aside)
        (folder / name).symlink_to(aside)

    return alter


def piped(folder: Path) -> None:
    (folder / "scores.parquet").unlink()
    os.mkfifo(folder / "scores.parquet")


def as_folder(folder: Path) -> None:
    (folder / "scores.parquet").unlink()
    (folder / "scores.parquet").mkdir()


def vectors(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Alter:
    def alter(folder: Path) -> None:
        save_file(change(load_file(folder / "groups.safetensors")), folder / "groups.safetensors")

    return alter


def truncated(folder: Path) -> None:
    path = folder / "groups.safetensors"
    path.write_bytes(path.read_bytes()[:-200])


BAD_RESULTS: dict[str, tuple[Alter, str]] = {
    "no manifest": (gone("manifest.json"), "lacks manifest.json"),
    "torn manifest": (text("manifest.json", '{"key": '), "no JSON table"),
    "a list for a manifest": (text("manifest.json", "[]"), "no JSON table"),
    "nested without end": (text("manifest.json", "[" * 100_000), "no JSON table"),
    "key that is a path": (manifest(key="../../etc"), "has no key"),
    "key that is a number": (manifest(key=7), "has no key"),
    "no spec": (manifest(spec=None), "has no spec"),
    "a spec that is none": (manifest(spec={"model": "m"}), "which sae"),
    "a hostile domain": (
        manifest(spec={"model": "m", "sae": "s", "domains": [{"name": "../x", "data": "y"}]}), "cannot be named",
    ),
    "other domains": (
        manifest(spec={"model": "m", "sae": "s", "target": {"data": "x"}, "domains": [{"name": "law", "data": "y"}]}),
        "rows, not 128 for each of 1",
    ),
    "no vectors": (gone("groups.safetensors"), "lacks groups.safetensors"),
    "cut vectors": (truncated, "is damaged"),
    "pickled vectors": (text("groups.safetensors", b"\x80\x04\x95cos\nsystem\n"), "is damaged"),
    "vectors of fewer features": (
        vectors(lambda v: {k: np.ascontiguousarray(a[:, :9]) if a.ndim == 2 else a for k, a in v.items()}),
        "other sums",
    ),
    "vectors without a domain": (
        vectors(lambda v: {k: a for k, a in v.items() if not k.startswith("law/")}), "no sums of law",
    ),
    "altered vectors": (vectors(lambda v: {k: a * 2 if k == "law/base" else a for k, a in v.items()}), "do not follow"),
    "altered scores": (table("scores.parquet", lambda t: t.assign(value=t["value"] * 1.5)), "do not follow"),
    "no scores": (table("scores.parquet", lambda t: t[:0]), "holds no score"),
    "words for numbers": (table("shift.parquet", lambda t: t.assign(shift_icl="much")), "of another kind"),
    "a column less": (table("shift.parquet", lambda t: t.drop(columns="signed_icl")), "no column 'signed_icl'"),
    "a feature twice": (table("shift.parquet", lambda t: t.assign(feature=0)), "each feature once"),
    "fewer rows": (table("domains.parquet", lambda t: t[:-1]), "rows, not 128"),
    "not Parquet": (text("shift.parquet", "feature,shift_icl\n0,1\n"), "no Parquet table"),
    "a link": (linked("shift.parquet"), "is a link"),
    "a linked manifest": (linked("manifest.json"), "is a link"),
    "a pipe": (piped, "no plain file"),
    "a folder for a file": (as_folder, "no plain file"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_RESULTS)
def test_a_bad_result_is_refused_and_leaves_nothing(elsewhere: Path, what: str) -> None:
    alter, told = BAD_RESULTS[what]
    alter(elsewhere)
    with pytest.raises(UserError) as refused:
        receiving.receive(elsewhere)
    assert told in refused.value.message
    assert refused.value.hint
    assert list(folders.results().iterdir()) == []


def test_a_file_that_is_too_large_is_not_read(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "LARGEST", 1000)
    with pytest.raises(UserError, match="larger than"):
        run(importing, elsewhere)


def test_a_linked_folder_is_not_followed(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(UserError, match="no folder of its own"):
        run(importing, tmp_path / "link")


def test_the_paths_in_a_spec_are_text(elsewhere: Path, tmp_path: Path) -> None:
    """A spec that names files of another machine is taken; nothing is looked for under them."""
    path = elsewhere / "manifest.json"
    told = json.loads(path.read_text())
    told["spec"]["model"] = str(tmp_path / "gone" / "model")
    told["spec"]["target"]["data"] = "/dev/zero"
    path.write_text(json.dumps(told))
    assert receiving.receive(elsewhere).new


# Outcomes


def test_outcomes_are_recognised_kept_and_found_by_name(
    own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_result(folders.results())
    before, after = lm_eval(tmp_path / "before" / "results.json", 0), lm_eval(tmp_path / "after" / "results.json", 0.02)
    run(importing, before, after)
    said = capsys.readouterr().err
    assert "recognised: lm-eval results before and after, 3 domains, acc" in said
    assert "--name after keeps them" in said
    assert imported.listing() == []
    run(importing, before, after, "--name", "my run")
    capsys.readouterr()
    (kept,) = imported.listing()
    assert (kept.name, kept.source, kept.domains, kept.files) == (
        "my run",
        "lm-eval",
        3,
        ("results.json", "results.json"),
    )
    by_name, by_files = read_actual("my run"), read_actual([before, after])
    assert by_name.outcomes == by_files.outcomes
    assert by_name.reliability == by_files.reliability
    assert by_name.source == "my run"
    run(correlating, result.folder, "--actual", "my run", "--json")
    assert len(json.loads(capsys.readouterr().out)["points"]) == 3


def test_an_evaluation_of_ours_keeps_its_rows_and_so_its_reliability(own_cache: Path) -> None:
    folder = jobs() / evaluated_run() / RESULT
    run(importing, folder, "--name", "ours")
    kept, own = read_actual("ours"), read_actual(folder)
    assert kept.outcomes == own.outcomes
    assert kept.reliability == own.reliability is not None
    shutil.rmtree(folder)
    assert read_actual("ours", "accuracy").metric == "accuracy"


def test_a_name_that_is_taken_is_not_overwritten(own_cache: Path, tmp_path: Path) -> None:
    file = changes(tmp_path / "mine.csv")
    run(importing, file, "--name", "mine")
    stamp = (imported.find("mine") or Path()).stat().st_mtime_ns
    run(importing, file, "--name", "mine")  # the very same
    assert (imported.find("mine") or Path()).stat().st_mtime_ns == stamp
    other = changes(tmp_path / "mine.csv", -1.0)
    with pytest.raises(UserError, match="taken") as refused:
        run(importing, other, "--name", "mine")
    assert "--force" in refused.value.hint
    assert read_actual("mine").outcomes[-1].change == 13.0
    run(importing, other, "--name", "mine", "--force")
    assert read_actual("mine").outcomes[-1].change == -13.0


def test_a_file_of_that_name_comes_before_what_was_imported(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(importing, changes(tmp_path / "a.csv"), "--name", "b.csv")
    monkeypatch.chdir(tmp_path)
    changes(tmp_path / "b.csv", -2.0)
    assert read_actual("b.csv").outcomes[-1].change == -26.0
    (tmp_path / "b.csv").unlink()
    assert read_actual("b.csv").outcomes[-1].change == 13.0


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "a/b", ".hidden", "-x", "x" * 65, "paper", "none", "ü", "a\nb", "x.",
     "20250101-000000-000000-abcdef"],
)  # fmt: skip
def test_a_bad_name_is_refused(own_cache: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        imported.keep(name, [Outcome("law", None, None, 1.0, None, None, "m", "csv")], "csv", ["x"])
    assert imported.listing() == []
    assert imported.find(name) is None


BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "an archive": ("x.zip", b"PK", "an archive"),
    "a tarball": ("x.tar.gz", b"\x1f\x8b", "an archive"),
    "a report": ("report.html", "<html>", "a report to be read"),
    "one table of a result": ("shift.parquet", b"PAR1", "one file of a result"),
    "vectors alone": ("groups.safetensors", b"", "one file of a result"),
    "a pickle": ("x.pkl", b"\x80\x04.", "could run code"),
    "a checkpoint": ("model.pt", b"PK", "could run code"),
    "an empty CSV": ("x.csv", "", "no column 'domain'"),
    "a header alone": ("x.csv", "domain,change\n", "no line below"),
    "a CSV of something else": ("x.csv", "name,age\nann,3\n", "no column 'domain'"),
    "a change in words": ("x.csv", "domain,change\nlaw,much\n", "not a number"),
    "infinity": ("x.csv", "domain,change\nlaw,inf\n", "not a number"),
    "a domain twice": ("x.csv", "domain,change\nlaw,1\nLaw,2\n", "twice"),
    "a formula for a domain": ("x.csv", "domain,change\n=cmd|'/c calc'!A1,1\n", "cannot be named"),
    "a path for a domain": ("x.csv", "domain,change\n../../etc,1\n", "cannot be named"),
    "other letters": ("x.csv", "domain,change\nlaw,1\n".encode("utf-16"), "not UTF-8"),
    "one side alone": ("x.json", '{"results": {"law": {"acc,none": 0.3}}}', "one side alone"),
    "torn JSON": ("x.json", '{"results": ', "not valid JSON"),
    "JSON of something else": ("x.json", '{"a": 1}', "neither lm-eval"),
    "brackets without end": ("x.json", "[" * 200_000, "not JSON that can be read"),
    "a picture": ("x.png", b"\x89PNG", "no kind of file"),
    "text of something else": ("x.txt", "hello\n", "no line like"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_told_as_what_it_is(own_cache: Path, tmp_path: Path, what: str) -> None:
    name, content, told = BAD_FILES[what]
    text(name, content)(tmp_path)
    with pytest.raises(UserError) as refused:
        run(importing, tmp_path / name, "--name", "mine")
    assert told in refused.value.message
    assert refused.value.hint
    assert imported.listing() == []


def test_what_is_not_there_and_folders_of_other_things_are_told(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "gone.csv", tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises(UserError):
            run(importing, place)
    (tmp_path / "csv").mkdir()
    text("scores.csv", "x")(tmp_path / "csv")
    with pytest.raises(UserError, match="export as CSV"):
        run(importing, tmp_path / "csv")


def test_another_file_is_not_written_over_unless_forced(own_cache: Path, tmp_path: Path) -> None:
    place = tmp_path / "out.csv"
    place.write_text("mine")
    with pytest.raises(UserError, match="other content"):
        run(importing, changes(tmp_path / "a.csv"), "--out", place)
    assert place.read_text() == "mine"
    run(importing, tmp_path / "a.csv", "--out", place, "--force")
    run(importing, tmp_path / "a.csv", "--out", place)  # the same once more is no conflict
    assert place.read_text() != "mine"


def test_a_result_is_no_outcome(elsewhere: Path) -> None:
    for option in (["--name", "x"], ["--metric", "nll"], ["--out", "x.csv"]):
        with pytest.raises(UserError, match="no outcomes"):
            run(importing, elsewhere, *option)


def test_damaged_imports_are_passed_over(own_cache: Path, tmp_path: Path) -> None:
    run(importing, changes(tmp_path / "a.csv"), "--name", "good")
    run(importing, changes(tmp_path / "a.csv"), "--name", "bad")
    (own_cache / "imported" / "bad" / "evaluation.json").write_text("{")
    assert [one.name for one in imported.listing()] == ["good"]
    with pytest.raises(UserError):
        read_actual("bad")
    assert "good" in imported.unknown("goood").hint
