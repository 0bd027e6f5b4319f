"""A judge that chats: one prompt in, one answer out, whoever answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sts_core.judge.judges import FAILED, LABELLED, NO_LABEL, SHOWN, Guesses, Question, Verdict, Window
from sts_core.judge.prompt import OPENING, guess_prompt, label_prompt, read_label, read_numbers
from sts_core.results.label_text import plain

ANSWER_TOKENS = 120
"""Enough for a label and a line; an answer is cut there."""


class Answer(NamedTuple):
    """What came back."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    trouble: str = ""
    """Why there is no answer; empty when there is one."""


class Talker(Protocol):
    """Who answers."""

    @property
    def name(self) -> str:
        """Says which model it is."""

    def say(self, prompt: str, opening: str = "") -> Answer:
        """Answer a prompt. Who can goes on from the `opening` of the answer. UserError where asking on is of no use."""


class ChatJudge:
    """Asks a talker and reads its answers strictly."""

    def __init__(self, talker: Talker) -> None:
        self._talker = talker

    @property
    def name(self) -> str:
        return self._talker.name

    def label(self, question: Question) -> Verdict:
        """The answer's first line, if it is one of the labels; a feature without examples is not asked about."""
        if not question.examples:
            return Verdict(NO_LABEL, None, "", {"why": "it fires in none of the texts"})
        answer = self._talker.say(label_prompt(question._replace(examples=question.examples[:SHOWN])), OPENING)
        spent = {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
        if answer.trouble:
            return Verdict(FAILED, None, "", {"why": answer.trouble}, **spent)
        label, why = read_label(answer.text, question.labels)
        if label is None:
            return Verdict(NO_LABEL, None, "", {"why": "no label of the set", "said": plain(answer.text, 200)}, **spent)
        return Verdict(LABELLED, label, why, {"examples": len(question.examples[:SHOWN])}, **spent)

    def guess(self, label: str, explanation: str, windows: Sequence[Window]) -> Guesses:
        """The numbers in the answer; anything else says nothing."""
        answer = self._talker.say(guess_prompt(label, explanation, windows))
        fires = None if answer.trouble else read_numbers(answer.text, len(windows))
        return Guesses(fires, answer.tokens_in, answer.tokens_out)
