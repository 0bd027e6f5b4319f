"""Everything a report tells, read from a finished result and, where there is one, from what really happened.

Nothing is measured here: scores, correlations and overlaps are those of the pages and commands, from the same vectors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sts_core.errors import UserError
from sts_core.results.actual import SHIFT, Actual, Given, read_actual
from sts_core.results.agreement import ALL, PAPER8, PRIMARY_N, Agreement, hold_against
from sts_core.results.folder import TARGET
from sts_core.results.labels import labels_of
from sts_core.results.overlap import Comparison, compare
from sts_core.results.spread import Spread, held_by, read_spread, size_of
from sts_core.results.vectors import Vectors
from sts_core.stats.jackknife import Estimate

LISTED = 25
"""Features that stand in the table."""


class Feature(NamedTuple):
    """One of the most shifted features."""

    rank: int
    feature: int
    label: str
    """Empty where it has none."""
    judge: str
    detection: float
    """NaN where it was not measured."""
    human: bool
    shift: float
    signed: float
    rate_base: float
    rate_icl: float
    domain: str
    """Where it is most active; empty where it is silent."""


class Gathered(NamedTuple):
    """What the report is made of."""

    manifest: Mapping[str, Any]
    n: int
    """How many features the scores average over."""
    features: int
    scores: pd.DataFrame
    """`domain, metric, value, se, tokens, items`."""
    target_size: tuple[int, int]
    """Tokens and questions of the target set."""
    spread: Spread
    held: Estimate | None
    """What the n hold of the shift; None where nothing moved."""
    leading: list[Feature]
    agreement: Agreement | None
    actual: Actual | None
    overlap: Comparison | None
    run: Mapping[str, Any] | None
    """The fine-tune's manifest, where what happened is a run of this program."""
    mixture: Mapping[str, Any] | None = None
    """The manifest of the mixture that it was trained on, where it was one and it is still here."""


def gather(
    folder: Path, given: Given | None = None, metric: str | None = None, name: str = "", seed: int = 0
) -> Gathered:
    """Read a result's folder, and hold it against what happened where that is given; `name` is what that is called."""
    result = Vectors(folder)
    spread = read_spread(folder)
    n = min(PRIMARY_N, len(spread.order))
    actual = None if given is None else read_actual(given, metric)
    if actual is not None and name and not actual.from_paper:
        actual = actual._replace(source=name)
    if actual is not None:
        actual = actual.beside(result.manifest)
    agreement = None if actual is None else hold_against(result, actual, n=n, filters=(ALL, PAPER8), seed=seed)
    run = None if actual is None or actual.folder is None else _table(actual.folder / "manifest.json")
    shifted = actual is not None and actual.folder is not None and (actual.folder / SHIFT).is_file()
    return Gathered(
        manifest=result.manifest,
        n=n,
        features=len(spread.order),
        scores=result.scores(n=n),
        target_size=size_of(folder, TARGET),
        spread=spread,
        held=held_by(folder, spread.order[:n]) if spread.moved else None,
        leading=_leading(result, spread),
        agreement=agreement,
        actual=actual,
        overlap=compare(folder, actual.folder, seed=seed) if shifted and actual and actual.folder else None,
        run=run or None,
        mixture=_mixture(actual, run),
    )


def _mixture(actual: Actual | None, run: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A run that ships has it beside its result, any other names where it lies."""
    data = part(run, "spec", "target", "data")
    if actual is None or actual.folder is None or not actual.mixed or not isinstance(data, str):
        return None
    return _table(actual.folder.parent / data) or None


def part(values: Mapping[str, Any] | None, *keys: str) -> Any:
    """A value deep in a table that other hands may have written; None where it does not go that far."""
    value: Any = values
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _leading(result: Vectors, spread: Spread) -> list[Feature]:
    """The first features by shift: what moved them, where they live, what they are called."""
    first = spread.order[: min(LISTED, spread.moved)]
    if not len(first):
        return []
    shift = result.shift.set_index("feature").loc[first]
    means = result.means("sts_act", np.asarray(first, dtype=np.int64)).fillna(0.0)
    labels = _labels(result.manifest)
    found = []
    for rank, feature in enumerate(int(one) for one in first):
        row, label, levels = shift.loc[feature], labels.get(feature, {}), means[feature]
        found.append(
            Feature(
                rank + 1, feature, _text(label.get("label")), _text(label.get("judge")),
                _number(label.get("detection")), bool(label.get("human")),
                float(row["shift_icl"]), float(row["signed_icl"]), float(row["rate_base"]), float(row["rate_icl"]),
                str(levels.idxmax()) if levels.max() > 0 else "",
            )
        )  # fmt: skip
    return found


def _labels(manifest: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    sae, model = (part(manifest, "resolved", name, "revision") for name in ("sae", "model"))
    if not isinstance(sae, str) or not sae:
        return {}
    try:
        table = labels_of(sae, model if isinstance(model, str) and model else None)
    except UserError:  # a revision that can name no folder has no labels either
        return {}
    return {int(row["feature"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _table(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
