"""Questions of several sets as token ids, ready to be put to a model; needs its tokenizer and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sts_core.errors import UserError, nearest
from sts_core.train.evaluation.pieces import Asked, Writer
from sts_core.train.evaluation.sets import EvalSet, names
from sts_core.train.evaluation.spec import DEFAULT_METRICS, METRICS


class Prepared(NamedTuple):
    """The questions of all sets as token ids, and why some are left out."""

    asked: dict[str, list[Asked]]
    dropped: dict[str, dict[str, int]]

    @property
    def tokens(self) -> int:
        """Tokens that go through the model."""
        return sum(len(piece.ids) - 1 for asked in self.asked.values() for one in asked for piece in one.pieces)


def prepare(
    sets: Sequence[EvalSet], tokenizer: Any, context: int, metrics: Sequence[str] = DEFAULT_METRICS
) -> Prepared:
    """Write every question with this tokenizer; a set of which nothing can be asked is refused."""
    names(sets)
    check_metrics(metrics)
    writer = Writer(tokenizer, context)
    prepared = Prepared({}, {})
    for one in sets:
        asked, dropped = writer.ask(one, "nll_text" in metrics)
        if not asked:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in dropped.items())
            raise UserError(f"{one.name}: no row can be asked ({reasons})", "Check the rows, or lower demos.")
        prepared.asked[one.name], prepared.dropped[one.name] = asked, dropped
    return prepared


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse a metric that is not known."""
    unknown = next((metric for metric in metrics if metric not in METRICS), None)
    if unknown is not None or not metrics:
        close = nearest(str(unknown), METRICS) if metrics else ""
        raise UserError(
            f"There is no metric {unknown!r}{close}" if metrics else "No metric is asked for",
            f"Choose from: {', '.join(METRICS)}.",
        )
