"""Train a SAE: a mix of text through the model, SAELens' own trainer over its residuals, quality measured, one folder.

SAELens owns the architecture, the loss, the optimiser, the shuffling buffer and the file format. Ours are the text, the
attention sinks left out, the start from the data's mean and scale, and the report.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sts_core.errors import UserError
from sts_core.folders import atomic_json, ensure
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.device import choose_device, choose_dtype, cpu_name
from sts_core.nets.saes import first_line
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.text.corpora import Corpus, find
from sts_core.train.report import QualitySums, measure_quality
from sts_core.train.sae_source import Piece, Pieces, Reader, batches, cut, mixed
from sts_core.train.sae_spec import SaeSpec

_BUFFER = 1 << 16
"""Tokens in the shuffling buffer; half of them are renewed at a time."""
_FIRST_LOOK = 16_384
"""Tokens from which the norm's median, the mean and the scale are taken before training."""
_FIRST_NORM = 0.4
"""Norm of the decoder's rows at the start."""
_LIBRARIES = ("torch", "transformers", "sae-lens", "numpy")


class _Scale(NamedTuple):
    """What a first look at the residuals tells."""

    limit: float
    """Norm above which a token is an attention sink."""
    mean: Tensor
    factor: float
    """Brings the mean norm to √width."""
    sample: Tensor
    """Residuals [some, width] in no particular order."""


class _Stream:
    """Residuals without attention sinks, batch after batch, counting what went through."""

    def __init__(self, reader: Reader, spec: SaeSpec, pieces: list[Pieces]) -> None:
        shares = [entry.share for entry in spec.corpus]
        self.groups = batches(mixed([own.training for own in pieces], shares, spec.seed), spec.seed)
        self.reader, self.limit = reader, float("inf")
        self.tokens = [0] * len(pieces)
        self.dropped = 0
        self.looked: list[Tensor] = []

    def first_look(self, outliers: float) -> _Scale:
        """Read some residuals, set the limit from them, and keep them: they are trained on, too."""
        rows: list[Tensor] = []
        while sum(map(len, rows)) < _FIRST_LOOK:
            rows.append(self._next())
        seen = torch.cat(rows)
        norms = seen.float().norm(dim=-1)
        self.limit = outliers * float(norms.median())
        kept = seen[norms <= self.limit]
        self.dropped = len(seen) - len(kept)
        self.looked = [kept]
        usual = kept.float()[torch.randperm(len(kept)).to(kept.device)]
        return _Scale(self.limit, usual.mean(0), self.reader.width**0.5 / float(usual.norm(dim=-1).mean()), usual)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.looked
        while True:
            rows = self._next()
            kept = rows[rows.float().norm(dim=-1) <= self.limit]
            self.dropped += len(rows) - len(kept)
            yield kept

    def _next(self) -> Tensor:
        group = next(self.groups)
        for piece in group:
            self.tokens[piece.corpus] += len(piece.ids)
        hidden, real = self.reader.residuals(group)
        return hidden[real]


def train_sae(spec: SaeSpec, out: Path, watch: Watcher = silent) -> Path:
    """Train, measure and save a SAE as the folder `out`, which SAELens loads as it is; returns `out`.

    The folder appears whole or not at all. It also holds `spec.toml` and `report.json`.
    """
    started = time.monotonic()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} already holds something", "Name a new folder, or move the old one away.")
    ensure(out.parent)
    info = find_model(_model_place(spec))
    if spec.layer >= info.layers:
        raise UserError(
            f"There is no layer {spec.layer} in {spec.model}: it has layers 0 to {info.layers - 1}",
            f"The middle is layer {info.layers // 2}.",
        )
    corpora = [find(entry.data, spec.base, entry.columns, entry.rows_per_chat) for entry in spec.corpus]
    model, tokenizer = _load(info, spec)
    reader = Reader(model, spec.layer)
    pieces = [cut(corpus, number, tokenizer, min(spec.context, info.context)) for number, corpus in enumerate(corpora)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        stream = _Stream(reader, spec, pieces)
        scale = stream.first_look(spec.outliers)
        sae = _fit(spec, reader, stream, scale, watch)
    trained = time.monotonic()
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        saved = _save(sae, folder, spec)
        held_out = [own.held_out for own in pieces]
        sums = measure_quality(reader, saved, held_out, scale.limit, spec.report_tokens, spec.ce_tokens, watch)
        minutes = {"training": trained - started, "measuring": time.monotonic() - trained}
        report = _report(spec, info, corpora, pieces, stream, sums)
        report["minutes"] = {name: round(seconds / 60, 1) for name, seconds in minutes.items()}
        atomic_json(folder / "report.json", report)
        (folder / "spec.toml").write_text(spec.to_toml(), encoding="utf-8")
        folder.chmod(0o755)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _model_place(spec: SaeSpec) -> str:
    beside = spec.base / spec.model
    return str(beside) if not Path(spec.model).is_absolute() and beside.is_dir() else spec.model


def _load(info: ModelInfo, spec: SaeSpec) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # we tell progress ourselves
    device = choose_device(spec.device)
    dtype = getattr(torch, choose_dtype(spec.dtype, device))
    try:
        model = AutoModelForCausalLM.from_pretrained(info.folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"transformers cannot load {info.name}: {first_line(error)}", "Save the model again."
        ) from error
    return model.to(device), load_tokenizer(info)


def _fit(spec: SaeSpec, reader: Reader, stream: _Stream, scale: _Scale, watch: Watcher) -> Any:
    """Drive SAELens' trainer step by step, as its own coordinators do, so that we can watch and stop."""
    from sae_lens.training.mixing_buffer import mixing_buffer

    buffer = max(spec.batch, min(_BUFFER, spec.tokens // 8))
    rows = _watched(stream, buffer, watch)
    data = (batch.float() for batch in mixing_buffer(buffer, spec.batch, rows))
    trainer = _trainer(spec, reader, scale, data)
    trainer.activation_scaler.scaling_factor = scale.factor
    while trainer.n_training_samples < spec.tokens:
        trainer.maybe_reset_sparsity()
        loss = trainer.step(next(data)).loss
        trainer.n_training_steps += 1
        if not bool(torch.isfinite(loss)):
            raise UserError(f"The loss is not finite after {trainer.n_training_samples} tokens", "Choose a smaller lr.")
        watch(Progress("training the SAE", min(trainer.n_training_samples, spec.tokens), spec.tokens))
    trainer.set_final_sae_metadata()
    sae = trainer.sae
    sae.fold_activation_norm_scaling_factor(scale.factor)
    return sae


def _watched(stream: _Stream, buffer: int, watch: Watcher) -> Iterator[Tensor]:
    """The stream; tells how far the shuffling buffer is before training begins."""
    read = 0
    for rows in stream:
        yield rows
        if read < buffer:
            read += len(rows)
            watch(Progress("filling the shuffling buffer", min(read, buffer), buffer))


def _trainer(spec: SaeSpec, reader: Reader, scale: _Scale, data: Iterator[Tensor]) -> Any:
    """SAELens' trainer around a new SAE that starts from the data."""
    from sae_lens import SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_training_class(spec.architecture)
    device = str(reader.device)
    metadata = SAEMetadata(
        model_name=Path(spec.model).name, hook_name=spec.hook_name, hf_hook_name=reader.block_name,
        context_size=spec.context, prepend_bos=False,
    )  # fmt: skip
    config = config_class(
        d_in=reader.width, d_sae=spec.width, k=spec.k, device=device, decoder_init_norm=_FIRST_NORM,
        normalize_activations="expected_average_only_in", metadata=metadata,
    )  # fmt: skip
    if spec.architecture == "batchtopk":
        # The saved threshold is a moving average from zero: a short training must follow faster, or too much fires.
        config.topk_threshold_lr = max(config.topk_threshold_lr, 5 * spec.batch / spec.tokens)
    sae = sae_class(config)
    _start_from_data(sae, scale)
    settings = SAETrainerConfig(
        total_training_samples=spec.tokens, train_batch_size_samples=spec.batch, device=device,
        autocast=reader.model.dtype == torch.bfloat16,
        lr=spec.lr, lr_end=spec.lr_end, lr_scheduler_name="cosineannealing", lr_warm_up_steps=spec.warm_up,
        dead_feature_window=spec.dead_after, logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    return SAETrainer(cfg=settings, sae=sae, data_provider=data)


@torch.no_grad()
def _start_from_data(sae: Any, scale: _Scale) -> None:
    """The bias starts at the data's mean, each feature at a token's residual less that mean.

    At equal settings 45 % of the features never fire after 100,000 tokens from random directions, 14 % from these.
    A SAE wider than the sample keeps random directions for the rest.
    """
    directions = scale.sample[: sae.cfg.d_sae] - scale.mean
    directions *= _FIRST_NORM / directions.norm(dim=-1, keepdim=True)
    sae.b_dec.copy_(scale.mean * scale.factor)
    sae.W_dec[: len(directions)] = directions
    sae.W_enc.copy_(sae.W_dec.T)


def _save(sae: Any, folder: Path, spec: SaeSpec) -> Any:
    """SAELens' own inference files with the weights in `save_dtype`; returns what a reader will load from them.

    cfg.json keeps dtype float32, so the rounded weights are computed with in float32 unless a reader asks otherwise.
    """
    from sae_lens import SAE
    from safetensors.torch import load_file, save_file

    device, sae.cfg.device = sae.cfg.device, "cpu"
    path, _ = sae.save_inference_model(folder)
    kind = getattr(torch, spec.save_dtype)
    weights = {name: value.to(kind).contiguous() for name, value in load_file(path).items()}
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise UserError(f"The weights do not fit into {spec.save_dtype}", 'Set save_dtype = "float32".')
    save_file(weights, path)
    path.chmod(0o644)
    return SAE.load_from_disk(folder, device=device).eval()


def _report(
    spec: SaeSpec,
    info: ModelInfo,
    corpora: list[Corpus],
    pieces: list[Pieces],
    stream: _Stream,
    sums: list[QualitySums],
) -> dict[str, Any]:
    names = [corpus.name for corpus in corpora]
    used = map(_corpus_line, corpora, pieces, stream.tokens)
    dtype = str(stream.reader.model.dtype).removeprefix("torch.")
    return {
        "held_out": sum(sums[1:], sums[0]).numbers(),
        "by_source": {name: own.numbers() for name, own in zip(names, sums, strict=True)},
        "corpora": dict(zip(names, used, strict=True)),
        "tokens_trained": spec.tokens,
        "tokens_read": sum(stream.tokens),
        "sinks_left_out": stream.dropped,
        "sink_norm": round(stream.limit, 2),
        "seed": spec.seed,
        "model": {"name": Path(spec.model).name, "revision": info.revision, "dtype": dtype},
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads, {stream.reader.device.type}",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _corpus_line(corpus: Corpus, pieces: Pieces, used: int) -> dict[str, Any]:
    once = _tokens(pieces.training)
    return {
        "sha256": corpus.sha256, "tokens_read": used, "passes": round(used / once, 2), "tokens_once": once,
        "tokens_held_out": _tokens(pieces.held_out),
    }  # fmt: skip


def _tokens(pieces: list[Piece]) -> int:
    return sum(len(piece.ids) for piece in pieces)
