"""Several processes that train one model: `accelerate launch` with a configuration written here.

On GPUs the weights, gradients and moments are split over the processes (FSDP 2); on a CPU every process has them whole.
The first process tells steps and checkpoints as lines on its standard output; this one hears them, tells them on, and
looks at the checkpoints, so that whatever is done at one never stands in the way of the training.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import PROJECT, atomic_json, ensure
from sts_core.nets.describe import ModelInfo
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.progress import Progress, Watcher
from sts_core.train.sft.loop import CHECKPOINTS, Numbers
from sts_core.train.sft.rows import RowSet
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.trainer import AtCheckpoint, Tell

MARK = "sts:"
"""A line of the first process that begins so is a message; all others go to the log."""
_PATIENCE = 10.0
_RANK = ("-m", "sts_core.train.sft.rank")


def configuration(spec: SftSpec, dtype: str) -> dict[str, Any]:
    """What accelerate is told: how many GPUs of this machine, and how the model is split over them."""
    split = {
        "fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT", "fsdp_offload_params": False,
        "fsdp_cpu_ram_efficient_loading": False, "fsdp_activation_checkpointing": spec.gradient_checkpointing,
    }  # fmt: skip
    return {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP", "fsdp_config": split, "use_cpu": False,
        "num_machines": 1, "machine_rank": 0, "num_processes": spec.processes, "rdzv_backend": "static",
        "mixed_precision": "bf16" if dtype == "bfloat16" else "no", "main_training_function": "main",
        "same_network": True, "debug": False,
    }  # fmt: skip


def command(config: Path, order: Path, port: int) -> list[str]:
    """What starts the processes on GPUs."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    return [*launcher, "--main_process_port", str(port), *_RANK, str(order)]


def command_on_cpu(processes: int, order: Path, port: int) -> list[str]:
    """The same on a CPU, where accelerate would ask for MPI."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    return [*launcher, "--master_addr", "127.0.0.1", "--master_port", str(port), *_RANK, str(order)]


def train_on_several(
    spec: SftSpec, info: ModelInfo, rows: RowSet, out: Path, watch: Watcher, tell: Tell, at_checkpoint: AtCheckpoint
) -> Numbers:
    """As `loop.train_here`, in as many processes as the spec asks for."""
    device = choose_device(spec.device)
    folder = ensure(out / "launch")
    config, order = folder / "accelerate.json", folder / "order.json"
    atomic_json(order, {"spec": spec.to_dict(), "out": str(out)})
    if device == "cpu":
        starts = command_on_cpu(spec.processes, order, _free_port())
    else:
        atomic_json(config, configuration(spec, choose_dtype(spec.dtype, device)))
        starts = command(config, order, _free_port())
    watch(Progress("starting the processes", 0, 0))
    process = subprocess.Popen(starts, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        heard = _hear(process, out, watch, tell, at_checkpoint)
    finally:
        _end(process)
    if "numbers" in heard:
        return Numbers(**heard["numbers"])
    if "error" in heard:
        raise UserError(*heard["error"])
    raise UserError(
        f"One of the {spec.processes} training processes ended with status {process.returncode}",
        "The log above tells which and why; the same call goes on from the last checkpoint.",
    )


def _hear(
    process: subprocess.Popen[str], out: Path, watch: Watcher, tell: Tell, at_checkpoint: AtCheckpoint
) -> dict[str, Any]:
    """Pass on what the first process tells until all have ended; its last word."""
    last: dict[str, Any] = {}
    for line in process.stdout or ():
        if not line.startswith(MARK):
            sys.stderr.write(line)
            continue
        message = json.loads(line.removeprefix(MARK))
        if "progress" in message:
            watch(Progress(*message["progress"]))
        elif "event" in message:
            tell(message["event"], message["details"])
            if message["event"] == "checkpoint":
                at_checkpoint(message["details"]["step"], out / CHECKPOINTS / message["details"]["name"])
        else:
            last = message
    process.wait()
    return last


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing of it is left, however the hearing ended."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
