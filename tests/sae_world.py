"""A tiny model, its text, and a spec of four SAEs over two layers: what tests of their training share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sts_core.progress import Progress
from tests import tiny

SAES = [
    {"name": "small"},
    {"name": "wide", "width": 96, "k": 6},
    {"name": "sparse", "k": 2, "tokens": 1500, "lr": 0.005, "architecture": "topk"},
    {"name": "low", "layer": 0, "tokens": 2000},
]


def make_world(folder: Path) -> Path:
    """Write a model, a file of questions and a file of prose."""
    tiny.save_model(folder / "tiny-llama", "llama", "llama3")
    tiny.write_rows(folder / "chats.jsonl", tiny.rows(120, seed=1))
    (folder / "prose.txt").write_text("\n\n\n".join(row["question"] * 4 for row in tiny.rows(150, seed=2)))
    return folder


def spec_of(**changes: Any) -> dict[str, Any]:
    """A spec of them as plain tables; without `sae` of one SAE."""
    return {
        "model": "tiny-llama", "layer": 1, "width": 64, "k": 4, "tokens": 3000, "batch": 64, "context": 32,
        "warm_up": 5, "dead_after": 10, "lr": 0.01, "lr_end": 0.001, "dtype": "float32", "device": "cpu",
        "report_tokens": 100_000, "ce_tokens": 1000, "seed": 3,
        "corpus": [
            {"data": "chats.jsonl", "share": 1.0, "columns": {"question": "question"}, "rows_per_chat": 2},
            {"data": "prose.txt", "share": 3.0},
        ],
        **changes,
    }  # fmt: skip


def report(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "report.json").read_text()))


def weights(place: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(place / "sae_weights.safetensors"))


def part(out: Path) -> Path:
    """Where an unfinished training lies."""
    return out.parent / f".{out.name}.part"


class Killed(Exception):
    """Stands for whatever ends a process."""


def killed_at(stage: str, done: int) -> Callable[[Progress], None]:
    """A watcher that ends a training there."""

    def watch(step: Progress) -> None:
        if step.stage == stage and step.done >= done:
            raise Killed

    return watch
