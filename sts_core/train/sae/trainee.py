"""A SAE in training: SAELens' trainer around it, and everything that trainer knows as arrays and plain values.

SAELens owns the architecture, the loss, the optimiser and its schedule. Ours are the start from the data and the state,
which SAELens itself would keep as a pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sts_core.errors import UserError
from sts_core.train.sae.reader import Reader
from sts_core.train.sae.spec import SaeSpec
from sts_core.train.sae.stream import Scale

_FIRST_NORM = 0.4
"""Norm of the decoder's rows at the start."""
_COUNTS = ("n_training_steps", "n_training_samples", "n_frac_active_samples")
_COUNTERS = ("act_freq_scores", "n_forward_passes_since_fired")


class Trainee:
    """One SAE of a pass."""

    def __init__(self, name: str, spec: SaeSpec, reader: Reader) -> None:
        self.name = name
        self.spec = spec
        self.trainer = _trainer(spec, reader)
        self.read: dict[str, Any] | None = None
        """What the pass had read when this SAE had its tokens."""

    @property
    def left(self) -> int:
        """Tokens still to be trained on."""
        return int(self.spec.tokens - self.trainer.n_training_samples)

    def start(self, scale: Scale) -> None:
        """Begin from the data."""
        self.trainer.activation_scaler.scaling_factor = scale.factor
        _start_from_data(self.trainer.sae, scale)

    def step(self, batch: Tensor) -> None:
        """One training step on residuals [tokens, width], on as many as are left."""
        self.trainer.maybe_reset_sparsity()
        loss = self.trainer.step(batch[: self.left]).loss
        self.trainer.n_training_steps += 1
        if not bool(torch.isfinite(loss)):
            of = f" of {self.name}" if self.name else ""
            raise UserError(
                f"The loss{of} is not finite after {self.trainer.n_training_samples} tokens",
                "Choose a smaller lr, and add --fresh where some of the training is already kept.",
            )

    def dead_share(self) -> float:
        """The share of features that have not fired for more than `dead_after` steps."""
        return float(self.trainer.dead_neurons.double().mean())

    def finished(self) -> Any:
        """The SAE as it is saved: for residuals as they are, without the scale it trained at. Ends the training."""
        self.trainer.set_final_sae_metadata()
        self.trainer.sae.fold_activation_norm_scaling_factor(self.trainer.activation_scaler.scaling_factor)
        return self.trainer.sae

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of its state; what only training needs is left out once it has its tokens."""
        own = {f"sae/{name}": value for name, value in self.trainer.sae.state_dict().items()}
        own |= {f"counter/{name}": getattr(self.trainer, name) for name in _COUNTERS}
        if self.left > 0:
            for number, moments in self.trainer.optimizer.state_dict()["state"].items():
                own |= {f"adam/{number}/{name}": value for name, value in moments.items()}
        return {f"{self.name}/{key}": value for key, value in own.items()}

    def plain(self) -> dict[str, Any]:
        """The rest of its state, as JSON takes it."""
        trainer = self.trainer
        return {
            "counts": {name: getattr(trainer, name) for name in _COUNTS},
            "factor": trainer.activation_scaler.scaling_factor,
            "adam": trainer.optimizer.state_dict()["param_groups"],
            "rate": trainer.lr_scheduler.state_dict(),
            "coefficients": {name: own.state_dict() for name, own in trainer.coefficient_schedulers.items()},
            "read": self.read,
        }

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Stand where `tensors` and `plain` were taken."""
        trainer, start = self.trainer, f"{self.name}/"
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        trainer.sae.load_state_dict({key[4:]: value for key, value in own.items() if key.startswith("sae/")})
        for name in _COUNTERS:
            setattr(trainer, name, own[f"counter/{name}"].to(trainer.cfg.device))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in own.items():
            if key.startswith("adam/"):
                _, number, name = key.split("/")
                moments.setdefault(int(number), {})[name] = value
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": plain["adam"]})
        trainer.lr_scheduler.load_state_dict(plain["rate"])
        for name, state in plain["coefficients"].items():
            trainer.coefficient_schedulers[name].load_state_dict(state)
        for name, value in plain["counts"].items():
            setattr(trainer, name, value)
        trainer.activation_scaler.scaling_factor = plain["factor"]
        self.read = plain["read"]


def _trainer(spec: SaeSpec, reader: Reader) -> Any:
    """SAELens' trainer around a new SAE."""
    from sae_lens import SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_training_class(spec.architecture)
    device = str(reader.device)
    metadata = SAEMetadata(
        model_name=Path(spec.model).name, hook_name=spec.hook_name, hf_hook_name=reader.block_name(spec.layer),
        context_size=spec.context, prepend_bos=False,
    )  # fmt: skip
    config = config_class(
        d_in=reader.width, d_sae=spec.width, k=spec.k, device=device, decoder_init_norm=_FIRST_NORM,
        normalize_activations="expected_average_only_in", metadata=metadata,
    )  # fmt: skip
    if spec.architecture == "batchtopk":
        # The saved threshold is a moving average from zero: a short training must follow faster, or too much fires.
        config.topk_threshold_lr = max(config.topk_threshold_lr, 5 * spec.batch / spec.tokens)
    settings = SAETrainerConfig(
        total_training_samples=spec.tokens, train_batch_size_samples=spec.batch, device=device,
        autocast=reader.model.dtype == torch.bfloat16,
        lr=spec.lr, lr_end=spec.lr_end, lr_scheduler_name="cosineannealing", lr_warm_up_steps=spec.warm_up,
        dead_feature_window=spec.dead_after, logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    return SAETrainer(cfg=settings, sae=sae_class(config), data_provider=iter(()))


@torch.no_grad()
def _start_from_data(sae: Any, scale: Scale) -> None:
    """The bias starts at the data's mean, each feature at a token's residual less that mean.

    At equal settings 45 % of the features never fire after 100,000 tokens from random directions, 14 % from these.
    A SAE wider than the sample keeps random directions for the rest.
    """
    directions = scale.sample[: sae.cfg.d_sae] - scale.mean
    directions *= _FIRST_NORM / directions.norm(dim=-1, keepdim=True)
    sae.b_dec.copy_(scale.mean * scale.factor)
    sae.W_dec[: len(directions)] = directions
    sae.W_enc.copy_(sae.W_dec.T)
