"""The sceptic's baseline: train a few steps, and see how far each domain's answers have become less likely.

It is no prediction without training, but a cheap one: what it cost is told beside it. Nothing of the training is kept
but what it did. It is scored on questions that the result was measured on, never on those a fine-tune is judged by.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sts_core.folders import disk_trouble
from sts_core.progress import Watcher
from sts_core.results.outcomes.rows import AFTER, BEFORE, Change, changes, read_rows
from sts_core.spec_file import read_table
from sts_core.train.baselines.work import METRICS, Probe
from sts_core.train.evaluation.evaluate import evaluate
from sts_core.train.sft.training import MANIFEST, train


class Done(NamedTuple):
    """What came of it."""

    changes: list[Change]
    """A set and metric each."""
    seconds: dict[str, float]
    """Of the training and of both scorings, the models' loading included."""
    told: dict[str, Any]
    """For the manifest: settings, losses, the rows of both sides, every question's values."""


def run_probe(probe: Probe, sitting: Path, watch: Watcher) -> Done:
    """Score, train, score again, in a folder that is empty before and gone afterwards."""
    spec, losses = probe.spec, list[float]()
    seconds: dict[str, float] = {}

    def heard(event: str, details: dict[str, Any]) -> None:
        if event == "step":
            losses.append(float(details["loss"]))

    def score(model: str, phase: str) -> None:
        evaluate(model, probe.sets, sitting, spec.device, spec.dtype, watch, phase=phase, metrics=METRICS)

    shutil.rmtree(sitting, ignore_errors=True)
    try:
        with _timed(seconds, "scoring before"):
            score(spec.model, BEFORE)
        with _timed(seconds, "training"):
            trained = train(spec, sitting / "training", watch, heard)
        with _timed(seconds, "scoring after"):
            score(str(trained.model), AFTER)
        rows = read_rows(sitting)
        made = read_table(trained.model.with_name(MANIFEST))
    except OSError as error:
        raise disk_trouble(sitting, error) from error
    finally:
        shutil.rmtree(sitting, ignore_errors=True)
    told = {
        "probe": spec.to_dict(), "losses": losses, "train_rows": made["rows"]["train_rows"],
        "device": made["device"], "dtype": made["dtype"], "nll": _by_row(rows),
        "scored_rows": {one.name: [question.row for question in one.questions] for one in probe.sets},
    }  # fmt: skip
    return Done(changes(rows), seconds, told)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = time.monotonic() - began


def _by_row(rows: pd.DataFrame) -> dict[str, list[tuple[int, float, float]]]:
    """Set -> row, before and after of every question."""
    wide = rows.pivot(index=["set", "row"], columns="phase", values="value").reset_index()
    return {
        str(name): [(int(one["row"]), float(one[BEFORE]), float(one[AFTER])) for one in part.to_dict("records")]
        for name, part in wide.groupby("set", sort=False)
    }
