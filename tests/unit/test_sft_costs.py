"""What a fine-tune costs: every part is in the plan, and every step of the work tells what is still to come."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from sts_core import folders
from sts_core.jobs.pace import Pace
from sts_core.measure.run import run
from sts_core.measure.tuned import Watch
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress
from sts_core.spec import Spec
from sts_core.train.evaluation.preparing import prepare
from sts_core.train.sft.costs import HOLD, SCORE, TRAIN, remember_rate
from sts_core.train.sft.evaluated import evaluation_sets
from sts_core.train.sft.plan import course_of, plain_model, plan
from sts_core.train.sft.run import run_sft
from sts_core.train.sft.spec import SftSpec
from tests import tiny

STEPS, EVERY = 6, 3
HOW = ("cpu", "float32")


@pytest.fixture
def prediction(world: tiny.World) -> Path:
    return run(Spec.from_dict(world.spec()), world.folder / "prediction").folder


def spec_of(world: tiny.World) -> SftSpec:
    return SftSpec.from_dict({
        "model": str(world.model), "learning_rate": 0.01, "steps": STEPS, "batch": 4, "checkpoint_every": EVERY,
        "device": "cpu", "dtype": "float32", "lora": {"rank": 4},
        "target": {"data": str(world.folder / "target.jsonl")},
        "evaluate": {"target_rows": 5, "domains": [{"name": "physics", "data": str(world.folder / "physics.jsonl")}]},
        "prediction": str(world.folder / "prediction"),
    })  # fmt: skip


def with_rates(spec: SftSpec, train: float, score: float, hold: float) -> None:
    for kind, rate in ((TRAIN, train), (SCORE, score), (HOLD, hold)):
        remember_rate(kind, spec, plain_model(spec), HOW, rate)


def test_the_plan_holds_scoring_twice_and_every_checkpoint(world: tiny.World, prediction: Path) -> None:
    spec = spec_of(world)
    assert not plan(spec)["work"]["rate_measured_here"]
    with_rates(spec, 100.0, 50.0, 20.0)
    found = plan(spec)
    info = plain_model(spec)
    scored = prepare(evaluation_sets(spec).sets, load_tokenizer(info), info.context).tokens
    held = json.loads((prediction / "manifest.json").read_text())["sets"]["target"]["tokens"]
    parts = found["work"]["parts"]
    assert parts["evaluation"] == pytest.approx(2 * scored / 50, abs=0.06)
    assert parts["checkpoints"] == pytest.approx(2 * 2 * held / 20, abs=0.06)
    assert parts["training"] > found["tokens"] / 100
    assert found["work"]["seconds"] == pytest.approx(sum(parts.values()), abs=0.2)
    assert found["work"]["rate_measured_here"]


def test_what_a_checkpoint_costs_is_about_what_is_run_there(world: tiny.World, prediction: Path) -> None:
    spec = spec_of(world)
    with_rates(spec, 100.0, 50.0, 1.0)
    assert plan(spec)["work"]["parts"]["checkpoints"] == pytest.approx(2 * Watch(prediction, "cpu").tokens, rel=0.3)


def test_what_is_kept_from_an_earlier_run_is_not_scored_before(world: tiny.World, prediction: Path) -> None:
    spec = spec_of(world)
    with_rates(spec, 100.0, 50.0, 20.0)
    whole = plan(spec)["work"]["parts"]["evaluation"]
    run_sft(spec, world.folder / "run")
    with_rates(spec, 100.0, 50.0, 20.0)
    assert plan(spec)["work"]["parts"]["evaluation"] == pytest.approx(whole / 2, abs=0.06)


def test_every_stage_tells_what_comes_after_it(world: tiny.World, prediction: Path) -> None:
    spec = spec_of(world)
    with_rates(spec, 100.0, 50.0, 20.0)
    seen: list[Progress] = []
    run_sft(spec, world.folder / "run", seen.append)
    left = [one.expected * (1 - (one.done / one.total if one.total else 0)) + one.later for one in seen if one.expected]
    assert left[0] == pytest.approx(plan_seconds(spec), rel=0.1)
    assert left[-1] == pytest.approx(0, abs=1e-6)
    for before, after in pairwise(left):
        assert after <= before + 1e-6, "what is left never grows while every rate stays as it was foretold"
    stages = {one.stage for one in seen if one.later}
    assert any(stage.startswith("evaluating physics before") for stage in stages)
    assert {"training", "measuring what really shifted"} <= stages


def plan_seconds(spec: SftSpec) -> float:
    (folders.cache() / "evaluated").rename(folders.cache() / "elsewhere")  # as it stood before the run
    return float(plan(spec)["work"]["seconds"])


def test_a_course_without_a_prediction_has_no_checkpoints_to_hold(world: tiny.World) -> None:
    values = spec_of(world).to_dict()
    values.pop("prediction")
    spec = SftSpec.from_dict(values)
    seen: list[Progress] = []
    with_rates(spec, 100.0, 50.0, 20.0)
    course_of(spec, seen.append).train(Progress("training", STEPS, STEPS, "steps"))
    after = plan(spec)["work"]["parts"]["evaluation"] / 2
    assert seen[0].later == pytest.approx(after, abs=0.06)


def test_a_run_gone_on_with_has_held_its_checkpoints_before(world: tiny.World, prediction: Path) -> None:
    spec = spec_of(world)
    with_rates(spec, 100.0, 50.0, 20.0)
    parts, seen = plan(spec)["work"]["parts"], []
    course = course_of(spec, seen.append)
    course.train(Progress("training", 3, STEPS, "steps"))
    assert seen[0].later == pytest.approx(parts["checkpoints"] / 2 + parts["evaluation"] / 2, abs=0.1)


def test_a_slow_training_is_learned_from(
    world: tiny.World, prediction: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    spec, clock = spec_of(world), [0.0]
    with_rates(spec, 1e9, 50.0, 20.0)
    monkeypatch.setattr("sts_core.train.sft.costs.time.monotonic", lambda: clock[0])
    seen: list[Progress] = []
    course = course_of(spec, seen.append)
    for step in range(3):
        course.train(Progress("training", step, STEPS, "steps"))
        clock[0] += 10
    assert seen[-1].expected == pytest.approx(10 * STEPS)
    clock[0] += 1_000  # a checkpoint is held: that is no training
    course.hold(Progress("measuring what really shifted", 0, 10))
    course.train(Progress("training", 3, STEPS, "steps"))
    assert seen[-1].expected == pytest.approx(10 * STEPS)


def test_what_is_left_is_the_stages_own_pace_and_what_comes_after() -> None:
    pace = Pace()
    assert pace.see(Progress("a", 0, 100, expected=40, later=60), 0.0) == (None, 100)
    assert pace.see(Progress("a", 50, 100, expected=40, later=60), 10.0) == (5.0, 70)
    assert pace.see(Progress("b", 0, 10, "steps", expected=30, later=0), 11.0) == (None, 30)
    assert pace.see(Progress("c", 0, 0), 12.0) == (None, None)
