"""A SAE trained on a tiny model: what SAELens reloads, what the report says, held against plain dense arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from sts_core.errors import UserError
from sts_core.progress import Progress
from sts_core.text.corpora import find
from sts_core.train.sae.spec import SaeSpec
from sts_core.train.sae.training import train_sae
from tests import tiny

LAYER, CONTEXT = 1, 32


class Trained(NamedTuple):
    spec: SaeSpec
    out: Path
    told: list[Progress]

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "report.json").read_text()))


def small_spec(folder: Path, **changes: Any) -> dict[str, Any]:
    columns = {"question": "question", "answer": "cot"}
    return {
        "model": "tiny-llama", "layer": LAYER, "width": 64, "k": 4, "tokens": 3000, "batch": 64, "context": CONTEXT,
        "warm_up": 5, "dead_after": 10, "lr": 0.01, "lr_end": 0.001, "dtype": "float32", "device": "cpu",
        "report_tokens": 100_000, "ce_tokens": 100_000, "seed": 3,
        "corpus": [
            {"data": "chats.jsonl", "share": 1.0, "columns": columns, "rows_per_chat": 2},
            {"data": "prose.txt", "share": 3.0},
        ],
        **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a file of questions and a file of prose."""
    folder = tmp_path_factory.mktemp("sae")
    tiny.save_model(folder / "tiny-llama", "llama", "llama3")
    tiny.write_rows(folder / "chats.jsonl", tiny.rows(120, seed=1))
    (folder / "prose.txt").write_text("\n\n\n".join(row["question"] * 4 for row in tiny.rows(150, seed=2)))
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    """One small training, shared by the tests that look at what it left."""
    spec = SaeSpec.from_dict(small_spec(folder), folder)
    told: list[Progress] = []
    out = train_sae(spec, folder / "out" / "sae", told.append)
    return Trained(spec, out, told)


def held_out_pieces(trained: Trained, number: int) -> list[list[int]]:
    """The held-out token sequences of one corpus, cut by the rule in words rather than by the product's code."""
    entry = trained.spec.corpus[number]
    tokenizer = tiny.tokenizer("llama3")
    found = []
    for document in find(entry.data, trained.spec.base, entry.columns, entry.rows_per_chat).documents():
        if not document.held_out:
            continue
        if document.turns:
            turns = [{"role": role, "content": content} for role, content in document.turns]
            ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
        else:
            ids = tokenizer(document.text)["input_ids"]
        for start in range(0, len(ids), CONTEXT):
            part = ids[start : start + CONTEXT]
            part = [tokenizer.bos_token_id, *part][:CONTEXT] if start else part
            if len(part) >= 8:
                found.append(part)
    return found


def dense_numbers(trained: Trained, sequences: list[list[int]]) -> dict[str, float]:
    """Every measure from its definition, one unpadded sequence at a time, in float64."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(trained.spec.base / "tiny-llama", dtype=torch.float64)
    weights = {name: value.double() for name, value in load_file(trained.out / "sae_weights.safetensors").items()}
    x, rebuilt, active, losses = [], [], [], {"clean": 0.0, "sae": 0.0, "zero": 0.0}
    counted = 0
    for ids in map(torch.tensor, sequences):
        hidden = model(ids[None], output_hidden_states=True).hidden_states[LAYER + 1][0].detach()
        before = (hidden - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
        features = torch.where(before > weights["threshold"], before.relu(), torch.zeros(()).double())
        back = features @ weights["W_dec"] + weights["b_dec"]
        x, rebuilt, active = [*x, hidden], [*rebuilt, back], [*active, features > 0]
        counted += len(ids) - 1
        for name, value in (("clean", hidden), ("sae", back), ("zero", torch.zeros_like(hidden))):
            log_p = logits_after(model, value).log_softmax(-1)
            losses[name] -= float(log_p[:-1].gather(1, ids[1:, None]).sum())
    seen, error = torch.cat(x), torch.cat(x) - torch.cat(rebuilt)
    on = torch.cat(active)
    centred = seen - seen.mean(0)
    return {
        "tokens": len(seen),
        "l0": float(on.sum(1).double().mean()),
        "r2_flat": 1 - float((error**2).sum() / ((seen - seen.mean()) ** 2).sum()),
        "explained": 1 - float((error**2).sum() / (centred**2).sum()),
        "explained_per_dimension": float((1 - (error**2).sum(0) / (centred**2).sum(0)).mean()),
        "never_fired_share": float((~on.any(0)).double().mean()),
        **{f"ce_{name}": total / counted for name, total in losses.items()},
        "ce_recovered": (losses["zero"] - losses["sae"]) / (losses["zero"] - losses["clean"]),
    }


def logits_after(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the model says when the stream after the layer is `hidden`: blocks above, norm and head by hand."""
    stream = hidden[None]
    places = torch.arange(len(hidden))[None]
    turned = model.model.rotary_emb(stream, places)
    mask = torch.full((len(hidden), len(hidden)), float("-inf"), dtype=hidden.dtype).triu(1)[None, None]
    for block in model.model.layers[LAYER + 1 :]:
        out = block(stream, attention_mask=mask, position_ids=places, position_embeddings=turned)
        stream = out[0] if isinstance(out, tuple) else out
    return torch.as_tensor(model.lm_head(model.model.norm(stream))[0]).detach()


def test_plain_saelens_loads_it_and_encodes_by_the_formula(trained: Trained) -> None:
    from sae_lens import SAE

    sae = SAE.load_from_disk(trained.out)
    assert (sae.cfg.architecture(), sae.dtype) == ("jumprelu", torch.float32)
    weights = {name: value.float() for name, value in load_file(trained.out / "sae_weights.safetensors").items()}
    x = torch.randn(50, tiny.WIDTH, generator=torch.Generator().manual_seed(0)) * 5
    before = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    assert (weights["threshold"] > 0).all()
    torch.testing.assert_close(sae.encode(x), before * (before > weights["threshold"]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights["W_dec"].norm(dim=1), torch.ones(64), rtol=2e-3, atol=0)


def test_the_weights_are_kept_in_16_bits_and_fit_the_model(trained: Trained) -> None:
    from sts_core.nets.describe import find_model, find_sae, fit

    raw = load_file(trained.out / "sae_weights.safetensors")
    assert {value.dtype for value in raw.values()} == {torch.float16}
    sae = find_sae(str(trained.out))
    assert (sae.layer, sae.features, sae.width) == (LAYER, 64, tiny.WIDTH)
    assert fit(find_model(str(trained.spec.base / "tiny-llama")), sae, None) == []
    metadata = json.loads((trained.out / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == f"blocks.{LAYER}.hook_resid_post"
    assert metadata["hf_hook_name"] == f"model.layers.{LAYER}"
    assert metadata["model_name"] == "tiny-llama"


def test_the_report_equals_the_definitions(trained: Trained) -> None:
    report = trained.report
    sequences = [held_out_pieces(trained, number) for number in range(2)]
    for name, own in zip(("chats.jsonl", "prose.txt"), sequences, strict=True):
        assert len(own) > 3
        dense = dense_numbers(trained, own)
        assert report["by_source"][name]["sinks_left_out"] == 0
        # The product measures in float32 and rounds to five places.
        assert {key: report["by_source"][name][key] for key in dense} == pytest.approx(dense, rel=1e-4, abs=2e-5)
    both = dense_numbers(trained, sequences[0] + sequences[1])
    assert {key: report["held_out"][key] for key in both} == pytest.approx(both, rel=1e-4, abs=2e-5)


def test_training_made_it_better_than_its_start(folder: Path, trained: Trained) -> None:
    """A run of one step stands for no training: the same data, start and held-out text."""
    spec = replace(trained.spec, tokens=64, warm_up=0)
    barely = json.loads((train_sae(spec, folder / "barely") / "report.json").read_text())
    assert trained.report["held_out"]["explained"] > 0.5
    assert trained.report["held_out"]["explained"] > barely["held_out"]["explained"] + 0.05


def test_a_short_training_saves_the_sparsity_it_trained_with(trained: Trained) -> None:
    """47 steps: at SAELens' own rate the saved threshold would be at 38 % of the way."""
    assert trained.report["held_out"]["l0"] == pytest.approx(4, rel=0.3)


def test_shares_seeds_and_hashes_are_recorded(trained: Trained, folder: Path) -> None:
    import hashlib

    corpora = trained.report["corpora"]
    assert corpora["prose.txt"]["sha256"] == hashlib.sha256((folder / "prose.txt").read_bytes()).hexdigest()
    chats, prose = corpora["chats.jsonl"]["tokens_read"], corpora["prose.txt"]["tokens_read"]
    assert prose / (chats + prose) == pytest.approx(0.75, abs=0.02)
    assert trained.report["seed"] == 3
    assert not any(str(folder) in (trained.out / name).read_text() for name in ("cfg.json", "report.json", "spec.toml"))
    again = SaeSpec.from_toml(trained.out / "spec.toml")
    assert replace(again, base=trained.spec.base) == trained.spec


def test_progress_only_grows(trained: Trained) -> None:
    stages = list(dict.fromkeys(step.stage for step in trained.told))
    assert stages[-2:] == ["training the SAE", "measuring the SAE's quality"]
    for stage in stages:
        done = [step.done for step in trained.told if step.stage == stage]
        assert done == sorted(done)
    assert all(step.done <= step.total for step in trained.told)
    assert trained.told[-1].done == trained.told[-1].total


def test_one_seed_gives_one_sae(trained: Trained, folder: Path) -> None:
    torch.manual_seed(99)  # what stood in the generator before does not matter
    again = load_file(train_sae(trained.spec, folder / "again") / "sae_weights.safetensors")
    first = load_file(trained.out / "sae_weights.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = train_sae(replace(trained.spec, seed=4), folder / "other")
    assert not torch.equal(first["W_dec"], load_file(other / "sae_weights.safetensors")["W_dec"])


def test_topk_is_saved_as_topk(trained: Trained, folder: Path) -> None:
    from sae_lens import SAE

    sae = SAE.load_from_disk(train_sae(replace(trained.spec, architecture="topk"), folder / "topk"))
    assert sae.cfg.architecture() == "topk"
    assert int((sae.encode(torch.randn(9, tiny.WIDTH)) > 0).sum(1).max()) <= 4


def test_attention_sinks_are_left_out(trained: Trained, folder: Path) -> None:
    """With the limit just above the median about half of the tokens count as sinks, and are counted."""
    out = train_sae(replace(trained.spec, outliers=1.0001), folder / "sinks")
    report = json.loads((out / "report.json").read_text())
    assert 0.3 < report["sinks_left_out"] / report["tokens_read"] < 0.7
    held_out = report["held_out"]
    assert held_out["tokens"] + held_out["sinks_left_out"] == trained.report["held_out"]["tokens"]
    assert held_out["sinks_left_out"] > 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layer": 3}, "layers 0 to 2"),
        ({"model": "smolm2-135m-instruct"}, "There is no model"),
        ({"corpus": [{"data": "nowhere.jsonl", "share": 1}]}, "cannot be read"),
        ({"corpus": [{"data": "stdlibs", "share": 1}]}, "stdlib"),
        ({"corpus": [{"data": "empty.txt", "share": 1}]}, "no text to train on"),
        ({"corpus": [{"data": "chats.jsonl", "share": 1}]}, 'no column "text"'),
        ({"corpus": [{"data": "chats.jsonl", "share": 1, "columns": {"question": "questoin"}}]}, "question"),
        ({"lr": 1e30, "lr_end": 1e29, "warm_up": 0}, "not finite"),
    ],
)
def test_what_cannot_be_trained_is_told_and_leaves_nothing(folder: Path, changes: dict[str, Any], told: str) -> None:
    (folder / "empty.txt").write_text("\n\n")
    place = folder / "refused"
    with pytest.raises(UserError) as caught:
        train_sae(SaeSpec.from_dict(small_spec(folder, **changes), folder), place / "sae")
    assert told in caught.value.message
    assert caught.value.hint
    assert not place.exists() or not list(place.iterdir())


def test_a_folder_that_holds_something_is_not_overwritten(trained: Trained) -> None:
    before = sorted(path.name for path in trained.out.iterdir())
    with pytest.raises(UserError, match="already holds something"):
        train_sae(trained.spec, trained.out)
    assert sorted(path.name for path in trained.out.iterdir()) == before
