"""TRL's trainer with checkpoints of our own kind, a guard over the loss, and every step told.

TRL and transformers own the loop, the optimiser, the schedule and, but for its short way on a processor, the loss. Ours
are what is written and when: a checkpoint holds no pickle and is whole or absent, and nothing of a step that went wrong
is ever saved.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from sts_core.progress import Progress, Watcher
from sts_core.train.sft import checkpoint
from sts_core.train.sft.guard import Guard
from sts_core.train.sft.rows import IGNORED
from sts_core.train.sft.spec import SftSpec

Tell = Callable[[str, dict[str, Any]], None]
"""Adds an event: its name and its details."""
AtCheckpoint = Callable[[int, Path], None]
"""Called with the step and the folder once a checkpoint is whole."""
TRAINING = "training"
_GUARD = "guard.json"
_LOGITS_AT_ONCE = 2**27
"""Logits that a processor computes in one piece: half a gigabyte in float32."""


class Trainer(SFTTrainer):
    """A training run in one folder."""

    def __init__(
        self,
        spec: SftSpec,
        place: Path,
        tokenizer: Any,
        tell: Tell,
        at_checkpoint: AtCheckpoint,
        **given: Any,
    ) -> None:
        """`place` will hold the checkpoints; `tokenizer` is saved with a whole model, as it came."""
        self._padding = given["model"].config.get_text_config().pad_token_id
        chooses = "logits_to_keep" in inspect.signature(given["model"].forward).parameters
        super().__init__(**given)
        self._in_one_piece = chooses and self.args.device.type == "cpu" and not self.aux_loss_enabled
        self.guard = Guard(self.model.get_input_embeddings().num_embeddings)
        self._spec, self._place, self._saved_tokenizer = spec, place, tokenizer
        self._tell, self._at_checkpoint = tell, at_checkpoint

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's own; on a processor in one product, as its tiles, cut for a GPU, take twice as long."""
        labels = inputs["labels"][:, 1:]
        places = (labels != IGNORED).any(dim=0).nonzero()[:, 0]
        large = len(labels) * len(places) * self.guard.vocabulary > _LOGITS_AT_ONCE
        if not self._in_one_piece or return_outputs or large:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        given = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**given, use_cache=False, logits_to_keep=places).logits
        right = labels[:, places]
        answers = right != IGNORED
        total = torch.nn.functional.cross_entropy(logits[answers].float(), right[answers], reduction="sum")
        loss = total / torch.as_tensor(answers.sum() if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # whose gradients are averaged
        self._total_train_tokens += int(self.accelerator.gather_for_metrics(inputs["attention_mask"].sum()).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        weights, optimiser = self._gathered()
        aside = self._place / ".random"
        if self.args.world_size > 1:
            aside.mkdir(parents=True, exist_ok=True)
            checkpoint.save_random(aside, self.args.process_index)
            self.accelerator.wait_for_everyone()
        self.state.log_history = []  # every step is an event already
        if self.args.process_index == 0:
            with checkpoint.writing(self._place / checkpoint.name_of(step)) as part:
                self._write_model(part, weights)
                state = part / checkpoint.STATE
                if self.args.world_size > 1:
                    aside.rename(state)
                else:
                    state.mkdir()
                    checkpoint.save_random(state)
                checkpoint.save_optimiser(state, optimiser, self.lr_scheduler.state_dict())
                self.state.save_to_json(str(state / TRAINER_STATE_NAME))
                (state / _GUARD).write_text(json.dumps(self.guard.state()), encoding="utf-8")
            self.announce(step)
            checkpoint.prune(self._place, self._spec.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _gathered(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """The weights (None: they lie in the model as they are) and the optimiser's state, whole in process 0."""
        if self.args.world_size == 1:
            return None, self.optimizer.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_state_dict(self.model_wrapped, self.optimizer.optimizer, options=options)

    def announce(self, step: int) -> None:
        """Say that the checkpoint of this step is there, and let it be looked at; draws nothing from the training."""
        folder = self._place / checkpoint.name_of(step)
        with checkpoint.undisturbed():
            self._tell("checkpoint", {"step": step, "name": folder.name, "bytes": checkpoint.size_of(folder)})
            self._at_checkpoint(step, folder)

    def _write_model(self, folder: Path, weights: dict[str, Any] | None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if self._spec.method == "lora":
            model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
        else:
            with self._padding_as_it_came(model.config.get_text_config()):
                model.save_pretrained(folder, state_dict=weights)
            self._saved_tokenizer.save_pretrained(folder)

    @contextmanager
    def _padding_as_it_came(self, config: Any) -> Iterator[None]:
        """TRL names a token to pad with in the model's settings. Saved there, it would never be learned again: a model
        built from such settings holds the embedding of its padding token fixed."""
        during, config.pad_token_id = config.pad_token_id, self._padding
        try:
            yield
        finally:
            config.pad_token_id = during

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights are there: the trainer was built on them."""

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is None:
            return
        self.guard = Guard(**checkpoint.read_state(Path(checkpoint_folder) / _GUARD))
        optimiser, schedule = checkpoint.load_optimiser(Path(checkpoint_folder))
        self.lr_scheduler.load_state_dict(schedule)
        if self.args.world_size == 1:
            self.optimizer.load_state_dict(optimiser)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.model_wrapped, self.optimizer.optimizer, optimiser, options=options)

    def _load_rng_state(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.load_random(Path(checkpoint_folder), self.args.process_index)

    def _load_scaler(self, checkpoint_folder: str | None) -> None:
        """bfloat16 and float32 need none."""


class Steps(TrainerCallback):
    """Tells every step and asks for checkpoints."""

    def __init__(self, trainer: Trainer, total: int, every: int, watch: Watcher, tell: Tell) -> None:
        self._trainer, self._total, self._every = trainer, total, every
        self._watch, self._tell = watch, tell
        self._begun = time.monotonic()
        self._tokens_before = 0
        self.tokens, self.seconds, self.last_loss = 0, 0.0, float("nan")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """How far the run is already."""
        self._watch(Progress(TRAINING, state.global_step, self._total, "steps"))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The clock runs."""
        self._begun = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Whether a checkpoint is due."""
        step = state.global_step
        control.should_save = step % self._every == 0 or step >= self._total
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """One event a step; before anything is saved, the guard looks at it."""
        if "loss" not in logs:  # the summary at the end
            return
        step, took = state.global_step, time.monotonic() - self._begun
        loss, norm = float(logs["loss"]), float(logs["grad_norm"])
        self._trainer.guard.see(step, loss, norm)
        tokens = int(logs["num_tokens"]) - self._tokens_before
        self._tokens_before += tokens
        self.tokens, self.seconds, self.last_loss = self.tokens + tokens, self.seconds + took, loss
        with checkpoint.undisturbed():
            self._tell("step", {
                "step": step, "loss": loss, "learning_rate": float(logs["learning_rate"]), "grad_norm": norm,
                "tokens_per_second": round(tokens / max(took, 1e-9), 1), "epoch": round(float(logs["epoch"]), 4),
            })  # fmt: skip
            self._watch(Progress(TRAINING, step, self._total, "steps"))
