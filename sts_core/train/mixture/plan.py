"""What a mixture will be, found out without writing anything: quotas, rows, tokens, some rows (`sts mix --plan`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sts_core.train.mixture.answering import Answers
from sts_core.train.mixture.drawing import Drawing, Drawn, Shares, shares
from sts_core.train.mixture.manifest import TARGET
from sts_core.train.mixture.pools import Sources
from sts_core.train.mixture.spec import MODEL, MixtureSpec

PREVIEW = 2
"""So many rows of each set are shown."""


class Draft(NamedTuple):
    """A mixture before it is written."""

    sources: Sources
    drawing: Drawing
    shares: Shares
    sets: dict[str, Drawn]
    """The target's rows first, then each domain's."""


def draft(spec: MixtureSpec) -> Draft:
    """Everything but the model's own answers; all that can be wrong with spec, result and rows is told here."""
    sources = Sources(spec)
    shared = shares(sources)
    drawing = Drawing(sources)
    return Draft(sources, drawing, shared, {TARGET: drawing.target(), **draw_domains(drawing, shared, {})})


def draw_domains(drawing: Drawing, shared: Shares, said: Answers) -> dict[str, Drawn]:
    """Every domain's rows, with what the model has said so far."""
    known = {key: one.answer for key, one in said.items()}
    return {name: drawing.domain(name, quota, known) for name, quota in shared.quotas.items()}


def plan(spec: MixtureSpec) -> dict[str, Any]:
    """The plan as JSON values."""
    found = draft(spec)
    waiting = sum(len(one.unanswered) for one in found.sets.values())
    return {
        "result": {"folder": str(found.sources.result.folder), "key": found.sources.key},
        "model": found.drawing.info.public(),
        "budget": spec.rows_shared_out, "allocation": plain_allocation(spec), "tau": spec.tau,
        "target": {"data": found.sources.pools[TARGET].data.data, **_set(found, TARGET)},
        "domains": [{"domain": name, **domain(found, name)} for name in found.shares.quotas],
        "rows": sum(len(one.taken) for one in found.sets.values()),
        "cost": cost(found.sets, spec),
        "answers": {"from": spec.answers, "to_generate": waiting, "tokens_at_most": waiting * spec.generate.max_tokens},
        "preview": _preview(found.sets), "warnings": warnings(found, {}),
    }  # fmt: skip


def plain_allocation(spec: MixtureSpec) -> str | dict[str, int]:
    """As JSON takes it."""
    return dict(spec.allocation) if isinstance(spec.allocation, Mapping) else spec.allocation


def domain(found: Draft, name: str) -> dict[str, Any]:
    """What is told of one domain: its score, its quota, and what other allocations would give it."""
    shared = found.shares
    beside = {how: quotas[name] if quotas is not None else None for how, quotas in shared.beside.items()}
    return {
        "score": shared.scores[name], "se": shared.errors[name], "quota": shared.quotas[name], **beside,
        **_set(found, name),
    }  # fmt: skip


def cost(sets: Mapping[str, Drawn], spec: MixtureSpec) -> dict[str, Any]:
    """Tokens of one pass over the rows, and what the domains add to those of the target set.

    `at_most`: where the model has still to answer, with answers as long as they may be.
    """
    tokens = {name: sum(one.tokens for one in drawn.taken) for name, drawn in sets.items()}
    learned = {name: sum(one.learned for one in drawn.taken) for name, drawn in sets.items()}
    waiting = sum(len(drawn.unanswered) for drawn in sets.values()) * spec.generate.max_tokens
    target, domains = tokens[TARGET], sum(tokens.values()) - tokens[TARGET]
    return {
        "target_tokens": target, "domain_tokens": domains, "tokens": target + domains,
        "at_most": target + domains + waiting,
        "learned_target_tokens": learned[TARGET], "learned_tokens": sum(learned.values()),
        "domain_tokens_a_target_token": round(domains / target, 4) if target else None,
    }  # fmt: skip


def warnings(found: Draft, said: Answers) -> list[str]:
    """What a person should know before training on it."""
    told = []
    for name, drawn in found.sets.items():
        lost = {**found.sources.pools[name].left_out, **drawn.passed_over}
        if lost:
            told.append(f"{name}: rows that cannot be used: {', '.join(f'{why}: {n:,}' for why, n in lost.items())}.")
        quota = found.shares.quotas.get(name, 0)
        if name != TARGET and len(drawn.taken) < quota:
            told.append(
                f"{name}: {len(drawn.taken):,} rows of its quota of {quota:,}; it has no more that can be used."
            )
    kept, asked = found.sources.sides[TARGET].evaluated, found.sources.spec.target.evaluate_rows
    if kept < asked:
        told.append(
            f"{kept:,} rows of the target set are kept back for evaluation, of {asked:,} asked for: half of its rows "
            "that are not measured is the most."
        )
    if not found.sets[TARGET].taken:
        told.append("No row of the target set is in the mixture: the domains alone are trained on.")
    used = [said[one.row.set, one.row.row] for drawn in found.sets.values() for one in drawn.taken
            if (one.row.set, one.row.row) in said]  # fmt: skip
    if cut := sum(one.cut for one in used):
        most = found.sources.spec.generate.max_tokens
        told.append(f"{cut:,} of {len(used):,} answers were cut at {most:,} tokens; the model had more to say.")
    if found.sources.spec.answers == MODEL and not found.drawing.info.chat:
        told.append("The model has no chat template: its answers are what it goes on with, not replies.")
    return told


def _set(found: Draft, name: str) -> dict[str, Any]:
    drawn = found.sets[name]
    return {
        "available": len(found.sources.pools[name].rows), "rows": len(drawn.taken),
        "tokens": sum(one.tokens for one in drawn.taken), "learned_tokens": sum(one.learned for one in drawn.taken),
    }  # fmt: skip


def _preview(sets: Mapping[str, Drawn]) -> list[dict[str, Any]]:
    return [
        {"set": name, "row": one.row.row, "question": one.row.question, "answer": one.row.answer or None}
        for name, drawn in sets.items()
        for one in drawn.taken[:PREVIEW]
    ]
