"""The report's sentences: its answer, the method in two paragraphs, the statistics in words, and what it cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sts_core.figures import words
from sts_core.figures.correlation_words import (
    carried_by_one,
    correlation_words,
    disagreement_words,
    hits_words,
    interval_words,
    reliability_words,
    verdict,
)
from sts_core.figures.numbers import count, fixed, known, number, p_value, percent, questions, with_error
from sts_core.figures.report.gathering import Gathered, part
from sts_core.figures.run_words import Overlap as Told
from sts_core.figures.run_words import overlap_words
from sts_core.results.agreement import SELECTED, Comparison, cautions
from sts_core.results.outcomes.reading import OWN
from sts_core.stats.correlation import Correlation
from sts_core.stats.overlap import Overlap

PREDICTED = " (prediction, not yet tested here)"


def target_of(found: Gathered) -> str:
    """The training set's name in a sentence."""
    return words.target_name(str(part(found.manifest, "spec", "target", "data") or "the target set"))


def foretold(found: Gathered) -> str:
    """Which domains score highest; that it is a prediction stands beside it."""
    return words.headline(of_metric(found, "sts_act"), target_of(found)).replace(PREDICTED, "")


def answer(found: Gathered) -> tuple[str, str]:
    """The sentence at the top, and the one below it."""
    first = primary(found)
    if first is None:
        return foretold(found), words.explanation("sts_act", found.n, target_of(found))
    return verdict(first), " ".join([f"Foretold before the training: {foretold(found)}", *_cautions(found)])


def _cautions(found: Gathered) -> list[str]:
    """What has to be known beside the answer."""
    if found.actual is None or found.agreement is None:
        return []
    return cautions(found.actual, [one.outcome.harm for one in found.agreement.points])


def primary(found: Gathered) -> Comparison | None:
    """The comparison that was fixed before looking; where the outcome is of another metric, its nearest kin."""
    if found.agreement is None:
        return None
    every = found.agreement.comparisons
    return next((one for one in every if one.primary), every[0])


def of_metric(found: Gathered, metric: str) -> Any:
    """One metric's scores."""
    return found.scores[found.scores["metric"] == metric].reset_index(drop=True)


def statistics(found: Gathered) -> list[str]:
    """The primary comparison in words: both correlations, how sure, what one domain does, what limits it."""
    first, actual, agreement = primary(found), found.actual, found.agreement
    if first is None or actual is None or agreement is None:
        return []
    c = first.correlation
    told = [f"Pearson: {correlation_words(c)}."]
    if known(c.r):
        told.append(
            f"R² = {fixed(c.r2, 2)}. 95 % interval of r: {interval_words(c.ci)} (bootstrap over domains); leaving out "
            f"one domain at a time gives {interval_words(c.loo_range)}."
        )
        told.append(f"Spearman: ρ = {fixed(c.spearman, 2)}, {p_value(c.p_spearman)}{_spearman_without(c)}.")
        told += [text for text in (disagreement_words(c), _permutations(c)) if text]
    if c.hits is not None:
        told.append(f"{hits_words(c.hits)}.")
    told.append(reliability_words(actual.reliability, actual.reliability_from))
    if (best := agreement.best_baseline) is not None:
        name, rho = best[0].name, best[1]
        told.append(
            f"The best of the simpler numbers that are known before the training is “{name}”: "
            f"ρ = {fixed(rho.spearman, 2)}, {p_value(rho.p_spearman)}."
        )
    if actual.target is not None:
        harm = with_error(actual.target.harm, actual.target.harm_se)
        told.append(f"The training set itself, on rows kept aside: harm {harm}; below 0 it got better.")
    return told


def badges(found: Gathered) -> list[tuple[str, str]]:
    """Marks beside the answer: a word and its kind."""
    first = primary(found)
    if first is None:
        return [("Prediction, not yet tested here", "plain")]
    marks = [("Primary comparison, fixed beforehand", "good") if first.primary else ("Exploratory", "plain")]
    marks += [("Another training set", "warn")] if found.actual is not None and found.actual.foreign else []
    return marks + ([("One domain carries this", "warn")] if carried_by_one(first.correlation) else [])


def overlap_sentence(row: Overlap) -> str:
    """How many of the foretold features really shifted, beside the highest null."""
    told = overlap_words(Told(row.k, row.value, row.highest, row.nulls[row.highest].upper, row.claimed))
    return f"{told[:1].upper()}{told[1:]}."


def spread_sentence(found: Gathered) -> str:
    """How the shift is spread."""
    spread, n = found.spread, found.n
    held = spread.held(n)
    needed = spread.raw_needed(held)
    raw = None if needed is None else (needed, len(spread.raw))
    return words.spread_headline(held, n, found.features, raw, spread.directions(n))


def noise_sentence(found: Gathered) -> str:
    """What rounding alone does."""
    spread, n = found.spread, found.n
    share = None if spread.noise is None else spread.noise.share
    return words.noise_words(share, spread.shared_with_noise(n), n, spread.shared_by_chance(n))


def held_sentence(found: Gathered) -> str:
    """What the leading features hold, with its error."""
    if found.held is None:
        return ""
    error = f" ± {percent(found.held.se)} (1 s.e., these features fixed)" if known(found.held.se) else ""
    tokens, items = found.target_size
    return f"{percent(found.held.value)}{error}; {questions(items)}, {count(tokens)} tokens."


def method(found: Gathered) -> list[str]:
    """How it was done, in two paragraphs."""
    spec = found.manifest.get("spec")
    model = words.target_name(str(part(spec, "model") or "the model"))
    sae = words.target_name(str(part(spec, "sae") or "its own"))
    layer = part(found.manifest, "resolved", "sae", "layer")
    demos, domain_demos = part(spec, "target", "demos"), _first_demos(spec)
    behind = f"{count(demos)} of its question–answer pairs" if isinstance(demos, int) else "a few of its pairs"
    own = f"{count(domain_demos)} of its own worked examples" if domain_demos else "its own worked examples"
    reading = (
        f"A sparse autoencoder ({sae}{'' if layer is None else f', layer {layer}'}) writes the inner state of {model} "
        f"at each token as a few active features out of {count(found.features)}. Questions of the training set, "
        f"{target_of(found)}, were read twice by the unchanged model: alone, and behind {behind}. {_shift(spec)} The "
        f"{count(found.n)} features that shift most stand for what training on this set would move. No weight was "
        "changed for this."
    )
    scoring = (
        f"A domain’s STS act is the mean activation of those {count(found.n)} features on the domain’s own questions; "
        f"STS icl is how far {own} move them. A higher score predicts a larger change after fine-tuning. Questions, "
        "not tokens, are the independent units: they are dealt into at most twenty groups, and leaving out one group "
        f"at a time gives the standard errors, with the features held fixed. {_harm(found)} Fixed before looking: STS "
        "act against signed harm in the answer’s log-likelihood over all domains, by Spearman’s ρ with its permutation "
        "p; every other comparison is exploratory. The idea is that of “SAE as a Crystal Ball” (ICLR 2026)."
    )
    return [reading, scoring]


def _shift(spec: Any) -> str:
    """What the shift was measured on."""
    if part(spec, "run", "preset") == "reference":
        return (
            "As in the paper’s own code, the shift of a feature is the mean squared difference of its activation "
            "between rows of the two, paired by their number whatever tokens they are."
        )
    over = _POOLS.get(str(part(spec, "pool", "tokens")), _POOLS["query"])
    return (
        "The shift of a feature is the mean absolute difference of its activation between the two, over exactly the "
        f"same tokens, {over}."
    )


_POOLS = {
    "query": "those of the question alone", "answer": "those of the correct answer",
    "query+answer": "those of the question and its correct answer",
}  # fmt: skip
"""Which tokens count -> in words."""


def _harm(found: Gathered) -> str:
    """What the outcome is, and what it was measured on where that is known."""
    actual = found.actual
    what = "the rise of the correct answer’s negative log-likelihood, or the fall of accuracy"
    if actual is None:
        return f"What a fine-tune does is told as harm: {what}."
    if all(one.source == OWN for one in actual.outcomes):
        return f"What happened is told as harm: {what}, on questions that neither the scores nor the training used."
    return "What happened is told as harm, the fall of what is good or the rise of a loss, as its source has it."


def limits(found: Gathered) -> list[str]:
    """What this report does not say."""
    told = [
        "A score is a prediction. Whether a domain gains or loses is known only after the fine-tune is measured."
        if found.agreement is None
        else "One fine-tune is one draw: another seed, learning rate or length may move other domains.",
        "A score says how much a domain lives on features that move, not which way it will go: training may help it.",
        "Standard errors cover which questions were drawn. They do not cover another SAE, layer, prompt or number of "
        "features, any of which may change the order.",
    ]
    unsure = [str(row.domain) for row in of_metric(found, "sts_act").itertuples() if not known(row.se)]
    if unsure:
        told.append(f"Without a standard error, for want of questions: {', '.join(unsure)}.")
    first = primary(found)
    if first is not None:
        if first.correlation.n < 20:
            told.append(
                f"{count(first.correlation.n)} domains are few: a correlation over them is known roughly at best, and "
                "the domains are not independent of one another."
            )
        if not first.primary:
            told.append(
                "The comparison at the top is not the one fixed beforehand (signed harm in the answer’s "
                "log-likelihood), because the outcome is of another metric: take it as exploratory."
            )
    if found.overlap is not None and not any(row.claimed for row in found.overlap.rows):
        told.append("That the foretold features are those that shifted is not claimed: the nulls give as much.")
    if found.spread.noise is None:
        told.append("The shift that rounding alone makes was not measured, so how much of the shift it is stays open.")
    notes = [
        *(_of_eight(note) for note in (found.agreement.notes if found.agreement else ())),
        *(found.overlap.notes if found.overlap else ()),
    ]
    if found.agreement is not None:
        notes += [note for note in first.correlation.notes if "orders drawn" not in note] if first else []
        notes += _one_sided("Scored, but without an outcome", found.agreement.only_scored)
        notes += _one_sided("With an outcome, but not scored", found.agreement.only_changed)
    warnings = found.manifest.get("warnings")
    notes += [str(warning) for warning in warnings] if isinstance(warnings, list) else []
    said = _cautions(found)
    return [*told, *(note for note in dict.fromkeys(notes) if note not in said)]


def _of_eight(note: str) -> str:
    return f"Of the rows named paper-8: {note[:1].lower()}{note[1:]}" if note == SELECTED else note


def _one_sided(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what}: {', '.join(names)}."] if names else []


def _spearman_without(c: Correlation) -> str:
    if c.most_influential is None or not known(c.spearman_without_it):
        return ""
    return f"; without {c.most_influential} {fixed(c.spearman_without_it, 2)}"


def _permutations(c: Correlation) -> str:
    if c.p_exact:
        return "Both p are two-sided and exact: every order of the domains was tried."
    error = max(value for value in (c.p_perm_error, c.p_spearman_error, 0.0) if known(value))
    return f"Both p are two-sided, from orders of the domains drawn at random (± {number(error, 1)} from having drawn)."


def _first_demos(spec: Any) -> int | None:
    domains: Sequence[Mapping[str, Any]] = part(spec, "domains") or []
    demos = {one.get("demos") for one in domains if isinstance(one, Mapping)} if isinstance(domains, list) else set()
    only = next(iter(demos)) if len(demos) == 1 else None
    return only if isinstance(only, int) else None
