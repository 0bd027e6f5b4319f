"""`sts sweep`: planned, done, refused; and the same done by a worker's process from a job's folder."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import typer

from sts_core.cli import sweeping
from sts_core.errors import UserError
from sts_core.jobs import launch, watch
from sts_core.jobs.events import read_events
from sts_core.jobs.folder import Job
from sts_core.results.sweeps import read_sweep
from tests.sweep_world import SweepWorld, make_sweep_world

Captured = pytest.CaptureFixture[str]
FEW = ["--set", "seeds=[0]", "--set", "rank_bands=[]"]
PATIENCE = 120.0
"""Seconds until a test gives up on a process; only a broken one takes them."""
LOOK_EVERY = 0.2

WORKER = """
import sys
from functools import partial
from pathlib import Path

from sts_core.jobs import worker
from sts_core.jobs.events import append_event, read_events
from sts_core.measure.sweep.run import run_sweep
from sts_core.measure.sweep.spec import SweepSpec

def sweep(job, watch):
    known = {event.get("key") for event in read_events(job.folder) if event["event"] == "point"}
    def tell(event, details):
        if event != "point" or details["key"] not in known:
            append_event(job.folder, event, **details)
    run_sweep(SweepSpec.from_dict(job.spec), job.folder / worker.RESULT, watch, tell)
    return worker.RESULT

sys.exit(worker.main(Path(sys.argv[1]), {"sweep": sweep}))
"""


@pytest.fixture
def world(tmp_path: Path, own_cache: Path) -> SweepWorld:
    folder = tmp_path / "world"
    folder.mkdir()
    return make_sweep_world(folder)


def sts(*arguments: str) -> None:
    program = typer.Typer()
    sweeping.add_to(program)
    program.command("other")(lambda: None)  # with a second one, typer keeps the first one's name
    program(args=["sweep", *arguments], standalone_mode=False)


def test_the_plan_writes_nothing(world: SweepWorld, capsys: Captured) -> None:
    spec = world.toml()
    before = sorted(world.folder.rglob("*"))
    sts(str(spec), "--plan")
    told = capsys.readouterr().out
    sts(str(spec), "--plan", "--json", "--set", "base.target.tokens=60")
    less = json.loads(capsys.readouterr().out)
    assert sorted(world.folder.rglob("*")) == before
    assert "12, from 4 measurements" in told
    assert "4 measurements" in told
    assert "changes.csv" in told
    assert "short LoRA probe" in told
    assert [row["stored"] for row in less["measurements"]] == [False] * 4
    assert less["tokens"] > 0


def test_it_is_done_and_told(world: SweepWorld, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    sts(str(world.toml()), "--out", str(out), *FEW)
    shown = capsys.readouterr()
    assert "Of 2 settings of STS act" in shown.out
    assert "STS icl" in shown.out
    assert "similarity to the training set" in shown.out
    assert "One seed" in shown.err
    sts(str(world.toml()), "--out", str(out), "--json", *FEW)
    assert json.loads(capsys.readouterr().out) == read_sweep(out).manifest


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no place to write"),
        (["--plan", "--detach"], "three different things"),
        (["--plan", "--set", "seads=[1]"], 'did you mean "seeds"'),
        (["--plan", "--set", "base.run.sede=1"], 'did you mean "seed"'),
        (["--detach", "--set", "n=[100]"], "too few for top 100"),
    ],
)
def test_what_is_wrong_is_told(world: SweepWorld, arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        sts(str(world.toml()), *arguments)
    assert error.value.hint


STOPPED = WORKER.replace(
    "append_event(job.folder, event, **details)", "append_event(job.folder, event, **details); import os; os._exit(9)"
)
"""The same, killed as soon as it has told of its first point."""


def test_a_job_is_ordered_killed_and_goes_on(
    world: SweepWorld, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt is a process of its own; no point is told of twice, and none is measured twice."""
    monkeypatch.setattr(launch, "WORKER", ("-c", STOPPED))
    sts(str(world.toml()), "--detach", *FEW)
    job_id = capsys.readouterr().out.strip()
    assert ended(job_id).state == "dead"
    monkeypatch.setattr(launch, "WORKER", ("-c", WORKER))
    launch.resume(job_id)
    job = ended(job_id)
    assert (job.state, job.kind, job.result, job.attempt) == ("done", "sweep", "result", 2), job.log_tail()
    assert job.title == "2 SAEs on target.jsonl"
    assert (job.done, job.total, job.unit) == (2, 2, "measurements")
    points = [event for event in read_events(job.folder) if event["event"] == "point"]
    assert [(point["number"], point["of"], point["was_stored"]) for point in points] == [(1, 2, False), (2, 2, False)]
    made = read_sweep(job.folder / "result")
    assert {point["key"] for point in points} == set(made.table["key"])
    assert [one["was_stored"] for one in made.manifest["results"]] == [True, False]


def ended(job_id: str) -> Job:
    deadline = time.monotonic() + PATIENCE
    while (job := watch.read(job_id)).active:
        assert time.monotonic() < deadline, f"{job_id} stays {job.state}: {job.log_tail()}"
        threading.Event().wait(LOOK_EVERY)
    return job
