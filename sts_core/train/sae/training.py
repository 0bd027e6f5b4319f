"""Train SAEs: a mix of text through the model, SAELens' own trainers over its residuals, quality measured, one folder.

SAELens owns the architecture, the loss, the optimiser, the shuffling buffer and the file format. Ours are the text, the
attention sinks left out, the start from the data's mean and scale, the checkpoints and the report.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from sts_core.errors import UserError
from sts_core.folders import alone_in, atomic_json, disk_trouble, ensure
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.device import choose_device, choose_dtype, cpu_name, keep_memory
from sts_core.nets.saes import first_line
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.text.corpora import Corpus, find
from sts_core.train.sae import attention
from sts_core.train.sae.checkpoint import Checkpoint, part_folder
from sts_core.train.sae.reader import Reader
from sts_core.train.sae.report import Candidate, QualitySums, drawn, measure_quality
from sts_core.train.sae.several import Pass
from sts_core.train.sae.source import Piece, Pieces, batches, cut, mixed
from sts_core.train.sae.spec import SaeSpec
from sts_core.train.sae.stream import Stream
from sts_core.train.sae.trainee import Trainee

_LIBRARIES = ("torch", "transformers", "sae-lens", "numpy")
_RESULT = "result"
_AFTERWARDS = ("report_tokens", "ce_tokens", "save_dtype")
"""Keys that training does not see: with others the same unfinished training goes on."""


class _Text(NamedTuple):
    """A corpus, found and cut."""

    corpus: Corpus
    pieces: Pieces


def train_sae(spec: SaeSpec, out: Path, watch: Watcher = silent, fresh: bool = False) -> Path:
    """Train, measure and save the SAE of a spec as the folder `out`, or its several SAEs as folders in it.

    SAELens loads each as it is; each has its own `spec.toml` and `report.json`. `out` appears whole or not at all, and
    is returned. The same call goes on with what a kill left, unless `fresh` throws that away; another spec is refused.
    """
    out = out.absolute()
    with alone_in(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} already holds something", "Name a new folder, or move the old one away.")
        ensure(out.parent)
        with _tidy(part_folder(out)):
            return _train(spec, out, watch, fresh)


def _train(spec: SaeSpec, out: Path, watch: Watcher, fresh: bool) -> Path:
    info = find_model(_model_place(spec))
    _check_model(spec, info)
    corpora = [find(entry.data, spec.base, entry.columns, entry.rows_per_chat) for entry in spec.corpus]
    text = {corpus.name: corpus.sha256 for corpus in corpora}
    plain = {key: value for key, value in _comparable(spec).items() if key not in _AFTERWARDS}
    started_with = {"spec": plain, "text": text, "model": info.revision}
    checkpoint = Checkpoint(part_folder(out), started_with, fresh)
    _check_room(spec, info, out)
    texts = _cut(corpora, info, spec, watch)
    watch(Progress("loading the model", 0, 0))
    reader = Reader(_load(info, spec))
    held_out = drawn([own.pieces.held_out for own in texts], spec.report_tokens)
    longest = max(one.tokens for one in spec.each().values())
    total = longest + sum(len(piece.ids) for own in held_out for piece in own)
    run = _pass(spec, reader, [own.pieces for own in texts], checkpoint, watch, total)
    started, result = time.monotonic(), checkpoint.folder / _RESULT
    with _disk_told(out):
        candidates = _save_all(run, result)

    def told(step: Progress) -> None:
        watch(Progress(step.stage, longest + step.done, total))

    sums = measure_quality(reader, candidates, held_out, spec.ce_tokens, told)
    minutes = {"training": run.seconds, "measuring": time.monotonic() - started}
    with _disk_told(out):
        for trainee in run.trainees:
            report = _report(spec, info, texts, run, trainee, sums[trainee.name])
            report["minutes"] = {name: round(seconds / 60, 1) for name, seconds in minutes.items()}
            atomic_json(result / trainee.name / "report.json", report)
            (result / trainee.name / "spec.toml").write_text(trainee.spec.to_toml(), encoding="utf-8")
        if out.exists():
            out.rmdir()
        result.rename(out)
    checkpoint.clear()
    return out


def _pass(
    spec: SaeSpec, reader: Reader, pieces: list[Pieces], checkpoint: Checkpoint, watch: Watcher, total: int
) -> Pass:
    """All SAEs trained, from the start or from the checkpoint."""
    shares = [entry.share for entry in spec.corpus]
    groups = batches(mixed([own.training for own in pieces], shares, spec.seed), spec.seed)
    each = spec.each()
    stream = Stream(reader, groups, len(pieces), sorted({one.layer for one in each.values()}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        if checkpoint.state is None:
            scales = stream.first_look(spec.outliers)
        trainees = [Trainee(name, one, reader) for name, one in each.items()]
        run = Pass(trainees, stream, checkpoint, watch)
        if checkpoint.state is None:
            run.begin(scales)
        else:
            run.go_on(checkpoint.state, checkpoint.tensors())
            watch(Progress(f"going on after {run.done:,} tokens", run.done, total))
        run.run(total)
    return run


@contextmanager
def _disk_told(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise disk_trouble(out, error) from error


@contextmanager
def _tidy(part: Path) -> Iterator[None]:
    """Leave no half-made result, and no empty folder."""
    shutil.rmtree(part / _RESULT, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(part / _RESULT, ignore_errors=True)
        with suppress(OSError):
            part.rmdir()


def _check_model(spec: SaeSpec, info: ModelInfo) -> None:
    if info.adapter:
        raise UserError(f"{spec.model} is an adapter", "Merge it into its model with PEFT and name that folder.")
    for name, one in spec.each().items():
        if one.layer >= info.layers:
            raise UserError(
                f"{f'[[sae]] {name}: there' if name else 'There'} is no layer {one.layer} in {spec.model}: "
                f"it has layers 0 to {info.layers - 1}",
                f"The middle is layer {info.layers // 2}.",
            )


def _check_room(spec: SaeSpec, info: ModelInfo, out: Path) -> None:
    """The state of every SAE: two matrices with two moments each in float32, old and new beside each other."""
    needed = sum(one.width for one in spec.each().values()) * info.width * 2 * 3 * 4 * 2
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise UserError(
            f"There is too little room in {out.parent}: training keeps {needed / 1e6:,.0f} MB there, "
            f"{free / 1e6:,.0f} MB are free",
            "Free some space, or name a folder on another disk.",
        )


def _comparable(value: Any) -> Any:
    """A spec as plain values."""
    if is_dataclass(value):
        return {own.name: _comparable(getattr(value, own.name)) for own in fields(value) if own.name != "base"}
    return [_comparable(entry) for entry in value] if isinstance(value, tuple) else value


def _cut(corpora: list[Corpus], info: ModelInfo, spec: SaeSpec, watch: Watcher) -> list[_Text]:
    tokenizer = load_tokenizer(info)
    found = []
    for number, corpus in enumerate(corpora):
        watch(Progress(f"reading {corpus.name}", 0, 0))
        found.append(_Text(corpus, cut(corpus, number, tokenizer, min(spec.context, info.context))))
    return found


def _model_place(spec: SaeSpec) -> str:
    beside = spec.base / spec.model
    return str(beside) if not Path(spec.model).is_absolute() and beside.is_dir() else spec.model


def _load(info: ModelInfo, spec: SaeSpec) -> Any:
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
    model = model.to(device)
    attention.install(model)
    if device == "cpu":
        keep_memory()
    return model


def _save_all(run: Pass, result: Path) -> dict[str, Candidate]:
    limits, found = run.stream.limits, {}
    for one in run.trainees:
        sae = _save(one.finished(), ensure(result / one.name), one.spec)
        found[one.name] = Candidate(sae, one.spec.layer, limits[one.spec.layer])
    return found


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
    spec: SaeSpec, info: ModelInfo, texts: list[_Text], run: Pass, trainee: Trainee, sums: list[QualitySums]
) -> dict[str, Any]:
    names = [own.corpus.name for own in texts]
    read = trainee.read or {"tokens": run.stream.tokens, "left_out": run.stream.dropped[trainee.spec.layer]}
    used = map(_corpus_line, texts, read["tokens"])
    dtype = str(run.stream.reader.model.dtype).removeprefix("torch.")
    beside = [other.name for other in run.trainees if other is not trainee]
    return {
        "held_out": sum(sums[1:], sums[0]).numbers(),
        "by_source": {name: own.numbers() for name, own in zip(names, sums, strict=True)},
        "corpora": dict(zip(names, used, strict=True)),
        "tokens_trained": trainee.trainer.n_training_samples,
        "tokens_read": sum(read["tokens"]),
        "dead_share": round(trainee.dead_share(), 5),
        "sinks_left_out": read["left_out"],
        "sink_norm": round(run.stream.limits[trainee.spec.layer], 2),
        "seed": spec.seed,
        "model": {"name": Path(spec.model).name, "revision": info.revision, "dtype": dtype},
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads, {run.stream.reader.device.type}",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in _LIBRARIES},
        "trained_in_one_pass_with": beside,
        "gone_on_with": run.begun - 1,
    }


def _corpus_line(text: _Text, used: int) -> dict[str, Any]:
    once = _tokens(text.pieces.training)
    return {
        "sha256": text.corpus.sha256, "tokens_read": used, "passes": round(used / once, 2), "tokens_once": once,
        "tokens_held_out": _tokens(text.pieces.held_out),
    }  # fmt: skip


def _tokens(pieces: list[Piece]) -> int:
    return sum(len(piece.ids) for piece in pieces)
