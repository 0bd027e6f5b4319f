"""Two real fine-tunes of a tiny model, with and without a mixture: their questions are held against each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sts_core.measure.run import run
from sts_core.results.mixture_effect import Arm, Told, effect
from sts_core.results.outcomes.rows import changes, read_rows
from sts_core.spec import Spec
from sts_core.train.mixture.run import run_mixture
from sts_core.train.mixture.spec import MixtureSpec
from sts_core.train.sft.run import run_sft
from sts_core.train.sft.spec import SftSpec
from tests import tiny


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(world: tiny.World, data: Path, out: Path) -> Path:
    domains = [{"name": name, "data": str(world.folder / f"{name}.jsonl")} for name in ("physics", "law")]
    spec = SftSpec.from_dict({
        "model": str(world.model), "learning_rate": 0.01, "steps": 3, "batch": 4, "device": "cpu", "dtype": "float32",
        "lora": {"rank": 4}, "target": {"data": str(data)}, "evaluate": {"target_rows": 5, "domains": domains},
    })  # fmt: skip
    return run_sft(spec, out)


def arm(name: str, out: Path, mixed: dict[str, int], world: tiny.World) -> Arm:
    rows = read_rows(out)
    told = {one.set: Told(one.change, one.se, one.n) for one in changes(rows) if one.metric == "nll"}
    return Arm(name, mixed, told, rows, {name: str(world.folder) for name in told})


def test_real_runs_hold_the_same_questions(world: tiny.World, tmp_path: Path) -> None:
    result = run(Spec.from_dict(world.spec()), world.folder / "result").folder
    values = {"result": str(result), "budget": 12, "score": {"n": 20}, "target": {"evaluate_rows": 5, "rows": 10}}
    mixture = run_mixture(MixtureSpec.from_dict(values), world.folder / "mix")
    without = arm("none", trained(world, world.folder / "target.jsonl", tmp_path / "without"), {}, world)
    with_it = arm("mixed", trained(world, mixture, tmp_path / "with"), {"physics": 8}, world)
    found = effect(without, with_it, "nll")
    assert found.target is not None
    for one in [*found.domains, found.target]:
        assert one.paired
        assert one.n == without.changes[one.domain].n == with_it.changes[one.domain].n
        assert one.difference == pytest.approx(one.with_it - one.without, abs=1e-6)
        assert one.difference != 0
    assert [one.domain for one in found.domains] == ["physics", "law"]
    assert found.over_mixed is not None
    assert found.over_mixed.domains == 1
