"""The training itself, in this process: a trainer built from a spec, gone on with from the last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo
from sts_core.nets.device import choose_device, choose_dtype, steady_memory
from sts_core.nets.saes import first_line
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher
from sts_core.train.sft import checkpoint
from sts_core.train.sft.rows import RowSet
from sts_core.train.sft.spec import ALL_LINEAR, SftSpec
from sts_core.train.sft.trainer import AtCheckpoint, Steps, Tell, Trainer

CHECKPOINTS = "checkpoints"
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class Numbers(NamedTuple):
    """What a training did in this call."""

    loss: float | None
    """Of the last step; None where no step was left to do."""
    tokens: int
    seconds: float
    """Spent on them."""
    trained_parameters: int
    begun_at: int
    """The step of the checkpoint it went on from; 0 where it began anew."""


def train_here(
    spec: SftSpec, info: ModelInfo, rows: RowSet, out: Path, watch: Watcher, tell: Tell, at_checkpoint: AtCheckpoint
) -> Numbers:
    """Train from the start or the last checkpoint to the end; the last step's checkpoint is there afterwards."""
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    total = spec.total_steps(len(rows.rows))
    watch(Progress("loading the model", 0, 0))
    if device == "cpu":
        steady_memory()
    step, last = max(checkpoint.whole(out / CHECKPOINTS).items(), default=(0, None))
    with _reports_beside(out):
        trainer = _trainer(spec, info, rows, out, (device, dtype), total, last, tell, at_checkpoint)
        steps = Steps(trainer, total, spec.checkpoint_steps(total), watch, tell)
        trainer.add_callback(steps)
        if last is not None:
            tell("continued", {"step": step})
            trainer.announce(step)
        if step < total:
            trainer.train(resume_from_checkpoint=str(last / checkpoint.STATE) if last else None)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return Numbers(steps.last_loss if step < total else None, steps.tokens, steps.seconds, trained, step)


def _trainer(
    spec: SftSpec, info: ModelInfo, rows: RowSet, out: Path, device_dtype: tuple[str, str], total: int,
    last: Path | None, tell: Tell, at_checkpoint: AtCheckpoint,
) -> Trainer:  # fmt: skip
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed

    set_seed(spec.seed)
    data = Dataset.from_dict({"input_ids": [r.ids for r in rows.rows], "labels": [r.labels for r in rows.rows]})
    with _on_device(device_dtype[0]):
        arguments = _arguments(spec, out, *device_dtype, total)
    whole = last if spec.method == "full" else None
    model = _load(spec, info, device_dtype[1], whole or info.folder)
    _check_vocabulary(info, model, rows)
    trainer = Trainer(
        spec, out / CHECKPOINTS, load_tokenizer(info), tell, at_checkpoint, model=model, args=arguments,
        train_dataset=data, processing_class=load_tokenizer(info),
        peft_config=_adapter(spec) if spec.method == "lora" else None,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    if spec.method == "lora":
        trainer.model.peft_config["default"].base_model_name_or_path = info.name
        if last is not None:
            _load_adapter(trainer.model, last)
    return trainer


def _arguments(spec: SftSpec, out: Path, device: str, dtype: str, total: int) -> Any:
    from trl import SFTConfig

    arguments = SFTConfig(
        output_dir=str(out), max_steps=total, per_device_train_batch_size=spec.rows_at_once,
        gradient_accumulation_steps=spec.accumulation, learning_rate=spec.learning_rate, adam_beta1=spec.betas[0],
        adam_beta2=spec.betas[1], weight_decay=spec.weight_decay, max_grad_norm=spec.clip,
        lr_scheduler_type=_SCHEDULES[spec.schedule], warmup_steps=round(spec.warm_up * total), seed=spec.seed,
        optim="adamw_torch_fused" if device.startswith("cuda") else "adamw_torch", bf16=dtype == "bfloat16",
        use_cpu=device == "cpu", activation_checkpointing=spec.gradient_checkpointing, max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, completion_only_loss=True, logging_steps=1,
        logging_nan_inf_filter=False, save_strategy="no", eval_strategy="no", disable_tqdm=True,
        report_to=[spec.report] if spec.report else [], dataloader_pin_memory=device.startswith("cuda"),
    )  # fmt: skip
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU; several are asked for with `processes`
    return arguments


def _reports_beside(out: Path) -> AbstractContextManager[None]:
    """What W&B and TensorBoard write lies with the run, unless the person has said otherwise."""
    ours = {"WANDB_DIR": str(out), "WANDB_PROJECT": "sts-explorer", "TENSORBOARD_LOGGING_DIR": str(out / "tensorboard")}
    return _environment({name: value for name, value in ours.items() if name not in os.environ})


def _on_device(device: str) -> AbstractContextManager[None]:
    """Have accelerate take this device, also where there are several."""
    return _environment({"ACCELERATE_TORCH_DEVICE": device} if ":" in device else {})


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that libraries read, for this while alone."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _load(spec: SftSpec, info: ModelInfo, dtype: str, folder: Path) -> Any:
    """The model in a folder; a full fine-tune keeps its weights in float32, whatever it computes in."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # we tell progress ourselves
    kind = getattr(torch, "float32" if spec.method == "full" else dtype)
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=kind, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}", "Save the model again."
        ) from error


def _load_adapter(model: Any, folder: Path) -> None:
    """Set the adapter's weights to those of a checkpoint."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def _check_vocabulary(info: ModelInfo, model: Any, rows: RowSet) -> None:
    known = model.get_input_embeddings().num_embeddings
    highest = max(max(row.ids) for row in rows.rows)
    if highest >= known:
        raise UserError(
            f"The tokenizer of {info.name} gives the token {highest:,}, but the model knows only {known:,}",
            "Save the model with the tokenizer it was trained with.",
        )


def _adapter(spec: SftSpec) -> Any:
    from peft import LoraConfig

    lora = spec.lora
    targets = ALL_LINEAR if lora.targets == ALL_LINEAR else list(lora.targets)
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none",
        task_type="CAUSAL_LM",
    )  # fmt: skip
