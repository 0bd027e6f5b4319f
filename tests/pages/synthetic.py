"""Result folders made of random numbers, for tests of pages and figures only: nothing in them was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sts_core.results import Result
from sts_core.results.folder import DOMAIN_SUMS, RAW, TARGET, TARGET_SUMS, write_result
from sts_core.results.sums import SetSums
from sts_core.spec import MMLU_DOMAINS, Spec

FEATURES, WIDTH, GROUPS = 128, 16, 20


def make_spec(**changes: Any) -> dict[str, Any]:
    """The default choices of the page, as a spec with the device a run would have added."""
    values = {"model": "smollm2-135m-instruct", "sae": "demo/smollm2-l15", **changes}
    spec = Spec.from_dict(values).to_dict()
    return {**spec, "run": {**spec["run"], "device": "cpu", "dtype": "float32"}}


def make_result(
    results: Path,
    key: str = "0123456789abcdef0123",
    spec: dict[str, Any] | None = None,
    levels: Sequence[float] | None = None,
    items: int = 40,
    **manifest: Any,
) -> Result:
    """A whole result in `results/key`; domain i's activations are about `levels[i]`."""
    spec = spec or make_spec()
    rng = np.random.default_rng(0)
    levels = levels or [1 + 0.5 * i for i in range(len(spec["domains"]))]
    sets = {TARGET: _sums(TARGET_SUMS, FEATURES, rng, items, 1.0), RAW: _sums(TARGET_SUMS, WIDTH, rng, 9, 1.0)}
    for domain, level in zip(spec["domains"], levels, strict=True):
        sets[domain["name"]] = _sums(DOMAIN_SUMS, FEATURES, rng, items, level)
    told = {
        "key": key,
        "spec": spec,
        "seed": 0,
        "seconds": 83.0,
        "finished": datetime(2025, 11, 20, 14, 3, tzinfo=UTC).isoformat(),
        "warnings": ["The SAE's metadata names another model."],
        "resolved": {"device": "cpu", "dtype": "float32", "sae": {"layer": 15}, "model": {"revision": "r1"}},
        "versions": {"torch": "0"},
        "tokens": {"pooled": 12_345},
    }
    return write_result(results / key, told | manifest, sets)


def all_domains() -> list[str]:
    """The fourteen."""
    return list(MMLU_DOMAINS)


def _sums(names: Sequence[str], features: int, rng: np.random.Generator, items: int, level: float) -> SetSums:
    tokens = np.full(GROUPS, 10.0)
    means = level * rng.uniform(0.8, 1.2, features)
    noise = 1 + 0.1 * rng.normal(size=(GROUPS, features))
    sums = {}
    for name in names:
        values = np.full((GROUPS, features), 0.5) if name.startswith("active") else np.abs(means * noise)
        sums[name] = values * tokens[:, None] * (np.where(np.arange(features) % 2, 1, -1) if name == "diff" else 1)
    per_group = np.bincount(np.arange(items) % GROUPS, minlength=GROUPS).astype(float)
    return SetSums(sums, tokens * (per_group > 0), per_group)
