"""Does a label hold? A judge is to tell, from the words alone, on which held-out texts the feature fires.

The idea is Delphi's (EleutherAI): an explanation is as good as it tells activating from non-activating examples it was
not made from. The score is the balanced accuracy, so that always saying yes, or always no, scores one half.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sts_core.judge.held_out import HeldOut, Stretch
from sts_core.judge.judges import Judge
from sts_core.stats.jackknife import MOST_GROUPS, delete_one_group, group_of

EACH_SIDE = 10
"""Activating and silent windows that a chat judge is asked about; the judge that costs nothing is asked about all."""
TOGETHER = 10
"""Windows in one question."""
FEWEST = 5
"""Below so many answered windows on either side there is no score."""


class Detection(NamedTuple):
    """How well a label tells where its feature fires."""

    score: float
    """Balanced accuracy; NaN with too few windows."""
    se: float | None
    active: int
    """Answered windows in which the feature fires."""
    silent: int
    """Answered windows in which it does not."""
    unanswered: int
    """Windows on which the judge's answer said nothing."""
    tokens_in: int = 0
    tokens_out: int = 0

    def public(self) -> dict[str, Any]:
        """As JSON values, for the label's evidence."""
        return {
            "score": None if math.isnan(self.score) else round(self.score, 4),
            "se": None if self.se is None else round(self.se, 4),
            "active": self.active, "silent": self.silent, "unanswered": self.unanswered,
        }  # fmt: skip


def detect(
    judge: Judge, label: str, explanation: str, feature: int, held_out: HeldOut, every_window: bool = False
) -> Detection:
    """Ask a judge about held-out windows: a fixed random choice of both kinds, or every one of them."""
    values = held_out.strongest[:, held_out.features.index(feature)]
    if every_window:
        asked = np.arange(len(values))
    else:
        draw = random.Random(f"{feature}")
        asked = np.array(
            _drawn(np.flatnonzero(values > 0), draw) + _drawn(np.flatnonzero(values <= 0), draw), dtype=int
        )
        draw.shuffle(order := asked.tolist())
        asked = np.array(order, dtype=int)
    fires = values[asked] > 0
    if min(int(fires.sum()), int((~fires).sum())) < FEWEST:  # no answer could make a score of these
        return Detection(math.nan, None, int(fires.sum()), int((~fires).sum()), 0)
    windows = [held_out.windows[i] for i in asked]
    said: list[bool | None] = []
    tokens_in = tokens_out = 0
    step = len(windows) if every_window else TOGETHER
    for start in range(0, len(windows), step):
        part = windows[start : start + step]
        guesses = judge.guess(label, explanation, part)
        said += guesses.fires if guesses.fires is not None else [None] * len(part)
        tokens_in, tokens_out = tokens_in + guesses.tokens_in, tokens_out + guesses.tokens_out
    cut_from = {text: number for number, text in enumerate(dict.fromkeys((w.source, w.row) for w in windows))}
    pieces = [cut_from[window.source, window.row] for window in windows]
    return balanced(fires, said, pieces)._replace(tokens_in=tokens_in, tokens_out=tokens_out)


def balanced(fires: NDArray[np.bool_], said: Sequence[bool | None], pieces: Sequence[int] | None = None) -> Detection:
    """½ (share of activating windows said to be + share of silent windows said not to be), over those answered.

    `pieces` says which text each window is cut from (each its own when left out). The error is the larger of two: the
    delete-one-group jackknife over the texts, since windows of one text are not independent (METHOD 5), and
    √(¼ Σ over both sides of q(1−q)/n) with q = (right + 1)/(n + 2), so that a side all right still has an error.
    It is None where too few texts tell.
    """
    answered = np.array([guess is not None for guess in said], dtype=bool)
    truth = fires[answered]
    right = truth == np.array([guess for guess in said if guess is not None], dtype=bool)
    place = np.arange(len(fires)) if pieces is None else np.asarray(pieces)
    columns = np.stack([right & truth, truth, right & ~truth, ~truth], axis=1).astype(float)
    hits, active, passed, silent = columns.sum(axis=0)
    counted = Detection(math.nan, None, int(active), int(silent), int((~answered).sum()))
    if min(active, silent) < FEWEST:
        return counted
    texts = np.unique(place[answered], return_inverse=True)[1]
    items = int(texts.max()) + 1
    groups = np.array([group_of(item, items) for item in range(items)])[texts]
    sums = np.zeros((MOST_GROUPS, 4))
    np.add.at(sums, groups, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = delete_one_group(lambda s, _: float(s[0] / s[1] + s[2] / s[3]) / 2, sums, sums.sum(axis=1), items)
    smoothed = [((n + 1) / (of + 2), of) for n, of in ((hits, active), (passed, silent))]
    least = math.sqrt(sum(q * (1 - q) / of for q, of in smoothed)) / 2
    known = found.se is not None and math.isfinite(found.se)
    return counted._replace(score=found.value, se=max(found.se or 0.0, least) if known else None)


def fingerprint(windows: Sequence[Stretch]) -> str:
    """Names the texts that a score was made on."""
    digest = hashlib.sha256()
    for window in windows:
        digest.update(f"{window.source}\0{window.row}\0{window.start}\0{''.join(window.texts)}\0".encode())
    return digest.hexdigest()[:16]


def _drawn(numbers: NDArray[np.int64], draw: random.Random) -> list[int]:
    return draw.sample(numbers.tolist(), min(EACH_SIDE, len(numbers)))
