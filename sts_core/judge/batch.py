"""Many features, one judge: asked one by one, kept at once, so that a kill costs at most the question under way.

A feature that was asked the same question before is not asked again, whatever the answer was; one whose answer could
not be had is. An endpoint that keeps failing ends the work with what to do, not with a table full of failures.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.judge.detection import Detection, detect, fingerprint
from sts_core.judge.held_out import HeldOut
from sts_core.judge.judges import FAILED, LABELLED, NO_LABEL, Judge, Question, Verdict
from sts_core.judge.prompt import VERSION
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.labels import Label, read_labels, write_labels

FAILURES_IN_A_ROW = 5
"""So many and the work ends."""
_AT_ONCE = 20_000
"""Features of a judge that answers at once are written together."""


class Price(NamedTuple):
    """Of a million tokens, in whatever money."""

    tokens_in: float
    tokens_out: float


class Counts(NamedTuple):
    """What came of it."""

    labelled: int = 0
    not_a_label: int = 0
    failed: int = 0
    before: int = 0
    """Features that had been asked the same before."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    """None without a price."""
    why: str = ""
    """Why the last question without an answer had none."""

    def public(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self._asdict(), "tokens": self.tokens_in + self.tokens_out}


class Work(NamedTuple):
    """What is to be labelled, and where labels go."""

    sae: str
    """Revisions: the labels belong to these."""
    model: str
    features: Sequence[int]
    question: Callable[[int], Question]
    """The feature's question; called only for those that are asked."""
    about: str
    """Names what the examples are: other examples are another question."""
    labels: Sequence[str]
    held_out: HeldOut | None = None
    """What labels are tested on; without it they are not."""
    instant: bool = False
    """The judge answers at once and for nothing: it is asked about every held-out window, and labels in one go."""


def label_features(judge: Judge, work: Work, watch: Watcher = silent, price: Price | None = None) -> Counts:
    """Ask about every feature that has no answer yet; returns the counts of this sitting."""
    asked = question_key(judge.name, work.labels, work.about)
    on = fingerprint(work.held_out.windows) if work.held_out else ""
    known = {label.feature: label for label in read_labels(work.sae, work.model, judge.name) if label.asked == asked}
    outcomes = dict.fromkeys((LABELLED, NO_LABEL, FAILED), 0)
    spent, before, in_a_row, why = [0, 0], 0, 0, ""
    kept: list[Label] = []
    try:
        for number, feature in enumerate(work.features):
            watch(Progress("labelling", number, len(work.features), "features"))
            old = known.get(feature)
            if old is not None and (not on or not old.label or _tested_on(old) == on):
                before += 1
                continue
            verdict = _kept_verdict(old) if old is not None else judge.label(work.question(feature))
            outcomes[verdict.outcome] += 1
            in_a_row = in_a_row + 1 if verdict.outcome == FAILED else 0
            why = str(verdict.evidence.get("why", "no answer")) if verdict.outcome == FAILED else why
            found = _test(judge, verdict, feature, work)
            spent = [spent[0] + verdict.tokens_in, spent[1] + verdict.tokens_out]
            if found is not None:
                spent = [spent[0] + found.tokens_in, spent[1] + found.tokens_out]
            if verdict.outcome != FAILED:
                kept.append(_row(feature, verdict, found, asked, on))
            if len(kept) >= (_AT_ONCE if work.instant else 1):
                write_labels(work.sae, work.model, judge.name, kept)
                kept = []
            if in_a_row >= FAILURES_IN_A_ROW:
                raise UserError(
                    f"{judge.name} failed {in_a_row} times in a row: {why}",
                    "Mend that and start again: what is labelled is not asked again.",
                )
    finally:
        if kept:
            write_labels(work.sae, work.model, judge.name, kept)
    watch(Progress("labelling", len(work.features), len(work.features), "features"))
    cost = (spent[0] * price.tokens_in + spent[1] * price.tokens_out) / 1e6 if price else None
    return Counts(outcomes[LABELLED], outcomes[NO_LABEL], outcomes[FAILED], before, spent[0], spent[1], cost, why)


def question_key(judge: str, labels: Sequence[str], about: str) -> str:
    """Names a question: the judge, the label set in its order, the examples, the words of the prompt."""
    return hashlib.sha256(json.dumps([judge, list(labels), about, VERSION]).encode()).hexdigest()[:16]


def _test(judge: Judge, verdict: Verdict, feature: int, work: Work) -> Detection | None:
    if work.held_out is None or verdict.label is None:
        return None
    return detect(judge, verdict.label, verdict.explanation, feature, work.held_out, work.instant)


def _row(feature: int, verdict: Verdict, found: Detection | None, asked: str, on: str) -> Label:
    evidence = dict(verdict.evidence)
    if found is not None:
        evidence["detection"] = {**found.public(), "on": on}
    return Label(
        feature, verdict.label, verdict.explanation, detection=found.score if found else math.nan,
        evidence=json.dumps(evidence, ensure_ascii=False), asked=asked,
    )  # fmt: skip


def _kept_verdict(label: Label) -> Verdict:
    """What was answered before, to be tested now."""
    return Verdict(LABELLED, label.label, label.explanation, _evidence(label))


def _tested_on(label: Label) -> str:
    detection = _evidence(label).get("detection")
    return str(detection.get("on", "")) if isinstance(detection, dict) else ""


def _evidence(label: Label) -> dict[str, Any]:
    try:
        value = json.loads(label.evidence)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
