"""`preset = "reference"` end to end, against the notebook's arithmetic on tensors collected the plain way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sts_core.errors import UserError
from sts_core.measure.reference import sts, top_shifted
from sts_core.measure.run import run
from sts_core.nets.describe import find_sae
from sts_core.nets.saes import load_sae
from sts_core.spec import Spec
from sts_core.text import reference
from tests import tiny

ROWS = 1600


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def world(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> tiny.World:
    monkeypatch.setattr(reference, "MOST_ROWS", ROWS)
    monkeypatch.setattr("sts_core.measure.unaligned.MOST_ROWS", ROWS)
    (tmp_path / "world").mkdir()
    return tiny.world(tmp_path / "world")


def spec(world: tiny.World, **domain: Any) -> Spec:
    values = world.spec()
    values["domains"] = [{"name": "physics", "data": str(world.folder / "physics.jsonl")} | domain]
    return Spec.from_dict(values | {"run": {"preset": "reference", "dtype": "float32"}})


def collected(world: tiny.World, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of all prompt tokens, item after item, both arms cut at the most rows: [rows, features] each."""
    tokenizer = AutoTokenizer.from_pretrained(world.model)
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32, attn_implementation="eager").eval()
    sae = load_sae(find_sae(str(world.sae)), "cpu", "float32")
    rows = [json.loads(line) for line in (world.folder / f"{name}.jsonl").read_text().splitlines()]
    demos = []
    for row in (rows[30], rows[31]):
        demos += [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["cot"]}]
    arms: list[list[torch.Tensor]] = [[], []]
    for row in rows:
        for arm, before in zip(arms, ([], demos), strict=True):
            messages = [*before, {"role": "user", "content": row["question"]}]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                hidden = model(ids, output_hidden_states=True).hidden_states[find_sae(str(world.sae)).layer + 1][0]
                arm.append(sae.encode(hidden))
    return torch.cat(arms[0])[:ROWS], torch.cat(arms[1])[:ROWS]


def test_the_preset_gives_the_notebooks_numbers(world: tiny.World, tmp_path: Path) -> None:
    result = run(spec(world), tmp_path / "out")
    base, icl = collected(world, "target")
    assert len(base) == len(icl) == ROWS
    wanted = ((icl - base).double() ** 2).mean(dim=0).numpy()
    np.testing.assert_allclose(result.shift["shift_icl_sq"], wanted, rtol=1e-4, atol=1e-6 * wanted.max())
    dims = top_shifted(icl, base, 20)
    chosen = np.argsort(-result.shift["shift_icl_sq"].to_numpy(), kind="stable")[:20]
    assert set(chosen.tolist()) == set(dims.tolist())
    there, with_demos = collected(world, "physics")
    scores = result.scores(n=20, power=2).set_index("metric")["value"]
    assert scores["sts_act"] == pytest.approx(sts(there, dims), rel=1e-4)
    assert scores["sts_icl"] == pytest.approx(sts(there, dims, with_demos), rel=1e-4)


def test_the_manifest_says_what_was_done(world: tiny.World, tmp_path: Path) -> None:
    manifest = run(spec(world), tmp_path / "out").manifest
    assert manifest["spec"]["run"]["preset"] == "reference"
    assert manifest["spec"]["pool"]["outliers"] == "off"
    target = manifest["sets"]["target"]
    assert target["demo_rows"] == [30, 31]
    assert target["query_rows"] == list(range(len(target["query_rows"])))
    assert {30, 31} <= set(target["query_rows"])
    assert target["tokens"] == ROWS


def test_too_few_rows_for_items_30_and_31_are_told(world: tiny.World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="items 30 and 31"):
        run(spec(world, data=str(world.folder / "law.jsonl")), tmp_path / "out")
    assert not (tmp_path / "out").exists()
