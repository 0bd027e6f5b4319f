"""`sts demo rebuild`: a draft, held against what ships, gone on with after a stop, in its place only when asked."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sts_core import folders
from sts_core.cli import main, rebuilding
from sts_core.jobs import launch, watch
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import Job, advance, now
from sts_core.jobs.shipping import keep
from sts_core.measure.run import run
from sts_core.results import shelf
from sts_core.results.folder import Result
from sts_core.results.gallery import gallery_of
from sts_core.results.reproduced import Twice, reproduced
from sts_core.spec import Spec
from sts_core.train.sft.run import run_sft
from sts_core.train.sft.spec import SftSpec
from tests import tiny


@pytest.fixture(autouse=True)
def demo(own_cache: Path, world: tiny.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo of the tiny world: its two specs, and a result that ships."""
    place = tmp_path / "ships" / "demo"
    place.mkdir(parents=True)
    monkeypatch.setattr(folders, "DEMO", place)
    monkeypatch.setattr(rebuilding, "EXPERIMENT", tmp_path / "none")
    (place / "demo.toml").write_text(tiny.as_toml(world.spec()))
    domains = [{"name": name, "data": str(world.folder / f"{name}.jsonl")} for name in ("physics", "law")]
    asked = {
        "model": str(world.model), "learning_rate": 0.01, "steps": 3, "batch": 4, "device": "cpu", "dtype": "float32",
        "checkpoint_every": 3, "prediction": "result", "target": {"data": str(world.folder / "target.jsonl")},
        "lora": {"rank": 4}, "evaluate": {"target_rows": 5},
    }  # fmt: skip
    lines = tiny.as_toml(asked) + "".join(
        f"\n[[evaluate.domains]]\nname = {json.dumps(d['name'])}\ndata = {json.dumps(d['data'])}\n" for d in domains
    )
    (place / "sft.toml").write_text(lines)
    run(Spec.from_dict(world.spec()), place / "result", fresh=True)
    monkeypatch.setattr(launch, "_start_due", lambda _environment: [])
    monkeypatch.setattr(rebuilding, "followed", done_here)
    return place


def told_to(folder: Path, event: str, details: dict[str, Any]) -> None:
    append_event(folder, event, **details)


def done_here(job_id: str) -> Job:
    """The work of the run's worker, in this process: what a worker is and does is held elsewhere."""
    job = watch.read(job_id)
    run_sft(
        SftSpec.from_dict(job.spec), job.folder / "result",
        tell=partial(told_to, job.folder),
    )  # fmt: skip
    advance(job.folder, state="done", result="result", started=now(), ended=now())
    return watch.read(job_id)


def test_small_is_measured_trained_and_held_against_what_ships(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
    assert main(["demo", "rebuild"]) == 0
    told = capsys.readouterr()
    assert "2 of 2 within 2 combined standard errors" in told.out
    assert "no run of this training ships" in told.out
    assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == before
    draft = folders.cache() / "demo-rebuild" / "small"
    (job,) = watch.all_jobs()
    assert (job.state, job.spec["prediction"], job.spec["evaluate"]["rows"]) == ("done", str(draft / "result"), 40)
    seconds = json.loads((draft / "seconds.json").read_text())
    assert list(seconds) == ["result", "run lora"]
    finished = Result(draft / "result").manifest["finished"]

    keep(job.id)
    assert main(["demo", "rebuild", "--json"]) == 0  # nothing is left to do
    value = json.loads(capsys.readouterr().out)
    assert [one.id for one in watch.all_jobs()] == [job.id]
    assert Result(draft / "result").manifest["finished"] == finished
    assert value["runs"] == {"lora": job.id}
    assert {one["domain"] for one in value["changes"]["lora"]} == {"physics", "law", "target"}
    assert all(one["anew"] == one["shipped"] and one["within"] for one in value["changes"]["lora"])
    assert value["result"]["shared"] == value["result"]["leading"]


def test_it_is_measured_anew_though_the_store_has_it(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's own measurement is in the store, as it is on the machine that made the demo."""
    monkeypatch.setattr(shelf, "fetch", lambda key, _out: pytest.fail(f"{key} was taken from the store"))
    shipped = Result(demo / "result").manifest
    draft = folders.cache() / "draft"
    draft.mkdir()
    made = rebuilding._measure(draft)
    assert made.manifest["key"] == shipped["key"]
    assert shelf.find(shipped["key"]) is not None


def test_after_a_stop_the_same_call_goes_on(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it follows the run: the result is kept, the job goes on by itself and is followed again."""

    def stopped(_job: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "followed", stopped)
        assert main(["demo", "rebuild"]) == 130
    draft = folders.cache() / "demo-rebuild" / "small"
    first = json.loads((draft / "runs.json").read_text())["lora"]
    measured = Result(draft / "result").manifest["finished"]
    assert main(["demo", "rebuild"]) == 0
    assert [job.id for job in watch.all_jobs()] == [first]
    assert Result(draft / "result").manifest["finished"] == measured


def test_a_run_that_was_cancelled_is_resumed(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "followed", lambda job: watch.cancel(job).job)
        assert main(["demo", "rebuild"]) == 2
    (job,) = watch.all_jobs()
    assert job.state == "cancelled"
    assert main(["demo", "rebuild"]) == 0
    (again,) = watch.all_jobs()
    assert (again.id, again.state, again.attempt) == (job.id, "done", 2)


def test_a_small_draft_replaces_nothing_and_a_budget_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "rebuild", "--replace"]) == 2
    assert "A small draft replaces nothing" in capsys.readouterr().err
    assert main(["demo", "rebuild", "--budget", "huge"]) == 2
    assert "small or full" in capsys.readouterr().err


def test_a_full_draft_takes_the_place_of_what_ships(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the bundle there are no corpora to name features after; all else is made."""
    old = demo / "runs" / "20260101-000000-000000-000000"
    old.mkdir(parents=True)
    key = Result(demo / "result").manifest["key"]
    mark = demo / "result" / "as_it_was_shipped"
    mark.touch()
    assert main(["demo", "rebuild", "--budget", "full"]) == 0
    assert mark.exists()
    assert old.exists()
    assert main(["demo", "rebuild", "--budget", "full", "--replace"]) == 0
    told = capsys.readouterr()
    (job,) = watch.all_jobs()
    assert Result(demo / "result").manifest["key"] == key
    assert not mark.exists()
    assert (demo / "result" / "gallery" / "manifest.json").is_file()
    assert [path.name for path in (demo / "runs").iterdir()] == [job.id]
    assert sorted(path.name for path in demo.iterdir() if path.name.startswith(".")) == []
    assert job.title in told.err


def test_examples_are_put_beside_the_result_that_ships(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The world's sets lie in no bundle, so none of their texts can be referred to: they are left out, and named."""
    assert main(["demo", "examples"]) == 0
    assert "0 examples" in (told := capsys.readouterr().out)
    assert "left out: target, physics, law" in told
    assert gallery_of(demo / "result") is not None
    assert json.loads((demo / "result" / "gallery" / "manifest.json").read_text())["sources"] == []
    assert main(["demo", "examples"]) == 2
    assert "Examples ship already" in capsys.readouterr().err
    assert main(["demo", "examples", "--replace"]) == 0


@pytest.mark.parametrize(
    ("one", "apart", "within"),
    [
        (Twice("law", "sts_act", 1.0, 0.3, 2.0, 0.4), 2.0, True),
        (Twice("law", "sts_act", 1.0, 0.3, 0.0, 0.3), -2.357, False),
        (Twice("law", "sts_act", 1.0, None, 2.0, 0.4), math.nan, None),
        (Twice("law", "sts_act", 1.0, None, 1.0, None), math.nan, True),
        (Twice("law", "sts_act", 1.0, 0.0, 2.0, 0.0), math.inf, False),
    ],
)  # fmt: skip
def test_two_numbers_agree_within_two_combined_errors(one: Twice, apart: float, within: bool | None) -> None:
    assert one.difference == pytest.approx(apart, abs=1e-3, nan_ok=True)
    assert one.within is within


def test_another_result_is_seen_to_be_another(demo: Path, world: tiny.World) -> None:
    other = run(
        Spec.from_dict(world.spec(run={"seed": 4, "device": "cpu", "dtype": "float32"})), world.folder / "other"
    )
    found = reproduced(Result(demo / "result"), other, n=10)
    assert {one.domain for one in found.scores} == {"physics", "law"}
    assert any(one.anew != one.shipped for one in found.scores)
    assert found.leading == 10
    assert found.shared <= 10
