"""The measurements a sweep comes to on this machine, each with its key, and what they will cost (`sts sweep --plan`).

A measurement is a pass of its own for every SAE, probe, seed and pool: the model is loaded and the tokens are run anew,
also where two SAEs read the same layer. Choices of features cost none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sts_core import folders
from sts_core.errors import UserError
from sts_core.measure.resolve import Resolved, resolve
from sts_core.measure.sweep.points import fits
from sts_core.measure.sweep.probes import NAMES, features_of, probe_folder
from sts_core.measure.sweep.spec import PAPER, SweepSpec
from sts_core.nets.describe import find_sae
from sts_core.results import paper, shelf
from sts_core.results.actual import PAPER as PAPER_PREFIX
from sts_core.results.actual import Actual, Given, read_actual, same_name
from sts_core.results.baselines import NOT_STORED
from sts_core.results.folder import Result
from sts_core.stats.correlation import FEWEST
from sts_core.stats.jackknife import MOST_GROUPS

_TARGET_SUMS, _DOMAIN_SUMS, _DOMAIN_COLUMNS = 5, 4, 5
"""Vectors a result keeps of the target set and of each domain, by group; and columns of means a domain."""
BY_PROBE = {"raw activation", "raw similarity"}
"""Baselines that a result does not hold, but the raw probe's does."""


class Arranged(NamedTuple):
    """One measurement."""

    sae: str
    """As the spec names it, or the probe's name."""
    probe: str | None
    """Its kind; None for a SAE."""
    beside: Resolved
    """The measurement itself, or that of the SAE in whose place the probe stands."""

    @property
    def features(self) -> int:
        """Of the dictionary."""
        return self.beside.sae.features if self.probe is None else features_of(self.probe, self.beside)

    def resolved(self) -> Resolved | None:
        """The measurement with its key; None for a probe that is not made yet."""
        if self.probe is None:
            return self.beside
        folder = probe_folder(self.probe, self.beside)
        return with_sae(self.beside, folder) if (folder / "cfg.json").is_file() else None


def arrange(spec: SweepSpec) -> list[Arranged]:
    """Every measurement: SAEs in the spec's order, then the probes, a probe once for every place that is read."""
    found: dict[str, list[Resolved]] = {}
    for name in spec.saes:
        first = resolve(replace(spec.base, sae=name))
        found[name] = [_varied(first, seed, pool) for pool in spec.pools for seed in spec.seeds]
    own = [Arranged(name, None, one) for name, many in found.items() for one in many]
    _check_choices(spec, own)
    places: dict[str, list[Resolved]] = {}
    for many in found.values():
        places.setdefault(f"{many[0].layer} {many[0].sae.hook}", many)
    probes = [
        Arranged(NAMES[kind] if len(places) == 1 else f"{NAMES[kind]}, layer {one.layer}", kind, one)
        for kind in spec.probes
        for many in places.values()
        for one in many
    ]
    return own + probes


def with_sae(resolved: Resolved, folder: Path) -> Resolved:
    """The same measurement with another dictionary."""
    sae = find_sae(str(folder))
    return replace(resolved, sae=sae, spec=replace(resolved.spec, sae=str(folder)), warnings=())


def stored(key: str) -> Path | None:
    """The whole result of this key: measured here, or shipped with the program."""
    if (there := shelf.find(key)) is not None:
        return there
    shipped = folders.DEMO / "result"
    try:
        return shipped if Result(shipped).manifest.get("key") == key else None
    except UserError:
        return None


def what_happened(spec: SweepSpec) -> Actual | None:
    """The outcomes that the points are held against, checked against the domains."""
    if spec.actual is None:
        return None
    actual = read_actual(_given(spec), spec.metric)
    both = shared_domains(spec, actual)
    if not both:
        known = ", ".join(one.domain for one in actual.outcomes[:6]) or "nothing"
        raise UserError(
            f"No domain stands on both sides: {actual.source} tells of {known}", "Name the domains alike, or another."
        )
    if len(both) < FEWEST:
        raise UserError(
            f"Only {len(both)} of the domains have an outcome in {actual.source}",
            f"A correlation needs at least {FEWEST}: evaluate more domains, or leave actual out.",
        )
    return actual


def shared_domains(spec: SweepSpec, actual: Actual) -> dict[str, float]:
    """Domain, as the base names it -> its harm."""
    harm = {same_name(one.domain): one.harm for one in actual.outcomes}
    names = [domain.name for domain in spec.base.domains]
    return {name: harm[same_name(name)] for name in names if same_name(name) in harm}


def order_of(spec: SweepSpec, arranged: Sequence[Arranged], actual: Actual | None) -> dict[str, Any]:
    """What the sweep is made of: the same call goes on with it, another one is refused."""
    outcomes = None
    if actual is not None:
        told = [[one.domain, one.metric, one.harm, one.harm_se] for one in actual.outcomes]
        outcomes = hashlib.sha256(json.dumps([told, actual.reliability]).encode()).hexdigest()[:20]
    keys = [one.beside.key for one in arranged if one.probe is None]
    return {"spec": spec.to_dict(), "keys": keys, "outcomes": outcomes}


def plan(spec: SweepSpec) -> dict[str, Any]:
    """How much is missing, and what it costs; nothing is measured."""
    actual, arranged = what_happened(spec), arrange(spec)
    rows: list[dict[str, Any]] = []
    costs, disk = _Costs(), 0
    for one in arranged:
        resolved = one.resolved()
        there = resolved is not None and stored(resolved.key) is not None
        cost = None if there else costs.of(one.beside)
        disk += 0 if there else _bytes(one)
        rows.append({
            "sae": one.sae, "probe": one.probe, "layer": one.beside.layer, "features": one.features,
            "seed": one.beside.spec.run.seed, "pool": one.beside.spec.pool.tokens,
            "key": None if resolved is None else resolved.key, "stored": there,
            "tokens": 0 if cost is None else cost["tokens"], "seconds": 0 if cost is None else cost["seconds"],
        })  # fmt: skip
    missing = [row for row in rows if not row["stored"]]
    points = sum(fits(choice, one.features) for one in arranged for choice in spec.choices)
    return {
        "measurements": rows, "missing": len(missing), "points": points,
        "seconds": round(sum(row["seconds"] for row in missing), 1), "rate_measured_here": costs.known,
        "tokens": sum(row["tokens"] for row in missing), "bytes": disk,
        "free": shutil.disk_usage(folders.cache()).free, "device": arranged[0].beside.spec.run.device,
        "dtype": arranged[0].beside.spec.run.dtype,
        "actual": None if actual is None else {
            "source": actual.source, "metric": actual.metric, "domains": len(shared_domains(spec, actual)),
        },
        "not_stored": not_stored(spec) if actual is not None else {},
        "warnings": warnings(spec, arranged, actual),
    }  # fmt: skip


def warnings(spec: SweepSpec, arranged: Sequence[Arranged], actual: Actual | None) -> list[str]:
    """What limits the whole sweep, in a person's words."""
    found = [text for one in arranged for text in one.beside.warnings]
    for one in arranged:
        found += [
            f"{one.sae} has {one.features:,} features: {choice.words} is left out for it."
            for choice in spec.choices
            if not fits(choice, one.features)
        ]
    if actual is not None and actual.from_paper:
        found.append(f"The changes are not of this model: {actual.source.removeprefix('paper, ')}.")
    if actual is not None and (lacking := len(spec.base.domains) - len(shared_domains(spec, actual))):
        found.append(f"{lacking} of {len(spec.base.domains)} domains have no outcome and are left out.")
    if len(spec.seeds) == 1:
        found.append("One seed: how far the numbers vary from seed to seed is not told.")
    return list(dict.fromkeys(found))


def not_stored(spec: SweepSpec) -> dict[str, str]:
    """Baselines of METHOD 6 that this sweep does not tell, each with its reason."""
    told = BY_PROBE if "raw" in spec.probes else set()
    return {name: why for name, why in NOT_STORED.items() if name not in told}


class _Costs:
    """Tokens and time of a measurement: the rows are read once for each seed and pool, the pace once for each layer."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[int, str], int] = {}
        self._rates: dict[int, float] = {}
        self.known = True
        """Whether every pace was measured on this machine."""

    def of(self, resolved: Resolved) -> dict[str, float]:
        """What it takes."""
        from sts_core.measure.plan import plan as plan_one
        from sts_core.nets.tokenizer import load_tokenizer

        what, layer = (resolved.spec.run.seed, resolved.spec.pool.tokens), resolved.layer
        if what not in self._tokens or layer not in self._rates:
            work = plan_one(resolved, load_tokenizer(resolved.model))["work"]
            self._tokens[what], self._rates[layer] = work["tokens"], max(float(work["rate"]), 1.0)
            self.known = self.known and bool(work["rate_measured_here"])
        tokens = self._tokens[what]
        return {"tokens": tokens, "seconds": round(tokens / self._rates[layer] + 12, 1)}


def _varied(resolved: Resolved, seed: int, pool: str) -> Resolved:
    spec = resolved.spec
    varied = replace(spec, run=replace(spec.run, seed=seed), pool=replace(spec.pool, tokens=pool))
    return replace(resolved, spec=varied)


def _check_choices(spec: SweepSpec, own: Sequence[Arranged]) -> None:
    for one in own:
        for choice in spec.choices:
            if not fits(choice, one.features):
                raise UserError(
                    f"{one.sae} has {one.features:,} features, too few for {choice.words}",
                    f"Ask for at most {one.features:,} in n and rank_bands.",
                )


def _given(spec: SweepSpec) -> Given:
    """What the outcomes are read from: the paper, a job by its id, or what is named."""
    if not isinstance(spec.actual, str):
        return [Path(place).expanduser() for place in spec.actual or ()]
    if spec.actual == PAPER and not Path(PAPER).exists():
        family = spec.base.model.rsplit("/", 1)[-1].casefold()
        for model in paper.models():
            if family.startswith(model.split("-", 1)[0].rstrip("0123456789.").casefold()):
                return f"{PAPER_PREFIX}{model}"
        raise UserError(
            f"The paper has no changes of {spec.base.model}",
            f'Name whose you mean: actual = "paper:qwen" (of {", ".join(paper.models())}).',
        )
    if spec.actual.startswith(PAPER_PREFIX):
        return spec.actual
    job = folders.job(spec.actual) / "result"
    if "/" not in spec.actual and not Path(spec.actual).exists() and job.is_dir():
        return job
    return Path(spec.actual).expanduser()


def _bytes(one: Arranged) -> int:
    """About what the result takes on the disk: the group sums are nearly all of it."""
    domains, width = len(one.beside.spec.domains), one.beside.sae.width
    groups = _TARGET_SUMS * (one.features + width) + _DOMAIN_SUMS * domains * one.features
    return 4 * (MOST_GROUPS * groups + _DOMAIN_COLUMNS * domains * one.features)
