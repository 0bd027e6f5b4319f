"""Where a SAE reads, in SAELens' words, by transformers' module, or by both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.errors import UserError
from sts_core.nets.decoder import load_decoder
from sts_core.nets.describe import find_model, find_sae, place_of_module
from tests import tiny

IDS = [[5, 6, 7, 8, 9]]


def saved(folder: Path, hook: str | None, module: str | None) -> str:
    tiny.save_sae(folder)
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"] |= {"hook_name": hook, "hf_hook_name": module}
    (folder / "cfg.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("hook", "module", "place"),
    [
        ("blocks.2.hook_mlp_out", None, (2, "mlp_out")),
        (None, "model.layers.2", (2, "resid_post")),
        ("", "transformer.h.1", (1, "resid_post")),
        (None, "layers.0.mlp", (0, "mlp")),
        (None, "model.layers.1.mlp.output", (1, "mlp")),
        ("blocks.2.hook_resid_post", "model.layers.2", (2, "resid_post")),
        ("blocks.2.hook_resid_pre", "model.layers.1", (2, "resid_pre")),
        ("blocks.2.hook_mlp_out", "model.layers.2.post_feedforward_layernorm", (2, "post_feedforward_layernorm")),
        ("blocks.2.hook_resid_pre", "model.layers.2.input", (2, "resid_pre")),
        ("blocks.2.hook_resid_post", "model.layers.3.input", (2, "resid_post")),
        (None, "model.layers.2.input", (2, "resid_pre")),
        ("something", "model.language_model.layers.3", (3, "resid_post")),
    ],
)
def test_the_place(tmp_path: Path, hook: str | None, module: str | None, place: tuple[int, str]) -> None:
    found = find_sae(saved(tmp_path / "sae", hook, module))
    assert (found.layer, found.site) == place


@pytest.mark.parametrize(
    ("hook", "module", "told"),
    [
        (None, None, "an unnamed place"),
        ("blocks.2.hook_z", "", "blocks.2.hook_z"),
        (None, "lm_head", "lm_head"),
        (None, "model.layers.2.mlp.input", r"model\.layers\.2\.mlp\.input"),
        ("blocks.2.hook_resid_post", "model.nosuch.2", r"model\.nosuch\.2"),
        ("blocks.2.hook_resid_post", "model.layers.2.input", "two places"),
        ("blocks.2.hook_resid_post", "model.layers.3", "two places"),
        ("blocks.2.hook_resid_post", "model.layers.2.mlp", "two places"),
        ("blocks.2.hook_mlp_out", "model.layers.2", "two places"),
        ("blocks.2.hook_mlp_out", "model.layers.1.mlp", "two places"),
    ],
)
def test_a_place_that_cannot_be_read_is_refused(
    tmp_path: Path, hook: str | None, module: str | None, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        find_sae(saved(tmp_path / "sae", hook, module))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"d_in": str(tiny.WIDTH)}, "d_in and d_sae"),
        ({"d_sae": None}, "d_in and d_sae"),
        ({"d_sae": tiny.FEATURES + 1}, f"its cfg.json says {tiny.FEATURES + 1}"),
        ({"metadata": {"hook_name": 15}}, "in words"),
    ],
)
def test_a_configuration_that_does_not_fit_its_weights_is_told(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    config = tiny.save_sae(tmp_path / "sae") / "cfg.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UserError, match=told):
        find_sae(str(tmp_path / "sae"))


def test_torn_weights_are_told(tmp_path: Path) -> None:
    weights = next(tiny.save_sae(tmp_path / "sae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        find_sae(str(tmp_path / "sae"))


def test_a_module_is_heard_where_it_is(tmp_path: Path) -> None:
    model = find_model(str(tiny.save_model(tmp_path / "model")))

    def stream(site: str) -> torch.Tensor:
        return load_decoder(model, 1, "cpu", "float32", site).residuals(IDS)

    assert torch.equal(stream("mlp"), stream("mlp_out"))
    assert torch.equal(stream("self_attn"), stream("attn_out"))
    assert not torch.equal(stream("input_layernorm"), stream("mlp_out"))
    with pytest.raises(UserError, match=r"no mlp\.nowhere"):
        stream("mlp.nowhere")


def test_the_catalogue_calls_modules_by_saelens_names() -> None:
    assert place_of_module("model.layers.12") == "blocks.12.hook_resid_post"
    assert place_of_module("transformer.h.3.attn") == "blocks.3.hook_attn_out"
    assert place_of_module("model.layers.3.mlp.down_proj") is None
    assert place_of_module("lm_head") is None
