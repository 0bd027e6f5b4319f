"""The baselines that need a model, from what was measured for them: sums of residuals, or scores row by row (METHOD 6).

Pure numbers; who measures is `train.baselines`, where they are kept `results.kept_baselines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sts_core.results.baselines import BEFORE_AFTER, LORA_PROBE, RAW_LEVEL, RAW_SIMILARITY, Baseline
from sts_core.results.folder import TARGET
from sts_core.results.outcomes.rows import Change
from sts_core.results.sums import SetSums
from sts_core.stats.jackknife import Estimate, delete_one_group, mean_per_token

Numbers = NDArray[np.float64]
FEATURES, RAW = "features", "raw"


def raw_baselines(sets: Mapping[str, SetSums]) -> list[Baseline]:
    """Level of the residual, and how alike its mean is to the target set's: of `base` and `abs_base` sums a set.

    The error of the likeness holds the target set fixed.
    """
    domains = {name: sums for name, sums in sets.items() if name != TARGET}
    target = sets[TARGET].mean("base")
    levels = {
        name: mean_per_token(sums.sums["abs_base"].mean(axis=1), sums.tokens, int(sums.items.sum()))
        for name, sums in domains.items()
    }
    alike = {
        name: delete_one_group(lambda total, _: cosine(total, target), sums.sums["base"], sums.tokens, _items(sums))
        for name, sums in domains.items()
    }
    return [
        _named(RAW_LEVEL, "mean size of all residual dimensions: neither a SAE nor a selection", levels),
        _named(RAW_SIMILARITY, "cosine of the mean residuals of the domain's questions and of the training set's",
               alike),
    ]  # fmt: skip


def before_after(kind: str, sets: Mapping[str, SetSums]) -> Baseline:
    """1 − cosine of a domain's means in the model before (`base`) and after (`icl`); `kind` is features or raw.

    The paper has the cosine itself; turned round, more means more change, as everywhere here.
    """
    found = {name: _turned(sums) for name, sums in sets.items()}
    what = "mean features" if kind == FEATURES else "mean residuals"
    words = f"1 − cosine of the {what} of the domain's questions before and after the training"
    return _named(f"1 − {BEFORE_AFTER}, {kind}", words, found)._replace(foretells=False)


def lora_probe(changes: Sequence[Change], domains: Sequence[str], steps: int) -> Baseline:
    """The rise of the answers' negative log-likelihood after so many steps; NaN for a domain that was not scored."""
    rises = {one.set: Estimate(one.change, one.se) for one in changes if one.metric == "nll"}
    found = {name: rises.get(name, Estimate(float("nan"), None)) for name in domains}
    words = f"rise of the answers' −log-likelihood after {steps} steps of LoRA on the training rows"
    return _named(f"{LORA_PROBE}, {steps} steps", words, found)


def cosine(one: Numbers, other: Numbers) -> float:
    """NaN where either is nothing."""
    size = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / size if size > 0 else float("nan")


def _turned(sums: SetSums) -> Estimate:
    both = np.concatenate([sums.sums["base"], sums.sums["icl"]], axis=1)
    half = both.shape[1] // 2
    return delete_one_group(lambda total, _: 1 - cosine(total[:half], total[half:]), both, sums.tokens, _items(sums))


def _items(sums: SetSums) -> int:
    return int(sums.items.sum())


def _named(name: str, words: str, found: Mapping[str, Estimate]) -> Baseline:
    values = {domain: estimate.value for domain, estimate in found.items()}
    return Baseline(name, words, values, {domain: estimate.se for domain, estimate in found.items()})
