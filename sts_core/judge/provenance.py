"""The judge that needs no model: a feature is named after the corpus that most of its strongest examples come from.

Corpora of equal size are asked, so a feature that fires everywhere alike comes from all of them and is named after
none. Ties and features that fire in no corpus are told, not decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sts_core.judge.judges import LABELLED, NO_LABEL, SHOWN, Guesses, Question, Verdict, Window


class Provenance:
    """Majority source of the ten strongest examples over all corpora."""

    name = "provenance"

    def label(self, question: Question) -> Verdict:
        """The label is the corpus; its share of the examples is the evidence."""
        sources = Counter(example.source for example in question.examples[:SHOWN])
        return majority({label: sources[label] for label in question.labels})

    def guess(self, label: str, explanation: str, windows: Sequence[Window]) -> Guesses:
        """A feature named after a corpus should fire in its texts and not in the others'."""
        return Guesses([window.source == label for window in windows])


def majority(sources: dict[str, int]) -> Verdict:
    """The verdict on how many of the strongest examples come from each corpus."""
    count = sum(sources.values())
    evidence: dict[str, Any] = {"of": count, "sources": {name: n for name, n in sources.items() if n}}
    if not count:
        return Verdict(NO_LABEL, None, "", {**evidence, "why": "it fires in none of the corpora"})
    most = max(sources.values())
    first = [name for name, n in sources.items() if n == most]
    if len(first) > 1:
        return Verdict(NO_LABEL, None, "", {**evidence, "why": f"a tie of {' and '.join(first)}"})
    share = most / count
    words = f"{most} of its {count} strongest examples in the label texts are {first[0]}"
    return Verdict(LABELLED, first[0], words, {**evidence, "share": round(share, 4)})
