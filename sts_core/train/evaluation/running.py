"""An evaluation from its spec: one model, or the one before and the one after.

The folder that comes out holds `rows.parquet` (every row's values, of both sides), lm-eval's own files where it was
asked, and `evaluation.json`, which is written last. `sts import` takes the folder as it is.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import alone_in, atomic_json, disk_trouble, ensure
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.device import choose_device, choose_dtype, hand_back, steady_memory
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.outcomes.outcome import Level, Outcome, pair
from sts_core.results.outcomes.reading import OWN, own_outcomes
from sts_core.results.outcomes.rows import AFTER, BEFORE, Score, scores, write_rows
from sts_core.train.evaluation.evaluate import score_rows
from sts_core.train.evaluation.harness import check_tasks, run_harness
from sts_core.train.evaluation.models import load_language_model
from sts_core.train.evaluation.preparing import Prepared, prepare
from sts_core.train.evaluation.sets import EvalSet
from sts_core.train.evaluation.spec import EvalSpec

FILE = "evaluation.json"
Tell = Callable[..., Any]
"""Hears an event's name and its details."""


class Evaluation(NamedTuple):
    """What came out."""

    folder: Path
    scores: dict[str, list[Score]]
    """Phase -> our own scorer's means."""
    levels: dict[str, list[Level]]
    """Phase -> what lm-eval found."""
    outcomes: list[Outcome]
    """What changed; empty when one model alone was evaluated."""
    warnings: list[str]


def run_evaluation(
    spec: EvalSpec, out: Path, watch: Watcher = silent, tell: Tell | None = None, fresh: bool = False
) -> Evaluation:
    """Evaluate, and write the folder; `tell` hears an `evaluation` event a score, as soon as it is known.

    A folder with another evaluation in it is refused, unless it is to be done `fresh`.
    """
    began = time.monotonic()
    if not fresh:
        _refuse_another(spec, out)
    places = {BEFORE: spec.model, **({AFTER: spec.tuned} if spec.tuned is not None else {})}
    infos = {phase: find_model(place) for phase, place in places.items()}
    _check_fits(infos)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    sets = spec.sets()
    prepared = {phase: _prepare(info, sets, spec) for phase, info in infos.items()} if sets else {}
    if spec.harness is not None:
        watch(Progress("looking for lm-eval's tasks", 0, 0))
        check_tasks(spec.harness)
    ensure(out)
    try:
        with alone_in(out):
            (out / FILE).unlink(missing_ok=True)
            evaluation = Evaluation(out, {}, {}, [], _warnings(prepared))
            for phase, info in infos.items():
                _evaluate(spec, info, phase, prepared.get(phase), (device, dtype), evaluation, watch, tell)
            evaluation.outcomes.extend(_outcomes(evaluation, spec))
            seconds = round(time.monotonic() - began, 1)
            atomic_json(out / FILE, _public(evaluation, spec, infos, prepared, device, dtype, seconds))
    except OSError as error:
        raise disk_trouble(out, error) from error
    return evaluation


def _refuse_another(spec: EvalSpec, out: Path) -> None:
    try:
        there = json.loads((out / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(there, dict) or there.get("spec") != json.loads(json.dumps(spec.to_dict())):
        raise UserError(f"{out} holds another evaluation", "Name another folder, or replace it with --fresh.")


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` of a finished evaluation says."""
    try:
        value = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{folder} holds no finished evaluation", "Name the --out folder of a finished `sts eval`.")
    return value


def _evaluate(
    spec: EvalSpec, info: ModelInfo, phase: str, prepared: Prepared | None, how: tuple[str, str],
    evaluation: Evaluation, watch: Watcher, tell: Tell | None,
) -> None:  # fmt: skip
    """One side of it."""
    if prepared is not None:
        model = load_language_model(info, *how)
        steady_memory()
        rows = score_rows(model, prepared, spec.metrics, watch, phase)
        del model
        gc.collect()  # before the next model is loaded, or lm-eval loads this one again
        hand_back()
        write_rows(evaluation.folder, phase, rows)
        evaluation.scores[phase] = scores(rows)
        for one in evaluation.scores[phase]:
            _tell(tell, phase, one.set, one.metric, one.value, one.se, one.n, OWN)
    if spec.harness is not None:
        found = run_harness(info, spec.harness, evaluation.folder, *how, spec.seed, phase, watch)
        evaluation.levels[phase] = found
        for level in found:
            _tell(tell, phase, level.domain, level.metric, level.value, level.se, level.n, level.source)


def _tell(tell: Tell | None, phase: str, domain: str, metric: str, value: float, se: float | None, n: int | None,
          source: str) -> None:  # fmt: skip
    if tell is not None:
        tell("evaluation", phase=phase, domain=domain, metric=metric, value=value, se=se, n=n, source=source)


def _check_fits(infos: dict[str, ModelInfo]) -> None:
    before, after = infos[BEFORE], infos.get(AFTER)
    if after is not None and (after.width, after.layers) != (before.width, before.layers):
        raise UserError(
            f"{after.name} has {after.layers} layers, {after.width} wide; {before.name} has {before.layers}, "
            f"{before.width}",
            "Name as tuned a model that was made from the other.",
        )


def _prepare(info: ModelInfo, sets: Sequence[EvalSet], spec: EvalSpec) -> Prepared:
    return prepare(sets, load_tokenizer(info), info.context, spec.metrics)


def _warnings(prepared: dict[str, Prepared]) -> list[str]:
    return [
        f"{name}, {phase}: {count} rows left out ({reason})."
        for phase, one in prepared.items()
        for name, dropped in one.dropped.items()
        for reason, count in dropped.items()
    ]


def _outcomes(evaluation: Evaluation, spec: EvalSpec) -> list[Outcome]:
    if spec.tuned is None:
        return []
    own = own_outcomes(evaluation.folder) if evaluation.scores else []
    theirs = pair(evaluation.levels[BEFORE], evaluation.levels[AFTER]) if evaluation.levels else []
    return own + theirs


def _public(
    evaluation: Evaluation, spec: EvalSpec, infos: dict[str, ModelInfo], prepared: dict[str, Prepared],
    device: str, dtype: str, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    told = [
        {"phase": phase, "domain": s.set, "metric": s.metric, "value": s.value, "se": s.se, "n": s.n, "source": OWN}
        for phase, found in evaluation.scores.items()
        for s in found
    ]
    told += [
        {"phase": phase, **{k: v for k, v in level._asdict().items() if k not in ("rows", "unit", "lower_is_better")}}
        for phase, found in evaluation.levels.items()
        for level in found
    ]
    return {
        "format": 1, "spec": spec.to_dict(), "models": {phase: info.public() for phase, info in infos.items()},
        "device": device, "dtype": dtype, "seconds": seconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "rows": {name: [one.question.row for one in asked] for name, asked in _first(prepared).items()},
        "scores": told,
        "outcomes": [{**one._asdict(), "harm": one.harm, "harm_se": one.harm_se} for one in evaluation.outcomes],
        "warnings": evaluation.warnings,
    }  # fmt: skip


def _first(prepared: dict[str, Prepared]) -> dict[str, Any]:
    return prepared[BEFORE].asked if prepared else {}
