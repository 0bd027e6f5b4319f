"""Fine-tune: the rows of a spec through TRL's trainer into one folder, killed at any moment and gone on with.

checkpoints/step-000020/   see `checkpoint`
model/                     the last checkpoint's model, once the training is done
started_with.json          what the run began with; another spec, data or model is refused in the same folder
manifest.json              what was done; written last
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sts_core.errors import UserError
from sts_core.folders import STARTED, alone_in, atomic_json, disk_trouble, ensure
from sts_core.nets.describe import ModelInfo
from sts_core.nets.device import choose_device, choose_dtype, cpu_name
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.train.sft import checkpoint
from sts_core.train.sft.beforehand import check_report
from sts_core.train.sft.costs import TRAIN, remember_rate
from sts_core.train.sft.launch import train_on_several
from sts_core.train.sft.loop import CHECKPOINTS, train_here
from sts_core.train.sft.plan import check_room, plain_model
from sts_core.train.sft.rows import RowSet, training_rows, training_sha256
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.trainer import AtCheckpoint, Tell

MODEL, MANIFEST = "model", "manifest.json"
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")
_MAY_CHANGE = ("keep_checkpoints", "report", "prediction", "evaluate")
"""Keys that a training does not see while it runs: with others the same unfinished training goes on."""


class Trained(NamedTuple):
    """What came out."""

    model: Path
    """The adapter's folder, or the whole model's."""
    steps: int
    loss: float
    """Of the last step."""
    seconds: float
    """Spent in this call."""


def train(
    spec: SftSpec,
    out: Path,
    watch: Watcher = silent,
    tell: Tell = lambda _event, _details: None,
    at_checkpoint: AtCheckpoint = lambda _step, _folder: None,
) -> Trained:
    """Train into `out`; the same call goes on from the last checkpoint, to the very numbers of a run never stopped.

    `tell("step", …)` comes once an optimiser step and `tell("checkpoint", …)` once a checkpoint is whole, followed by
    `at_checkpoint(step, folder)`. After a kill, steps since the last checkpoint are done and told again, with the same
    numbers, and the checkpoint gone on from is announced again: whoever listens drops what he has heard.
    """
    out = out.absolute()
    with alone_in(out), checkpoint.undisturbed():
        info = plain_model(spec)
        watch(Progress("reading the rows", 0, 0))
        rows = training_rows(spec, load_tokenizer(info), info.context)
        data = _same_run(spec, info, out)
        if (done := _finished(out)) is not None:
            return done
        check_room(spec, info, out)
        checkpoint.prune(ensure(out / CHECKPOINTS), None)
        damaged = checkpoint.set_damaged_aside(out / CHECKPOINTS)
        goes_on_from = max(checkpoint.whole(out / CHECKPOINTS), default=0)
        for step, why in damaged.items():
            tell("checkpoint damaged", {"at": step, "why": why, "goes_on_from": goes_on_from})
        with _trouble_told(spec, out):
            return _train(spec, info, rows, data, out, watch, tell, at_checkpoint)


def _train(
    spec: SftSpec, info: ModelInfo, rows: RowSet, data: str, out: Path, watch: Watcher, tell: Tell,
    at_checkpoint: AtCheckpoint,
) -> Trained:  # fmt: skip
    began = time.monotonic()
    by = train_on_several if spec.processes > 1 else train_here
    numbers = by(spec, info, rows, out, watch, tell, at_checkpoint)
    total = spec.total_steps(len(rows.rows))
    watch(Progress("saving the model", total, total, "steps"))
    with checkpoint.writing(out / MODEL) as part:
        checkpoint.link_files(out / CHECKPOINTS / checkpoint.name_of(total), part)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    if numbers.tokens:
        remember_rate(TRAIN, spec, info, (device, dtype), numbers.tokens / numbers.seconds)
    seconds = time.monotonic() - began
    _write_manifest(spec, info, rows, out, {
        "data": data, "device": device, "dtype": dtype, "steps": total, "loss": numbers.loss,
        "seconds": round(seconds, 1), "gone_on_from": numbers.begun_at or None,
        "trained_parameters": numbers.trained_parameters,
    })  # fmt: skip
    return Trained(out / MODEL, total, float("nan") if numbers.loss is None else numbers.loss, seconds)


def _finished(out: Path) -> Trained | None:
    """What an earlier call finished here; nothing where its model was damaged since."""
    if not (out / MANIFEST).is_file() or not (out / MODEL).is_dir() or checkpoint.damage(out / MODEL):
        return None
    told = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    return Trained(out / MODEL, told["steps"], float("nan") if told["loss"] is None else told["loss"], 0.0)


def _same_run(spec: SftSpec, info: ModelInfo, out: Path) -> str:
    """Remember what the run begins with, or refuse to go on with a run that began with something else; its data."""
    plain = {key: value for key, value in spec.to_dict().items() if key not in _MAY_CHANGE}
    plain["evaluate.target_rows"] = spec.evaluate.target_rows  # decides which rows train
    data = training_sha256(spec.target)
    now = {"spec": plain, "data": data, "model": info.revision}
    path = ensure(out) / STARTED
    if not path.is_file():
        atomic_json(path, now)
        return data
    before = json.loads(path.read_text(encoding="utf-8"))
    keys = {*before["spec"], *plain}
    differs = sorted(key for key in keys if before["spec"].get(key) != json.loads(json.dumps(plain)).get(key))
    differs += ["the training set"] if before["data"] != now["data"] else []
    differs += ["the model's weights"] if before["model"] != now["model"] else []
    if differs:
        raise UserError(
            f"A fine-tune with another start lies in {out}: not the same: {', '.join(differs)}",
            "Go on with what it began with, or name another folder.",
        )
    return data


def _write_manifest(spec: SftSpec, info: ModelInfo, rows: RowSet, out: Path, told: dict[str, Any]) -> None:
    atomic_json(out / MANIFEST, {
        "format": 1, "kind": "sft", "spec": spec.to_dict(), "model": info.public(),
        **told, "rows": rows.public(), "warnings": rows.warnings,
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads", "seed": spec.seed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _LIBRARIES},
    })  # fmt: skip


@contextmanager
def _trouble_told(spec: SftSpec, out: Path) -> Iterator[None]:
    """What a disk, a memory or a library refuses, in a person's words."""
    check_report(spec)
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _memory(spec) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise _memory(spec) from error
    except MemoryError as error:
        raise _memory(spec) from error
    except OSError as error:
        raise disk_trouble(out, error) from error


def _memory(spec: SftSpec) -> UserError:
    return UserError(
        f"The memory is too small for {spec.rows_at_once} rows of up to {spec.max_tokens:,} tokens at once",
        "Lower micro_batch or max_tokens, or set gradient_checkpointing = true; then start it again.",
    )
