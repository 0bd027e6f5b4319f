"""The command line's good days: what plan, run and score print, and what a command does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.cli import _program, main
from sts_core.folders import PROJECT
from tests import tiny


def commands() -> list[str]:
    """Every command there is, those of groups as `demo fetch`."""
    found = [str(command.name) for command in _program.registered_commands]
    for group in _program.registered_groups:
        inside = group.typer_instance.registered_commands if group.typer_instance else []
        found += [f"{group.name} {command.name}" for command in inside]
    return sorted(found)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must succeed; what it printed."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = told(capsys, *command.split(), "--help")
    assert f"Example: sts {command}" in " ".join(text.split())


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "--help")
    first = {"app", "doctor", "demo", "plan", "run", "score", "sae", "jobs"}
    assert first <= {command.split()[0] for command in commands()}
    assert all(command.split()[0] in text for command in commands())


def test_the_plan_says_what_will_be_done_and_does_nothing(
    world: tiny.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.toml()
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    value = json.loads(told(capsys, "plan", path, "--json"))
    assert [entry["set"] for entry in value["sets"]] == ["target", "physics", "law"]
    assert value["sets"][0]["tokens"] >= 250
    assert value["sets"][2]["items"] == 4
    assert value["work"]["tokens"] > 0
    assert "prompts" not in value
    assert value["stored"] is False
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    text = told(capsys, "plan", path, "--prompts", "1")
    assert "physics" in text
    assert "law: " in text  # the warning of too few rows
    assert text.count("--- icl") == 3


def test_the_plan_shows_the_exact_prompts(world: tiny.World, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(told(capsys, "plan", world.toml(pool={"tokens": "query+answer"}), "--prompts", "2", "--json"))
    prompts = value["prompts"]
    assert [prompt["set"] for prompt in prompts] == ["target"] * 2 + ["physics"] * 2 + ["law"] * 2
    words = tiny.tokenizer("chatml")
    for prompt in prompts:
        assert set(prompt) == {
            "set", "row", "base_ids", "icl_ids", "base_spans", "icl_spans", "base_text", "icl_text"
        }  # fmt: skip
        rows = [json.loads(line) for line in (world.folder / f"{prompt['set']}.jsonl").read_text().splitlines()]
        row = rows[prompt["row"]]
        for arm in ("base", "icl"):
            ids, text = prompt[f"{arm}_ids"], prompt[f"{arm}_text"]
            assert words(text, add_special_tokens=False)["input_ids"] == ids
            marked = [words.decode(ids[start:end]) for start, end in prompt[f"{arm}_spans"]]
            assert marked == [row["question"], row["answer"]]
        assert prompt["icl_text"].endswith(prompt["base_text"].split("user\n", 1)[1])


def test_a_run_and_its_scores(world: tiny.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = world.toml(), tmp_path / "out"
    assert main(["run", str(path), "--out", str(out)]) == 0
    printed, err = capsys.readouterr()
    assert "physics" in printed
    assert "warning: law: " in err
    assert "measured in" in err
    assert main(["run", str(path), "--out", str(tmp_path / "other")]) == 0
    assert "from the store" in capsys.readouterr().err
    assert json.loads(told(capsys, "plan", path, "--json"))["stored"] is True

    rows = json.loads(told(capsys, "score", out, "--n", "20", "--power", "1,2"))
    assert len(rows) == 2 * 2 * 2
    assert set(rows[0]) == {"domain", "metric", "n", "power", "value", "se", "tokens", "items"}
    assert {(row["domain"], row["se"] is None) for row in rows} == {("physics", False), ("law", True)}
    (tmp_path / "dims.json").write_text("[1, 2]")
    assert {row["n"] for row in json.loads(told(capsys, "score", out, "--dims", tmp_path / "dims.json"))} == {2}
    assert {row["n"] for row in json.loads(told(capsys, "score", out, "--ranks", "10:25"))} == {15}


def test_changes_from_the_command_line_win(world: tiny.World, capsys: pytest.CaptureFixture[str]) -> None:
    path = world.toml()
    value = json.loads(told(capsys, "plan", path, "--json", "--set", "target.tokens=30", "--set", "domains.tokens=20"))
    assert [entry["asked"] for entry in value["sets"]] == [30, 20, 20]


LIGHT = """
import sys, sts_core
from sts_core.cli import main
for arguments in {commands!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
    found = {{"torch", "transformers", "sae_lens"}} & set(sys.modules)
    assert not found, (arguments, found)
"""


def test_what_needs_no_model_imports_no_torch(world: tiny.World, tmp_path: Path) -> None:
    """Also a run whose result is in the store already: that is why it takes no time."""
    path, out = str(world.toml()), str(tmp_path / "out")
    assert main(["run", path, "--out", out]) == 0
    commands = [
        ["--help"], ["jobs"], ["jobs", "--json"], ["score", out, "--n", "10"], ["run", "--help"], ["score", "nowhere"],
        ["run", path, "--out", str(tmp_path / "again")], ["plan", "nowhere.toml"],
    ]  # fmt: skip
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        commands.append(["doctor"])
    ran = python("-c", LIGHT.format(commands=commands))
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "again" / "manifest.json").is_file()


def test_as_a_program_it_exits_with_the_status(tmp_path: Path, own_cache: Path) -> None:
    good, wrong, bare = python("-m", "sts_core", "jobs"), python("-m", "sts_core", "runn"), python("-m", "sts_core")
    assert good.returncode == 0
    assert wrong.returncode == 2
    assert [line.split(":")[0] for line in wrong.stderr.splitlines()] == ["error", "hint"]
    assert "Traceback" not in good.stderr + wrong.stderr + bare.stderr


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)


def test_doctor_tells_each_thing(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    names = {finding["name"] for finding in findings}
    assert {"python", "torch", "device", "disk", "hub", "bundle", "database"} <= names
    assert {finding["state"] for finding in findings} <= {"ok", "note", "bad"}
    assert code == (1 if any(finding["state"] == "bad" for finding in findings) else 0)
    hub = next(finding for finding in findings if finding["name"] == "hub")
    assert hub["state"] == "note"


def test_doctor_finds_a_cache_that_cannot_be_one_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("STS_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 1
    assert "a file is in its place" in capsys.readouterr().out


def test_the_demo_data_is_planned(bundle_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded model and its fourteen domains, with their own demonstrations; the dictionary is a made one."""
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    kind, configured = registry.get_sae_class("standard")
    metadata = SAEMetadata(hook_name="blocks.15.hook_resid_post", model_name="smollm2-135m-instruct")
    kind(configured(d_in=576, d_sae=16, metadata=metadata)).save_model(str(tmp_path / "sae"))
    path = tmp_path / "spec.toml"
    path.write_text(
        f'model = "smollm2-135m-instruct"\nsae = "{tmp_path / "sae"}"\n[target]\ndata = "gsm-symbolic"\ntokens = 300\n'
    )
    budget = ["--set", "domains.tokens=150"]
    value = json.loads(told(capsys, "plan", path, "--json", "--prompts", "1", *budget))
    assert len(value["sets"]) == 15
    assert all(entry["tokens"] >= entry["asked"] for entry in value["sets"])
    assert {entry["demos"] for entry in value["sets"]} == {2, 5}
    assert len(value["prompts"]) == 15
    for prompt in value["prompts"]:
        (start, end), (again, last) = prompt["base_spans"][0], prompt["icl_spans"][0]
        assert prompt["base_ids"][start:end] == prompt["icl_ids"][again:last]
        assert prompt["icl_text"].count("<|im_start|>user") == (3 if prompt["set"] == "target" else 6)
        assert prompt["icl_text"].count("<|im_start|>system") == 1
