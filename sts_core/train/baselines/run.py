"""Measuring what an order asks for, part after part; what is there already is not measured again.

Each part is a file of its own (`results.kept_baselines`), so what a kill leaves is gone on with by the same call.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import alone_in, ensure
from sts_core.measure.passes import measure_set
from sts_core.measure.plan import forward_tokens
from sts_core.measure.residuals import raw_sums
from sts_core.measure.tuned import both_sides
from sts_core.nets.decoder import load_decoder
from sts_core.nets.device import cpu_name
from sts_core.nets.saes import load_sae
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.baselines import Baseline
from sts_core.results.folder import TARGET
from sts_core.results.kept_baselines import AFTER, PROBE, RAW, Part, folder_of, read_part, write_part
from sts_core.results.model_baselines import FEATURES, before_after, lora_probe, raw_baselines
from sts_core.results.model_baselines import RAW as RAW_KIND
from sts_core.results.sums import SetSums
from sts_core.train.baselines.order import BaselinesOrder
from sts_core.train.baselines.probe import run_probe
from sts_core.train.baselines.work import Work, prepare

Tell = Callable[[str, dict[str, Any]], None]
"""Adds an event: its name and its details."""
_LIBRARIES = ("torch", "transformers", "peft", "trl", "sae-lens", "numpy")


def measure_baselines(
    order: BaselinesOrder, watch: Watcher = silent, tell: Tell = lambda _event, _details: None, fresh: bool = False
) -> list[Part]:
    """The parts that are asked for, measured now where they are not there yet, all of them anew when `fresh`."""
    watch(Progress("reading the data", 0, 0))
    work = prepare(order)
    found = []
    with alone_in(folder_of(work.result)):
        for part in order.wanted:
            there = None if fresh else _there(work.paths[part])
            if there is None:
                there = _MEASURES[part](work, watch)
            tell("baselines", {"part": part, "seconds": there.manifest["seconds"], "file": there.path.name})
            found.append(there)
    return found


def _there(path: Path) -> Part | None:
    """What was measured before; a damaged file is measured again."""
    try:
        return read_part(path) if path.is_file() else None
    except UserError:
        return None


def _raw(work: Work, watch: Watcher) -> Part:
    """One pass over every set's questions, without demonstrations."""
    began = time.monotonic()
    resolved, ran = work.resolved, _Ran(work, watch, "reading residuals", (TARGET, *work.result.domains), 1)
    sae, on = resolved.sae, resolved.spec.run.device
    reader = load_decoder(resolved.model, sae.layer, on, "float32", sae.site)
    most_norm = work.result.manifest.get("outlier_norm")
    sets = {pairs.name: raw_sums(reader, pairs, sae.width, most_norm, ran) for pairs in work.pairs}
    return _write(work, RAW, raw_baselines(sets), {"measuring": time.monotonic() - began}, _pooled(sets))


def _after(work: Work, watch: Watcher) -> Part:
    """One pass over every domain's questions in the base model and in the fine-tuned one."""
    began = time.monotonic()
    resolved, tuned = work.resolved, work.tuned
    if tuned is None:
        raise UserError("What lies after a training needs the trained model", "Name it: --run RUN_OR_FOLDER.")
    domains = [pairs for pairs in work.pairs if pairs.name != TARGET]
    ran = _Ran(work, watch, "reading before and after", work.result.domains, 2)
    on = resolved.spec.run.device
    base, changed = both_sides(resolved.model, tuned.info, resolved.sae, on)
    sae = load_sae(resolved.sae, on, "float32")
    most_norm = work.result.manifest.get("outlier_norm")
    features: dict[str, SetSums] = {}
    raw: dict[str, SetSums] = {}
    for pairs in domains:
        measured = measure_set(base, sae, pairs, most_norm, True, ran, tuned=changed)
        features[pairs.name] = measured.sums
        raw |= {pairs.name: measured.raw} if measured.raw is not None else {}
    found = [before_after(FEATURES, features), before_after(RAW_KIND, raw)]
    told = {"run": {"folder": str(tuned.run.folder), "name": tuned.info.name, "revision": tuned.info.revision}}
    return _write(work, AFTER, found, {"measuring": time.monotonic() - began}, {**_pooled(features), **told})


def _probe(work: Work, watch: Watcher) -> Part:
    """The short training, scored before and after."""
    if work.probe is None:
        raise UserError("The short probe was not asked for", "Add it: --only probe.")
    path = work.paths[PROBE]
    done = run_probe(work.probe, ensure(path.parent) / f".{path.stem}", watch)
    found = [lora_probe(done.changes, work.result.domains, work.probe.plan["steps"])]
    return _write(work, PROBE, found, done.seconds, done.told)


class _Ran:
    """Hears tokens and tells how far a pass is."""

    def __init__(self, work: Work, watch: Watcher, stage: str, sets: Any, models: int) -> None:
        self._watch, self._stage, self._done = watch, stage, 0
        of = [pairs for pairs in work.pairs if pairs.name in set(sets)]
        self._total = models * sum(forward_tokens(pairs, arms=("base",)) for pairs in of)
        watch(Progress("loading the model", 0, self._total))

    def __call__(self, tokens: int) -> None:
        self._done += tokens
        self._watch(Progress(self._stage, self._done, self._total))


def _pooled(sets: Mapping[str, SetSums]) -> dict[str, Any]:
    return {"tokens": {name: int(sums.tokens.sum()) for name, sums in sets.items()}}


def _write(work: Work, part: str, found: list[Baseline], seconds: Mapping[str, float], told: Mapping[str, Any]) -> Part:
    """The part's file, with all that its numbers were made of."""
    resolved = work.resolved
    took = sum(seconds.values())
    device = str(told.get("device", resolved.spec.run.device))
    return write_part(
        work.paths[part],
        {
            "part": part, "result": work.result.manifest["key"], "order": work.order.to_dict(),
            "model": resolved.model.public(), "sae": resolved.sae.public(), "files": resolved.files,
            "device": device, "dtype": "float32", "layer": resolved.layer, "seed": work.order.seed,
            "query_rows": {pairs.name: [pair.row for pair in pairs.pairs] for pairs in work.pairs},
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "outlier_norm": work.result.manifest.get("outlier_norm"), "warnings": work.warnings,
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "machine": {"processor": cpu_name(), "system": platform.system()},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
            **told,
        },
        [one._replace(seconds=round(took, 2), device=device) for one in found],
    )  # fmt: skip


_MEASURES: dict[str, Callable[[Work, Watcher], Part]] = {RAW: _raw, AFTER: _after, PROBE: _probe}
