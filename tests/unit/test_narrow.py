"""bfloat16 on a processor without it: the same stream as the processor's own products give, to bfloat16's precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sts_core.nets import device
from sts_core.nets.decoder import load_decoder
from sts_core.nets.describe import find_model
from sts_core.train.evaluation.models import load_language_model
from tests import tiny

IDS = torch.randint(0, 400, (3, 40), generator=torch.Generator().manual_seed(0)).tolist()
ROUNDED = 1e-3
"""Share of a stream that rounding to bfloat16 changes at least; float32 differs by a thousandth of that."""


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("narrow"), request.param)


def stream(folder: Path, dtype: str) -> torch.Tensor:
    decoder = load_decoder(find_model(str(folder)), tiny.LAYERS - 1, "cpu", dtype)
    return decoder.residuals(IDS, decoder.prefix([1, 2, 3]))


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean difference, as a share of the mean size."""
    return float((one.float() - other).abs().mean() / other.abs().mean())


def test_products_in_float32_give_the_same_stream_rounded_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = stream(folder, "float32")
    found = {}
    for has_it in (True, False):
        monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda has_it=has_it: has_it)
        found[has_it] = stream(folder, "bfloat16")
        assert found[has_it].dtype == torch.bfloat16
    off = {has_it: far(one, exact) for has_it, one in found.items()}
    # Both round, and the one no more than the other.
    assert ROUNDED < off[False] < 1.2 * off[True]


@torch.no_grad()
def test_a_language_model_is_eased_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, eased = {}, {}
    for has_it in (True, False):
        monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda has_it=has_it: has_it)
        model = load_language_model(find_model(str(folder)), "cpu", "bfloat16")
        eased[has_it] = sum("forward" in vars(module) for module in model.modules())
        logits[has_it] = model(torch.tensor(IDS)).logits
    exact = load_language_model(find_model(str(folder)), "cpu", "float32")(torch.tensor(IDS)).logits
    assert eased[True] == 0
    assert eased[False] > tiny.LAYERS
    assert logits[False].dtype == torch.bfloat16
    assert ROUNDED < far(logits[False], exact) < 1.2 * far(logits[True], exact)


def test_auto_takes_what_the_processor_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda has_it=has_it: has_it)
        assert device.choose_dtype("auto", "cpu") == chosen
        assert device.computes_natively("bfloat16", "cpu") is has_it
    assert device.computes_natively("float32", "cpu")
    assert device.computes_natively("bfloat16", "cuda:0")
    assert not device.computes_natively("float16", "cpu")
