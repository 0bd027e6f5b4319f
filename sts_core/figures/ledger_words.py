"""The sentences of the ledger: how good predictions have been here, and no more than so few of them can say."""

from __future__ import annotations

from collections.abc import Sequence

from sts_core.figures.correlation_words import hits_words, interval_words, reliability_words
from sts_core.figures.numbers import count, fixed, known, number, p_value, percent
from sts_core.figures.words import METRICS
from sts_core.results.actual import PRIMARY_METRIC
from sts_core.results.agreement import none_worse
from sts_core.results.ledger import CANNOT, WAITS_EVALUATION, WAITS_RUN, Entry
from sts_core.results.ledger_overall import Overall

OUTCOMES = {PRIMARY_METRIC: "harm in answer log-likelihood", "accuracy": "harm in accuracy"}
"""What a prediction is held against -> its name."""
FEWEST_FOR_SIGNS = 6
"""Below so many training sets even a perfect record is no surprise to a sign test at p = .05."""
HOW = (
    "Scores as they were written down before each run's first step, held against the rise of the gold answer's "
    "negative log-likelihood in every domain."
)


def headline(whole: Overall, entries: Sequence[Entry]) -> str:
    """One sentence on how good predictions have been here; a p and its number stay on one line."""
    return _headline(whole, entries).replace("p = ", "p\u00a0=\u00a0")


def _headline(whole: Overall, entries: Sequence[Entry]) -> str:
    if not whole.predictions:
        return "No prediction is written down yet."
    if not whole.scored:
        return f"{_capital(_predictions(whole.predictions))} written down; none is scored yet."
    if whole.scored == 1:
        return _one(entries)
    told = f"{count(whole.scored)} predictions scored: median Spearman {fixed(whole.median, 2)} ({_signs(whole)})"
    if whole.hit_rate is None:
        return f"{told}."
    return f"{told}; top-three hit rate {percent(whole.hit_rate)} against {percent(whole.chance)} by chance."


def explanation(whole: Overall) -> str:
    """What stands behind the sentence, and what limits it."""
    told = [HOW]
    if whole.scored:
        told.append(_sets(whole))
    if whole.asked and whole.scored > 1:
        named = (
            f"{shared(whole.hit)} of the {count(whole.asked)} domains hit hardest were among the three highest scores"
        )
        told.append(f"{named}; guessing gives {number(whole.by_chance, 2)}.")
    if rest := _rest(whole):
        told.append(rest)
    return " ".join(told)


def entry_words(entry: Entry) -> str:
    """What is known of one prediction, in one sentence."""
    found = entry.found
    if found is None or entry.judged is None:
        return f"{_capital(entry.state)}: {entry.why}"
    what = f"{METRICS[entry.judged.score]} against {OUTCOMES[entry.judged.metric]}"
    rho = f"Spearman {fixed(found.spearman, 2)}, n = {count(found.n)}, {p_value(found.p_spearman)}"
    return f"{what}: {rho}; Pearson r {fixed(found.r, 2)} (95 % {interval_words(found.ci)})."


def entry_limits(entry: Entry) -> list[str]:
    """What stands beside that sentence: single domains, first three, accuracy, the outcome itself, what was told."""
    found, told = entry.found, []
    if found is not None:
        if found.loo_range:
            told.append(f"Leaving one domain out gives r from {interval_words(found.loo_range)}.")
        if found.hits:
            told.append(f"{hits_words(found.hits)}.")
        told.append(reliability_words(*entry.reliability))
    if entry.accuracy is not None and known(entry.accuracy.correlation.spearman):
        beside = entry.accuracy.correlation
        told.append(f"Against accuracy: Spearman {fixed(beside.spearman, 2)}, {p_value(beside.p_spearman)}.")
    if entry.primary is not None:
        for names, which in (
            (entry.primary.only_foretold, "Foretold and not evaluated"),
            (entry.primary.only_changed, "Evaluated and not foretold"),
            (entry.primary.correlation.left_out, "Without a number on one side"),
        ):
            told += [f"{which}: {', '.join(names)}."] if names else []
        told += none_worse([point.harm for point in entry.primary.points])
    return [*told, *entry.notes]


def shared(value: float) -> str:
    """How many were named: a whole number, but where ties leave it open."""
    return count(value) if value == round(value) else number(value, 2)


def without_words(runs: int) -> str:
    """How many runs stand in no line, and why; nothing where there is none."""
    if not runs:
        return ""
    who = "One run was evaluated without a prediction and stands" if runs == 1 else None
    who = who or f"{count(runs)} runs were evaluated without a prediction and stand"
    return f"{who} in no line here: what was not written down beforehand cannot be scored."


def _one(entries: Sequence[Entry]) -> str:
    entry = next(entry for entry in entries if entry.found is not None and not entry.mixed)
    found = entry.found
    if found is None:
        return ""
    head = f"One prediction is scored: Spearman {fixed(found.spearman, 2)} over {count(found.n)} domains"
    hits = f"; {hits_words(found.hits)}" if found.hits else ""
    return f"{head}, {p_value(found.p_spearman)}{hits}. One run says little about the next."


def _signs(whole: Overall) -> str:
    above = f"{count(whole.above)} of {count(whole.scored)} above 0"
    if whole.groups == 1:
        return f"{above}, all on one training set"
    if whole.p is None:
        return above
    if whole.groups == whole.scored:
        return f"{above}, sign test {p_value(whole.p)}"
    return (
        f"{above}; by training set {count(whole.groups_above)} of {count(whole.groups)}, sign test {p_value(whole.p)}"
    )


def _sets(whole: Overall) -> str:
    if whole.scored == 1:
        return "From one prediction no rate can be told."
    if whole.groups == 1:
        runs = "Both" if whole.scored == 2 else f"All {count(whole.scored)}"
        return f"{runs} runs share one training set or one result: they are not independent, so there is no sign test."
    few = (
        f" With {count(whole.groups)} of them p cannot fall below {p_value(2 / 2**whole.groups).removeprefix('p = ')}."
        if whole.groups < FEWEST_FOR_SIGNS
        else ""
    )
    if whole.groups == whole.scored:
        return f"Every run has a training set of its own.{few}"
    return (
        f"The runs come from {count(whole.groups)} distinct training sets; runs of one set, or held against one "
        f"result, are not independent, so the sign test counts each set once, by its median.{few}"
    )


def _rest(whole: Overall) -> str:
    named = {WAITS_RUN: "for the run", WAITS_EVALUATION: "for an evaluation"}
    waits = [f"{count(whole.by_state[state])} {words}" for state, words in named.items() if whole.by_state[state]]
    told = [f"Waiting: {', '.join(waits)}."] if waits else []
    if (cannot := whole.by_state[CANNOT]) > 0:
        told.append(f"Cannot be scored: {count(cannot)}; the table says why.")
    if whole.mixed:
        runs = "one run whose training set was" if whole.mixed == 1 else f"{count(whole.mixed)} runs whose sets were"
        told.append(f"Not counted: {runs} mixed with other domains, which the scores do not foretell.")
    return " ".join(told)


def _predictions(n: int) -> str:
    return "one prediction is" if n == 1 else f"{count(n)} predictions are"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
