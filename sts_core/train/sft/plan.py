"""What a fine-tune will do, found out without doing it: rows, steps, tokens, time, memory, disk (`sts sft --plan`)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from sts_core import folders
from sts_core.errors import UserError, nearest
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.device import choose_device, choose_dtype
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Watcher
from sts_core.train.mixture.manifest import Mixture
from sts_core.train.mixture.spec import MODEL
from sts_core.train.sft.beforehand import check_prediction, check_report
from sts_core.train.sft.costs import Costs, Course, costs
from sts_core.train.sft.evaluated import evaluation_sets
from sts_core.train.sft.rows import RowSet, training_rows
from sts_core.train.sft.spec import SftSpec

_OVERHEAD_GB = 1.0
"""What Python, torch, transformers and TRL hold before any weight is loaded."""
_KEPT_A_LAYER = 40
"""Numbers that a layer keeps of a token for the way back, in widths of the residual stream."""


class Size(NamedTuple):
    """Numbers of parameters."""

    model: int
    trained: int


def plain_model(spec: SftSpec) -> ModelInfo:
    """The model of a spec; an adapter is refused, since its base and it would be trained as one."""
    info = find_model(spec.model)
    if info.adapter:
        raise UserError(f"{spec.model} is an adapter", "Merge it into its model with PEFT and name that folder.")
    return info


def size(spec: SftSpec, info: ModelInfo) -> Size:
    """Parameters of the model and those that are trained, from the headers of its weights."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(info.folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            raise UserError(f"The weights of {info.name} cannot be read", "Copy or save the model again.") from None
    whole = sum(math.prod(shape) for shape in shapes.values())
    if spec.method == "full":
        return Size(whole, whole)
    linear = {name: shape for name, shape in shapes.items() if _linear_of_a_block(name, shape)}
    modules = {name.removesuffix(".weight").rpartition(".")[2] for name in linear}
    if isinstance(spec.lora.targets, tuple):
        for target in spec.lora.targets:
            if target not in modules:
                hint = f"Its linear modules are: {', '.join(sorted(modules))}."
                raise UserError(f"{info.name} has no module {target!r} for LoRA{nearest(target, modules)}", hint)
        modules &= set(spec.lora.targets)
    chosen = [s for name, s in linear.items() if name.removesuffix(".weight").rpartition(".")[2] in modules]
    least = min((min(shape) for shape in chosen), default=spec.lora.rank)
    if spec.lora.rank > least:
        raise UserError(
            f"lora.rank is {spec.lora.rank:,}, more than the {least:,} of the smallest matrix it is laid over",
            'Choose a lower rank, such as 16, or method = "full".',
        )
    return Size(whole, sum(spec.lora.rank * sum(shape) for shape in chosen))


def _linear_of_a_block(name: str, shape: list[int]) -> bool:
    """A matrix of a numbered block: the embedding and the head have no number."""
    return len(shape) == 2 and name.endswith(".weight") and any(part.isdecimal() for part in name.split("."))


def plan(spec: SftSpec) -> dict[str, Any]:
    """The plan as JSON values. All that can be wrong with the spec, the model's files and the data is told here."""
    info = plain_model(spec)
    check_report(spec)
    check_prediction(spec)
    check_room(spec, info, folders.jobs())
    tokenizer = load_tokenizer(info)
    rows = training_rows(spec, tokenizer, info.context)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    sizes = size(spec, info)
    longest = max(len(row.ids) for row in rows.rows)
    total = spec.total_steps(len(rows.rows))
    epochs = total / math.ceil(len(rows.rows) / spec.batch)
    each = _checkpoint_bytes(sizes)
    made = math.ceil(total / spec.checkpoint_steps(total))
    cost = _costs(spec, info, tokenizer, (device, dtype), rows)
    kept = min(made, spec.keep_checkpoints or made)
    return {
        "model": info.public(), "device": device, "dtype": dtype, "method": spec.method, "data": spec.target.data,
        "parameters": {"model": sizes.model, "trained": sizes.trained},
        "rows": {
            "records": rows.records, "train": len(rows.rows), "evaluation": len(rows.evaluation),
            "never_trained_on": rows.queried, "dropped": rows.dropped, "shortened": rows.shortened,
            "longest": longest, "learned_tokens": sum(row.learned for row in rows.rows),
        },
        **({"mixture": _mixture(rows.mixture)} if rows.mixture else {}),
        "steps": total, "epochs": round(epochs, 3), "tokens": cost.train.tokens,
        "batch": {"rows": spec.batch, "at_once": spec.rows_at_once, "accumulation": spec.accumulation},
        "checkpoints": {"every": spec.checkpoint_steps(total), "made": made, "kept": kept, "bytes_each": each},
        "work": {
            "seconds": round(sum(cost.seconds.values()), 1),
            "parts": {name: round(seconds, 1) for name, seconds in cost.seconds.items()},
            "rate": round(cost.train.rate, 1), "rate_measured_here": cost.measured,
            "memory_gb": round(_memory_gb(spec, info, sizes, dtype, longest), 2),
            "disk_gb": round(each * (kept + 1) / 1e9, 3),
        },
        "warnings": [
            *rows.warnings, *_warnings(spec, total, epochs), *_mixture_warnings(spec, info, rows.mixture),
            *_unasked(cost.unasked), *_room_warnings(each * (kept + 1), folders.jobs()),
        ],
    }  # fmt: skip


def course_of(spec: SftSpec, watch: Watcher) -> Course:
    """What a run will cost, as it is told while it is under way."""
    info = plain_model(spec)
    tokenizer = load_tokenizer(info)
    rows = training_rows(spec, tokenizer, info.context)
    device = choose_device(spec.device)
    how = device, choose_dtype(spec.dtype, device)
    return Course(_costs(spec, info, tokenizer, how, rows), spec, info, how, watch)


def _costs(spec: SftSpec, info: ModelInfo, tokenizer: Any, how: tuple[str, str], rows: RowSet) -> Costs:
    total = spec.total_steps(len(rows.rows))
    tokens = round(rows.tokens * total / math.ceil(len(rows.rows) / spec.batch))
    made = math.ceil(total / spec.checkpoint_steps(total))
    return costs(spec, info, tokenizer, how, size(spec, info).model, tokens, made)


def _mixture(mixture: Mixture) -> dict[str, Any]:
    return {
        "folder": str(mixture.folder), "sha256": mixture.sha256, "target": mixture.target.data,
        "counts": mixture.counts, "answers": mixture.manifest["answers"].get("from"),
    }  # fmt: skip


def _mixture_warnings(spec: SftSpec, info: ModelInfo, mixture: Mixture | None) -> list[str]:
    """What is left out of evaluation because it is trained on, and whose answers are learned."""
    if mixture is None:
        return []
    told = [
        f"{name}: {count:,} rows are not evaluated, because they are trained on."
        for name, count in evaluation_sets(spec).left_out.items()
    ]
    made_for = mixture.manifest.get("model", {})
    if mixture.manifest["answers"].get("from") == MODEL and made_for.get("revision") != info.revision:
        told.append(f"The mixture's answers are those of {made_for.get('name')}, not of {info.name}.")
    return told


def _unasked(unasked: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which questions are not evaluated, and why."""
    told = []
    for name, reasons in unasked.items():
        many = sum(reasons.values())
        why = ", ".join(f"{reason}: {n:,}" for reason, n in reasons.items())
        if many:
            told.append(f"{name}: {many:,} question{'s are' if many > 1 else ' is'} not evaluated ({why}).")
    return told


def check_room(spec: SftSpec, info: ModelInfo, out: Path) -> None:
    """Refuse to begin where not even two checkpoints have room: the old one stays until the new one is whole."""
    needed, free = 2 * _checkpoint_bytes(size(spec, info)), shutil.disk_usage(out).free
    if free < needed:
        raise UserError(
            f"There is too little room in {out}: two checkpoints need {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free",
            "Free some space, or put the cache on another disk (STS_CACHE).",
        )


def _room_warnings(needed: int, out: Path) -> list[str]:
    free = shutil.disk_usage(out).free
    if needed <= free:
        return []
    return [
        f"The checkpoints need {needed / 1e9:,.1f} GB in all and {free / 1e9:,.1f} GB are free: keep fewer "
        "(keep_checkpoints), or make fewer (checkpoint_every)."
    ]


def _checkpoint_bytes(sizes: Size) -> int:
    """The trained weights and their two moments, in float32."""
    return sizes.trained * 3 * 4


def _memory_gb(spec: SftSpec, info: ModelInfo, sizes: Size, dtype: str, longest: int) -> float:
    """On each device: weights, gradients and moments, and what the layers keep of the longest batch."""
    weight = 4 if spec.method == "full" or dtype == "float32" else 2
    kept = 1 if spec.gradient_checkpointing else _KEPT_A_LAYER
    tokens = spec.rows_at_once * longest
    activations = tokens * info.width * info.layers * kept * (4 if dtype == "float32" else 2)
    states = sizes.model * weight + sizes.trained * (12 if spec.method == "full" else 16)
    return _OVERHEAD_GB + (states / spec.processes + activations) / 1e9


def _warnings(spec: SftSpec, total: int, epochs: float) -> list[str]:
    told = []
    if epochs > 20:
        told.append(f"The rows are passed over {epochs:,.0f} times: the model will learn them by heart.")
    if spec.checkpoint_steps(total) > total:
        told.append(
            f"checkpoint_every is {spec.checkpoint_every:,}, the run has {total:,} steps: only its end is kept."
        )
    return told
