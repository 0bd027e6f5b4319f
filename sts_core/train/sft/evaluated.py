"""What a fine-tune is evaluated on: kept rows of its domains and its target, and no question that it trains on.

The sides keep them apart already. Where the training set is a mixture, each question is held against it once more: a
domain may be evaluated from another file than the one it was mixed in from.
"""

from __future__ import annotations

from typing import NamedTuple

from sts_core.errors import UserError
from sts_core.results.folder import Result
from sts_core.spec import DataSpec
from sts_core.text.sources import locate, read_rows
from sts_core.train.evaluation.sets import EvalSet, domain_set, target_set
from sts_core.train.mixture.manifest import TARGET, Mixture
from sts_core.train.sft.rows import evaluated_target, mixture_of
from sts_core.train.sft.spec import SetSpec, SftSpec


class Evaluated(NamedTuple):
    """The sets, and how many of their rows were left out because they are trained on."""

    sets: list[EvalSet]
    left_out: dict[str, int]


def evaluation_sets(spec: SftSpec) -> Evaluated:
    """The target's own rows, where any are kept back, then the domains."""
    wanted, mixture = spec.evaluate, mixture_of(spec.target)
    sets: list[EvalSet] = []
    if wanted.target_rows:
        target = evaluated_target(spec.target)
        sets.append(target_set(_data(target), wanted.target_rows, answer="cot" if target.answer == "cot" else "answer"))
    sets += [domain_set(_data(domain), wanted.rows) for domain in wanted.domains]
    if mixture is None:
        return Evaluated(sets, {})
    trained, kept = mixture.questions, []
    for one in sets:
        questions = tuple(question for question in one.questions if question.text.strip() not in trained)
        if not questions:
            raise UserError(
                f"{one.name}: every row that would be evaluated is trained on",
                "Evaluate another file, or mix other rows.",
            )
        kept.append(one._replace(questions=questions))
    lost = {one.name: len(one.questions) - len(rest.questions) for one, rest in zip(sets, kept, strict=True)}
    return Evaluated(kept, {name: n for name, n in lost.items() if n})


def check_unseen(result: Result, mixture: Mixture) -> None:
    """What really shifts is measured on the prediction's own queries, so none of them may be trained on."""
    queried = set(result.manifest["sets"][TARGET]["query_rows"])
    rows = read_rows(locate(mixture.target.data), mixture.target.columns, ("question",)).rows
    met = sum(row.number in queried and row.question.strip() in mixture.questions for row in rows)
    if met:
        raise UserError(
            f"The mixture trains on {met:,} of the rows that the prediction was measured on",
            "Hold it against the result that the mixture was made from, or make another mixture.",
        )


def _data(one: SetSpec) -> DataSpec:
    return DataSpec(name=one.name, data=one.data, columns=dict(one.columns))
