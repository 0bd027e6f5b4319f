"""The shipped dictionaries are what their reports say: held against rows that nobody trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sts_core.bundle import embedded
from sts_core.folders import DEMO
from sts_core.nets.decoder import load_decoder
from sts_core.nets.describe import find_model, find_sae, fit, shipped_saes
from sts_core.nets.saes import load_sae
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.text.sides import split
from sts_core.text.sources import locate, read_rows
from sts_core.train.sae.spec import SaeSpec

NAMES = shipped_saes()
MOST_BYTES = 60e6
ROWS = 12


def report(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((place(name) / "report.json").read_text())
    return value


def place(name: str) -> Path:
    return DEMO / name.removeprefix("demo/")


def test_there_is_something_to_compare_and_it_is_small() -> None:
    found = [find_sae(name) for name in NAMES]
    assert "demo/smollm2-l15" in NAMES
    assert len({sae.features for sae in found}) > 1
    assert len({sae.layer for sae in found}) > 1
    assert len({SaeSpec.from_toml(place(name) / "spec.toml").k for name in NAMES}) > 1
    assert sum(path.stat().st_size for name in NAMES for path in place(name).rglob("*")) <= MOST_BYTES


def test_the_default_meets_what_was_asked_of_it() -> None:
    told = report("demo/smollm2-l15")["held_out"]
    assert told["explained"] >= 0.85
    assert told["l0"] <= 48
    assert told["never_fired_share"] < 0.05
    assert told["ce_recovered"] >= 0.90


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_it_loads_in_plain_saelens_and_describes_what_it_says(bundle_cache: Path, name: str) -> None:
    from sae_lens import SAE

    torch.set_num_threads(1)
    info, model = find_sae(name), find_model(embedded.MODEL_NAME)
    assert fit(model, info, None) == []
    tokenizer = load_tokenizer(model)
    decoder = load_decoder(model, info.layer, "cpu", "float32", info.site)
    rows = split(read_rows(locate("mmlu/physics"), {}, ("question",)).rows).kept[:ROWS]
    ids = [
        tokenizer.apply_chat_template([{"role": "user", "content": row.question}], return_dict=False) for row in rows
    ]
    residuals = torch.cat([decoder.residuals([one])[0, 1:] for one in ids])  # place 0 is an attention sink
    plain = SAE.load_from_disk(str(place(name)))
    features = plain.encode(residuals)
    assert torch.equal(features, load_sae(info, "cpu", "float32").encode(residuals))
    held_out = report(name)["held_out"]
    error = (residuals - plain.decode(features)).square().sum()
    explained = 1 - float(error / (residuals - residuals.mean(dim=0)).square().sum())
    assert explained == pytest.approx(held_out["explained"], abs=0.08)
    assert float((features > 0).float().sum(dim=1).mean()) == pytest.approx(held_out["l0"], rel=0.35)
