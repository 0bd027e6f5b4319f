"""A feature taken elsewhere: as Markdown for notes, and its page on Neuronpedia where SAELens knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pages.parts.feature_examples import chosen_examples, text_of
from pages.parts.feature_facts import moved
from pages.parts.provenance import line
from pages.parts.strip import runs
from sts_core.figures.feature_words import as_markdown, feature_title, label_words
from sts_core.figures.numbers import count, number, signed
from sts_core.nets import registry
from sts_core.results.dictionary import Meaning
from sts_core.results.gallery import Example
from sts_core.store.results import Stored

EXAMPLES, TOKENS = 5, 8
"""How many of each are copied."""
_HOME = "https://www.neuronpedia.org"


def markdown(
    stored: Stored,
    feature: int,
    label: Mapping[str, Any],
    features: int,
    examples: Sequence[Example],
    meaning: Meaning | None,
) -> str:
    """The feature in a page of Markdown."""
    facts = {"Label": label_words(label).rstrip(".")} if label.get("label") else {}
    if label.get("explanation"):
        facts["Explanation"] = str(label["explanation"])
    for one in moved(stored, feature, features):
        rank = f"rank {count(one.rank)} of {count(one.features)}"
        facts[f"Moved by {one.what}"] = f"{number(one.shift)} (signed {signed(one.signed)}), {rank}"
    chosen, told = chosen_examples(examples)
    if chosen:
        facts["Examples"] = told
    tokens = {"Promotes": meaning.promotes, "Suppresses": meaning.suppresses} if meaning else {}
    name = label.get("label")
    return as_markdown(
        feature_title(feature, name if isinstance(name, str) else None),
        facts,
        [text_of(example) for example in chosen[:EXAMPLES]],
        {title: ["".join(runs(token)) for token in found[:TOKENS]] for title, found in tokens.items()},
        line(stored),
    )


def neuronpedia_page(stored: Stored, feature: int) -> str | None:
    """The address of this feature there; None where SAELens does not know that the SAE is there."""
    release, _, name = stored.sae.partition(":")
    if not name or (known := registry.read().releases.get(release)) is None:
        return None
    known_as = next((row.neuronpedia for row in known.rows() if row.id == name), None)
    return f"{_HOME}/{known_as}/{feature}" if known_as else None
