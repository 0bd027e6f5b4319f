"""What simpler questions would have foretold: baselines on the axes of the scores, from stored vectors (METHOD 6).

A score that selects features must do better than one that selects none, than how alike the texts are, and than a plain
regression. All but the last are known before the training; the regression has seen every domain's outcome but one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sts_core.errors import UserError
from sts_core.results.folder import TARGET, Result
from sts_core.spec_checks import is_number
from sts_core.stats.jackknife import Estimate, delete_one_group, mean_per_token
from sts_core.stats.ranking import top
from sts_core.stats.ridge import LeftOut, Refitted

Numbers = NDArray[np.float64]

RAW_LEVEL, RAW_SIMILARITY = "raw activation", "raw similarity"
BEFORE_AFTER, LORA_PROBE = "similarity before and after", "short LoRA probe"
NOT_STORED = {
    RAW_LEVEL: "needs the model: a result keeps the features of the domains' questions, not their residuals",
    RAW_SIMILARITY: "needs the model: a result keeps the features of the domains' questions, not their residuals",
    BEFORE_AFTER: "needs a pass of the fine-tuned model over the domains",
    LORA_PROBE: "needs a training of some steps",
}
"""METHOD's other baselines -> why a result folder alone cannot tell them; `sts baselines` measures them."""
FEWEST_FOR_RIDGE = 5


class Baseline(NamedTuple):
    """A number a domain, higher meaning more change expected."""

    name: str
    words: str
    """What it is, in one line."""
    values: dict[str, float]
    se: dict[str, float | None]
    foretells: bool = True
    """Whether it is known before the training."""
    refitted: Refitted | None = None
    """Its own p, where it is fitted to the outcomes: an ordinary permutation p would be wrong."""
    seconds: float | None = None
    """What it cost: of the result's own measurement where it is read from that; None where nobody took the time."""
    device: str = ""
    """Where those seconds were spent."""

    def public(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**self._asdict(), "refitted": None if self.refitted is None else self.refitted._asdict()}


class Cost(NamedTuple):
    """Seconds, and the device that they were spent on."""

    seconds: float | None
    device: str


def baselines(folder: Path, n: int = 100, harm: Mapping[str, float] | None = None) -> list[Baseline]:
    """All that this result folder can tell; with the domains' harm also the ridge probe."""
    stored = _Stored(folder)
    found = [all_features(stored), all_features_moved(stored), busiest_features(stored, n), similarity(stored)]
    probe = ridge_probe(stored, harm) if harm else None
    cost = cost_of(Result(folder))
    return [one._replace(seconds=cost.seconds, device=cost.device) for one in (*found, probe) if one is not None]


def cost_of(result: Result) -> Cost:
    """What measuring a result took: the price of its scores, and of all that is read from its vectors."""
    seconds, device = result.manifest.get("seconds"), result.manifest.get("device")
    known = float(seconds) if isinstance(seconds, int | float) and is_number(seconds) else None
    return Cost(known, device if isinstance(device, str) else "")


def all_features(stored: _Stored) -> Baseline:
    """STS act without any selection."""
    return _over("all features, active", "mean activation over all features: no selection", stored, "base", None)


def all_features_moved(stored: _Stored) -> Baseline:
    """STS icl without any selection."""
    words = "how far the domain's own demonstrations move all features: no selection"
    return _over("all features, moved", words, stored, "absdiff", None)


def busiest_features(stored: _Stored, n: int) -> Baseline:
    """STS act over the features that are most active on the target set, in place of those that shift."""
    dims = top(stored.mean(TARGET), min(n, stored.features))
    words = f"mean activation of the {len(dims)} features most active on the training set: selection by activity"
    return _over("busiest features, active", words, stored, "base", dims)


def similarity(stored: _Stored) -> Baseline:
    """Cosine of a domain's mean feature vector with the target set's; its error holds the target set fixed."""
    target = stored.mean(TARGET)
    length = float(np.linalg.norm(target))

    def cosine(total: Numbers, count: Numbers) -> float:
        size = float(np.linalg.norm(total)) * length
        return float(total @ target) / size if size > 0 else float("nan")

    found = {name: delete_one_group(cosine, *stored.groups(name, "base")) for name in stored.domains}
    words = "cosine of the mean features of the domain's questions and of the training set's"
    return _named("similarity to the training set", words, found)


def ridge_probe(stored: _Stored, harm: Mapping[str, float]) -> Baseline | None:
    """Harm of each domain by ridge regression on the other domains' mean features, the penalty chosen among those too.

    None where fewer than five domains have a harm.
    """
    names = [name for name in stored.domains if np.isfinite(harm.get(name, np.nan))]
    vectors = np.array([stored.mean(name) for name in names])
    if len(names) < FEWEST_FOR_RIDGE or not np.isfinite(vectors).all():
        return None
    y = np.array([harm[name] for name in names], dtype=np.float64)
    probe = LeftOut(vectors)
    found = dict(zip(names, probe.predict(y[None])[0].tolist(), strict=True))
    words = "ridge regression on the other domains' mean features and outcomes, each domain left out in turn"
    return Baseline("ridge probe", words, found, dict.fromkeys(found), False, probe.refitted(y))


def _over(name: str, words: str, stored: _Stored, quantity: str, dims: NDArray[np.int64] | None) -> Baseline:
    """The mean over features of a stored quantity with its jackknife error."""
    found = {}
    for domain in stored.domains:
        sums, tokens, items = stored.groups(domain, quantity)
        found[domain] = mean_per_token((sums if dims is None else sums[:, dims]).mean(axis=1), tokens, items)
    return _named(name, words, found)


def _named(name: str, words: str, found: Mapping[str, Estimate]) -> Baseline:
    values = {domain: estimate.value for domain, estimate in found.items()}
    return Baseline(name, words, values, {domain: estimate.se for domain, estimate in found.items()})


class _Stored:
    """A result's group sums, one set and quantity at a time: a wide SAE's file does not fit in memory whole."""

    def __init__(self, folder: Path) -> None:
        self.domains = Result(folder).domains
        self._path = folder / "groups.safetensors"
        self._means: dict[str, Numbers] = {}
        self.features = len(self.mean(TARGET))

    def groups(self, name: str, quantity: str) -> tuple[Numbers, Numbers, int]:
        """Sums [groups, features], tokens a group, and the number of items."""
        try:
            with safe_open(self._path, framework="numpy") as file:
                sums, tokens, items = (file.get_tensor(f"{name}/{part}") for part in (quantity, "tokens", "items"))
        except (SafetensorError, OSError):
            raise UserError(
                f"{self._path.name} in {self._path.parent} is gone or damaged",
                "Measure again with `sts run … --fresh`.",
            ) from None
        return sums.astype(np.float64), tokens.astype(np.float64), int(items.sum())

    def mean(self, name: str) -> Numbers:
        """A set's mean activation of every feature; NaN where no token was pooled."""
        if name not in self._means:
            sums, tokens, _ = self.groups(name, "base")
            total = float(tokens.sum())
            self._means[name] = sums.sum(axis=0) / total if total else np.full(sums.shape[1], np.nan)
        return self._means[name]
