"""The questions a model is evaluated on: rows that neither training nor scoring used (METHOD 2, 6).

Of a domain the first rows of its kept half, in hash order; of the target set the last ones of its kept half, which
training leaves out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from sts_core.errors import UserError
from sts_core.spec import DataSpec
from sts_core.text.sides import held_out, split
from sts_core.text.sources import Row, demonstration_source, locate, read_rows

ROWS = 120
"""How many rows of a set are evaluated when nobody says otherwise."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Question(NamedTuple):
    """One row, as it is asked."""

    row: int
    """Its record number in the file."""
    text: str
    """What the user turn says, options and all."""
    gold: str
    """The gold answer: the letter where there are options, else the answer itself; no white space around it."""
    options: tuple[str, ...] = ()
    """The texts of the options; none where the question is free."""

    @property
    def letters(self) -> str:
        """The options' letters."""
        return _LETTERS[: len(self.options)]

    @property
    def gold_text(self) -> str:
        """The gold answer in words."""
        return self.options[self.letters.index(self.gold)] if self.options else self.gold


class EvalSet(NamedTuple):
    """A domain, or the target set, ready to be asked."""

    name: str
    questions: tuple[Question, ...]
    demos: tuple[str, ...] = ()
    """Turns before every question, user and assistant by turns; none is zero-shot."""


def domain_set(spec: DataSpec, rows: int = ROWS, demos: int = 0, seed: int = 0) -> EvalSet:
    """The first `rows` of a domain's kept half."""
    kept = [split(reading).kept for reading in readings(spec)]
    return _set(spec, _common(kept), rows, demos, seed, worked=False)


def target_set(
    spec: DataSpec, rows: int = ROWS, demos: int = 0, seed: int = 0, answer: Literal["answer", "cot"] = "answer"
) -> EvalSet:
    """The last `rows` of the target set's kept half, which `held_out` keeps from training on their `answer`."""
    kept = [held_out(reading, rows).evaluated for reading in readings(spec)]
    return _set(spec, _common(kept), rows, demos, seed, worked=answer == "cot")


def scored_set(spec: DataSpec, queried: Sequence[int], rows: int = ROWS) -> EvalSet | None:
    """The first `rows` of the record numbers that a measurement queried and that have an answer; None where none has.

    They are of the half that is never evaluated: what may be looked at before a training.
    """
    there = {row.number: row for row in read_rows(locate(spec.data), spec.columns, ("question",)).rows}
    asked = [as_question(there[number]) for number in queried if number in there]
    questions = tuple(question for question in asked if question is not None)[:rows]
    return EvalSet(spec.name, questions) if questions else None


def as_question(row: Row, worked: bool = False) -> Question | None:
    """The row as it is asked, the gold answer being the worked one if so told; None when it has none."""
    answer, options = ((row.worked if worked else row.answer) or "").strip(), _options(row.question)
    if not answer:
        return None
    letters = _LETTERS[: len(options)]
    if answer in letters and len(answer) == 1:
        return Question(row.number, row.question, answer, options)
    if options.count(answer) == 1:
        return Question(row.number, row.question, letters[options.index(answer)], options)
    return Question(row.number, row.question, answer)


def _set(spec: DataSpec, kept: list[Row], rows: int, demos: int, seed: int, worked: bool) -> EvalSet:
    asked = [as_question(row, worked) for row in kept]
    questions = tuple(question for question in asked if question is not None)[:rows]
    if not questions:
        raise UserError(
            f"{spec.name}: no row is left to evaluate; half a set is kept back for it",
            "Give a set with more rows that have an answer, or map its columns.",
        )
    return EvalSet(spec.name, questions, _demos(spec, demos, seed, worked))


def readings(spec: DataSpec) -> list[list[Row]]:
    """The rows that a measurement or a training may have taken the set for.

    Rows without an answer, or without a worked one, are usable to some and not to others, and other rows make other
    halves. Only what is kept back under all of these was used by nobody.
    """
    read_rows(locate(spec.data), spec.columns, ("question", "worked"))  # tells what is wrong with the columns
    rows = read_rows(locate(spec.data), spec.columns, ("question",)).rows
    return [rows, [row for row in rows if row.answer], [row for row in rows if row.worked]]


def _common(sides: list[list[Row]]) -> list[Row]:
    """The rows that all of these hold, in the order of the first."""
    numbers = set.intersection(*({row.number for row in side} for side in sides))
    return [row for row in sides[0] if row.number in numbers]


def _demos(spec: DataSpec, wanted: int, seed: int, worked: bool) -> tuple[str, ...]:
    """Questions with their answers, from a file of their own or from the half that is never evaluated."""
    if not wanted:
        return ()
    own = demonstration_source(spec)
    if own:
        rows = read_rows(locate(own[0], demos=True), own[1], ("question", "answer")).rows
    else:
        rows = _common([split(reading).queried for reading in readings(spec)])
    shown = [question for row in rows if (question := as_question(row, worked)) is not None]
    if len(shown) < wanted:
        raise UserError(
            f"{spec.name}: {wanted} demonstrations are asked for, {len(shown)} rows can serve", "Lower demos."
        )
    chosen = random.Random(f"{seed}/{spec.name}/evaluation").sample(shown, wanted)
    return tuple(turn for question in chosen for turn in (question.text, question.gold))


def _options(question: str) -> tuple[str, ...]:
    """The texts behind `A. `, `B. `, … at the end of a question; none where there are fewer than two."""
    start = question.rfind("\nA. ")
    if start < 0:
        return ()
    cuts = [start]
    for letter in _LETTERS[1:]:
        found = question.find(f"\n{letter}. ", cuts[-1] + 1)
        if found < 0:
            break
        cuts.append(found)
    texts = [question[a:b] for a, b in zip(cuts, [*cuts[1:], len(question)], strict=True)]
    return tuple(re.sub(r"^\n[A-Z]\. ", "", text).strip() for text in texts) if len(cuts) > 1 else ()


def names(sets: Iterable[EvalSet]) -> list[str]:
    """The names of the sets; refuses one that is there twice."""
    found = [one.name for one in sets]
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise UserError(f"Two sets are named {twice!r}", "Give every set a name of its own.")
    return found
