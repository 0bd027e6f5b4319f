"""A sweep from end to end: what the store lacks is measured, every point is asked, the table and its manifest written.

Each measurement is an ordinary result of the store, put there as soon as it is whole: a sweep that was stopped goes on
with what is missing, and nothing is measured twice, whoever measured it. A finished sweep never changes.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sts_core.errors import UserError
from sts_core.folders import alone_in, atomic_json, disk_trouble, ensure, goes_on
from sts_core.measure.run import run
from sts_core.measure.sweep.arranging import (
    Arranged,
    arrange,
    not_stored,
    order_of,
    shared_domains,
    stored,
    warnings,
    what_happened,
    with_sae,
)
from sts_core.measure.sweep.chance import aligned, band, best_of
from sts_core.measure.sweep.points import Measured, Points, Row, Scores, overlaps, same_order
from sts_core.measure.sweep.probes import make_probe
from sts_core.measure.sweep.spec import Choice, SweepSpec
from sts_core.progress import Progress, Watcher, silent
from sts_core.results.actual import Actual
from sts_core.results.agreement import HARM, SCORES
from sts_core.results.sweeps import BASELINE, COLUMNS, FORMAT, KIND, MANIFEST, read_sweep, write_table

Tell = Callable[[str, dict[str, Any]], None]
"""Hears an event's name and its details."""
_UNFINISHED = "measuring"
_UNIT = "measurements"
_WHOLE = ("n", "first", "last", "layer", "features", "seed", "power", "domains")
_LIBRARIES = ("sts-explorer", "torch", "transformers", "sae-lens", "numpy")


def run_sweep(spec: SweepSpec, out: Path, watch: Watcher = silent, tell: Tell = lambda _event, _details: None) -> Path:
    """Sweep into `out`, or go on with it; returns `out`. `tell("point", …)` comes with each measurement's rows."""
    out, began = out.absolute(), time.monotonic()
    watch(Progress("looking what is stored", 0, 0, _UNIT))
    actual, arranged = what_happened(spec), arrange(spec)
    try:
        ensure(out)
        with alone_in(out):
            if _same_order(order_of(spec, arranged, actual), out):
                return out
            sitting = _Sitting(spec, actual, arranged, out, watch, tell)
            for number in range(len(arranged)):
                sitting.measure(number)
            watch(Progress("writing the table", len(arranged), len(arranged), _UNIT))
            sitting.write(time.monotonic() - began)
    except OSError as error:
        raise disk_trouble(out, error) from error
    return out


def _same_order(now: dict[str, Any], out: Path) -> bool:
    """Remember what the sweep is made of; whether it is finished. Another one in the same folder is refused."""
    other = UserError(
        f"{out} holds another sweep, or one of files that have changed since",
        "Name another folder: what is stored is not measured again.",
    )
    if not goes_on(out, now, other) or not (out / MANIFEST).is_file():
        return False
    read_sweep(out)  # refused when it was damaged
    return True


class _Sitting:
    """One run of the program over a sweep."""

    def __init__(
        self, spec: SweepSpec, actual: Actual | None, arranged: Sequence[Arranged], out: Path, watch: Watcher,
        tell: Tell,
    ) -> None:  # fmt: skip
        self._spec, self._actual, self._arranged, self._out = spec, actual, arranged, out
        self._watch, self._tell = watch, tell
        self._rows: list[Row] = []
        self._results: list[Row] = []
        self._firsts: dict[tuple[str, str], Measured] = {}
        self._scores: dict[tuple[str, str, Choice], list[Scores]] = {}
        self._usual: dict[int, Scores] = {}
        """The first SAE's scores at the first choice and pool, by seed."""

    def measure(self, number: int) -> None:
        """One measurement and all it is asked."""
        one, began = self._arranged[number], time.monotonic()
        stage = f"{one.sae}, seed {one.beside.spec.run.seed}"
        self._watch(Progress(stage, number, len(self._arranged), _UNIT))
        measured, was_there = self._measured(one, number, stage)
        points = Points(measured, self._actual)
        rows = points.rows(self._spec.choices)
        same = (measured.sae, measured.resolved.spec.pool.tokens)
        first = self._firsts.setdefault(same, measured)
        found = overlaps(measured, first, self._actual)
        for row in rows:
            row |= found
        self._add_order(rows, points, measured)
        for choice, scores in points.scores.items() if one.probe is None else ():
            self._scores.setdefault((*same, choice), []).append(scores)
        self._rows += rows
        self._note(number, measured, was_there, rows, time.monotonic() - began)

    def _measured(self, one: Arranged, number: int, stage: str) -> tuple[Measured, bool]:
        """The result, from the store or measured now; and which of the two."""
        resolved = one.resolved()
        if resolved is None:
            resolved = with_sae(one.beside, make_probe(str(one.probe), one.beside, self._watch))
        there = stored(resolved.key)
        if there is None:
            total = len(self._arranged)

            def within(step: Progress) -> None:
                share = min(step.done / step.total, 1.0) if step.total else 0.0
                self._watch(Progress(f"{stage}: {step.stage}", number + share, total, _UNIT))

            draft = self._out / _UNFINISHED / resolved.key
            run(resolved.spec, draft, within)
            shutil.rmtree(draft)  # the store has it
        folder = there or stored(resolved.key)
        if folder is None:
            raise UserError(
                f"{one.sae} was measured as something else than was asked for", "A file has changed: start it anew."
            )
        return Measured(one.sae, one.probe is not None, resolved, folder), there is not None

    def _add_order(self, rows: Sequence[Row], points: Points, measured: Measured) -> None:
        """How far each point ranks the domains as the sweep's first setting does with the same seed.

        That setting itself is held against its own first seed; the very first point against nothing.
        """
        spec, seed = self._spec, measured.resolved.spec.run.seed
        usual = spec.choices[0]
        is_first = (measured.sae, measured.resolved.spec.pool.tokens) == (spec.saes[0], spec.pools[0])
        if is_first and not measured.probe:
            self._usual[seed] = points.scores[usual]
        words = {(choice.words, choice.power): choice for choice in points.scores}
        for row in rows:
            choice = words.get((row["choice"], row["power"])) if row["kind"] != BASELINE else None
            if choice is None:
                continue
            own = is_first and not measured.probe and choice == usual
            other = self._usual[spec.seeds[0] if own else seed]
            if not own or seed != spec.seeds[0]:
                row["same_order"] = same_order(points.scores[choice][row["score"]], other[row["score"]])

    def _note(self, number: int, measured: Measured, was_there: bool, rows: Sequence[Row], seconds: float) -> None:
        """Keep which result it was, and tell of it."""
        spec, sae = measured.resolved.spec, measured.resolved.sae
        told = {
            "sae": measured.sae, "probe": self._arranged[number].probe, "layer": sae.layer, "features": sae.features,
            "seed": spec.run.seed, "pool": spec.pool.tokens, "key": measured.resolved.key, "was_stored": was_there,
            "seconds": round(seconds, 1),
        }  # fmt: skip
        self._results.append(told)
        head = next((row for row in rows if row["outcome"] in (HARM, "") and row["score"] == SCORES[0]), {})
        about = {name: _or_none(head.get(name)) for name in ("choice", "spearman", "p_spearman", "r", "same_order")}
        self._tell("point", {"number": number + 1, "of": len(self._arranged), **told, **about})

    def write(self, seconds: float) -> None:
        """The tables, then the manifest."""
        table = self._table()
        write_table(self._out, table)
        spec, actual = self._spec, self._actual
        happened = None if actual is None else {
            "source": actual.source, "metric": actual.metric, "reliability": _or_none(actual.reliability),
            "reliability_from": actual.reliability_from, "domains": len(shared_domains(spec, actual)),
        }  # fmt: skip
        manifest = {
            "format": FORMAT, "kind": KIND, "spec": spec.to_dict(), "actual": happened, "results": self._results,
            **self._chance(), "baselines_not_stored": {} if actual is None else not_stored(spec),
            "warnings": warnings(spec, self._arranged, actual), "rows": len(table), "seconds": round(seconds, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"), "versions": _versions(),
        }  # fmt: skip
        atomic_json(self._out / MANIFEST, manifest)
        shutil.rmtree(self._out / _UNFINISHED, ignore_errors=True)
        self._tell("sweep", {"rows": len(table), "best": manifest["best"], "warnings": manifest["warnings"]})

    def _table(self) -> pd.DataFrame:
        spec = self._spec
        usual = {"sae": spec.saes[0], "seed": spec.seeds[0], "pool": spec.pools[0], "power": spec.powers[0],
                 "choice": spec.choices[0].words}  # fmt: skip
        for row in self._rows:
            names = ("sae", "seed", "pool") if row["kind"] == BASELINE else tuple(usual)
            varied = [name for name in names if row[name] != usual[name]]
            row |= {"varied": ", ".join(varied), "value": ", ".join(str(row[name]) for name in varied)}
        table = pd.DataFrame(self._rows, columns=list(COLUMNS))
        table = table.astype(dict.fromkeys(_WHOLE, "Int64"))
        for name in ("most_influential", "outcome", "choice"):
            table[name] = table[name].astype(object).where(table[name].notna(), "")
        numbers = [name for name in COLUMNS if name.startswith(("overlap", "seed_", "same_", "spearman", "r_"))]
        return table.astype(dict.fromkeys(numbers, "float64"))

    def _chance(self) -> dict[str, Any]:
        """The best setting of each score, with what having picked it is worth, and the band of chance."""
        if self._actual is None:
            return {"best": {}, "chance": {}}
        harm = shared_domains(self._spec, self._actual)
        names, y = list(harm), np.array(list(harm.values()))
        best, chance = {}, {}
        for metric in SCORES:
            vectors = [[aligned(one[metric], names) for one in many] for many in self._scores.values()]
            found, width = best_of(vectors, y), band(vectors[0][0], y)
            if found is not None:
                sae, pool, choice = list(self._scores)[found.setting]
                where = {"sae": sae, "pool": pool, "choice": choice.words, "power": choice.power}
                best[metric] = {**found.public(), **where}
            if width is not None:
                chance[metric] = width._asdict()
        return {"best": best, "chance": chance}


def _or_none(value: Any) -> Any:
    """What is no number is null in JSON."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
