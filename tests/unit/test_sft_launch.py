"""Several processes that train one model: what is written for them, and two of them on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sts_core.train.sft.launch import command, configuration
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.training import train
from tests import tiny


def spec_of(place: Path, **changes: Any) -> SftSpec:
    values = {
        "model": str(place / "tiny"), "learning_rate": 0.005, "steps": 4, "batch": 4, "device": "cpu",
        "dtype": "float32", "checkpoint_every": 2, "lora": {"rank": 4}, "evaluate": {"target_rows": 4},
        "target": {"data": str(place / "rows.jsonl"), "answer": "cot"},
    }  # fmt: skip
    return SftSpec.from_dict({**values, **changes})


def test_the_configuration_splits_the_model_over_gpus(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, processes=4, device="cuda", gradient_checkpointing=True)
    written = configuration(spec, "bfloat16")
    assert (written["distributed_type"], written["num_processes"], written["mixed_precision"]) == ("FSDP", 4, "bf16")
    assert written["fsdp_config"]["fsdp_version"] == 2
    assert written["fsdp_config"]["fsdp_activation_checkpointing"] is True


def test_accelerate_reads_what_is_written(tmp_path: Path) -> None:
    """Its own parser and its own checks of the keys."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    from sts_core.folders import atomic_json

    config = tmp_path / "accelerate.json"
    atomic_json(config, configuration(spec_of(tmp_path, processes=2, device="cuda"), "float32"))
    read = load_config_from_file(str(config))
    assert (read.num_processes, read.distributed_type.value) == (2, "FSDP")
    arguments = launch_command_parser().parse_args(command(config, tmp_path / "order.json", 29_511)[3:])
    assert arguments.module
    assert arguments.training_script == "sts_core.train.sft.rank"
    assert arguments.training_script_args == [str(tmp_path / "order.json")]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every row in every batch, two processes with half of it each take the same steps as one process with all."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tiny.save_model(tmp_path / "tiny", "llama", "chatml")
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(40, seed=1))
    told: dict[int, list[float]] = {1: [], 2: []}
    seen: list[int] = []
    for processes, losses in told.items():
        spec = spec_of(tmp_path, batch=16, processes=processes)

        def hear(event: str, details: dict[str, Any], losses: list[float] = losses) -> None:
            if event == "step":
                losses.append(details["loss"])

        ran = train(spec, tmp_path / str(processes), tell=hear, at_checkpoint=lambda step, _: seen.append(step))
        assert (ran.model / "adapter_model.safetensors").is_file()
    assert told[2] == pytest.approx(told[1], abs=1e-5)
    assert seen == [2, 4, 2, 4]

    shutil.rmtree(tmp_path / "2" / "checkpoints" / "step-000004")  # as a kill after step 3 leaves it
    (tmp_path / "2" / "manifest.json").unlink()
    again: list[float] = []
    train(
        spec_of(tmp_path, batch=16, processes=2),
        tmp_path / "2",
        tell=lambda event, details: again.append(details["loss"]) if event == "step" else None,
    )
    assert again == pytest.approx(told[2][2:], abs=1e-6)
