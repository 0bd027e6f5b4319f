"""What a run will do, found out without doing it: checks, exact tokens, time and memory (`sts plan`)."""

from __future__ import annotations

from typing import Any, NamedTuple

from sts_core import rates
from sts_core.measure.resolve import Resolved
from sts_core.text.pairs import Pair, PairSet, build_pairs
from sts_core.text.prompts import Prompter
from sts_core.text.reference import reference_pairs

_FIRST_GUESS = {"cpu": 1_500.0, "mps": 5_000.0, "cuda": 60_000.0}
"""Tokens a second of a 135M model, until this machine has measured its own."""
_GUESSED_FOR = 135e6
_OVERHEAD_GB = 1.1
"""What Python, torch, transformers and sae_lens hold before any weight is loaded."""


class Work(NamedTuple):
    """What is going to be run."""

    pair_sets: list[PairSet]
    tokens: int
    """Tokens that go through the model: shared beginnings once, the rest of every query in both arms, and the target
    set without demonstrations twice more, for the noise of rounding."""


def prepare(resolved: Resolved, tokenizer: Any, texts: int = 0) -> Work:
    """Build every set's pairs, the first `texts` with their text.

    All that can be wrong with the data is told here, before any weight is loaded.
    """
    prompter = Prompter(tokenizer)
    spec = resolved.spec
    context = resolved.model.context
    if spec.run.preset == "reference":
        sets = [reference_pairs(s, prompter, context) for s in spec.sets]
    else:
        sets = [build_pairs(s, prompter, spec.pool.tokens, context, spec.run.seed, texts) for s in spec.sets]
    noise = 2 * forward_tokens(sets[0], arms=("base",))
    return Work(sets, sum(forward_tokens(s) for s in sets) + noise)


def forward_tokens(pairs: PairSet, arms: tuple[str, ...] = ("base", "icl")) -> int:
    """Tokens that the model runs for a set, in both arms if not told otherwise."""
    total = 0
    for arm in arms:
        rows = [getattr(pair, arm).ids for pair in pairs.pairs]
        shared = shared_beginning(pairs.pairs, arm)
        total += shared + sum(len(row) - shared for row in rows)
    return total


def shared_beginning(pairs: list[Pair], arm: str) -> int:
    """How many first tokens all prompts of an arm have in common, none of them pooled."""
    prompts = [getattr(pair, arm) for pair in pairs]
    longest = min(prompt.spans[0][0] for prompt in prompts)
    first = prompts[0].ids[:longest]
    for prompt in prompts[1:]:
        while prompt.ids[: len(first)] != first:
            first = first[: next(i for i, (a, b) in enumerate(zip(first, prompt.ids, strict=False)) if a != b)]
    return len(first)


def plan(resolved: Resolved, tokenizer: Any, prompts: int = 0) -> dict[str, Any]:
    """The plan as JSON values; with `prompts`, the exact prompts of the first so many queries of every set."""
    work = prepare(resolved, tokenizer, prompts)
    info, sae = resolved.model, resolved.sae
    rate = expected_rate(resolved)
    warnings = [*resolved.warnings, *(w for s in work.pair_sets for w in s.warnings)]
    value: dict[str, Any] = {
        "key": resolved.key,
        "model": {**info.public()},
        "sae": {**sae.public()},
        "layer": resolved.layer,
        "device": resolved.spec.run.device,
        "dtype": resolved.spec.run.dtype,
        "sets": [_set_plan(s, d.demos) for s, d in zip(work.pair_sets, resolved.spec.sets, strict=True)],
        "work": {
            "tokens": work.tokens,
            "seconds": round(work.tokens / rate + 12, 1),
            "memory_gb": round(_memory_gb(resolved), 2),
            "rate": round(rate),
            "rate_measured_here": remembered_rate(resolved) is not None,
        },
        "checks": _checks(resolved, warnings),
        "warnings": warnings,
    }
    if prompts:
        value["prompts"] = [_prompt(s.name, pair) for s in work.pair_sets for pair in s.pairs[:prompts]]
    return value


def expected_rate(resolved: Resolved) -> float:
    """Tokens a second to plan with: what this machine reached before, else a first guess for its device."""
    guess = _FIRST_GUESS[resolved.spec.run.device.split(":")[0]] * _GUESSED_FOR / max(resolved.model.parameters, 1)
    return remembered_rate(resolved) or guess


def remembered_rate(resolved: Resolved) -> float | None:
    """Tokens a second that this model reached on this machine before."""
    return rates.known(rates.MEASURING).get(_rate_key(resolved))


def remember_rate(resolved: Resolved, rate: float) -> None:
    """Keep what a finished run reached, for the next plan."""
    rates.keep(rates.MEASURING, _rate_key(resolved), rate)


def _rate_key(resolved: Resolved) -> str:
    run = resolved.spec.run
    return f"{resolved.model.revision}/{resolved.layer}/{run.device}/{run.dtype}"


def _memory_gb(resolved: Resolved) -> float:
    """Weights, the dictionary, and sums of every set; what a batch holds is small beside them."""
    bytes_each = 4 if resolved.spec.run.dtype == "float32" else 2
    sae_weights = 2 * resolved.sae.features * resolved.sae.width * 4
    sums = len(resolved.spec.sets) * 20 * 5 * 8 * resolved.sae.features
    return _OVERHEAD_GB + (resolved.model.parameters * bytes_each + sae_weights + sums) / 1e9


def _checks(resolved: Resolved, warnings: list[str]) -> list[dict[str, str]]:
    model, sae = resolved.model, resolved.sae
    checks = [f"The SAE reads layer {sae.layer} of {model.layers}, {sae.width} wide, as the model is ({sae.hook})."]
    if sae.model_name and not resolved.warnings:
        checks.append(f"It was trained on this model ({sae.model_name}).")
    checks.append(
        "The model brings its own chat template."
        if model.chat
        else "The model has no chat template: plain Question/Answer prompts."
    )
    return [{"level": "ok", "text": c} for c in checks] + [{"level": "warning", "text": w} for w in warnings]


def _set_plan(pairs: PairSet, demos: int) -> dict[str, Any]:
    return {
        "set": pairs.name,
        "rows": pairs.records,
        "items": len(pairs.pairs),
        "tokens": pairs.tokens,
        "asked": pairs.asked,
        "demos": demos,
        "prefix_tokens": shared_beginning(pairs.pairs, "icl"),
        "dropped": pairs.dropped,
    }


def _prompt(name: str, pair: Pair) -> dict[str, Any]:
    return {
        "set": name, "row": pair.row, "base_ids": list(pair.base.ids), "icl_ids": list(pair.icl.ids),
        "base_spans": pair.base.spans, "icl_spans": pair.icl.spans,
        "base_text": pair.base.text, "icl_text": pair.icl.text,
    }  # fmt: skip
