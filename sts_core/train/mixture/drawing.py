"""From quotas to rows: the first of each pool that can be trained on, and what they cost in tokens.

A row that cannot be trained on (it holds the template's markers, its answer is empty or too long) is passed over and
counted, and the next one takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.nets.describe import ModelInfo, find_model
from sts_core.nets.tokenizer import load_tokenizer
from sts_core.stats.allocation import ALLOCATIONS, allocate, check_quotas
from sts_core.text.sources import Row
from sts_core.train.mixture.manifest import TARGET, MixedRow, source_answer
from sts_core.train.mixture.pools import Pool, Sources
from sts_core.train.mixture.spec import ALL, MODEL, MixtureSpec
from sts_core.train.sft.rows import Encoder

_ANY_ANSWER = "x"
"""Stands in for an answer that the model has not given yet."""


class Shares(NamedTuple):
    """How the budget falls on the domains, and what steered it."""

    scores: dict[str, float]
    errors: dict[str, float | None]
    """Their standard errors."""
    quotas: dict[str, int]
    beside: dict[str, dict[str, int] | None]
    """Every allocation by name, for contrast; None where it cannot be made."""


class Taken(NamedTuple):
    """One row of the mixture."""

    row: MixedRow
    tokens: int
    """Of the whole row, as it is trained on; of one that has no answer yet, its question's."""
    learned: int
    """Of these, those the loss is taken over; 0 until it has its answer."""


class Drawn(NamedTuple):
    """The rows of one set."""

    taken: list[Taken]
    unanswered: list[Row]
    """Those of them that the model has still to answer."""
    passed_over: dict[str, int]


Answered = Callable[[Row], str | None]
"""What is learned of a row; None while the model has not said it."""


def shares(sources: Sources) -> Shares:
    """The quotas of a spec, beside what other allocations would give; refused where the budget cannot be met."""
    spec = sources.spec
    table = sources.result.scores(n=spec.score.n, power=spec.score.power)
    own = table[table["metric"] == spec.score.metric].set_index("domain")
    scores = {name: float(own.loc[name, "value"]) for name in sources.domains}
    errors = {name: _number(own.loc[name, "se"]) for name in sources.domains}
    available = {name: len(sources.pools[name].rows) for name in sources.domains}
    if isinstance(spec.allocation, Mapping):
        quotas = check_quotas(spec.allocation, available)
    else:
        quotas = _allocate(spec, scores, available, spec.allocation)
    beside: dict[str, dict[str, int] | None] = {}
    for how in ALLOCATIONS:
        try:
            beside[how] = _allocate(spec, scores, available, how)
        except UserError:
            beside[how] = None
    return Shares(scores, errors, quotas, beside)


def _allocate(spec: MixtureSpec, scores: dict[str, float], available: dict[str, int], how: str) -> dict[str, int]:
    return allocate(scores, available, spec.rows_shared_out, how, spec.tau, spec.floor, spec.cap)


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


class Drawing:
    """Draws rows for one model: the one the result was measured on."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.info: ModelInfo = find_model(sources.measured.model)
        if self.info.revision != sources.model:
            raise UserError(
                f"{sources.measured.model} is not the model that was measured: its files have changed",
                "Bring them back, or measure again.",
            )
        self.tokenizer = load_tokenizer(self.info)
        self._encoder = Encoder(self.tokenizer, self.info.context)

    def target(self) -> Drawn:
        """The target set's own rows; as many as were asked for, or all that can be trained on."""
        wanted = self.sources.spec.target.rows
        pool, key = self.sources.pools[TARGET], self.sources.spec.target.answer
        drawn = self._draw(pool, None if wanted == ALL else int(wanted), lambda row: source_answer(row, key))
        if wanted != ALL and len(drawn.taken) < int(wanted):
            raise UserError(
                f"{wanted:,} rows of {pool.data.data} are asked for, {len(drawn.taken):,} can be trained on",
                f'Lower target.rows or target.evaluate_rows, or write rows = "{ALL}".',
            )
        return drawn

    def domain(self, name: str, quota: int, said: Mapping[tuple[str, int], str]) -> Drawn:
        """The rows of one domain, with what the model said of them where it has been asked."""
        key = self.sources.spec.answers
        pool = self.sources.pools[name]
        if key != MODEL:
            drawn = self._draw(pool, quota, lambda row: source_answer(row, key))
        else:
            drawn = self._draw(pool, quota, lambda row: said.get((name, row.number)))
        if len(drawn.taken) < quota and key != MODEL:
            lost = ", ".join(f"{why}: {n}" for why, n in drawn.passed_over.items())
            raise UserError(
                f"{name}: {quota:,} rows are its quota, {len(drawn.taken):,} can be trained on ({lost})",
                "Lower cap or budget.",
            )
        return drawn

    def _draw(self, pool: Pool, quota: int | None, answered: Answered) -> Drawn:
        taken: list[Taken] = []
        unanswered: list[Row] = []
        passed: Counter[str] = Counter()
        room = self.info.context - self.sources.spec.generate.max_tokens
        for row in pool.rows:
            if quota is not None and len(taken) >= quota:
                break
            answer = answered(row)
            if answer is not None and not answer.strip():
                passed["empty answer"] += 1
                continue
            made = self._encoder.encode(row, _ANY_ANSWER if answer is None else answer)
            if isinstance(made, str):
                passed[made.replace("max_tokens", "the model's context")] += 1
            elif answer is None and (made.shortened or len(made.row.ids) > room):
                passed["question leaves no room for an answer"] += 1
            elif answer is None:
                unanswered.append(row)
                taken.append(Taken(MixedRow(pool.data.name, row.number, row.question, ""), len(made.row.ids), 0))
            else:
                mixed = MixedRow(pool.data.name, row.number, row.question, answer)
                taken.append(Taken(mixed, len(made.row.ids), made.row.learned))
        return Drawn(taken, unanswered, dict(passed))
