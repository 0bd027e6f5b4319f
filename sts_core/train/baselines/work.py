"""What an order comes to on this machine, found out before any weight is loaded: rows, tokens, time (`--plan`)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.measure.gallery_sources import resolved_again, result_sources
from sts_core.measure.plan import expected_rate, forward_tokens, remembered_rate
from sts_core.measure.resolve import Resolved
from sts_core.nets.describe import ModelInfo, check_made_from, find_model
from sts_core.nets.device import choose_device
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.results.folder import TARGET, Result
from sts_core.results.kept_baselines import AFTER, PROBE, RAW, part_path
from sts_core.text.pairs import PairSet
from sts_core.text.prompts import Prompter
from sts_core.train.baselines.order import BaselinesOrder, Run, find_run, probe_spec
from sts_core.train.evaluation.preparing import prepare as prepare_questions
from sts_core.train.evaluation.sets import EvalSet, scored_set
from sts_core.train.sft.plan import plan as plan_training
from sts_core.train.sft.rows import mixture_of
from sts_core.train.sft.spec import SftSpec

METRICS = ("nll",)
_START_UP = 12.0
"""Seconds until a model is loaded."""


class Tuned(NamedTuple):
    """The fine-tuned model that a result's domains are read in."""

    run: Run
    info: ModelInfo


class Probe(NamedTuple):
    """The short training, and what it is scored on."""

    spec: SftSpec
    sets: list[EvalSet]
    plan: dict[str, Any]
    """Of the training."""
    tokens: int
    """Of one scoring."""


class Work(NamedTuple):
    """An order with everything it names found and checked."""

    order: BaselinesOrder
    result: Result
    resolved: Resolved
    """What the result was measured with, but in float32 and on the device of the order."""
    pairs: list[PairSet]
    """The result's very queries: the target set's, then each domain's."""
    tuned: Tuned | None
    probe: Probe | None
    paths: dict[str, Path]
    """Part -> its file."""
    warnings: list[str]


def prepare(order: BaselinesOrder) -> Work:
    """Find and check all that an order names; whatever a person must change is told here."""
    result = Result(Path(order.result).expanduser())
    again = resolved_again(result)
    run = replace(again.spec.run, device=choose_device(order.device), dtype="float32")
    resolved = replace(again, spec=replace(again.spec, run=run))
    tokenizer = load_tokenizer(resolved.model)
    pairs = [source.pairs for source in result_sources(result, resolved, Prompter(tokenizer), None)]
    warnings: list[str] = []
    found = find_run(order.run) if order.run is not None else None
    tuned = None
    if found is not None:
        tuned = Tuned(found, find_model(found.model))
        _check_made_from(resolved.model, tuned)
    probe = None
    if PROBE in order.wanted:
        probe, told = _probe(order, result, resolved, found, tokenizer)
        warnings += told
    work = Work(order, result, resolved, pairs, tuned, probe, {}, warnings)
    return work._replace(paths={part: part_path(result, part, _mark(work, part)) for part in order.wanted})


def plan(order: BaselinesOrder) -> dict[str, Any]:
    """What there is to do, as JSON values; nothing is computed."""
    work = prepare(order)
    rate = expected_rate(work.resolved)
    parts: list[dict[str, Any]] = []
    for part in order.wanted:
        there = work.paths[part].is_file()
        tokens, seconds = _cost(work, part, rate)
        parts.append({
            "part": part, "there": there, "tokens": tokens, "seconds": 0.0 if there else round(seconds, 1),
            "file": work.paths[part].name,
        })  # fmt: skip
    probe = work.probe
    return {
        "result": work.result.manifest["key"], "run": None if work.tuned is None else str(work.tuned.run.folder),
        "domains": len(work.pairs) - 1, "questions": {pairs.name: len(pairs.pairs) for pairs in work.pairs},
        "device": work.resolved.spec.run.device, "parts": parts,
        "probe": None if probe is None else {
            "steps": probe.plan["steps"], "learning_rate": probe.spec.learning_rate,
            "answer": probe.spec.target.answer, "train_rows": probe.plan["rows"]["train"],
            "scored": {one.name: len(one.questions) for one in probe.sets},
        },
        "seconds": round(sum(one["seconds"] for one in parts), 1),
        "rate_measured_here": remembered_rate(work.resolved) is not None
        and (probe is None or bool(probe.plan["work"]["rate_measured_here"])),
        "warnings": work.warnings,
    }  # fmt: skip


def _cost(work: Work, part: str, rate: float) -> tuple[int, float]:
    """Tokens that run through a model for a part, and about how long that takes."""
    if part == PROBE and work.probe is not None:
        trained = work.probe.plan["work"]["seconds"]
        own = int(work.probe.plan["tokens"])
        return own + 2 * work.probe.tokens, trained + 2 * (work.probe.tokens / rate + _START_UP)
    sets = [pairs for pairs in work.pairs if part == RAW or pairs.name != TARGET]
    tokens = sum(forward_tokens(pairs, arms=("base",)) for pairs in sets) * (2 if part == AFTER else 1)
    return tokens, tokens / rate + _START_UP


def _probe(
    order: BaselinesOrder, result: Result, resolved: Resolved, run: Run | None, tokenizer: Any
) -> tuple[Probe, list[str]]:
    spec = probe_spec(order, result, run)
    planned = plan_training(spec)
    queried = {part.name: result.manifest["sets"][part.name]["query_rows"] for part in resolved.spec.domains}
    asked = {part.name: scored_set(part, queried[part.name], order.rows) for part in resolved.spec.domains}
    sets = [one for one in asked.values() if one is not None]
    if not sets:
        raise UserError(
            "No domain of this result has answers, so a short training has nothing to be scored on",
            "Bring files with answers, or leave the probe out: --only raw.",
        )
    told = [
        f"{name}: no question has an answer; the probe leaves it out." for name, one in asked.items() if one is None
    ]
    written = prepare_questions(sets, tokenizer, resolved.model.context, METRICS)
    told += [
        f"{name}: {count} questions cannot be scored ({reason})."
        for name, dropped in written.dropped.items()
        for reason, count in dropped.items()
    ]
    if run is not None and run.spec.get("target") and mixture_of(_target_of(run)) is not None:
        told.append("The run trains on a mixture; the probe trains on the result's target set alone.")
    return Probe(spec, sets, planned, written.tokens), told


def _target_of(run: Run) -> Any:
    return SftSpec.from_dict(run.spec).target


def _check_made_from(base: ModelInfo, tuned: Tuned) -> None:
    """Refuse a model of another shape, and a run of ours that began with another model."""
    check_made_from(base, tuned.info)
    told = tuned.run.manifest.get("model")
    began = told.get("revision") if isinstance(told, dict) else None
    if began is not None and began != base.revision:
        raise UserError(
            f"{tuned.run.folder} was not trained from {base.name} as the result measured it",
            "Name a run of this result's model.",
        )


def _mark(work: Work, part: str) -> str:
    """What tells a part's file apart: the fine-tuned model, or the probe's settings and rows, but not its device."""
    if part == AFTER and work.tuned is not None:
        return work.tuned.info.revision[:16]
    if part == PROBE and work.probe is not None:
        settings = {key: value for key, value in work.probe.spec.to_dict().items() if key != "device"}
        rows = {one.name: [question.row for question in one.questions] for one in work.probe.sets}
        return hashlib.sha256(json.dumps([settings, rows], sort_keys=True).encode()).hexdigest()[:12]
    return ""
