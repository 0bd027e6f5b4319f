"""The sentences of a feature's page and of the list of features, and a feature as Markdown to paste elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sts_core.figures.numbers import DASH, count, known, number, percent

BANDS = {
    "top": "Top", "q90": "90 %", "q75": "75 %", "q50": "50 %", "random": "Random",
}  # fmt: skip
"""A band of examples -> its name on the page."""
BAND_HELP = (
    "Top: its strongest tokens, what it likes best. 90 %, 75 %, 50 %: tokens at that quantile of its values where it "
    "fires. Random: any token it fires on. Those tell what it usually means."
)
ARMS = {"base": "base", "icl": "ICL"}
"""The two arms every result has; other arms are fine-tuning runs, called by their names."""
JUDGES = {"provenance": "the source of its strongest examples", "person": "a person"}
_ORDERED = {
    "shift": "most shifted", "up": "most raised", "down": "most lowered", "gain": "that gain most in firing",
    "density": "that fire most often", "rare": "that fire most rarely", "active": "most active in any domain",
}  # fmt: skip


BAND_WORDS = {
    "top": "strongest", "q90": "at the 90 % quantile", "q75": "at the 75 % quantile", "q50": "at the median",
    "random": "drawn at random",
}  # fmt: skip
"""The same within a sentence."""


def arm_name(arm: str) -> str:
    """What an arm is called."""
    return ARMS.get(arm, arm)


def feature_title(feature: int, label: str | None) -> str:
    """`Feature 1 234: “digits inside worked arithmetic”`."""
    return f"Feature {count(feature)}: “{label}”" if label else f"Feature {count(feature)}"


BY_CHANCE = 0.55
"""A detection score below it says next to nothing: half is chance."""


def label_words(label: Mapping[str, Any] | None) -> str:
    """Who named the feature, and how well the name holds; that it has none."""
    if not label or not label.get("label"):
        return "It has no label yet."
    if label.get("human"):
        return "Labelled by a person."
    judge = str(label.get("judge") or "")
    who = JUDGES.get(judge, judge) or "a judge that is not named"
    if who.startswith("imported "):
        return f"Label {who}."
    score = label.get("detection")
    if score is None or not known(float(score)):
        return f"Labelled by {who}; not yet tested."
    chance = ", no better than chance" if float(score) < BY_CHANCE else ""
    return f"Labelled by {who}; detection {number(float(score), 2)}{chance}."


def density_words(arm: str, fired: int, seen: int, where: str) -> str:
    """`base: fires on 0.82 % of 320 000 tokens of 15 sets`."""
    if not seen:
        return f"{arm_name(arm)}: no token was looked at"
    share = f"{percent(fired / seen)} of {count(seen)} tokens" if fired else f"none of {count(seen)} tokens"
    return f"{arm_name(arm)}: fires on {share} of {where}"


def list_headline(order: str, first: int, leading: Sequence[tuple[str, int]], share: float | None) -> str:
    """Where the leading features live: `Of the 100 most shifted features 31 are most active in law (9 % …) and …`

    `share` is that of the first domain among all features that fire: what chance would give.
    """
    if not first or not leading:
        return "No feature fires in these sets."
    places = []
    for at, (name, many) in enumerate(leading):
        beside = f" ({percent(share)} of all that fire are)" if known(share) and not at else ""
        places.append(f"{count(many)} {'in' if at else 'are most active in'} {name}{beside}")
    which = (
        f"features {_ORDERED[order]}"
        if order in ("gain", "density", "rare", "active")
        else f"{_ORDERED[order]} features"
    )
    return f"Of the {count(first)} {which} {' and '.join(places)}."


def matching_words(matching: int, features: int, conditions: Sequence[str]) -> str:
    """`57 of 4 096 features: strongest in law, starred`."""
    if not conditions:
        return f"All {count(features)} features."
    return f"{count(matching)} of {count(features)} features: {', '.join(conditions)}."


def histogram_title(feature: int) -> str:
    """The question the histogram answers."""
    return f"How often, and how strongly, does feature {count(feature)} fire?"


def as_markdown(
    title: str, facts: Mapping[str, str], examples: Sequence[str], tokens: Mapping[str, Sequence[str]], origin: str
) -> str:
    """A feature to paste into notes: text of examples and tokens stands in fences that it cannot close."""
    lines = [f"## {_one_line(title)}", ""]
    lines += [f"- {name}: {_one_line(value) or DASH}" for name, value in facts.items()]
    for name, found in tokens.items():
        lines += [f"- {name}: {', '.join(_code(token) for token in found)}"] if found else []
    if examples:
        fence = "`" * max(3, 1 + max(len(run) for text in [*examples, "``"] for run in re.findall("`+", text) or [""]))
        lines += ["", "Examples, the peak token in ⟪⟫:", "", f"{fence}text", *examples, fence]
    return "\n".join([*lines, "", f"_{_one_line(origin)}_", ""])


def _code(token: str) -> str:
    fence = "`" * (1 + max(len(run) for run in re.findall("`+", token) or [""]))
    return f"{fence} {token} {fence}" if "`" in token else f"`{token}`"


def _one_line(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))
