"""What really shifted, and whether the SAE still holds, against dense float64 of both models loaded apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sts_core.errors import UserError
from sts_core.measure.holds import Holds
from sts_core.measure.run import run
from sts_core.measure.tuned import Watch, trajectory_point
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.results.overlap import compare
from sts_core.spec import Spec
from tests import tiny

LAYER = 1


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def prediction(world: tiny.World) -> Path:
    """A finished measurement with the noise of rounding, the outliers left in."""
    values = {**world.spec(), "pool": {"tokens": "query", "outliers": "off"}}
    return run(Spec.from_dict(values), world.folder / "prediction").folder


@pytest.fixture
def tuned(world: tiny.World) -> Path:
    """The world's model with every weight a little changed, as a full fine-tune leaves it."""
    return changed(world, by=0.02)


def changed(world: tiny.World, by: float) -> Path:
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn_like(weight) * weight.std().nan_to_num(1.0))
    folder = world.folder / f"tuned-{by}"
    model.save_pretrained(folder)
    load_tokenizer(find_model(str(world.model))).save_pretrained(folder)
    return folder


def residuals(model: Path, prompts: list[tuple[list[int], list[list[int]]]]) -> torch.Tensor:
    """The stream after the block at the pooled tokens, prompt by prompt: [tokens, width] in float64."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    found = []
    with torch.inference_mode():
        for ids, spans in prompts:
            hidden = whole(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
            found += [hidden[start:end] for start, end in spans]
    return torch.cat(found).double()


def test_shift_and_hold_are_those_of_a_dense_computation(world: tiny.World, prediction: Path, tuned: Path) -> None:
    watch = Watch(prediction, "cpu")
    found = watch.measure(str(tuned), world.folder / "moved")
    prompts = [(pair.base.ids, pair.base.spans) for pair in watch._pairs.pairs]
    base, after = residuals(world.model, prompts), residuals(tuned, prompts)
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float64")
    with torch.inference_mode():
        features = [sae.encode(x) for x in (base, after)]
        rebuilt = [sae.decode(f) for f in features]
    wanted = (features[1] - features[0]).abs().mean(dim=0).numpy()
    table = pd.read_parquet(found.folder / "shift.parquet")
    np.testing.assert_allclose(table["shift_sft"], wanted, rtol=1e-3, atol=1e-5 * wanted.max())
    signed = (features[1] - features[0]).mean(dim=0).numpy()
    np.testing.assert_allclose(table["signed_sft"], signed, rtol=1e-3, atol=1e-5 * wanted.max())
    assert wanted.max() > 0.01
    holds = found.holds
    assert holds.tokens == len(base)
    assert holds.residual_cosine == pytest.approx(float(torch.cosine_similarity(base, after, dim=-1).mean()), abs=1e-5)
    for x, f, r, l0, r2 in (
        (base, features[0], rebuilt[0], holds.l0_base, holds.r2_base),
        (after, features[1], rebuilt[1], holds.l0_tuned, holds.r2_tuned),
    ):
        assert l0 == pytest.approx(float((f > 0).sum()) / len(x), rel=1e-4)
        assert r2 == pytest.approx(float(1 - (x - r).square().sum() / (x - x.mean(dim=0)).square().sum()), rel=1e-4)


def test_an_adapter_is_held_against_its_base(world: tiny.World, prediction: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(world.model)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    model.save_pretrained(world.folder / "adapter")
    model.merge_and_unload().save_pretrained(world.folder / "merged")
    load_tokenizer(find_model(str(world.model))).save_pretrained(world.folder / "merged")
    watch = Watch(prediction, "cpu")
    toggled = watch.measure(str(world.folder / "adapter"), world.folder / "toggled")
    merged = watch.measure(str(world.folder / "merged"), world.folder / "apart")
    np.testing.assert_allclose(toggled.sums.mean("absdiff"), merged.sums.mean("absdiff"), rtol=1e-3, atol=1e-5)
    assert toggled.holds == pytest.approx(merged.holds, rel=1e-4)


def test_the_folder_is_one_that_overlap_takes_with_groups_and_the_same_queries(
    world: tiny.World, prediction: Path, tuned: Path
) -> None:
    found = Watch(prediction, "cpu").measure(str(tuned), world.folder / "moved")
    comparison = compare(prediction, found.folder, [5, 10])
    assert comparison.other_column == "shift_sft"
    assert comparison.same_queries
    assert comparison.other_tokens == comparison.tokens
    point = trajectory_point(prediction, found, [5, 10])
    assert point["overlap_5"] == comparison.rows[0].value
    assert {"null_5", "null_activation_10", "null_noise_10", "residual_cosine", "r2_tuned", "claimed_10"} <= set(point)
    assert json.loads((found.folder / "manifest.json").read_text())["holds"]["trouble"] == found.holds.trouble


def test_the_unchanged_model_has_not_moved_and_the_sae_holds(world: tiny.World, prediction: Path) -> None:
    found = Watch(prediction, "cpu").measure(str(world.model), world.folder / "moved")
    assert found.sums.mean("absdiff").max() == 0
    assert found.holds.trouble == []
    assert found.holds.residual_cosine == pytest.approx(1, abs=1e-6)


def test_a_model_that_has_turned_away_is_told(world: tiny.World, prediction: Path) -> None:
    found = Watch(prediction, "cpu").measure(str(changed(world, by=3.0)), world.folder / "moved")
    assert any("turned away" in line for line in found.holds.trouble)


def test_trouble_that_cannot_be_measured_is_trouble() -> None:
    nothing = float("nan")
    assert len(Holds(0, nothing, nothing, nothing, nothing, nothing).trouble) == 3
    assert Holds(10, 0.99, 30, 32, 0.8, 0.75).trouble == []
    assert Holds(10, 0.99, 30, 61, 0.8, 0.75).trouble == [
        "other numbers of features are active (L0 30.0 before, 61.0 after)"
    ]


def test_what_is_no_longer_the_same_is_refused(world: tiny.World, prediction: Path, tmp_path: Path) -> None:
    other = tiny.save_model(tmp_path / "wider", "llama", "chatml", hidden_size=64)
    watch = Watch(prediction, "cpu")
    with pytest.raises(UserError, match="64"):
        watch.measure(str(other), tmp_path / "moved")
    with pytest.raises(UserError, match="no model"):
        watch.measure(str(tmp_path / "nowhere"), tmp_path / "moved")
    rows: Any = json.loads((prediction / "manifest.json").read_text())
    target = Path(rows["spec"]["target"]["data"])
    target.write_text(target.read_text() + json.dumps({"question": "one more", "answer": "x"}) + "\n")
    with pytest.raises(UserError, match="target set of the prediction has changed"):
        Watch(prediction, "cpu")
