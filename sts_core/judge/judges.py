"""What a judge is: asked which label fits a feature's strongest examples, and on which texts a feature so named fires.

Three kinds answer: `provenance` (which corpus the examples come from; no model at all), a local chat model, and any
OpenAI-compatible endpoint. Whoever asks needs only what is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sts_core.errors import UserError
from sts_core.results.label_text import MOST_LABEL, plain

LABELLED, NO_LABEL, FAILED = "labelled", "not_a_label", "failed"
"""What an answer can be: one of the labels; something else, or none; not to be had."""
SHOWN = 10
"""Strongest examples that a judge is shown."""
MOST_LABELS = 50


class Window(Protocol):
    """A stretch of text: some tokens of a row of a source."""

    @property
    def source(self) -> str:
        """The corpus it comes from."""

    @property
    def texts(self) -> Sequence[str]:
        """Its tokens as text."""

    @property
    def peak(self) -> int:
        """Which of them the feature is strongest on."""


class Question(NamedTuple):
    """A feature to be named."""

    feature: int
    examples: Sequence[Window]
    """The strongest first."""
    labels: Sequence[str]


class Verdict(NamedTuple):
    """What a judge answered."""

    outcome: str
    """LABELLED, NO_LABEL or FAILED."""
    label: str | None = None
    explanation: str = ""
    evidence: dict[str, Any] = {}  # noqa: RUF012 - never written to
    """What the label rests on, as JSON values."""
    tokens_in: int = 0
    tokens_out: int = 0


class Guesses(NamedTuple):
    """On which of the texts shown a judge thinks that the feature fires; None where its answer says nothing."""

    fires: list[bool] | None
    tokens_in: int = 0
    tokens_out: int = 0


class Judge(Protocol):
    """One who names features."""

    @property
    def name(self) -> str:
        """Under which its labels are kept; with another model or method it has another name."""

    def label(self, question: Question) -> Verdict:
        """Name a feature. Raises UserError where asking on is of no use until a person changes something."""

    def guess(self, label: str, explanation: str, windows: Sequence[Window]) -> Guesses:
        """Tell from the label and explanation alone where the feature fires."""


def label_set(names: Sequence[str]) -> tuple[str, ...]:
    """Check a label set: at least two different words, each short."""
    words = tuple(plain(name, MOST_LABEL) for name in names)
    twice = next((word for i, word in enumerate(words) if word.casefold() in [w.casefold() for w in words[:i]]), None)
    if len(words) < 2 or len(words) > MOST_LABELS or not all(words) or twice:
        what = f"names {twice!r} twice" if twice else f"holds {len([w for w in words if w])} labels"
        raise UserError(f"The label set {what}", f"Give 2 to {MOST_LABELS} different labels: --labels math,code,prose.")
    return words
