"""What a fine-tune computes and leaves: the loss against a dense computation, checkpoints that load, trouble told."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from trl import SFTTrainer

from sts_core.errors import UserError
from sts_core.nets.describe import find_model
from sts_core.train.evaluation.models import load_language_model
from sts_core.train.sft import trainer
from sts_core.train.sft.guard import STEPS, TIMES, Guard
from sts_core.train.sft.rows import IGNORED, training_rows
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import Trained, train
from tests import tiny


class Ran(NamedTuple):
    """A run, and what it told."""

    out: Path
    trained: Trained
    told: list[tuple[str, dict[str, Any]]]

    @property
    def losses(self) -> list[float]:
        return [details["loss"] for event, details in self.told if event == "step"]

    @property
    def checkpoints(self) -> list[int]:
        return [details["step"] for event, details in self.told if event == "checkpoint"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    tiny.save_model(folder / "tiny", "llama", "chatml")
    tiny.write_rows(folder / "rows.jsonl", tiny.rows(40, seed=1))
    return folder


@pytest.fixture(autouse=True)
def _own_cache(own_cache: Path) -> None:
    """Rates are remembered in a cache of the test's own."""


def spec_of(place: Path, **changes: Any) -> SftSpec:
    values = {
        "model": str(place / "tiny"), "learning_rate": 0.005, "steps": 6, "batch": 4, "micro_batch": 2, "device": "cpu",
        "dtype": "float32", "checkpoint_every": 2, "lora": {"rank": 4}, "evaluate": {"target_rows": 4},
        "target": {"data": str(place / "rows.jsonl"), "answer": "cot"},
    }  # fmt: skip
    return SftSpec.from_dict({**values, **changes})


def run(spec: SftSpec, out: Path, **more: Any) -> Ran:
    told: list[tuple[str, dict[str, Any]]] = []
    return Ran(out, train(spec, out, tell=lambda event, details: told.append((event, details)), **more), told)


def dense_loss(folder: Path, spec: SftSpec) -> float:
    """Mean −ln p of the learned tokens over all training rows, row by row in float64, from what was saved."""
    from transformers import AutoTokenizer

    model = load_language_model(find_model(str(folder)), "cpu", "float32").double()
    rows = training_rows(spec, AutoTokenizer.from_pretrained(spec.model), 256).rows
    total, learned = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            for at, label in enumerate(row.labels):
                if label != IGNORED:
                    total, learned = total - float(logp[at - 1, label]), learned + 1
    return total / learned


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_loss_is_the_answers_and_a_checkpoint_is_the_model_of_its_step(
    place: Path, tmp_path: Path, method: str
) -> None:
    """With every row in every batch, the loss told at a step is that of the model saved at the step before."""
    spec = spec_of(place, method=method, batch=16, micro_batch=4, steps=4, checkpoint_every=1, warm_up=0)
    assert len(training_rows(spec, tiny.tokenizer("chatml"), 256).rows) == 16
    ran = run(spec, tmp_path / "run")
    models = [place / "tiny", *(tmp_path / "run" / "checkpoints" / f"step-00000{step}" for step in (1, 2, 3))]
    for told, model in zip(ran.losses, models, strict=True):
        assert math.isclose(told, dense_loss(model, spec), rel_tol=2e-5)
    assert ran.losses == sorted(ran.losses, reverse=True)
    assert dense_loss(ran.trained.model, spec) < ran.losses[-1]
    assert find_model(str(ran.trained.model)).revision != find_model(str(place / "tiny")).revision


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_loss_in_one_piece_is_that_of_many_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: tiny.Family, method: str
) -> None:
    """The same losses and gradients with the one product that a processor computes and with TRL's tiles."""
    tiny.save_model(tmp_path / "tiny", family, "chatml")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(40, seed=1))
    spec = spec_of(tmp_path, method=method, steps=4, checkpoint_every=4)
    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "compute_loss", lambda *_: pytest.fail("these were tiles"))
        short = run(spec, tmp_path / "short")
    monkeypatch.setattr(trainer, "_LOGITS_AT_ONCE", 0)
    tiles = run(spec, tmp_path / "tiles")
    for name in ("loss", "grad_norm", "learning_rate", "epoch"):
        one, other = ([told[name] for event, told in each.told if event == "step"] for each in (short, tiles))
        assert one == pytest.approx(other, rel=1e-4)
    assert all(told["tokens_per_second"] > 0 for event, told in short.told if event == "step")


@pytest.mark.parametrize(("family", "style"), [("llama", "llama3"), ("gpt2", "plain")])
def test_other_models_train_too(tmp_path: Path, family: tiny.Family, style: tiny.Style) -> None:
    tiny.save_model(tmp_path / "tiny", family, style)
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(40, seed=1))
    ran = run(spec_of(tmp_path, batch=16, steps=8, learning_rate=0.02), tmp_path / "run")
    assert ran.losses[-1] < ran.losses[0] - 0.1


def test_what_looks_at_a_checkpoint_disturbs_nothing(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, lora={"rank": 4, "dropout": 0.2})
    quiet = run(spec, tmp_path / "quiet")
    seen: list[int] = []

    def look(step: int, folder: Path) -> None:
        torch.manual_seed(step)
        torch.rand(100)
        assert (folder / "adapter_model.safetensors").is_file()
        seen.append(step)

    assert run(spec, tmp_path / "looked", at_checkpoint=look).losses == quiet.losses
    assert seen == [2, 4, 6]


def test_gradient_checkpointing_changes_no_number(place: Path, tmp_path: Path) -> None:
    plain, saving = (run(spec_of(place, gradient_checkpointing=on), tmp_path / str(on)).losses for on in (False, True))
    assert plain == pytest.approx(saving, abs=1e-6)


def test_old_checkpoints_go_and_nothing_is_pickled(place: Path, tmp_path: Path) -> None:
    ran = run(spec_of(place, keep_checkpoints=2), tmp_path / "run")
    assert sorted(path.name for path in (ran.out / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    endings = {path.suffix for path in ran.out.rglob("*") if path.is_file()}
    assert endings == {".json", ".safetensors"}
    sizes = {details["step"]: details["bytes"] for event, details in ran.told if event == "checkpoint"}
    whole = sum(path.stat().st_size for path in (ran.out / "checkpoints" / "step-000006").rglob("*") if path.is_file())
    assert sizes[6] == whole


def test_a_finished_run_is_not_done_again_and_another_is_refused(place: Path, tmp_path: Path) -> None:
    first = run(spec_of(place), tmp_path / "run")
    again = run(spec_of(place, keep_checkpoints=1), tmp_path / "run")
    assert again.told == []
    assert again.trained.loss == first.trained.loss
    with pytest.raises(UserError, match="not the same: learning_rate, seed"):
        run(spec_of(place, seed=5, learning_rate=1e-4), tmp_path / "run")


def test_a_full_disk_leaves_the_last_good_checkpoint(place: Path, tmp_path: Path) -> None:
    """Files over 100 kB cannot be written after step 3; with room again, the run ends as one that never stopped."""
    spec = spec_of(place, method="full")
    whole = run(spec, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: str, details: dict[str, Any]) -> None:
        if event == "step" and details["step"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    try:
        with pytest.raises(UserError, match="cannot be written"):
            train(spec, tmp_path / "full", tell=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()] == ["step-000002"]
    after = run(spec, tmp_path / "full")
    assert after.losses == pytest.approx(whole.losses[2:], abs=1e-6)


def test_a_loss_that_explodes_stops_the_run(place: Path, tmp_path: Path) -> None:
    spec = spec_of(place, method="full", learning_rate=1.0, steps=40, checkpoint_every=2, warm_up=0.0, clip=1e6)
    with pytest.raises(UserError, match=r"exploded|no longer a number") as told:
        run(spec, tmp_path / "run")
    assert "learning_rate" in told.value.hint
    kept = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert 0 < len(kept) < 20
    assert all(bool(torch.isfinite(value).all()) for value in load_file(kept[-1] / "model.safetensors").values())


def test_a_model_that_is_not_finite_is_told_at_the_first_step(place: Path, tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "tiny", "llama", "chatml")
    weights = load_file(tmp_path / "tiny" / "model.safetensors")
    next(iter(weights.values()))[0] = math.nan
    save_file(weights, tmp_path / "tiny" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="no longer a number at step 1"):
        run(spec_of(place, model=str(tmp_path / "tiny")), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def losses_until_stopped(losses: list[float], norms: list[float] | None = None) -> int | None:
    guard = Guard(vocabulary=50_000)
    for step, loss in enumerate(losses, start=1):
        try:
            guard.see(step, loss, norms[step - 1] if norms else 1.0)
        except UserError:
            return step
        guard = Guard(**json.loads(json.dumps(guard.state())))  # as through a checkpoint
    return None


@pytest.mark.parametrize(
    ("losses", "stopped"),
    [
        ([1.0] + [TIMES * 1.01] * STEPS, STEPS + 1),
        ([1.0] + [TIMES * 1.01] * (STEPS - 1) + [1.0] + [TIMES * 1.01] * (STEPS - 1), None),
        ([1.0] + [TIMES * 0.99] * 50, None),
        ([3.0] + [12.0] * STEPS, STEPS + 1),  # ln 50,000 + 1 is 11.8
        ([3.0] + [11.7] * 50, None),
        ([12.5] + [13.4] * 50, None),
        ([0.01] + [1.9] * 50, None),
        ([2.0, math.nan], 2),
        ([math.inf], 1),
    ],
)
def test_the_guard(losses: list[float], stopped: int | None) -> None:
    assert losses_until_stopped(losses) == stopped


def test_the_guard_sees_gradients() -> None:
    assert losses_until_stopped([1.0, 1.0, 1.0], [1.0, math.inf, 1.0]) == 2


@pytest.fixture
def adapter(place: Path, tmp_path: Path) -> Path:
    return run(spec_of(place, steps=1), tmp_path / "first").trained.model


def test_an_adapter_is_no_model_to_begin_with(place: Path, tmp_path: Path, adapter: Path) -> None:
    with pytest.raises(UserError, match="is an adapter"):
        run(spec_of(place, model=str(adapter)), tmp_path / "run")
