"""The decoder's residual streams, against transformers' own, family by family, on models with random weights.

transformers applies the final norm to the last of its hidden states alone; every earlier one, and so the output of
every block but the last, is the plain stream. The last block's is caught with a hook.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from sts_core.errors import UserError
from sts_core.nets import attention
from sts_core.nets import decoder as decoder_module
from sts_core.nets.decoder import Decoder, load_decoder
from sts_core.nets.describe import find_model
from tests import tiny

VOCABULARY = 400


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: tiny.save_model(root / family, family) for family in tiny.FAMILIES}


def decoder(folder: Path, layer: int) -> Decoder:
    return load_decoder(find_model(str(folder)), layer, "cpu", "float32")


def own_streams(folder: Path, ids: list[int]) -> list[torch.Tensor]:
    """The stream after every block, in float64 and with the plainest attention there is: [tokens, width] each."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    last: list[torch.Tensor] = []
    base = model.base_model
    blocks: Any = base.h if hasattr(base, "h") else base.layers
    blocks[-1].register_forward_hook(lambda _m, _i, out: last.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert len(hidden) == tiny.LAYERS + 1
    return [*(state[0] for state in hidden[1:-1]), last[0].reshape(hidden[0].shape)[0]]


def some_ids(seed: int, length: int) -> list[int]:
    return torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-4 of the expected stream's own size."""
    assert got.shape == expected.shape
    assert (got.double() - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("layer", range(tiny.LAYERS))
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_stream_is_transformers_own(folders: dict[str, Path], family: str, layer: int) -> None:
    ids = some_ids(layer, 40)
    assert_close(decoder(folders[family], layer).residuals([ids])[0], own_streams(folders[family], ids)[layer])


def test_the_last_blocks_stream_is_not_normalised(folders: dict[str, Path]) -> None:
    """The stream before the final norm: its rows are not all of one size."""
    norms = decoder(folders["llama"], tiny.LAYERS - 1).residuals([some_ids(0, 40)])[0].norm(dim=-1)
    assert norms.max() / norms.min() > 1.1


@pytest.mark.parametrize("length", [1, tiny.WINDOW - 1, tiny.WINDOW, tiny.WINDOW + 1, 3 * tiny.WINDOW + 2])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_shared_prefix_changes_nothing(folders: dict[str, Path], family: str, length: int) -> None:
    """Also where the prefix is longer than the sliding window (Gemma-2), and rows are padded and of many lengths."""
    net = decoder(folders[family], 2)
    prefix = some_ids(1, length)
    rows = [some_ids(10 + i, n) for i, n in enumerate((13, 1, 30, 7))]
    got = net.residuals(rows, net.prefix(prefix))
    for row, stream in zip(rows, got, strict=True):
        assert_close(stream[: len(row)], own_streams(folders[family], prefix + row)[2][length:])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_batch_size_and_padding_change_nothing(folders: dict[str, Path], family: str) -> None:
    net = decoder(folders[family], 1)
    prefix = net.prefix(some_ids(2, 11))
    rows = [some_ids(50 + i, 1 + (7 * i) % 23) for i in range(16)]
    alone = [net.residuals([row], prefix)[0] for row in rows]
    for size in (3, 16):
        for start in range(0, 16, size):
            batch = rows[start : start + size]
            together = net.residuals(batch, prefix)
            for i, row in enumerate(batch):
                assert_close(together[i, : len(row)], alone[start + i].double())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_use_leaves_the_prefix_as_it_was(folders: dict[str, Path], family: str) -> None:
    net = decoder(folders[family], 2)
    prefix = net.prefix(some_ids(3, 12))
    assert prefix.beginning is not None
    assert prefix.beginning.layers == 3
    first = net.residuals([some_ids(4, 9)], prefix)
    net.residuals([some_ids(5, 20), some_ids(6, 3)], prefix)
    net.residuals([some_ids(7, 2)] * 5, prefix)
    assert prefix.beginning.length == prefix.length == 12
    assert torch.equal(net.residuals([some_ids(4, 9)], prefix), first)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_fused_kernel_and_our_own_products_agree(
    folders: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, rows = some_ids(3, 40), [some_ids(4, 30), some_ids(5, 7), some_ids(6, 1)]
    # Pieces of a few tokens, so that several are needed; one row at a time in the second turn.
    monkeypatch.setattr(attention, "_FEWEST_TOKENS", 4)
    streams = []
    monkeypatch.setattr(decoder_module, "_PREFIX_TOKENS", 17)
    for fused, scores in ((True, 10**9), (False, 10**9), (False, 1)):
        monkeypatch.setattr(
            attention._Look, "fusible", lambda self, _, f=fused: f and not (self.softcap or self.window)
        )
        monkeypatch.setattr(attention, "_SCORES_AT_ONCE", {"cpu": scores})
        net = decoder(folders[family], 2)
        streams.append(
            [stream[: len(row)] for row, stream in zip(rows, net.residuals(rows, net.prefix(ids)), strict=True)]
        )
    for other in streams[1:]:
        for ours, theirs in zip(streams[0], other, strict=True):
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_blocks_above_the_layer_are_gone(folders: dict[str, Path], family: str) -> None:
    net = decoder(folders[family], 0)
    kept = {name.split(".")[1] for name, _ in net._model.named_parameters() if name.startswith(("layers.", "h."))}
    assert kept == {"0"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    folder = tiny.save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = bad
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite") as caught:
        decoder(folder, 1)
    assert caught.value.hint


SHAPE = {
    "hidden_size": tiny.WIDTH, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": VOCABULARY, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": tiny.WINDOW},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": tiny.WINDOW, "sliding_window_pattern": 2},
    "phi3": {"sliding_window": tiny.WINDOW},
    "olmo2": {},
    "cohere2": {"sliding_window": tiny.WINDOW},
}
OTHERWISE: dict[str, dict[str, Any]] = {
    "gpt_oss": {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},  # a learned sink beside the keys
    "bloom": {"n_layer": 3, "n_head": 4},  # scores that fall with distance, in code of its own
    "falcon": {"alibi": True},
    "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4, "n_positions": 256},
}


def built(family: str, changes: dict[str, Any]) -> Any:
    """A model of a family with random weights, with transformers' plainest attention."""
    torch.manual_seed(0)
    configured = AutoConfig.for_model(family, **{**SHAPE, **changes})
    model = AutoModelForCausalLM.from_config(configured, dtype=torch.float32, attn_implementation="eager").eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.data = torch.randn(weight.shape) * (1.0 if "emb" in name else 0.35)
    return model


@pytest.mark.parametrize("family", MORE)
def test_more_families_are_transformers_own_after_a_prefix(family: str) -> None:
    model = built(family, MORE[family])
    prefix, row = some_ids(1, 3 * tiny.WINDOW + 2), some_ids(2, 17)
    with torch.inference_mode():
        own = model(torch.tensor([prefix + row]), output_hidden_states=True).hidden_states[2][0]
    net = Decoder(model.base_model, 1)
    net.check()
    assert_close(net.residuals([some_ids(3, 30), row], net.prefix(prefix))[1, : len(row)], own[len(prefix) :].double())


@pytest.mark.parametrize("family", OTHERWISE)
def test_families_whose_attention_is_another_are_refused(tmp_path: Path, family: str) -> None:
    """Rather than measured wrongly."""
    built(family, OTHERWISE[family]).save_pretrained(tmp_path)
    tiny.tokenizer("chatml").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="not known here"):
        decoder(tmp_path, 1)
