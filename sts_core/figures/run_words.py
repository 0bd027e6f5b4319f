"""The sentences of a fine-tuning run: how it stands, what it changed, and whether the prediction came true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from sts_core.figures.numbers import count, duration, known, number, percent, questions
from sts_core.spec import MMLU_DOMAINS

METRICS = {
    "nll": "negative log-likelihood of the gold answer, nats a token",
    "accuracy": "accuracy, share of questions",
    "nll_choice": "negative log of the gold letter's share among the letters, nats",
    "nll_text": "negative log-likelihood of the gold option in words, nats a token",
    "first_choice": "share of questions whose answer the model would write first",
}
"""A metric's key -> what it is and its unit."""
WORSE = {"nll": 1, "accuracy": -1, "nll_choice": 1, "nll_text": 1, "first_choice": -1}
"""The sign of a change for the worse."""
NULLS = {
    "noise": "rounding alone", "activation": "ranking features by how active they are",
    "matched": "equally active features", "chance": "chance",
}  # fmt: skip
CHANGES_TITLE = "What did the fine-tune change elsewhere?"
"""The question the figure of changes answers."""
NULL_NAMES = {"noise": "rounding", "activation": "activation", "matched": "matched", "chance": "chance"}


class Standing(NamedTuple):
    """A run as far as it has come."""

    state: str
    step: int | None
    steps: int | None
    first_loss: float | None
    last_loss: float | None
    seconds: float | None
    seconds_left: float | None = None
    error: str = ""
    over: int = 1
    """The two losses are means over so many steps."""
    again_from: int | None = None
    """The step from which a resumed run does over what was told; None where it does nothing over."""
    now_at: int | None = None
    """The step that its present attempt has come to."""


class Overlap(NamedTuple):
    """How many of the k features that were predicted really shifted."""

    k: int
    share: float
    null: str
    """The name of the highest null."""
    null_share: float
    claimed: bool


def time_words(work: Mapping[str, Any]) -> str:
    """`12 min (training 4 min, evaluation 6 min, checkpoints 2 min)`, from a plan's `work`."""
    parts = [f"{name} {duration(seconds)}" for name, seconds in work["parts"].items() if seconds]
    told = f" ({', '.join(parts)})" if len(parts) > 1 else ""
    return f"{duration(work['seconds'])}{told}"


def run_headline(run: Standing, changes: pd.DataFrame, overlap: Overlap | None) -> str:
    """One sentence on how a run stands or what came of it. `changes` has `domain, value, se` of one metric."""
    if run.state == "waiting":
        again = f", and then goes on {from_words(run.again_from)}" if run.again_from is not None else ""
        return f"This run waits for its turn{again}."
    if run.state == "running":
        return _under_way(run)
    if run.state != "done":
        return _broken_off(run)
    found = [overlap_words(overlap)] if overlap is not None else []
    found += [changed_words(changes)] if len(changes) else []
    text = "; ".join(found) or learned_words(run)
    return f"{text[:1].upper()}{text[1:]}."


def attempt_words(attempt: int, seconds: float | None) -> str:
    """`attempt 3, 12 min in all`; of the first alone how long it took."""
    return f"attempt {attempt}, {duration(seconds)} in all" if attempt > 1 else duration(seconds)


def from_words(step: int) -> str:
    """Where a resumed run goes on, by the step of its last checkpoint, 0 where there is none."""
    return f"from step {count(step)}, its last checkpoint" if step else "from the first step, for want of a checkpoint"


def learned_words(run: Standing) -> str:
    """`In 60 steps the loss fell from 2.14 to 0.678 (−68 %)`."""
    steps = f"In {count(run.step)} steps" if run.step else "The run is done"
    first, last = run.first_loss, run.last_loss
    if first is None or last is None or not known(first) or not known(last) or not first:
        return steps
    way = "fell" if last < first else "rose"
    means = f"; means of the first and the last {count(run.over)} steps" if run.over > 1 else ""
    return f"{steps} the loss {way} from {number(first)} to {number(last)} ({percent(last / first - 1)}{means})"


def changed_words(changes: pd.DataFrame, metric: str = "nll") -> str:
    """`5 of 14 domains got worse, 2 better, by more than two standard errors`; only what has an error is judged."""
    measured = [
        (v * WORSE.get(metric, 1), se) for v, se in zip(changes["value"], changes["se"], strict=True) if known(v)
    ]
    if not measured:
        return "no domain was measured before and after"
    unknown = sum(not known(se) for _, se in measured)
    domains = f"{count(len(measured))} domain{'s' if len(measured) > 1 else ''}"
    if unknown == len(measured):
        return f"no error is known of what changed in {domains}: fewer than five questions each"
    of = f"of {domains}"
    missing = f" ({count(unknown)} without an error)" if unknown else ""
    worse = sum(known(se) and value > 2 * se for value, se in measured)
    better = sum(known(se) and value < -2 * se for value, se in measured)
    if not worse and not better:
        return f"none {of} changed by more than two standard errors{missing}"
    got = f"{count(worse)} {of} got worse" if worse else f"none {of} got worse"
    return f"{got} and {count(better) if better else 'none'} better by more than two standard errors{missing}"


def changes_caption(changes: pd.DataFrame) -> str:
    """What the whiskers are, and over how many questions a domain; `changes` has `value, se, n`."""
    measured = [se for value, se in zip(changes["value"], changes["se"], strict=True) if known(value)]
    missing = sum(not known(se) for se in measured)
    if missing == len(measured):
        return f"No error is known: fewer than five questions a domain ({_each(changes['n'])})"
    unknown = f"; {count(missing)} without an error (fewer than five questions)" if missing else ""
    return f"± 1 s.e., question by question, {_each(changes['n'])} a domain{unknown}"


def _each(told: pd.Series) -> str:
    n = sorted({int(value) for value in told.dropna()})
    if not n:
        return "an unknown number of questions"
    return questions(n[0]) if len(n) == 1 else f"{count(n[0])} to {questions(n[-1])}"


def overlap_words(overlap: Overlap) -> str:
    """`70 of the 100 predicted features really shifted, where rounding alone gives 72: no claim`."""
    shared, null = round(overlap.share * overlap.k), round(overlap.null_share * overlap.k)
    verdict = "more than any null explains" if overlap.claimed else "no claim"
    reason = NULLS.get(overlap.null, overlap.null)
    shifted = f"{count(shared)} of the {count(overlap.k)} predicted features really shifted"
    return f"{shifted}, where {reason} gives {count(null)}: {verdict}"


def changes_axis(metric: str) -> str:
    """The quantity along the axis, and which way is worse."""
    if metric == "accuracy":
        return "change of accuracy (right is better)"
    return "rise of the answer's negative log-likelihood, nats a token (right is worse)"


def trajectory_title(k: int) -> str:
    """The question the trajectory answers."""
    return f"Do the {count(k)} features that were predicted really shift?"


def hold_words(trouble: bool, cosine: float | None, r2: tuple[float | None, float | None]) -> str:
    """Whether the features may be read on the fine-tuned model at all; told before any overlap."""
    before, after = r2
    figures = f"residual cosine {number(cosine)}, R² {number(before)} before and {number(after)} after"
    if trouble:
        return f"The SAE no longer describes this model well ({figures}): do not trust its features here."
    return f"The SAE still holds on the fine-tuned model: {figures}."


def _under_way(run: Standing) -> str:
    if run.step is None or not known(run.last_loss):
        return "This run has begun; no step is done yet."
    if run.again_from is not None:
        return _done_over(run, run.again_from)
    of = f" of {count(run.steps)}" if run.steps else ""
    since = f", from {number(run.first_loss)} at the start" if known(run.first_loss) and run.step > 1 else ""
    left = f"; {duration(run.seconds_left)} left" if known(run.seconds_left) else ""
    mean = f" (mean of {count(run.over)} steps)" if run.over > 1 else ""
    return f"Step {count(run.step)}{of}: the loss is {number(run.last_loss)}{mean}{since}{left}."


def _done_over(run: Standing, begun: int) -> str:
    """A resumed run that has not come again to where it had been."""
    had = f"it had come to step {count(run.step)}"
    if run.now_at is None or run.now_at <= begun:
        return f"This run goes on {from_words(begun)}; {had}."
    of = f" of {count(run.steps)}" if run.steps else ""
    left = f"; {duration(run.seconds_left)} left" if known(run.seconds_left) else ""
    return f"Step {count(run.now_at)}{of} again: {had} before it was resumed{left}."


def _broken_off(run: Standing) -> str:
    verb = {"failed": "failed", "cancelled": "was cancelled", "dead": "vanished"}.get(run.state, run.state)
    where = f" after step {count(run.step)}" if run.step else " before its first step"
    why = f": {run.error.rstrip('.')}" if run.error else ""
    return f"This run {verb}{where}{why}."


def briefly(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings without empty ones, its evaluated domains by one word where they are the embedded fourteen."""
    kept = _filled(spec)
    evaluated = kept.get("evaluate")
    domains = evaluated.get("domains") if isinstance(evaluated, Mapping) else None
    if isinstance(domains, list) and [_data_of(one) for one in domains] == [f"mmlu/{name}" for name in MMLU_DOMAINS]:
        kept["evaluate"] = {**kept["evaluate"], "domains": "mmlu"}
    return kept


def _filled(table: Mapping[str, Any]) -> dict[str, Any]:
    within = {key: _filled(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    return {key: value for key, value in within.items() if value not in (None, {}, "")}


def _data_of(domain: Any) -> Any:
    return domain.get("data") if isinstance(domain, Mapping) else None
