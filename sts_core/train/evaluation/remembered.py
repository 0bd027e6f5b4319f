"""What a model has already been scored on: the model before a training is the same one every time.

A set's rows are kept by a key of everything they follow from: the model's revision, the number format and device, the
metrics, the program's scoring, and every token that is put to the model. Whatever differs is scored anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sts_core import folders
from sts_core.nets.describe import ModelInfo
from sts_core.progress import Watcher
from sts_core.results.outcomes.rows import BEFORE, FILE, RowValue, read_rows, write_rows
from sts_core.train.evaluation.evaluate import Prepared, score_rows
from sts_core.train.evaluation.pieces import Asked

SCORING = 1
"""Raised whenever the same model and tokens would be given other values."""


def score_or_recall(
    load: Callable[[], Any], info: ModelInfo, how: tuple[str, str], prepared: Prepared, metrics: Sequence[str],
    watch: Watcher, phase: str,
) -> list[RowValue]:  # fmt: skip
    """The metrics of every row, set after set; what is not kept yet is scored (`load` gives the model) and kept.

    `how` is the device and the number format.
    """
    places = _places(info, how, prepared, metrics)
    new = _not_at(places, prepared)
    if new.asked:
        scored = score_rows(load(), new, metrics, watch, phase)
        for name in new.asked:
            write_rows(places[name], BEFORE, [row for row in scored if row.set == name])
    return [
        RowValue(*row)
        for place in places.values()
        for row in read_rows(place)[["set", "row", "metric", "value"]].itertuples(index=False)
    ]


def missing(info: ModelInfo, how: tuple[str, str], prepared: Prepared, metrics: Sequence[str]) -> Prepared:
    """The sets that this model was not scored on yet."""
    return _not_at(_places(info, how, prepared, metrics), prepared)


def _not_at(places: dict[str, Path], prepared: Prepared) -> Prepared:
    return Prepared({name: own for name, own in prepared.asked.items() if not (places[name] / FILE).is_file()}, {})


def _places(info: ModelInfo, how: tuple[str, str], prepared: Prepared, metrics: Sequence[str]) -> dict[str, Path]:
    return {name: _place(info, how, metrics, name, asked) for name, asked in prepared.asked.items()}


def _place(info: ModelInfo, how: tuple[str, str], metrics: Sequence[str], name: str, asked: list[Asked]) -> Path:
    made_of = [
        SCORING, info.name, info.revision, how, list(metrics), name, version("torch"), version("transformers"),
        [[one.question.row, one.question.gold, one.letters_at, one.text_at, one.pieces] for one in asked],
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(made_of).encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return folders.cache() / "evaluated" / key
