"""A fine-tune from end to end: foretold, scored, trained, watched, scored again; gone on with after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sts_core import folders
from sts_core.errors import UserError
from sts_core.measure.run import run
from sts_core.measure.tuned import Watch
from sts_core.progress import Progress, silent
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.results.overlap import compare
from sts_core.spec import Spec
from sts_core.train.sft.run import run_sft
from sts_core.train.sft.spec import SftSpec
from tests import tiny

STEPS, EVERY = 6, 3
Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def prediction(world: tiny.World) -> Path:
    return run(Spec.from_dict(world.spec()), world.folder / "prediction").folder


def spec_of(world: tiny.World, **changes: Any) -> SftSpec:
    return SftSpec.from_dict({
        "model": str(world.model), "learning_rate": 0.01, "steps": STEPS, "batch": 4, "checkpoint_every": EVERY,
        "device": "cpu", "dtype": "float32", "lora": {"rank": 4},
        "target": {"data": str(world.folder / "target.jsonl")},
        "evaluate": {"target_rows": 5, "domains": [{"name": "physics", "data": str(world.folder / "physics.jsonl")}]},
        "prediction": str(world.folder / "prediction"), **changes,
    })  # fmt: skip


def done(spec: SftSpec, out: Path) -> Events:
    events: Events = []
    run_sft(spec, out, silent, lambda event, details: events.append((event, details)))
    return events


def of(events: Events, kind: str) -> list[dict[str, Any]]:
    return [details for event, details in events if event == kind]


def test_everything_is_told_in_order_and_the_folder_can_be_compared(
    world: tiny.World, prediction: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    events = done(spec_of(world), out)
    kinds = [event for event, _ in events]
    assert kinds[0] == "prediction"
    assert kinds.count("prediction") == 1
    assert kinds.index("evaluation") < kinds.index("step")
    assert [told["step"] for told in of(events, "trajectory")] == [3, 6]
    assert [told["step"] for told in of(events, "step")] == list(range(1, STEPS + 1))
    last = max(i for i, kind in enumerate(kinds) if kind == "step")
    assert {told["phase"] for event, told in events[last:] if event == "evaluation"} == {"after", "change"}
    foretold = of(events, "prediction")[0]
    assert foretold["key"] == json.loads((prediction / "manifest.json").read_text())["key"]
    assert len(foretold["dims"]) == tiny.FEATURES
    assert {score["domain"] for score in foretold["scores"]} == {"physics", "law"}
    comparison = compare(prediction, out, [5])
    assert comparison.other_column == "shift_sft"
    assert comparison.same_queries
    point = of(events, "trajectory")[-1]
    found = compare(prediction, out).rows[0]
    assert point[f"overlap_{found.k}"] == found.value


def test_the_shift_is_that_of_the_saved_model(world: tiny.World, prediction: Path, tmp_path: Path) -> None:
    done(spec_of(world), tmp_path / "run")
    again = Watch(prediction, "cpu").measure(str(tmp_path / "run" / "model"), tmp_path / "again")
    ours = pd.read_parquet(tmp_path / "run" / "shift.parquet")
    pd.testing.assert_frame_equal(ours, pd.read_parquet(again.folder / "shift.parquet"))
    assert ours["shift_sft"].max() > 0


def test_scores_are_paired_and_of_rows_nobody_used(world: tiny.World, prediction: Path, tmp_path: Path) -> None:
    events = done(spec_of(world), tmp_path / "run")
    frame = read_rows(tmp_path / "run")
    wanted = {(c.set, c.metric): c.change for c in changes(frame)}
    told = {(t["domain"], t["metric"]): t["value"] for t in of(events, "evaluation") if t["phase"] == "change"}
    assert told == pytest.approx(wanted)
    assert ("target", "nll") in told
    queried = json.loads((prediction / "manifest.json").read_text())["sets"]["target"]["query_rows"]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    evaluated = set(frame[frame["set"] == "target"]["row"])
    assert not evaluated & set(queried)
    assert len(evaluated) == 5
    assert manifest["prediction"] == json.loads((prediction / "manifest.json").read_text())["key"]


def test_the_metrics_that_are_asked_for_are_told_before_after_and_as_a_change(
    world: tiny.World, tmp_path: Path
) -> None:
    asked = {"metrics": ["nll", "first_choice"], "target_rows": 2, "rows": 4,
             "domains": [{"name": "physics", "data": str(world.folder / "physics.jsonl")}]}  # fmt: skip
    events = done(spec_of(world, prediction=None, evaluate=asked), tmp_path / "run")
    told = {(one["phase"], one["domain"], one["metric"]) for one in of(events, "evaluation")}
    phases = ("before", "after", "change")
    assert told == {(p, name, metric) for p in phases for name in ("target", "physics")
                    for metric in ("nll", "first_choice")}  # fmt: skip


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["evaluating physics before", "training", "measuring what really shifted",
                                    "evaluating physics after"])  # fmt: skip
def test_killed_and_gone_on_with_it_is_the_same_run(
    world: tiny.World, prediction: Path, tmp_path: Path, moment: str
) -> None:
    whole = done(spec_of(world), tmp_path / "whole")
    shutil.rmtree(folders.cache() / "evaluated")  # or the model before would not be scored a second time

    def watch(step: Progress) -> None:
        if step.stage == moment and step.done > 0:
            raise Killed

    with pytest.raises(Killed):
        run_sft(spec_of(world), tmp_path / "run", watch)
    written = (tmp_path / "run" / "prediction.json").read_bytes()
    events = done(spec_of(world), tmp_path / "run")
    assert (tmp_path / "run" / "prediction.json").read_bytes() == written
    for kind in ("evaluation", "trajectory"):
        assert of(events, kind) == of(whole, kind)
    assert of(events, "step") == [] or of(events, "step")[-1]["loss"] == of(whole, "step")[-1]["loss"]


def test_without_a_prediction_or_sets_it_is_a_training_alone(world: tiny.World, tmp_path: Path) -> None:
    events = done(spec_of(world, prediction=None, evaluate={"target_rows": 0}), tmp_path / "run")
    assert {event for event, _ in events} == {"step", "checkpoint"}
    assert not (tmp_path / "run" / "prediction.json").exists()


def test_a_prediction_of_something_else_is_refused_before_anything_is_done(
    world: tiny.World, prediction: Path, tmp_path: Path
) -> None:
    other = tiny.save_model(tmp_path / "other", "llama", "chatml", seed=9)
    with pytest.raises(UserError, match="not for"):
        done(spec_of(world, model=str(other)), tmp_path / "a")
    with pytest.raises(UserError, match="another training set"):
        done(spec_of(world, target={"data": str(world.folder / "physics.jsonl")}), tmp_path / "b")
    with pytest.raises(UserError, match="no finished result"):
        done(spec_of(world, prediction="nowhere"), tmp_path / "c")


def test_the_prediction_cannot_be_changed_after_launch(world: tiny.World, prediction: Path, tmp_path: Path) -> None:
    done(spec_of(world), tmp_path / "run")
    values = {**world.spec(), "run": {**world.spec()["run"], "seed": 4}}
    other = run(Spec.from_dict(values), world.folder / "other")
    with pytest.raises(UserError, match="was started with the prediction"):
        done(spec_of(world, prediction=str(other.folder)), tmp_path / "run")


def test_no_prediction_can_be_written_once_the_training_has_begun(
    world: tiny.World, prediction: Path, tmp_path: Path
) -> None:
    done(spec_of(world, prediction=None), tmp_path / "run")
    with pytest.raises(UserError, match="began without a prediction"):
        done(spec_of(world), tmp_path / "run")
    assert not (tmp_path / "run" / "prediction.json").exists()


def test_a_file_that_is_moved_while_it_runs_is_not_missed(world: tiny.World, tmp_path: Path) -> None:
    rows = world.folder / "target.jsonl"
    events: Events = []

    def tell(event: str, details: dict[str, Any]) -> None:
        events.append((event, details))
        if event == "step" and rows.exists():
            rows.rename(tmp_path / "moved.jsonl")

    run_sft(spec_of(world, prediction=None), tmp_path / "run", silent, tell)
    assert not rows.exists()
    assert {told["domain"] for told in of(events, "evaluation") if told["phase"] == "change"} == {"target", "physics"}
