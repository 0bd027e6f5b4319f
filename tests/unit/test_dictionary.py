"""What features write, against brute force over tiny models: every family's norm, tied heads and own ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.errors import UserError
from sts_core.measure import dictionary
from sts_core.measure.dictionary import load, make, meaning, meanings
from sts_core.measure.requests import ANSWERS
from sts_core.nets import head as head_module
from sts_core.nets.describe import find_model, find_sae
from sts_core.nets.head import load_head, words
from sts_core.progress import Progress
from sts_core.results.dictionary import Dictionary, Meaning, dictionary_of, place_of
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh(own_cache: Path) -> None:
    dictionary._head.cache_clear()
    dictionary._decoder.cache_clear()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return tiny.save_model(tmp_path / "model"), tiny.save_sae(tmp_path / "sae")


def vary_norms(folder: Path) -> None:
    """Norms that scale every dimension by another number: as they come they scale by one."""
    weights = load_file(folder / "model.safetensors")
    draw = torch.Generator().manual_seed(7)
    for name, value in weights.items():
        if value.ndim == 1:
            weights[name] = value + 0.5 * torch.randn(value.shape, generator=draw)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def brute_logits(folder: Path, sae: Path) -> np.ndarray:
    """Centred logits [features, words] in float64: what a small step along a direction adds, the norm's divisor held.

    The model's own last norm and head are run at a residual and a step further; what the norm divides by is undone.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    body = model.base_model
    norm = next(m for n, m in body.named_children() if n in ("norm", "ln_f", "final_layer_norm"))
    decoder = load_file(sae / "sae_weights.safetensors")["W_dec"].double()
    decoder /= decoder.norm(dim=1, keepdim=True)
    layer_norm = isinstance(norm, torch.nn.LayerNorm)
    gemma = "Gemma" in type(norm).__name__
    scale = norm.weight.detach() + (1 if gemma else 0)
    if layer_norm:
        decoder = decoder - decoder.mean(dim=1, keepdim=True)
    with torch.no_grad():
        bias = model.get_output_embeddings()(torch.zeros(1, tiny.WIDTH, dtype=torch.float64))
        logits = (model.get_output_embeddings()(decoder * scale) - bias).numpy()
    count = len(AutoTokenizer.from_pretrained(folder))
    logits = logits[:, :count]
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def assert_logits(found: list[Meaning], logits: np.ndarray, texts: list[str], top: int = 10) -> None:
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(logits).max()}
    where = {text: i for i, text in enumerate(texts)}
    assert len(where) == len(texts)
    for one in found:
        mine = logits[one.feature]
        np.testing.assert_allclose(one.promoted, np.sort(mine)[::-1][:top], **tolerance)
        np.testing.assert_allclose(one.promoted, mine[[where[text] for text in one.promotes]], **tolerance)
        np.testing.assert_allclose(one.suppressed, np.sort(mine)[:top], **tolerance)
        np.testing.assert_allclose(one.suppressed, mine[[where[text] for text in one.suppresses]], **tolerance)


def assert_alike(one: Meaning, other: Meaning) -> None:
    """But for rounding: where a file's weights lie in memory decides which of the CPU's ways to add is taken."""
    assert (one.promotes, one.suppresses, one.near) == (other.promotes, other.suppresses, other.near)
    np.testing.assert_allclose(one.promoted + one.suppressed, other.promoted + other.suppressed, rtol=1e-4)


def texts_of(folder: Path, count: int | None = None) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [text for text in words(tokenizer, count or len(tokenizer)) if text is not None]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_tokens_are_those_of_the_models_own_norm_and_head(tmp_path: Path, family: tiny.Family, tied: bool) -> None:
    folder = tiny.save_model(tmp_path / "model", family, tie_word_embeddings=tied)
    vary_norms(folder)
    sae = tiny.save_sae(tmp_path / "sae")
    found = meanings(load(find_model(str(folder)), find_sae(str(sae))), range(tiny.FEATURES))
    assert [one.feature for one in found] == list(range(tiny.FEATURES))
    assert_logits(found, brute_logits(folder, sae), texts_of(folder))


def test_a_small_step_along_a_feature_moves_the_logits_so(tmp_path: Path) -> None:
    """By automatic differentiation of norm and head, for a step that does not change what the norm divides by."""
    folder = tiny.save_model(tmp_path / "model")
    vary_norms(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    head = load_head(find_model(str(folder)))
    draw = torch.Generator().manual_seed(1)
    residual = torch.randn(tiny.WIDTH, generator=draw, dtype=torch.float64)
    step = torch.randn(tiny.WIDTH, generator=draw, dtype=torch.float64)
    step -= residual * (step @ residual) / (residual @ residual)
    step /= step.norm()
    _, moved = torch.func.jvp(lambda x: model.lm_head(model.model.norm(x)), (residual,), (step,))
    moved = (moved - moved.mean()) * residual.square().mean().sqrt()
    ours = torch.cat([part for _, part in head.logits(head.directions(step[None]), 7)], dim=1)[0]
    torch.testing.assert_close(ours.double(), moved, rtol=1e-4, atol=1e-5)


def test_rows_that_are_no_tokens_are_left_out(tmp_path: Path) -> None:
    words_here = tiny.tokenizer("chatml")
    folder = tmp_path / "model"
    tiny.model("llama", vocabulary=len(words_here) + 37).save_pretrained(folder)
    words_here.save_pretrained(folder)
    sae = tiny.save_sae(tmp_path / "sae")
    loaded = load(find_model(str(folder)), find_sae(str(sae)))
    assert int(loaded.head.known.sum()) == len(words_here)
    assert_logits(meanings(loaded, range(20)), brute_logits(folder, sae), texts_of(folder))


def test_near_features_are_those_of_the_largest_cosines(pair: tuple[Path, Path]) -> None:
    decoder = load_file(pair[1] / "sae_weights.safetensors")["W_dec"].double().numpy()
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    for one in meanings(load(find_model(str(pair[0])), find_sae(str(pair[1]))), [63, 0, 17], top=5):
        assert one.near == np.argsort(-cosines[one.feature])[:5].tolist()
        np.testing.assert_allclose(one.cosine, np.sort(cosines[one.feature])[::-1][:5], rtol=1e-5)


def test_pieces_of_any_size_give_the_same(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(find_model(str(pair[0])), find_sae(str(pair[1])))
    whole = meanings(loaded, range(tiny.FEATURES), top=70)
    assert len(whole[0].near) == tiny.FEATURES - 1  # there are no more others
    seen: list[int] = []
    own = dictionary._Best.merge

    def merge(self: Any, values: torch.Tensor, numbers: torch.Tensor, top: int) -> Any:
        seen.append(values.shape[1])
        return own(self, values, numbers, top)

    monkeypatch.setitem(dictionary._ROWS_AT_ONCE, "cpu", 13)
    monkeypatch.setattr(dictionary._Best, "merge", merge)
    for one, other in zip(meanings(loaded, range(tiny.FEATURES), top=70), whole, strict=True):
        assert one.promotes == other.promotes
        assert one.suppresses == other.suppresses
        assert one.near == other.near
        np.testing.assert_allclose(one.promoted, other.promoted, rtol=1e-4, atol=1e-5)
    assert max(seen) <= 13  # never more of the words or the features at once


def test_equal_logits_come_in_the_order_of_the_tokens(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load_file(pair[0] / "model.safetensors")
    weights["lm_head.weight"][:] = weights["lm_head.weight"][7]
    save_file(weights, pair[0] / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setitem(dictionary._ROWS_AT_ONCE, "cpu", 11)
    one = meanings(load(find_model(str(pair[0])), find_sae(str(pair[1]))), [3], top=4)[0]
    assert one.promoted == pytest.approx([0.0] * 4, abs=1e-4)
    best = dictionary._Best.none(1, torch.device("cpu"))
    for start in (6, 3, 0):
        best = best.merge(torch.ones(1, 3), torch.arange(start, start + 3), 5)
    assert best.numbers.tolist() == [[0, 1, 2, 3, 4]]


def test_only_the_head_and_the_norm_are_read(pair: tuple[Path, Path]) -> None:
    """The blocks' weights could as well be missing."""
    weights = load_file(pair[0] / "model.safetensors")
    wanted = meanings(load(find_model(str(pair[0])), find_sae(str(pair[1]))), [1, 2])
    kept = {name: value for name, value in weights.items() if ".layers." not in name}
    assert len(kept) == 3
    save_file(kept, pair[0] / "model.safetensors", metadata={"format": "pt"})
    for one, other in zip(
        meanings(load(find_model(str(pair[0])), find_sae(str(pair[1]))), [1, 2]), wanted, strict=True
    ):
        assert_alike(one, other)


def test_older_names_and_several_files_are_found(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", "gpt_neox", tie_word_embeddings=False)
    sae = find_sae(str(tiny.save_sae(tmp_path / "sae")))
    wanted = meanings(load(find_model(str(folder)), sae), [5])
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("lm_head", "embed_out"): value for name, value in weights.items()}
    (folder / "model.safetensors").unlink()
    for number, part in enumerate((list(weights)[::2], list(weights)[1::2])):
        save_file({name: weights[name] for name in part}, folder / f"model-{number}.safetensors")
    assert "embed_out.weight" in weights
    assert_alike(meanings(load(find_model(str(folder)), sae), [5])[0], wanted[0])


def test_a_base_model_saved_without_its_head_says_so(pair: tuple[Path, Path]) -> None:
    weights = load_file(pair[0] / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, pair[0] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"hold no lm_head\.weight"):
        load(find_model(str(pair[0])), find_sae(str(pair[1])))


@pytest.mark.parametrize("bad", ["lm_head.weight", "model.norm.weight"])
def test_weights_that_are_not_finite_are_refused(pair: tuple[Path, Path], bad: str) -> None:
    weights = load_file(pair[0] / "model.safetensors")
    weights[bad].view(-1)[5] = float("nan")
    save_file(weights, pair[0] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite"):
        load(find_model(str(pair[0])), find_sae(str(pair[1])))


def test_a_decoder_that_is_not_finite_is_refused(pair: tuple[Path, Path]) -> None:
    weights = load_file(pair[1] / "sae_weights.safetensors")
    weights["W_dec"][9, 3] = float("inf")
    save_file(weights, pair[1] / "sae_weights.safetensors")
    with pytest.raises(UserError, match="W_dec"):
        load(find_model(str(pair[0])), find_sae(str(pair[1])))


@pytest.mark.parametrize("style", tiny.STYLES)
def test_words_are_what_tokens_write(style: tiny.Style) -> None:
    tokenizer = tiny.tokenizer(style)
    texts = words(tokenizer, len(tokenizer) + 2)
    assert texts[-2:] == [None, None]
    for sentence in ("seven train  apple\n", "Question: what?"):
        ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
        assert "".join(texts[i] or "" for i in ids) == sentence
    pieces = tokenizer("🏔", add_special_tokens=False)["input_ids"]
    assert [texts[i] for i in pieces] == ["\\xf0", "\\x9f", "\\x8f", "\\x94"]
    assert texts[tokenizer.eos_token_id] == tokenizer.eos_token


def test_words_of_sentence_pieces() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE({"<0xE2>": 0, "▁he": 1, "<0x0A>": 2, "llo": 3, "Ġ": 4}, []))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert words(PreTrainedTokenizerFast(tokenizer_object=inner), 6) == ["\\xe2", " he", "\n", "llo", "Ġ", None]


def test_the_whole_dictionary_is_kept_by_revision(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, sae = find_model(str(pair[0])), find_sae(str(pair[1]))
    monkeypatch.setitem(dictionary._FEATURES_AT_ONCE, "cpu", 30)
    steps: list[Progress] = []
    assert dictionary_of(model, sae) is None
    path = make(model, sae, watch=steps.append)
    assert path == place_of(model.revision, sae.revision) == dictionary_of(model, sae)
    assert [step.done for step in steps] == [0, 30, 60]
    book = Dictionary(path)
    assert book.features == tiny.FEATURES
    assert book.about["sae_revision"] == sae.revision
    wanted = meanings(load(model, sae), range(tiny.FEATURES))
    for one, other in zip(book.several(range(tiny.FEATURES)), wanted, strict=True):
        assert one.promotes == other.promotes
        assert one.near == other.near
        assert one.promoted == pytest.approx(other.promoted, rel=1e-5)
    monkeypatch.setattr(dictionary, "load", None)
    assert make(model, sae) == path  # taken as it is
    assert meaning(model, sae, [4], top=3)[0].promotes == wanted[4].promotes[:3]


def test_a_dictionary_beside_the_sae_is_found_and_another_revisions_is_not(pair: tuple[Path, Path]) -> None:
    model, sae = find_model(str(pair[0])), find_sae(str(pair[1]))
    beside = make(model, sae, pair[1] / "dictionary.parquet")
    assert dictionary_of(model, sae) == beside
    assert find_sae(str(pair[1])).revision == sae.revision
    weights = load_file(pair[0] / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, pair[0] / "model.safetensors", metadata={"format": "pt"})
    assert dictionary_of(find_model(str(pair[0])), sae) is None
    beside.write_bytes(b"torn")
    assert dictionary_of(model, sae) is None


def test_an_adapters_dictionary_is_its_models(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(pair[0]), LoraConfig(target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "adapter")
    sae = find_sae(str(pair[1]))
    adapter = find_model(str(tmp_path / "adapter"))
    path = make(adapter, sae)
    assert dictionary_of(find_model(str(pair[0])), sae) == dictionary_of(adapter, sae) == path
    assert Dictionary(path).about["model"] == str(pair[0])


def test_the_warm_worker_is_answered_in_plain_values(pair: tuple[Path, Path]) -> None:
    asked = {"model": str(pair[0]), "sae": str(pair[1])}
    one = json.loads(json.dumps(ANSWERS["feature"]({**asked, "feature": 7, "top": 4}), allow_nan=False))
    wanted = meanings(load(find_model(str(pair[0])), find_sae(str(pair[1]))), [7], top=4)[0]
    assert one["promotes"] == wanted.promotes
    assert one["promoted"] == pytest.approx(wanted.promoted, rel=1e-3)
    assert one["near"] == wanted.near
    several = ANSWERS["feature"]({**asked, "features": [3, 7], "top": 4})
    assert [entry["feature"] for entry in several["features"]] == [3, 7]
    assert several["features"][1] == {name: value for name, value in one.items() if name != "how"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "must name a feature"),
        ({"feature": 1, "features": [1]}, "must name a feature"),
        ({"feature": -1}, "feature is -1"),
        ({"feature": "1"}, "feature is '1'"),
        ({"feature": tiny.FEATURES}, f"no feature {tiny.FEATURES}"),
        ({"features": []}, "no list of features"),
        ({"features": 3}, "no list of features"),
        ({"feature": 1, "top": 0}, "top is 0"),
        ({"feature": 1, "top": 1000}, "top is 1000"),
        ({"feature": 1, "tpo": 3}, 'did you mean "top"'),
        ({"feature": 1, "model": None}, "which model"),
    ],
)
def test_a_wrong_question_is_told(pair: tuple[Path, Path], changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        ANSWERS["feature"]({"model": str(pair[0]), "sae": str(pair[1]), **changes})
    assert caught.value.hint


def test_an_odd_width_is_read_alike() -> None:
    for norm, centres in ((torch.nn.LayerNorm(7), True), (torch.nn.RMSNorm(7), False)):
        weight = torch.randn(7, generator=torch.Generator().manual_seed(0))
        scale, takes = head_module._linear_part(norm, weight, 7)
        torch.testing.assert_close(scale, weight, rtol=1e-5, atol=1e-6)
        assert takes is centres
