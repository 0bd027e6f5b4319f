"""A fine-tune from end to end: prediction written down, scored before, trained, watched at checkpoints, scored after.

Beside what the training leaves (`training`) its folder holds

prediction.json       what was foretold, written before the first step and never again
rows.parquet          the scores before and after, row by row
shift/step-000020/    what had really shifted at that checkpoint (`measure.tuned`)
shift.parquet         the same of the last one, with groups.safetensors

Whatever is there already is not done again: the same call goes on with what a kill left.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import STARTED, atomic_json, ensure
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.folder import Result
from sts_core.results.outcomes.reading import OWN
from sts_core.results.outcomes.rows import AFTER, BEFORE, FILE, RowValue, changes, read_rows, scores
from sts_core.train.evaluation.sets import EvalSet
from sts_core.train.sft.beforehand import check_prediction
from sts_core.train.sft.costs import HOLD, SCORE, Course, Timed
from sts_core.train.sft.plan import course_of
from sts_core.train.sft.spec import SftSpec
from sts_core.train.sft.trainer import Tell

PREDICTION, SHIFT = "prediction.json", "shift"
MEASURE = "STS act, signed harm in answer log-likelihood, Spearman"
"""What the prediction will be judged by, fixed before looking (METHOD 6)."""
TOP = 100
_POINT = "point.json"


def run_sft(spec: SftSpec, out: Path, watch: Watcher = silent, tell: Tell = lambda _event, _details: None) -> Path:
    """Do all of it, or go on with it; `tell` hears every event, again what was told before a kill."""
    from sts_core.train.sft.training import train

    ensure(out)
    watch(Progress("reading the rows", 0, 0))
    course = course_of(spec, watch)
    prediction = _foretell(spec, out, tell)
    sets = _unscored_sets(spec, out)
    _evaluate(spec, sets, out, BEFORE, spec.model, course.timed(SCORE, course.before), tell)
    watching = _Watching(prediction, spec, out, course, tell) if prediction else None
    trained = train(spec, out, course.train, tell, watching.at_checkpoint if watching else lambda _step, _folder: None)
    if watching:
        watching.finish()
    _evaluate(spec, sets, out, AFTER, str(trained.model), course.timed(SCORE, course.after), tell)
    return out


def _foretell(spec: SftSpec, out: Path, tell: Tell) -> Path | None:
    """Write the prediction down, once; where the result lies, None where nothing was foretold."""
    folder = check_prediction(spec)
    if folder is None:
        return None
    result = Result(folder)
    path = out / PREDICTION
    if not path.is_file():
        if (out / STARTED).is_file():
            raise UserError(
                "This run began without a prediction, so none can be written before its first step any more",
                "Take the prediction out of the settings, or start a new run.",
            )
        atomic_json(path, _told(result))
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["key"] != result.manifest.get("key"):
        raise UserError(
            f"This run was started with the prediction {told['key']}, not {result.manifest.get('key')}",
            "A prediction cannot be changed after launch; start a new run.",
        )
    tell("prediction", {name: told[name] for name in ("key", "dims", "scores", "measure")})
    return folder


def _told(result: Result) -> dict[str, Any]:
    scores = result.scores(n=min(TOP, len(result.shift)))
    leading = result.shift.sort_values(["shift_icl", "feature"], ascending=[False, True])["feature"].head(TOP)
    return {
        "key": result.manifest["key"], "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "dims": [int(feature) for feature in leading],
        "scores": [
            {"domain": row["domain"], "metric": row["metric"], "value": row["value"], "se": _number(row["se"])}
            for row in scores.to_dict("records")
        ],
        "measure": MEASURE,
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


class _Watching:
    """Holds every checkpoint against the prediction."""

    def __init__(self, prediction: Path, spec: SftSpec, out: Path, course: Course, tell: Tell) -> None:
        self._prediction, self._spec, self._out = prediction, spec, out
        self._course, self._tell = course, tell
        self._missed: dict[int, Path] = {}
        self._held: Any = None
        self._told: set[str] = set()

    def at_checkpoint(self, step: int, folder: Path) -> None:
        """Measure what has really shifted by then; where the memory is too small beside the training, afterwards."""
        import torch

        try:
            self._measure(step, folder)
        except (torch.OutOfMemoryError, MemoryError):
            self._missed[step] = folder
            self._tell("trajectory postponed", {"at": step, "why": "the memory is too small beside the training"})

    def finish(self) -> None:
        """What was postponed; then the last checkpoint's shift becomes the run's."""
        for step, folder in self._missed.items():
            if folder.is_dir():
                self._measure(step, folder)
        done = sorted(path for path in (self._out / SHIFT).glob("step-*") if (path / _POINT).is_file())
        for place in done:
            self._tell_point(place)
        if not done:
            return
        for name in ("shift.parquet", "groups.safetensors"):
            part = self._out / f".{name}.part"
            shutil.copyfile(done[-1] / name, part)
            os.replace(part, self._out / name)
        last, own = (_json(folder / "manifest.json") for folder in (done[-1], self._out))
        atomic_json(self._out / "manifest.json", {
            **own, "prediction": last["prediction"], "resolved": last["resolved"], "sets": last["sets"],
            "holds": last["holds"], "measured": last["spec"],
        })  # fmt: skip

    def _measure(self, step: int, folder: Path) -> None:
        from sts_core.measure.tuned import Watch, trajectory_point

        place = self._out / SHIFT / folder.name
        if not (place / _POINT).is_file():
            self._held = self._held or Watch(self._prediction, self._spec.device)
            with self._course.timed(HOLD, self._course.hold) as watch:
                tuned = self._held.measure(str(folder), place, watch)
            atomic_json(place / _POINT, trajectory_point(self._prediction, tuned))
        self._tell_point(place)

    def _tell_point(self, place: Path) -> None:
        """Once in every sitting, also what an earlier one measured and may not have told."""
        if place.name not in self._told:
            self._told.add(place.name)
            self._tell("trajectory", {"step": int(place.name.removeprefix("step-")), **_json(place / _POINT)})


def _unscored_sets(spec: SftSpec, out: Path) -> list[EvalSet]:
    """What is left to be evaluated, read before the training: a file may be moved while it lasts."""
    from sts_core.train.sft.evaluated import evaluation_sets

    return [] if _scored(out, BEFORE) and _scored(out, AFTER) else evaluation_sets(spec).sets


def _evaluate(
    spec: SftSpec, sets: Sequence[EvalSet], out: Path, phase: str, model: str, timed: Timed, tell: Tell
) -> None:
    """Score the domains and the target set's own rows; after the training also what changed, row against row."""
    from sts_core.train.evaluation.evaluate import evaluate

    wanted = spec.evaluate
    if not wanted.domains and not wanted.target_rows:
        return
    if not _scored(out, phase):
        with timed as watch:
            evaluate(
                model, sets, out, spec.device, spec.dtype, watch, phase=phase, metrics=wanted.metrics,
                remember=phase == BEFORE,
            )  # fmt: skip
    frame = read_rows(out)
    own = frame[frame["phase"] == phase]
    for one in scores(RowValue(*row) for row in own[["set", "row", "metric", "value"]].itertuples(index=False)):
        _tell_score(tell, phase, one.set, one.metric, one.value, one.se, one.n)
    for change in changes(frame) if phase == AFTER else []:
        _tell_score(tell, "change", change.set, change.metric, change.change, change.se, change.n)


def _scored(out: Path, phase: str) -> bool:
    return (out / FILE).is_file() and bool((read_rows(out)["phase"] == phase).any())


def _tell_score(tell: Tell, phase: str, domain: str, metric: str, value: float, se: float | None, n: int) -> None:
    tell("evaluation", {
        "phase": phase, "domain": domain, "metric": metric, "value": value, "se": se, "n": n, "source": OWN,
    })  # fmt: skip


def _json(path: Path) -> Mapping[str, Any]:
    value: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
