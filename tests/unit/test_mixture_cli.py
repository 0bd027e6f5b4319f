"""`sts mix`: planned, made, refused; and the same done by a worker's process from a job's folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sts_core.cli import mixing
from sts_core.errors import UserError
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import create, load
from sts_core.measure.run import run
from sts_core.spec import Spec
from sts_core.train.mixture.manifest import rebuild
from sts_core.train.mixture.spec import MixtureSpec
from tests import tiny

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(world: tiny.World) -> Path:
    run(Spec.from_dict(world.spec()), world.folder / "result")
    path = world.folder / "mix.toml"
    values = {"result": "result", "budget": 12, "score": {"n": 20}, "target": {"rows": 10, "evaluate_rows": 5}}
    path.write_text(tiny.as_toml(values))
    return path


def sts(*arguments: str) -> None:
    program = typer.Typer()
    mixing.add_to(program)
    program.command("other")(lambda: None)  # with a second one, typer keeps the first one's name
    program(args=["mix", *arguments], standalone_mode=False)


def test_the_plan_writes_nothing(spec: Path, capsys: Captured) -> None:
    before = sorted(spec.parent.rglob("*"))
    sts(str(spec), "--plan")
    told = capsys.readouterr().out
    sts(str(spec), "--plan", "--json", "--set", "tau=0")
    even = json.loads(capsys.readouterr().out)
    assert sorted(spec.parent.rglob("*")) == before
    assert "10 of 25 rows of target.jsonl that may train" in told
    assert "12 rows of 2" in told
    assert "the sources' answers" in told
    assert {one["domain"]: one["quota"] for one in even["domains"]} == {"physics": 8, "law": 4}


def test_it_is_made_and_told(spec: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "mix"
    sts(str(spec), "--out", str(out))
    shown = capsys.readouterr()
    made = json.loads((out / "manifest.json").read_text())
    assert made["file"]["sha256"] in shown.out
    assert str(out) in shown.err
    assert rebuild(out) == (out / "mixture.jsonl").read_bytes()
    sts(str(spec), "--out", str(out), "--json")
    assert json.loads(capsys.readouterr().out) == made


def test_the_models_answers_are_asked_for_in_the_foreground_too(spec: Path, tmp_path: Path, capsys: Captured) -> None:
    changes = ["--set", "answers=model", "--set", "generate.max_tokens=6", "--set", "budget=4"]
    sts(str(spec), "--plan", *changes)
    assert "4 of the model's own, at most 24 tokens" in capsys.readouterr().out
    sts(str(spec), "--out", str(tmp_path / "mix"), *changes)
    assert "asking the model" in capsys.readouterr().err
    assert len((tmp_path / "mix" / "answers.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no place to write"),
        (["--plan", "--set", "budgett=3"], 'did you mean "budget"'),
        (["--plan", "--set", "floor=5"], "law has 4"),
        (["--plan", "--set", "result=nowhere"], "no finished result"),
    ],
)
def test_what_is_wrong_is_told(spec: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        sts(str(spec), *arguments)
    assert error.value.hint


WORKER = """
import sys
from functools import partial
from pathlib import Path

from sts_core.jobs import worker
from sts_core.jobs.events import append_event
from sts_core.train.mixture.run import run_mixture
from sts_core.train.mixture.spec import MixtureSpec

def mix(job, watch):
    def tell(event, details):
        append_event(job.folder, event, **details)
    run_mixture(MixtureSpec.from_dict(job.spec), job.folder / worker.RESULT, watch, tell)
    return worker.RESULT

sys.exit(worker.main(Path(sys.argv[1]), {"mix": mix}))
"""


def test_a_worker_makes_one_and_tells_of_it(spec: Path) -> None:
    """A process of its own does the job from its folder, the model's answers included, and says how it went."""
    asked = MixtureSpec.from_toml(spec, ["answers=model", "generate.max_tokens=6", "generate.device=cpu"])
    folder = create({"kind": "mix", "title": "a mixture", "spec": asked.to_dict(), "options": {}}, {})
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, str(folder)], capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    job = load(folder)
    assert (job.state, job.result, job.unit) == ("done", "result", "answers")
    assert job.done == job.total >= 12
    told = [event for event in read_events(folder) if event["event"] == "mixture"]
    assert len(told) == 1
    assert told[0]["rows"] == 22
    assert rebuild(folder / "result") == (folder / "result" / "mixture.jsonl").read_bytes()
