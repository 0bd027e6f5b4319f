"""Which rows a mixture may train on: of every domain the half that is never evaluated, minus what is spoken for.

`text.sides` cuts every set by the hash of its question. Of a domain, the half that may be queried may train and the
kept half is evaluated; of the target set the kept half trains, but for its last rows. Rows are read every way that
another part may read them (`evaluation.sets.readings`), and no question trains that any set of the result, read in any
way, is evaluated on, or that the target set was queried with: the same question may stand in two files.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

from sts_core.errors import UserError, nearest
from sts_core.fingerprint import sha256_file
from sts_core.results.folder import Result
from sts_core.spec import DataSpec, Spec
from sts_core.text.sides import held_out, split
from sts_core.text.sources import Row, locate, read_rows
from sts_core.train.evaluation.sets import readings
from sts_core.train.mixture.manifest import TARGET, source_answer
from sts_core.train.mixture.spec import ALL, MODEL, WORKED, MixtureSpec
from sts_core.train.sft.beforehand import find_prediction

SPOKEN_FOR = "question is evaluated or queried"
REPEATED = "repeats a question"
NO_ANSWER = "no answer"


class Pool(NamedTuple):
    """The rows of one set that may train."""

    data: DataSpec
    sha256: str
    rows: list[Row]
    """In the order they are drawn in: the seed's for a domain, the hash's for the target. A larger quota takes the same
    rows and more."""
    left_out: dict[str, int]
    """Rows of the training side that cannot be used, by reason."""

    def public(self) -> dict[str, Any]:
        """For manifests: what the rows are read from again."""
        return {
            "data": self.data.data, "columns": dict(self.data.columns), "sha256": self.sha256,
            "available": len(self.rows), "left_out": self.left_out,
        }  # fmt: skip


class Sides(NamedTuple):
    """A set's rows that may train, and the questions nobody may train on because of it."""

    trained: list[Row]
    closed: set[str]
    evaluated: int
    """Rows of it that are evaluated; of the target set half of its kept rows at most."""


def _in_all(sides: list[set[int]]) -> set[int]:
    return sides[0].intersection(*sides[1:])


def find_result(name: str) -> Result:
    """The finished result behind a folder, a key of the store, or the shipped demo's key."""
    try:
        folder = find_prediction(name)
    except UserError as error:
        raise UserError(
            f"There is no finished result {name!r} to take scores from",
            "Name the --out folder of a finished `sts run`.",
        ) from error
    return Result(folder)


class Sources:
    """A measured result and its sets, cut into their sides."""

    def __init__(self, spec: MixtureSpec) -> None:
        self.spec = spec
        self.result = find_result(spec.result)
        manifest = self.result.manifest
        try:
            self.measured = Spec.from_dict(manifest["spec"])
            self._digests = {one.name: str(manifest["resolved"]["files"][one.name]["data"]) for one in self._sets}
            self._queried = {one.name: set(manifest["sets"][one.name]["query_rows"]) for one in self._sets}
            self.key, self.model = str(manifest["key"]), str(manifest["resolved"]["model"]["revision"])
        except (KeyError, TypeError, UserError):  # a fine-tune's manifest, or a mixture's
            raise UserError(
                f"{self.result.folder} is no result that a mixture can be steered by", "Name the folder of a `sts run`."
            ) from None
        self.domains = self._named(spec)

    @property
    def _sets(self) -> tuple[DataSpec, ...]:
        return self.measured.sets

    def _named(self, spec: MixtureSpec) -> tuple[str, ...]:
        known = tuple(domain.name for domain in self.measured.domains)
        names = known if spec.domains == ALL else spec.domains
        for name in names:
            if name not in known:
                raise UserError(
                    f"The result has no domain {name!r}{nearest(name, known)}", f"Its domains are: {', '.join(known)}."
                )
        return tuple(names)

    @cached_property
    def pools(self) -> dict[str, Pool]:
        """What may train: of the target, then of each domain of the mixture."""
        closed = {question for side in self.sides.values() for question in side.closed}
        wanted = (TARGET, *self.domains)
        return {one.name: self._pool(one, self.sides[one.name], closed) for one in self._sets if one.name in wanted}

    @cached_property
    def sides(self) -> dict[str, Sides]:
        """How every set of the result is cut."""
        return {one.name: self._sides(one) for one in self._sets}

    def _sides(self, one: DataSpec) -> Sides:
        path = locate(one.data)
        if sha256_file(path) != self._digests[one.name]:
            raise UserError(
                f"{one.name}: {one.data} is not the file that was measured", "Bring it back, or measure again."
            )
        every = [rows for rows in readings(one) if rows]  # what nobody can read, nobody has used
        if one.name == TARGET:
            cuts = [held_out(rows, self.spec.target.evaluate_rows) for rows in every]
            kept_out = [cut.evaluated for cut in cuts] + [split(rows).queried for rows in every]
            trained, evaluated = cuts[0].trained, cuts[0].evaluated
        else:
            kept_out = [split(rows).kept for rows in every]
            trained, evaluated = split(every[0]).queried, kept_out[0]
            self._check_scored(one, [{row.number for row in kept} for kept in kept_out])
        return Sides(trained, {row.question.strip() for rows in kept_out for row in rows}, len(evaluated))

    def _check_scored(self, one: DataSpec, kept: list[set[int]]) -> None:
        """What was scored must not be evaluated: a result that was measured without sides cannot steer a mixture."""
        if scored := self._queried[one.name] & _in_all(kept):
            raise UserError(
                f"{one.name}: {len(scored):,} of the rows that the result scored are kept for evaluation",
                'Measure with preset = "default": the reference preset scores rows of both halves.',
            )

    def _pool(self, one: DataSpec, side: Sides, closed: set[str]) -> Pool:
        """The set's training side without what is spoken for or has no answer; of a domain, each question once."""
        key = self.spec.target.answer if one.name == TARGET else self.spec.answers
        if key == WORKED:
            self._check_worked(one)
        left_out: Counter[str] = Counter()
        rows, seen = [], set()
        for row in side.trained:
            question = row.question.strip()
            if question in closed:
                left_out[SPOKEN_FOR] += 1
            elif one.name != TARGET and question in seen:
                left_out[REPEATED] += 1
            elif key != MODEL and not source_answer(row, key):
                left_out[NO_ANSWER] += 1
            else:
                seen.add(question)
                rows.append(row)
        if one.name != TARGET or self.spec.target.rows != ALL:
            random.Random(f"{self.spec.seed}/{one.name}/mixture").shuffle(rows)
        return Pool(one, self._digests[one.name], rows, dict(left_out))

    def _check_worked(self, one: DataSpec) -> None:
        """With `cot` asked for, a column of that name must be there: else the answer would be learned in its place."""
        try:
            read_rows(locate(one.data), {"cot": "cot", **one.columns}, ("question", "worked"))
        except UserError as error:
            if one.name == TARGET:
                who, hint = "The training set", 'Learn its answers as they are: target.answer = "answer".'
            else:
                who, hint = one.name, 'Take the answers as their source has them, or bring domains with a column "cot".'
            raise UserError(f"{who} has no worked answers: {error.message}", hint) from error
