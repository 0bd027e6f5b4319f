"""The sentences of a page: what was found, in plain words that claim no more than was measured.

A domain is *level* with the highest when their difference is at most twice its own standard error, √(se₁² + se₂²): the
order of such domains is not told as a finding. Where an error is not known nothing is told about the order at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from sts_core.figures.numbers import count, known, number, percent

METRICS = {"sts_act": "STS act", "sts_icl": "STS icl"}
"""The metric's key in a result -> its name on the page."""
TERMS = {
    "shift": "Shift: how far demonstrations of the target set move a feature, averaged over tokens (METHOD 3).",
    "feature": "Feature: one direction the sparse autoencoder found in the model's activations (METHOD 1).",
    "sts_act": "STS act: how active the most shifted features are on a domain's own questions (METHOD 4).",
    "sts_icl": "STS icl: how far a domain's own demonstrations move the most shifted features (METHOD 4).",
    "n": "N: how many of the most shifted features a score is averaged over (METHOD 3).",
}
"""The method's names, one sentence each."""
MOSTLY = 0.75
"""From this share of the leading features on, they are said to go one way."""
FEWEST_FOR_A_WAY = 5
_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


class Scored(NamedTuple):
    """A domain with its score."""

    name: str
    value: float
    se: float | None


def headline(scores: pd.DataFrame, target: str, tests: int = 0) -> str:
    """One sentence on which domains score highest. `scores` has the columns domain, value, se of one metric.

    `tests` fine-tunes were held against this prediction here.
    """
    ranked, unmeasured = _ranked(scores)
    if not ranked:
        return f"No domain could be scored for training on {target}: no token was measured."
    if len(ranked) == 1:
        return _single(ranked[0], target, unmeasured)
    tail = _left_out(unmeasured)
    for_target = f"for training on {target} ({_prediction(tests)})"
    of_all = f"of {len(ranked)} domains"
    if any(not known(d.se) for d in ranked):
        return f"{_capital(ranked[0].name)} scores highest {of_all} {for_target}, but {_no_error(ranked)}{tail}."
    level = _level_with_first(ranked)
    if len(level) == len(ranked):
        return f"No domain of the {len(ranked)} stands out {for_target}: {_all_level(len(ranked))}{tail}."
    if len(level) == 1:
        return f"{_capital(ranked[0].name)} scores highest {of_all} {for_target}{tail}."
    if len(level) <= 3:
        names = [ranked[i].name for i in level]
        other = "each other" if len(level) == 2 else "the highest"
        leaders = f"{_capital(listed(names))} score highest {of_all} {for_target}"
        return f"{leaders}, within two standard errors of {other}{tail}."
    leaders = f"{_capital(listed([ranked[0].name, ranked[1].name]))} score highest {of_all} {for_target}"
    return f"{leaders}, but {_level_words(level)} are within two standard errors of the highest{tail}."


def explanation(metric: str, n: int, target: str) -> str:
    """What the headline's score means, for a colleague who has not read the paper."""
    if metric == "sts_icl":
        what = f"how far a domain's own worked examples move the {count(n)} features {target} examples shift most"
    else:
        what = f"the mean activity, on a domain's questions, of the {count(n)} features {target} examples shift most"
    return f"The score is {what}. A higher score predicts a larger change after fine-tuning."


def bars_title(metric: str, n: int) -> str:
    """The question the bars answer."""
    if metric == "sts_icl":
        return f"How far does each domain move the {count(n)} most shifted features?"
    return f"How active are the {count(n)} most shifted features in each domain?"


def bars_axis(metric: str) -> str:
    """The quantity along the bars and its unit."""
    if metric == "sts_icl":
        return "STS icl: mean absolute change of feature activation a token"
    return "STS act: mean feature activation a token"


def error_caption(scores: pd.DataFrame) -> str:
    """What the whiskers are, and over how many questions."""
    if scores.empty or not any(known(se) for se in scores["se"]):
        return "No error is known: fewer than five questions a domain"
    least, most = int(scores["items"].min()), int(scores["items"].max())
    items = count(least) if least == most else f"{count(least)} to {count(most)}"
    word = "question" if most == 1 else "questions"
    missing = sum(not known(se) for se in scores["se"])
    unknown = f"; {missing} without an error (fewer than five questions)" if missing else ""
    return f"± 1 s.e., {items} {word} a domain{unknown}"


def shift_title(held: float, n: int, features: int) -> str:
    """How the shift is spread: `100 of 4,096 features hold 33 % of the shift`."""
    if not known(held):
        return "No shift was measured"
    return f"{count(n)} of {count(features)} features hold {percent(held)} of the shift"


def spread_headline(
    held: float, n: int, features: int, raw: tuple[int, int] | None = None, directions: tuple[int, int] = (0, 0)
) -> str:
    """One sentence on how the shift is spread.

    `raw` is how many raw dimensions hold as much, and of how many; `directions` how many of the n rise and fall.
    """
    if not known(held):
        return "Demonstrations moved no feature: there is no shift to rank."
    n = min(n, features)
    if n == features:
        return f"All {count(features)} features hold the whole shift: choose a smaller N to see how it is spread."
    word = "features holds" if n == 1 else "features hold"
    text = f"{count(n)} of {count(features)} {word} {percent(held)} of the shift"
    if way := _mostly(n, directions):
        text += f", and {way}"
    if raw is None:
        return f"{text}."
    return f"{text}; the model's raw dimensions would need {count(raw[0])} of {count(raw[1])} for as much."


def spread_explanation(target: str) -> str:
    """What the shift is, for a colleague who has not read the paper."""
    return (
        f"The shift of a feature is how far examples of {target} before a question change its activation on the "
        "question's own tokens, up or down."
    )


def noise_words(share: float | None, shared: int | None, n: int, chance: float) -> str:
    """What rounding alone does, beside the shift; the overlap of the two stands beside what chance would give."""
    if share is None or shared is None:
        return "The noise of rounding was not measured, so how much of this shift it makes is not known."
    top = f"top {count(n)}"
    by_chance = number(chance, 2) if chance >= 0.05 else "almost none"
    rounded = f"Rounding alone gives {percent(share)} of this shift"
    return f"{rounded}; {count(shared)} of the {top} are also among its own {top} ({by_chance} by chance)."


def curve_title(n: int) -> str:
    """The question the concentration curve answers."""
    return f"How much of the shift do the {count(n)} most shifted features hold?"


def feature_sentence(rank: int, features: int, signed: float, se: float | None, domains: pd.DataFrame) -> str:
    """One feature in a sentence: its rank, its way, and where it is most active; `domains` has domain, value, se."""
    place = f"Rank {count(rank)} of {count(features)} by shift"
    where = _most_active(domains)
    if signed == 0:
        return f"{place}. It is not moved in the mean; {where}."
    if known(se) and abs(signed) < 2 * float(se or 0):
        return f"{place}. Whether demonstrations raise or lower it in the mean is not clear; {where}."
    return f"{place}. Demonstrations {'raise' if signed > 0 else 'lower'} it in the mean; {where}."


def _most_active(domains: pd.DataFrame) -> str:
    ranked, _ = _ranked(domains[domains["value"] > 0])
    if not ranked:
        return "it is silent in every domain"
    level = _level_with_first(ranked) if all(known(d.se) for d in ranked) else [0]
    if len(level) > 3:
        return f"it is most active in {ranked[0].name}, but {_level_words(level)} are within two standard errors of it"
    names = listed([ranked[i].name for i in level])
    return f"it is most active in {names}{', level within two standard errors' if len(level) > 1 else ''}"


def target_name(data: str) -> str:
    """A set's name in a sentence: an embedded or hub name as it is, a file by its last part."""
    is_file = data.endswith((".jsonl", ".json", ".csv", ".parquet")) or data.startswith(("/", "~", "."))
    return data.rstrip("/").rsplit("/", 1)[-1] if is_file else data


def _mostly(n: int, directions: tuple[int, int]) -> str:
    """`92 of them rise` where the leading features go mostly one way; empty where they do not, or are too few."""
    rise, fall = directions
    most, way = (rise, "rise") if rise >= fall else (fall, "fall")
    if n < FEWEST_FOR_A_WAY or most < MOSTLY * n:
        return ""
    return f"all of them {way}" if most == n else f"{count(most)} of them {way}"


def _ranked(scores: pd.DataFrame) -> tuple[list[Scored], int]:
    rows = [
        Scored(str(name), float(value), None if se is None or not math.isfinite(se) else float(se))
        for name, value, se in zip(scores["domain"], scores["value"], scores["se"].astype("float64"), strict=True)
        if value is not None and math.isfinite(value)
    ]
    return sorted(rows, key=lambda d: (-d.value, d.name)), len(scores) - len(rows)


def _level_with_first(ranked: Sequence[Scored]) -> list[int]:
    """Positions of the domains level with the highest, itself included; every error must be known."""
    first = ranked[0]
    return [i for i, d in enumerate(ranked) if first.value - d.value <= 2 * _se(first, d)]


def _se(first: Scored, second: Scored) -> float:
    """The standard error of the difference of two domains."""
    return math.hypot(first.se or 0.0, second.se or 0.0)


def _level_words(level: Sequence[int]) -> str:
    number = _spelled(len(level))
    return f"the first {number}" if level == list(range(len(level))) else f"{number} of them"


def _prediction(tests: int) -> str:
    if not tests:
        return "prediction, not yet tested here"
    many = _SMALL[tests] if tests < len(_SMALL) else count(tests)
    return f"prediction, tested here by {many} fine-tune{'s' if tests > 1 else ''}"


def _single(only: Scored, target: str, unmeasured: int) -> str:
    reason = "with one domain there is nothing to compare it with"
    return f"{_capital(only.name)} is the only domain scored for training on {target}: {reason}{_left_out(unmeasured)}."


def _no_error(ranked: Sequence[Scored]) -> str:
    missing = sum(d.se is None for d in ranked)
    where = (
        "fewer than five questions a domain"
        if missing == len(ranked)
        else (f"fewer than five questions in {_spelled(missing)} of them")
    )
    return f"with {where} the order may be chance"


def _all_level(n: int) -> str:
    return (
        "their scores are within two standard errors of each other"
        if n == 2
        else ("all are within two standard errors of the highest")
    )


def _left_out(unmeasured: int) -> str:
    return f"; {_spelled(unmeasured)} could not be measured" if unmeasured else ""


def listed(names: Sequence[str]) -> str:
    """`physics, law and math`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _spelled(n: int) -> str:
    return _SMALL[n] if 0 <= n < len(_SMALL) else str(n)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
