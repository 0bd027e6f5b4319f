"""What a person can get wrong: exit 2, one line `error:`, one line `hint:`, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sts_core import folders
from sts_core.cli import main
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    tiny.world(folder)
    return folder


@pytest.fixture
def world(template: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> tiny.World:
    """A good world to spoil; the shipped dictionary is a tiny one."""
    folder = tmp_path / "world"
    shutil.copytree(template, folder)
    shutil.copytree(folder / "sae", tmp_path / "demo" / "smollm2-l15")
    monkeypatch.setattr(folders, "DEMO", tmp_path / "demo")
    return tiny.World(folder, folder / "tiny-llama", folder / "sae")


def files(folder: Path) -> dict[str, bytes]:
    """All but the names of models and dictionaries that are kept for the next look-up: they say nothing of a run."""
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("catalogue"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, str]:
    """Run a command that must be refused; its error and its hint."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    return two_lines(capsys.readouterr().err)


def two_lines(err: str) -> tuple[str, str]:
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    hints = [line for line in err.splitlines() if line.startswith("hint: ")]
    assert (len(errors), len(hints)) == (1, 1), err
    assert err.splitlines()[-2:] == [errors[0], hints[0]]
    assert len(hints[0]) > len("hint: ..")
    return errors[0], hints[0]


def rewrite(path: Path, change: Callable[[str], str | bytes]) -> None:
    content = change(path.read_text(encoding="utf-8"))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def poison(path: Path, name: str) -> None:
    weights = load_file(path)
    weights[name].view(-1)[5] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})


def domain(world: tiny.World, **changes: Any) -> Path:
    """The spec with its first domain changed."""
    first, *others = world.spec()["domains"]
    return world.toml(domains=[{**first, **changes}, *others])


def short(world: tiny.World, name: str, rows: int) -> Path:
    tiny.write_rows(world.folder / name, tiny.rows(rows))
    return world.toml()


def spoiled(path: Path, change: Callable[[str], str | bytes], world: tiny.World) -> Path:
    rewrite(path, change)
    return world.toml()


def torn(text: str) -> str:
    line = text.splitlines()[0] + "\n"
    return line * 699 + '{"question": "how ma\n' + line * 10


def poisoned(world: tiny.World, path: Path, name: str) -> Path:
    poison(path, name)
    return world.toml()


def other_sae(world: tiny.World, **changes: Any) -> Path:
    return world.toml(sae=str(tiny.save_sae(world.folder / "other", **changes)))


def written(world: tiny.World, content: bytes) -> Path:
    path = world.folder / "spec.toml"
    path.write_bytes(content)
    return path


WRONG: dict[str, tuple[Callable[[tiny.World], Path], str]] = {
    "unknown model": (lambda w: w.toml(model="smollm2-135m-instrukt"), 'did you mean "smollm2-135m-instruct"'),
    "unknown hub model": (lambda w: w.toml(model="nobody/nothing"), "nobody/nothing"),
    "model without its files": (lambda w: w.toml(model=str(w.folder / "demo-none")), "demo-none"),
    "folder that is no model": (lambda w: w.toml(model=str(w.sae)), "not a saved model"),
    "torn config": (lambda w: spoiled(w.model / "config.json", lambda t: t[:50], w), "config.json cannot be read"),
    "torn tokenizer": (lambda w: spoiled(w.model / "tokenizer.json", lambda t: t[:500], w), "tokenizer of"),
    "unknown sae": (lambda w: w.toml(sae="demo/smollm2-l51"), 'did you mean "demo/smollm2-l15"'),
    "unknown release": (lambda w: w.toml(sae="gpt2-small-res-jbb:blocks.1"), 'did you mean "gpt2-small-res-jb"'),
    "unknown sae of a release": (
        lambda w: w.toml(sae="gpt2-small-res-jb:blocks.1.hook_resid_pree"), 'did you mean "blocks.1.hook_resid_pre"'
    ),
    "folder that is no sae": (lambda w: w.toml(sae=str(w.model)), "not a SAE"),
    "sae of another width": (lambda w: other_sae(w, d_in=24), "24 wide"),
    "layer beyond the model": (lambda w: other_sae(w, layer=7), "layers 0 to 2"),
    "layer against the sae's": (lambda w: w.toml(layer=2), "layer 2, but"),
    "another hook": (lambda w: other_sae(w, hook_name="blocks.1.attn.hook_z"), "blocks.1.attn.hook_z"),
    "missing data file": (lambda w: domain(w, data="nowhere.jsonl"), "There is no file"),
    "unknown set": (lambda w: w.toml(target={"data": "gsm-symbolc"}), 'did you mean "gsm-symbolic"'),
    "embedded set, not fetched": (lambda w: w.toml(target={"data": "gsm-symbolic"}), "not here yet"),
    "missing column": (lambda w: domain(w, columns={"question": "questoin"}), 'did you mean "question"'),
    "missing answers": (
        lambda w: w.toml(pool={"tokens": "answer"}, target={"data": str(w.folder / "target.jsonl"),
                                                            "columns": {"answer": "gold"}}), "no column 'gold'"
    ),
    "empty file": (lambda w: spoiled(w.folder / "physics.jsonl", lambda _: "", w), "holds no rows"),
    "torn line": (lambda w: spoiled(w.folder / "physics.jsonl", torn, w), "physics.jsonl, line 700 "),
    "not UTF-8": (lambda w: spoiled(w.folder / "law.jsonl", lambda t: t.encode("utf-16"), w), "not UTF-8"),
    "fewer rows than demonstrations": (lambda w: short(w, "physics.jsonl", 3), "too few for 3 demonstrations"),
    "fewer rows in the demonstration file": (lambda w: short(w, "law_demos.jsonl", 0), "holds no rows"),
    "one row": (lambda w: short(w, "target.jsonl", 1), "too few"),
    "two domains of one name": (lambda w: domain(w, name="law"), "Two domains are named 'law'"),
    "a path for a name": (lambda w: domain(w, name="../../x"), "'../../x'"),
    "a domain named target": (lambda w: domain(w, name="target"), "'target'"),
    "negative budget": (lambda w: domain(w, tokens=-3), "tokens is -3"),
    "no demonstrations": (lambda w: domain(w, demos=0), "demos is 0"),
    "unknown key": (lambda w: w.toml(sed=3), 'did you mean "sae"'),
    "unknown key of a domain": (lambda w: domain(w, token=3), 'did you mean "tokens"'),
    "bad TOML": (lambda w: written(w, b'model = "a\nsae = 3'), "not valid TOML"),
    "spec that is not UTF-8": (lambda w: written(w, b'model = "\xff"'), "not UTF-8"),
    "no spec": (lambda w: w.folder / "none.toml", "There is no file"),
    "folder for a spec": (lambda w: w.folder, "is a folder"),
    "no such device": (lambda w: w.toml(run={"device": "mps", "dtype": "float32"}), "'mps'"),
    "float16 on a CPU": (lambda w: w.toml(run={"device": "cpu", "dtype": "float16"}), "float16"),
    "torn dictionary": (lambda w: _cut(w.sae / "sae_weights.safetensors", w), "cannot be read"),
    "slow preset": (lambda w: w.toml(run={"preset": "reference"}), "reference"),
}  # fmt: skip
ONLY_RUN: dict[str, tuple[Callable[[tiny.World], Path], str]] = {
    "NaN in the model": (
        lambda w: poisoned(w, w.model / "model.safetensors", "model.layers.0.mlp.up_proj.weight"),
        "not finite",
    ),
    "NaN in the dictionary": (lambda w: poisoned(w, w.sae / "sae_weights.safetensors", "W_enc"), "not finite"),
    "torn weights": (lambda w: _cut(w.model / "model.safetensors", w), "cannot load"),
}


def _cut(path: Path, world: tiny.World) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return world.toml()


@pytest.mark.parametrize("wrong", [*WRONG, *ONLY_RUN])
def test_a_run_is_refused_and_nothing_is_written(
    world: tiny.World, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    make, says = (WRONG | ONLY_RUN)[wrong]
    path = make(world)
    before = files(tmp_path)
    error, _ = refused(capsys, "run", path, "--out", tmp_path / "out")
    assert says in error
    assert not (tmp_path / "out").exists()
    assert files(tmp_path) == before


@pytest.mark.parametrize("wrong", WRONG)
def test_the_plan_refuses_the_same(world: tiny.World, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    make, says = WRONG[wrong]
    error, _ = refused(capsys, "plan", make(world))
    assert says in error


def test_a_file_where_the_cache_should_be(
    world: tiny.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "file"))
    for command in (
        ["run", world.toml(), "--out", tmp_path / "out"],
        ["jobs"],
        ["plan", world.toml(model="smollm2-135m-instruct")],
    ):
        error, _ = refused(capsys, *command)
        assert "file is in its place" in error
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("deeper", ["", "below"])
def test_a_file_where_the_result_should_be(
    world: tiny.World, tmp_path: Path, capsys: pytest.CaptureFixture[str], deeper: str
) -> None:
    (tmp_path / "out").write_text("mine")
    error, _ = refused(capsys, "run", world.toml(), "--out", tmp_path / "out" / deeper)
    assert "file is in its place" in error
    assert (tmp_path / "out").read_text() == "mine"


def test_a_taken_port(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        error, hint = refused(capsys, "app", "--port", str(other.getsockname()[1]))
    assert "is taken" in error
    assert "PORT=" in hint
    assert not list(own_cache.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["runn"], ["run"], ["run", "x.toml"], ["run", "--fast"], ["plan", "x.toml", "--prompts", "-1"],
        ["plan", "x", "--prompts", "k"],
        ["score"], ["score", "nowhere"], ["app", "--port", "x"], ["jobs", "nothing"], ["jobs", "../x"],
        ["jobs", "--cancel", "nothing"],
        ["demo"], ["demo", "fetchh"], ["demo", "fetch", "--from", "nowhere"], ["sae"], ["sae", "train", "x.toml"],
        ["sae", "train", "x.toml", "--out", "y"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_that_make_no_sense(
    own_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments in (["demo"], ["sae"]):  # a group alone shows its help
        assert main(arguments) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err
        return
    refused(capsys, *arguments)


@pytest.mark.parametrize(
    "change", ["run.seed", "run.seed=-1", "run.sede=3", "model.name=3", "domains.tokens=0", "=", "a.b.c=1"]
)
def test_changes_that_make_no_sense(world: tiny.World, capsys: pytest.CaptureFixture[str], change: str) -> None:
    refused(capsys, "plan", world.toml(), "--set", change)


@pytest.mark.parametrize(
    "options",
    [["--n", "0"], ["--n", "65"], ["--ranks", "5"], ["--ranks", "9:3"], ["--ranks", "0:65"], ["--ranks", "a:b"],
     ["--ranks", "-1:5"], ["--dims", "nowhere"], ["--dims", "sft"], ["--power", "3"], ["--power", ""],
     ["--n", "5", "--ranks", "1:5"],
     ["--power", "1;2"]],
    ids=" ".join,
)  # fmt: skip
def test_scores_that_cannot_be(
    scored: Path, own_cache: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    refused(capsys, "score", scored, *(["--n", "10"] if "--n" not in options else []), *options)


@pytest.fixture(scope="module")
def scored(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tiny.World(template, template / "tiny-llama", template / "sae")
    out = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STS_CACHE", str(out / "cache"))
        assert main(["run", str(world.toml()), "--out", str(out / "result")]) == 0
    return out / "result"


def test_a_finished_result_of_another_spec_is_left_alone(
    world: tiny.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.toml()
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    before = files(tmp_path)
    error, _ = refused(capsys, "run", path, "--out", tmp_path / "out", "--set", "run.seed=8")
    assert "another result" in error
    assert files(tmp_path) == before


def test_as_a_program_it_says_the_same(world: tiny.World, tmp_path: Path) -> None:
    """A true process: only these two lines, and the steps before them, on stderr; nothing on stdout."""
    path = spoiled(world.folder / "physics.jsonl", torn, world)
    ran = subprocess.run(
        [sys.executable, "-m", "sts_core", "run", str(path), "--out", str(tmp_path / "out")],
        cwd=folders.PROJECT, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    error, _ = two_lines(ran.stderr)
    assert "line 700" in error
    assert ran.stdout == ""
    assert not (tmp_path / "out").exists()


def test_json_output_stays_empty_when_refused(world: tiny.World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(world.toml(layer=2)), "--json"]) == 2
    assert capsys.readouterr().out == ""
    assert main(["plan", str(world.toml()), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
