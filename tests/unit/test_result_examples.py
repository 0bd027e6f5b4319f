"""A result's strongest tokens and histograms, from the key in the spec to the files, against a plain computation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sts_core.errors import UserError
from sts_core.measure import passes
from sts_core.measure.resolve import resolve
from sts_core.measure.run import run
from sts_core.nets.decoder import load_decoder
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import encode, load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress
from sts_core.results.examples import EXAMPLES, HISTOGRAMS, read_examples, read_histograms
from sts_core.spec import Spec
from sts_core.text.pairs import PairSet, build_pairs
from sts_core.text.prompts import Prompter
from tests import tiny

K = 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def spec(world: tiny.World, **more: Any) -> Spec:
    values = world.spec()
    return Spec.from_dict({**values, "run": {**values["run"], "examples": K, **more}})


def dense(world: tiny.World, pairs: PairSet, arm: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row, place among its pooled tokens and feature values of every token."""
    model = load_decoder(find_model(str(world.model)), 1, "cpu", "float32")
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float32")
    for pair in pairs.pairs:
        prompt = getattr(pair, arm)
        stream = model.residuals([list(prompt.ids)])[0]
        pooled = torch.cat([stream[start:end] for start, end in prompt.spans])
        for place, values in enumerate(encode(sae, pooled).numpy()):
            yield pair.row, place, values


@pytest.mark.parametrize("name", ["target", "physics"])
@pytest.mark.parametrize("arm", ["base", "icl"])
def test_they_are_those_of_every_token_computed_plainly(tmp_path: Path, world: tiny.World, name: str, arm: str) -> None:
    asked = spec(world)
    run(asked, tmp_path / "out")
    resolved = resolve(asked)
    part = next(part for part in asked.sets if part.name == name)
    prompter = Prompter(load_tokenizer(resolved.model))
    pairs = build_pairs(part, prompter, asked.pool.tokens, resolved.model.context, asked.run.seed)
    tokens = list(dense(world, pairs, arm))
    value_of = {(row, place): values for row, place, values in tokens}
    everything = np.array([values for _, _, values in tokens])
    for feature in range(0, tiny.FEATURES, 7):
        found = read_examples(tmp_path / "out", feature)
        found = found[(found["set"] == name) & (found["arm"] == arm) & (found["band"] == "top")]
        best = -np.sort(-everything[:, feature])[:K]
        best = best[best > 0]
        assert found["rank"].tolist() == list(range(1, len(best) + 1))
        np.testing.assert_allclose(found["value"], best, rtol=1e-4, atol=1e-5)
        # Named rightly: the value at that very place is the value told. Rounding may swap two equal ones.
        at = [value_of[row, place][feature] for row, place in zip(found["row"], found["token"], strict=True)]
        np.testing.assert_allclose(at, found["value"], rtol=1e-4, atol=1e-5)
        histograms, edges = read_histograms(tmp_path / "out", feature)
        one = histograms[(histograms["set"] == name) & (histograms["arm"] == arm)]
        fired = everything[:, feature][everything[:, feature] > 0]
        assert len(one) == bool(len(fired))
        for counts, seen in zip(one["counts"], one["seen"], strict=True):
            assert (counts.sum(), seen) == (len(fired), len(tokens))
            assert abs(np.histogram(fired, np.append(edges, np.inf))[0] - counts).sum() <= 2


def test_an_interrupted_run_keeps_the_same_ones(
    tmp_path: Path, world: tiny.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec(world), tmp_path / "whole")
    monkeypatch.setattr(passes, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(passes, "_BATCH_TOKENS", {"cpu": 60})
    count = 0

    def stop(step: Progress) -> None:
        nonlocal count
        count += step.stage == "measuring physics"
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec(world), tmp_path / "half", watch=stop, fresh=True)
    run(spec(world), tmp_path / "half")
    for feature in range(0, tiny.FEATURES, 7):
        whole, half = (read_examples(tmp_path / name, feature) for name in ("whole", "half"))
        np.testing.assert_allclose(half["value"], whole["value"], rtol=1e-4, atol=1e-5)
        seen = [read_histograms(tmp_path / name, feature)[0]["seen"].tolist() for name in ("whole", "half")]
        assert seen[0] == seen[1]


def test_the_store_keeps_them_and_a_result_without_is_another(tmp_path: Path, world: tiny.World) -> None:
    run(spec(world), tmp_path / "a")
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    run(spec(world), tmp_path / "a", watch=lambda step: pytest.fail(f"measured: {step}"))
    assert {EXAMPLES, HISTOGRAMS} <= {path.name for path in (tmp_path / "a").iterdir()}
    run(spec(world, examples=0), tmp_path / "b")
    assert not (tmp_path / "b" / EXAMPLES).exists()
    plain = Spec.from_dict(world.spec())
    assert resolve(plain).key == resolve(spec(world, examples=0)).key != resolve(spec(world)).key
    assert Spec.from_dict(spec(world).to_dict()) == spec(world)


@pytest.mark.parametrize("bad", [-1, 1.5, True, 5_000, "many"])
def test_bad_numbers_are_told(world: tiny.World, bad: Any) -> None:
    with pytest.raises(UserError, match=r"run\.examples"):
        spec(world, examples=bad)


def test_the_reference_preset_keeps_none(world: tiny.World) -> None:
    with pytest.raises(UserError, match="no examples"):
        spec(world, preset="reference")
