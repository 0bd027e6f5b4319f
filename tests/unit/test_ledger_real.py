"""The ledger behind a real measurement, a real fine-tune and a real evaluation of a tiny model, all as jobs do them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sts_core.folders import jobs
from sts_core.jobs import worker
from sts_core.jobs.folder import RESULT, create, load, now
from sts_core.measure.run import run
from sts_core.progress import silent
from sts_core.results import Result
from sts_core.results.actual import HALVES, read_actual
from sts_core.results.agreement import hold_against
from sts_core.results.ledger import SCORED, WAITS_EVALUATION, Entry
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.spec import Spec
from sts_core.store.ledger import entries
from sts_core.store.reading import read
from tests import tiny

NAMES = ("physics", "chemistry", "history", "biology", "business")


def domains(world: tiny.World, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "data": str(world.folder / f"{name}.jsonl"), **more} for name in NAMES]


@pytest.fixture
def prediction(world: tiny.World) -> Path:
    """A measured result of five domains."""
    for seed, name in enumerate(NAMES[1:], start=11):
        tiny.write_rows(world.folder / f"{name}.jsonl", tiny.rows(60, seed=seed, words=(4, 6 + seed)))
    spec = Spec.from_dict({**world.spec(), "domains": domains(world, demos=2, tokens=200)})
    return run(spec, world.folder / "prediction").folder


def job(kind: str, spec: dict[str, Any]) -> Path:
    jobs()
    order = {"kind": kind, "title": kind, "spec": spec, "options": {}}
    return create(order, {"state": "done", "started": now(), "ended": now()})


def sft_spec(world: tiny.World, **changes: Any) -> dict[str, Any]:
    return {
        "model": str(world.model), "learning_rate": 0.02, "steps": 4, "batch": 4, "checkpoint_every": 4,
        "device": "cpu", "dtype": "float32", "lora": {"rank": 4},
        "target": {"data": str(world.folder / "target.jsonl")},
        "evaluate": {"target_rows": 5, "domains": domains(world)},
        "prediction": str(world.folder / "prediction"), **changes,
    }  # fmt: skip


def only() -> Entry:
    with read() as view:
        (entry,) = entries(view.connection)
    return entry


def test_a_real_run_is_scored_from_what_it_wrote(world: tiny.World, prediction: Path) -> None:
    folder = job("sft", sft_spec(world))
    worker.fine_tune(load(folder), silent)
    written = json.loads((folder / RESULT / "prediction.json").read_text(encoding="utf-8"))
    foretold = {row["domain"]: row["value"] for row in written["scores"] if row["metric"] == "sts_act"}
    harm = {c.set: c.change for c in changes(read_rows(folder / RESULT)) if c.metric == "nll" and c.set in NAMES}
    entry = only()
    found = entry.found
    assert (entry.state, entry.foretold.key) == (SCORED, written["key"])
    assert found is not None
    assert found.n == 5
    x, y = np.array([(foretold[name], harm[name]) for name in NAMES]).T
    assert found.spearman == pytest.approx(stats.spearmanr(x, y)[0])
    assert found.r == pytest.approx(stats.pearsonr(x, y)[0])
    assert entry.reliability[1] == HALVES
    assert entry.n_features == len(written["dims"])
    same = hold_against(
        Result(prediction), read_actual(folder / RESULT), n=len(written["dims"]), with_baselines=False
    ).comparisons[0]
    assert (same.score, same.outcome) == ("sts_act", "harm")
    # What today's result says is the same, for it has not changed; without it the written one still stands.
    assert found.p_spearman == same.correlation.p_spearman
    assert found.ci_spearman == pytest.approx(same.correlation.ci_spearman)
    shutil.rmtree(prediction)
    assert only() == entry


def test_a_real_evaluation_afterwards_is_the_one_that_counts(world: tiny.World, prediction: Path) -> None:
    folder = job("sft", sft_spec(world, evaluate={"target_rows": 5}))
    worker.fine_tune(load(folder), silent)
    assert only().state == WAITS_EVALUATION
    tuned = str(folder / RESULT / "model")
    spec = {"model": str(world.model), "tuned": tuned, "domains": domains(world), "rows": 20, "device": "cpu"}
    again = job("eval", {**spec, "dtype": "float32"})
    worker.evaluate(load(again), silent)
    entry = only()
    assert entry.state == SCORED
    assert entry.evaluated is not None
    assert entry.evaluated.by == again.name
    expected = {one.domain: one.harm for one in read_actual(again / RESULT).outcomes}
    assert entry.primary is not None
    assert {point.domain: point.harm for point in entry.primary.points} == pytest.approx(expected)
