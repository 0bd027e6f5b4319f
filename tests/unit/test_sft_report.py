"""W&B and TensorBoard hear of a training only when asked, and what they write lies with the run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 180
SCRIPT = """
import json, sys
from pathlib import Path
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import train
train(SftSpec.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


def train(folder: Path, report: str | None) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A training of four steps in a process of its own, which stands in an empty folder; its output folder."""
    tiny.save_model(folder / "tiny-llama", "llama", "chatml")
    tiny.write_rows(folder / "rows.jsonl", tiny.rows(20, seed=1))
    spec = {
        "model": str(folder / "tiny-llama"), "learning_rate": 0.01, "steps": 4, "batch": 2, "device": "cpu",
        "dtype": "float32", "evaluate": {"target_rows": 0}, "lora": {"rank": 2},
        "target": {"data": str(folder / "rows.jsonl"), "answer": "cot"}, **({"report": report} if report else {}),
    }  # fmt: skip
    here = folder / "here"
    here.mkdir()
    out = folder / "out"
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(spec), str(out)], cwd=here, env=environment, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert not list(here.iterdir()), "nothing is written where the process stands"
    return out, ran


def test_nobody_hears_of_it_unasked(tmp_path: Path) -> None:
    out, ran = train(tmp_path, None)
    assert ran.returncode == 0, ran.stderr
    assert not list(out.glob("*wandb*"))
    assert not list(out.glob("*tensorboard*"))


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_its_record_beside_the_run(tmp_path: Path) -> None:
    out, ran = train(tmp_path, "wandb")
    assert ran.returncode == 0, ran.stderr
    (record,) = out.rglob("*.wandb")
    content = record.read_bytes()
    assert b"train/loss" in content
    assert b"train/grad_norm" in content


def test_tensorboard_keeps_its_record_or_is_told_as_missing(tmp_path: Path) -> None:
    out, ran = train(tmp_path, "tensorboard")
    if importlib.util.find_spec("tensorboard") is None:
        assert "tensorboard is not installed" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    (record,) = (out / "tensorboard").rglob("events.out.tfevents.*")
    assert b"train/loss" in record.read_bytes()
