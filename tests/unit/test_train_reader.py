"""The model as the training of SAEs sees it: several layers in one run, losses from the middle, its attention."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from sts_core.train.sae import attention
from sts_core.train.sae.reader import Reader
from sts_core.train.sae.source import Piece
from tests import tiny

GROUP = [Piece(array("i", range(3, 3 + length)), 0) for length in (150, 90, 7)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_one_run_gives_every_layer_and_losses_start_from_any(family: tiny.Family) -> None:
    """Against the whole model on one unpadded row at a time."""
    model = tiny.model(family)
    reader = Reader(model)
    seen = reader.read(GROUP, [2, 0])
    judged = seen.real.clone()
    judged[:, ::3] = False
    for row, piece in enumerate(GROUP):
        judged[row, len(piece.ids) - 1 :] = False
    ids = [torch.tensor([list(piece.ids)]) for piece in GROUP]
    whole = [model(input_ids=row, output_hidden_states=True) for row in ids]
    for row, out in enumerate(whole):
        torch.testing.assert_close(seen.hidden[0][row, : ids[row].shape[1]], out.hidden_states[1][0], **close())
    losses = torch.cat(
        [
            cross_entropy(out.logits[0, :-1], row[0, 1:], reduction="none")[judged[number, : row.shape[1] - 1]]
            for number, (out, row) in enumerate(zip(whole, ids, strict=True))
        ]
    ).detach()
    for layer in (0, 2):
        torch.testing.assert_close(reader.losses(seen.ids, judged, layer, seen.hidden[layer]), losses, **close())
    other = reader.losses(seen.ids, judged, 0, seen.hidden[0] * 0)
    assert not torch.allclose(other, losses)
    after = reader.read(GROUP, [0])  # nothing of that is left in the model
    assert torch.equal(after.hidden[0], seen.hidden[0])


def close() -> dict[str, float]:
    return {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_our_attention_says_what_the_librarys_says(family: tiny.Family) -> None:
    model = tiny.model(family).bfloat16()
    exact = Reader(tiny.model(family)).read(GROUP, [2])
    theirs = Reader(model).read(GROUP, [2]).hidden[2]
    attention.install(model)
    assert model.config._attn_implementation == attention._NAME
    ours = Reader(model).read(GROUP, [2]).hidden[2]
    assert not torch.equal(ours, theirs)
    assert error(ours, exact) < 1.5 * error(theirs, exact)  # both are rounded to 8 bits in every block
    assert error(theirs, exact) < 0.05


def error(hidden: torch.Tensor, exact: Any) -> float:
    return float((hidden - exact.hidden[2])[exact.real].norm() / exact.hidden[2][exact.real].norm())


def test_our_attention_is_softmax_of_the_tokens_so_far() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, 130, 8, generator=draw) for heads in (6, 2, 2))
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key.repeat_interleave(3, 1)) * 0.3
    scores += torch.full((130, 130), float("-inf")).triu(1)
    expected = (scores.softmax(-1) @ value.repeat_interleave(3, 1)).transpose(1, 2)
    found, _ = attention.attend(torch.nn.Identity(), query, key, value, None, scaling=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: tiny.model("llama"), id="float32"),
        pytest.param(lambda: tiny.model("gemma2").bfloat16(), id="gemma2"),
        pytest.param(
            lambda: tiny.model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1).bfloat16(),
            id="window",
        ),
    ],
)
def test_a_model_of_another_kind_keeps_its_own_attention(model: Any) -> None:
    made = model()
    own = made.config._attn_implementation
    attention.install(made)
    assert made.config._attn_implementation == own != attention._NAME
