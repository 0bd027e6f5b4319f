"""The whole of sections 2 to 5 of METHOD once more, the plain way, in float64, with none of the product's code.

Every prompt is rendered by the model's own chat template and run alone and whole through all of the model; every
token's features are kept. Which rows were drawn is taken from the manifest: the draw itself is tested where it is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


class Tokens(NamedTuple):
    """The pooled tokens of a set, in the order of its queries."""

    base: np.ndarray
    """[tokens, width]"""
    icl: np.ndarray
    item: np.ndarray
    """[tokens]: the query a token is of, by its position."""
    items: int


class Dense:
    """A model and its dictionary in float64."""

    def __init__(self, model: Path, sae: Path, layer: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        self.layer = layer
        self.weights = {
            name: value.double().numpy() for name, value in load_file(sae / "sae_weights.safetensors").items()
        }

    def features(self, residuals: np.ndarray) -> np.ndarray:
        """The standard dictionary: relu((x − b_dec) W_enc + b_enc)."""
        w = self.weights
        return np.maximum((residuals - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)

    def residuals(self, texts: list[str], pooled: int) -> np.ndarray:
        """The stream after the layer at the tokens of the last `pooled` texts: [tokens, width]."""
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        string = self.tokenizer.apply_chat_template(turns, tokenize=False)
        encoded = self.tokenizer(string, add_special_tokens=False, return_offsets_mapping=True)
        with torch.inference_mode():
            ids = torch.tensor([encoded["input_ids"]])
            stream = self.model(ids, output_hidden_states=True).hidden_states[self.layer + 1][0].numpy()
        chosen, before = [], len(string)
        for text in reversed(texts[-pooled:]):
            start = string.rindex(text.strip(), 0, before)
            end = start + len(text.strip())
            inside = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if start <= a < b <= end]
            chosen, before = inside + chosen, start
        return stream[chosen]

    def set(self, spec: dict[str, Any], used: dict[str, Any], pool: str = "query") -> Tokens:
        """Run the rows that a manifest says were used."""
        rows = _records(spec["data"])
        shown = _records(spec["demo_data"]) if "demo_data" in spec else rows
        demos = [text for n in used["demo_rows"] for text in (shown[n]["question"], shown[n]["cot"])]
        base, icl, item = [], [], []
        for position, n in enumerate(used["query_rows"]):
            asked = [rows[n]["question"]] + ([rows[n]["answer"]] if pool != "query" else [])
            pooled = 2 if pool == "query+answer" else 1
            base.append(self.residuals(asked, pooled))
            icl.append(self.residuals(demos + asked, pooled))
            item += [position] * len(base[-1])
        return Tokens(np.concatenate(base), np.concatenate(icl), np.array(item), len(used["query_rows"]))


def outlier_norm(target: Tokens, medians: float) -> float:
    """`medians` × the median norm of the first 512 pooled tokens of the target's base arm."""
    return medians * float(np.median(np.linalg.norm(target.base[:512], axis=1)))


def without_outliers(tokens: Tokens, most: float) -> Tokens:
    """Without the tokens whose norm exceeds the threshold in either arm."""
    keep = np.maximum(np.linalg.norm(tokens.base, axis=1), np.linalg.norm(tokens.icl, axis=1)) <= most
    return Tokens(tokens.base[keep], tokens.icl[keep], tokens.item[keep], tokens.items)


def shift_columns(base: np.ndarray, icl: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of shift.parquet from two [tokens, k] arrays."""
    return {
        "shift_icl": np.abs(icl - base).mean(0), "shift_icl_sq": ((icl - base) ** 2).mean(0),
        "signed_icl": (icl - base).mean(0), "mean_base": base.mean(0), "mean_icl": icl.mean(0),
        "rate_base": (base > 0).mean(0), "rate_icl": (icl > 0).mean(0),
    }  # fmt: skip


def domain_columns(base: np.ndarray, icl: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of domains.parquet from two [tokens, features] arrays."""
    return {
        "mean_act": base.mean(0), "mean_act_sq": (base**2).mean(0), "mean_absdiff": np.abs(icl - base).mean(0),
        "mean_diff_sq": ((icl - base) ** 2).mean(0), "rate": (base > 0).mean(0),
    }  # fmt: skip


def score(values: np.ndarray, item: np.ndarray, items: int) -> tuple[float, float | None]:
    """Mean over tokens of a value a token, and its delete-one-group error; group = item mod min(20, items)."""
    groups = min(20, items)
    group = item % groups
    if items < 5:
        return float(values.mean()), None
    without = np.array([values[group != g].mean() for g in range(groups)])
    return float(values.mean()), float(np.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum()))


def _records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
