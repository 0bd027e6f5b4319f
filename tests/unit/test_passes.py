"""How a set is run does not change what it gives: shards, sittings, halved batches, sites, adapters, other models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sts_core.errors import UserError
from sts_core.measure import passes
from sts_core.measure.parts import Kept, Measured
from sts_core.measure.passes import measure_set
from sts_core.nets.decoder import Decoder, Side, load_decoder
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.saes import encode, load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.results.sums import SetSums
from sts_core.spec import Spec
from sts_core.text.pairs import PairSet, build_pairs
from sts_core.text.prompts import Prompter
from tests import tiny

LAYER = 1


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    return tiny.world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def pairs(world: tiny.World) -> PairSet:
    target = Spec.from_dict(world.spec()).target
    return build_pairs(target, Prompter(load_tokenizer(find_model(str(world.model)))), "query", 256, 0)


@pytest.fixture(scope="module")
def sae(world: tiny.World) -> Any:
    return load_sae(find_sae(str(world.sae)), "cpu", "float32")


@pytest.fixture
def decoder(world: tiny.World) -> Decoder:
    return load_decoder(find_model(str(world.model)), LAYER, "cpu", "float32")


def measured(decoder: Any, sae: Any, pairs: PairSet, **more: Any) -> Measured:
    return measure_set(decoder, sae, pairs, None, True, lambda _: None, **more)


def assert_same(got: SetSums, wanted: SetSums, tolerance: float = 1e-6) -> None:
    for name, value in wanted.sums.items():
        np.testing.assert_allclose(
            got.sums[name].sum(axis=0), value.sum(axis=0), rtol=tolerance, atol=tolerance * np.abs(value).max()
        )
    assert got.tokens.sum() == wanted.tokens.sum()


@pytest.mark.parametrize("shards", [2, 7])
def test_shards_add_up_to_the_whole(decoder: Decoder, sae: Any, pairs: PairSet, shards: int) -> None:
    whole = measured(decoder, sae, pairs).sums
    parts = [measured(decoder, sae, pairs._replace(pairs=pairs.pairs[i::shards])).sums for i in range(shards)]
    added = sum(parts[1:], parts[0])
    assert_same(added, whole)
    assert added.items.sum() == whole.items.sum() == len(pairs.pairs)


@pytest.mark.parametrize("lengths", [[178, 159, 135, 117, 104, 98, 94, 90, 83, 80, 73], [400, 390, 60, 50], [9] * 70])
def test_batches_hold_every_pair_once_within_the_budget_and_with_little_padding(
    pairs: PairSet, lengths: list[int]
) -> None:
    budget, first = 1000, pairs.pairs[0]
    long = [
        first._replace(row=i, base=first.base._replace(ids=[1] * lengths[i]))
        for i in np.random.permutation(len(lengths))
    ]
    found = [[len(pair.base.ids) for pair in batch] for batch in passes.batches(long, budget)]
    assert sorted(length for batch in found for length in batch) == sorted(lengths)
    padded = [len(batch) * batch[0] for batch in found]
    assert max(padded) <= budget
    assert sum(padded) < 1.15 * sum(lengths)
    assert len(found) <= sum(lengths) / (budget / 4) + 1, "batches too small to be worth a pass"


def test_a_set_goes_on_after_its_last_kept_batch(
    decoder: Decoder, sae: Any, pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "KEEP_EVERY", -1.0)
    monkeypatch.setitem(passes._BATCH_TOKENS, "cpu", 64)
    stands: list[Kept] = []
    whole = measured(decoder, sae, pairs, keep=stands.append)
    assert len(stands) > 2
    ran: list[int] = []
    skipped: list[int] = []
    rest = measure_set(
        decoder, sae, pairs, None, True, ran.append, before=stands[1], skipped=skipped.append
    )  # fmt: skip
    assert len(skipped) == 2
    for name, value in whole.sums.sums.items():
        assert np.array_equal(rest.sums.sums[name], value)
    assert rest.raw is not None
    assert whole.raw is not None
    assert np.array_equal(rest.raw.sums["absdiff"], whole.raw.sums["absdiff"])


def test_a_batch_that_does_not_fit_is_halved(
    decoder: Decoder, sae: Any, pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(decoder, sae, pairs).sums
    plain, tried = Decoder.residuals, []

    def small(self: Decoder, rows: list[list[int]], *prefix: Any) -> torch.Tensor:
        tried.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, rows, *prefix)

    monkeypatch.setattr(Decoder, "residuals", small)
    assert_same(measured(decoder, sae, pairs).sums, whole)
    assert max(tried) > 3
    refused = [count for count in tried if count > 3]
    assert len(refused) < len([count for count in tried if count <= 3])


def test_a_query_that_never_fits_is_told(
    decoder: Decoder, sae: Any, pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Decoder, "residuals", none)
    with pytest.raises(UserError, match="does not fit the memory"):
        measured(decoder, sae, pairs)


def test_other_failures_are_not_taken_for_memory(
    decoder: Decoder, sae: Any, pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Decoder, "residuals", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        measured(decoder, sae, pairs)


def test_examples_are_the_strongest_tokens_of_the_base_arm(decoder: Decoder, sae: Any, pairs: PairSet) -> None:
    examples = measured(decoder, sae, pairs, examples=3).examples["base"]
    rows = []
    for pair in pairs.pairs:
        start, end = pair.base.spans[0]
        rows.append(encode(sae, decoder.residuals([pair.base.ids])[0, start:end]))
    dense = torch.cat(rows)
    values = dense.T.topk(3).values
    assert examples.seen == len(dense) == pairs.tokens
    torch.testing.assert_close(examples.values, values.clamp_min(0), rtol=1e-4, atol=1e-5)
    # Held by value, not by name: two tokens may be equal but for rounding.
    named = examples.tokens.clamp_min(0)
    torch.testing.assert_close(dense.T.gather(1, named)[values > 1e-3], values[values > 1e-3], rtol=1e-4, atol=1e-5)


SITES = ("resid_pre", "resid_post", "mlp_out", "attn_out")


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("site", SITES)
def test_every_site_is_what_it_says(tmp_path: Path, family: tiny.Family, site: str) -> None:
    """The stream before a block plus what its two parts add is the stream after it, in every family."""
    folder = tiny.save_model(tmp_path / family, family)
    info = find_model(str(folder))
    ids = [[5, 17, 40, 8, 99]]
    streams = {name: load_decoder(info, LAYER, "cpu", "float32", name).residuals(ids) for name in SITES}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        hidden = model(torch.tensor(ids), output_hidden_states=True).hidden_states
    expected = {
        "resid_pre": hidden[LAYER],
        "resid_post": hidden[LAYER + 1],
        "mlp_out": hidden[LAYER + 1] - hidden[LAYER] - streams["attn_out"],
        "attn_out": hidden[LAYER + 1] - hidden[LAYER] - streams["mlp_out"],
    }
    torch.testing.assert_close(streams[site], expected[site], rtol=1e-4, atol=1e-4 * float(hidden[LAYER].abs().max()))


@pytest.fixture(scope="module")
def adapter(world: tiny.World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter over the world's model with weights that do something."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(world.model)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    merged = tmp_path_factory.mktemp("merged")
    model.merge_and_unload().save_pretrained(merged)
    load_tokenizer(find_model(str(world.model))).save_pretrained(merged)
    (folder / "merged").write_text(str(merged))
    return folder


def test_an_adapter_is_read_as_the_merged_model_and_without_it_as_the_base(
    decoder: Decoder, adapter: Path, pairs: PairSet
) -> None:
    both = load_decoder(find_model(str(adapter)), LAYER, "cpu", "float32")
    merged = load_decoder(find_model((adapter / "merged").read_text()), LAYER, "cpu", "float32")
    rows = [pair.base.ids for pair in pairs.pairs[:4]]
    on, off = Side(both, True).residuals(rows), Side(both, False).residuals(rows)
    torch.testing.assert_close(on, merged.residuals(rows), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(off, decoder.residuals(rows), rtol=1e-5, atol=1e-5)
    assert (on - off).abs().max() > 0.01


def test_a_tuned_model_is_compared_on_the_same_prompts(
    decoder: Decoder, sae: Any, pairs: PairSet, adapter: Path
) -> None:
    """|h(Θ) − h(Θ′)| over the base arm, with the adapter toggled, against dense features of the merged model."""
    both = load_decoder(find_model(str(adapter)), LAYER, "cpu", "float32")
    got = measured(Side(both, False), sae, pairs, tuned=Side(both, True)).sums
    merged = load_decoder(find_model((adapter / "merged").read_text()), LAYER, "cpu", "float32")
    base, tuned = [], []
    for pair in pairs.pairs:
        start, end = pair.base.spans[0]
        base.append(encode(sae, decoder.residuals([pair.base.ids])[0, start:end]))
        tuned.append(encode(sae, merged.residuals([pair.base.ids])[0, start:end]))
    wanted = (torch.cat(tuned) - torch.cat(base)).double().abs().mean(dim=0).numpy()
    np.testing.assert_allclose(got.mean("absdiff"), wanted, rtol=1e-4, atol=1e-5 * wanted.max())
    assert wanted.max() > 0.01


def test_the_same_model_in_both_seats_does_not_shift(decoder: Decoder, sae: Any, pairs: PairSet) -> None:
    assert measured(decoder, sae, pairs, tuned=decoder).sums.mean("absdiff").max() == 0
