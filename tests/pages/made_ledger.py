"""Runs with a prediction, as their workers leave them: real job folders and events, scores and changes by the test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sts_core.folders import atomic_json, ensure, jobs
from sts_core.jobs.events import append_event
from sts_core.jobs.folder import RESULT, create, now
from sts_core.jobs.process import created

MEASURE = "STS act, signed harm in answer log-likelihood, Spearman"
KEY = "0123456789abcdef0123"
ITEMS = 40


def make_foretold(
    scores: Mapping[str, Any],
    harm: Mapping[str, Any] | None,
    *,
    title: str = "a run",
    state: str = "done",
    key: str = KEY,
    measure: str | None = MEASURE,
    data: str = "gsm-symbolic",
    sha: str = "",
    first: str = "prediction",
    told: int | None = None,
    steps: int = 3,
    dims: Any = tuple(range(100)),
    rows: Any = None,
    **spec: Any,
) -> str:
    """A run whose prediction names these scores and whose domains came to this harm; its id.

    `first="step"` writes the prediction after the first step, `told` breaks the evaluation off after so many domains,
    `rows` are the scores as they are written where they are to be another form.
    """
    jobs()
    standing: dict[str, Any] = {"started": now(), "stage": "training", "done": steps, "total": 3, "unit": "steps"}
    if state == "running":
        standing |= {"pid": os.getpid(), "pid_started": created(os.getpid())}
    elif state != "waiting":
        standing |= {"ended": now(), **({"error": "The loss is not finite"} if state == "failed" else {})}
    asked = {
        "model": "smollm2-135m-instruct",
        "learning_rate": 2e-4,
        "target": {"data": data},
        "prediction": key,
        **spec,
    }
    folder = create({"kind": "sft", "title": title, "spec": asked, "options": {}}, {"state": state, **standing})
    append_event(folder, "created", kind="sft", title=title)
    if first == "prediction":
        foretell(folder, scores, key, measure, dims, rows)
    if harm is not None:
        evaluate(folder, "before", dict.fromkeys(harm, 1.0))
    for step in range(1, steps + 1):
        append_event(folder, "step", step=step, loss=1 / step)
    if first == "step":
        foretell(folder, scores, key, measure, dims, rows)
    if harm is not None:
        kept = dict(list(harm.items())[:told])
        evaluate(folder, "after", {name: 1.0 + value if value is not None else None for name, value in kept.items()})
        evaluate(folder, "change", kept)
    if sha:
        atomic_json(ensure(folder / RESULT) / "started_with.json", {"data": sha})
    return folder.name


def foretell(
    folder: Path, scores: Mapping[str, Any], key: str, measure: str | None, dims: Any = (), rows: Any = None
) -> None:
    """Write a prediction down."""
    written = [
        {"domain": name, "metric": metric, "value": value * sign, "se": 0.01}
        for name, value in scores.items()
        for metric, sign in (("sts_act", 1), ("sts_icl", -1))
    ]
    append_event(
        folder, "prediction", key=key, dims=list(dims) if isinstance(dims, tuple) else dims,
        scores=written if rows is None else rows, **({} if measure is None else {"measure": measure}),
    )  # fmt: skip


def evaluate(folder: Path, phase: str, values: Mapping[str, Any], metrics: Sequence[str] = ("nll", "accuracy")) -> None:
    """Tell one phase of an evaluation: harm is the rise of nll, and twice its size the fall of accuracy in points."""
    for name, value in values.items():
        for metric in metrics:
            accuracy = value if phase == "before" or value is None else -0.02 * value
            number = value if metric == "nll" else accuracy
            append_event(
                folder, "evaluation", phase=phase, domain=name, metric=metric, value=number, se=0.02, n=ITEMS,
                source="own",
            )  # fmt: skip


def evaluate_again(run: str, harm: Mapping[str, Any], model: str = "result/model") -> str:
    """A later evaluation of a run's final model, a job of its own; its id."""
    spec = {"model": "smollm2-135m-instruct", "tuned": str(jobs() / run / model), "rows": ITEMS}
    standing = {"state": "done", "started": now(), "ended": now()}
    folder = create({"kind": "eval", "title": "evaluated again", "spec": spec, "options": {}}, standing)
    for phase, values in (("before", dict.fromkeys(harm, 1.0)), ("after", {k: 1.0 + v for k, v in harm.items()})):
        evaluate(folder, phase, values, ["nll"])
    return folder.name
