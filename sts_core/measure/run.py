"""`sts run`: a spec becomes a result folder.

Order matters: everything that can be refused is refused before the folder is made; sets are written one by one as they
finish, so that an interrupted run goes on where it stopped; the manifest comes last and makes the folder a result.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from sts_core.errors import UserError
from sts_core.folders import alone_in, disk_trouble, ensure
from sts_core.measure.parts import FOLDER, Measured, Parts, look_at
from sts_core.measure.resolve import Resolved, resolve
from sts_core.nets.device import cpu_name
from sts_core.progress import Progress, Watcher, silent
from sts_core.results import shelf
from sts_core.results.examples import Found, write_examples
from sts_core.results.folder import NOISE, NOISE_RAW, RAW, TARGET, Result, write_result
from sts_core.results.sums import SetSums
from sts_core.spec import Spec

if TYPE_CHECKING:
    from sts_core.measure.plan import Work
    from sts_core.nets.decoder import Decoder
    from sts_core.text.pairs import PairSet

_ENOUGH_FOR_A_RATE = 2_000
"""Tokens below which the speed of a run says nothing about the next."""


def run(spec: Spec, out: Path, watch: Watcher = silent, fresh: bool = False, stored: bool = True) -> Result:
    """Measure a spec into `out`, or take it from the store when it was measured before (not when `fresh`).

    A half-done `out` of the same key is finished. The result is put into the store as well. Without `stored` nothing is
    taken from there, while what `out` itself holds is gone on with.
    """
    resolved = resolve(spec)
    with alone_in(out):
        try:
            finished = look_at(out, resolved.key, fresh)
            if stored and not fresh and not finished and shelf.fetch(resolved.key, out):
                shutil.rmtree(out / FOLDER, ignore_errors=True)
                return Result(out)
            result = Result(out) if finished and not fresh else _Sitting(resolved, watch).measure(out, fresh)
        except (OSError, SafetensorError) as error:
            raise disk_trouble(out, error) from error
        try:
            shelf.keep(out)
        except OSError as error:
            raise UserError(
                f"The result in {out} is whole, but the store could not take a copy: {error.strerror}",
                "Free some space; the same command then only copies it.",
            ) from error
    return result


class _Sitting:
    """One run of the program over a spec, from the first row to the manifest."""

    def __init__(self, resolved: Resolved, watch: Watcher) -> None:
        self._resolved = resolved
        self._watch = watch
        self._started, self._began = datetime.now(UTC), time.monotonic()
        self._done = self._ran_here = self._total = 0
        self._warnings: list[str] = []

    def measure(self, out: Path, fresh: bool) -> Result:
        # Imported here: what comes before must be found out without paying for torch.
        from sts_core.measure.examples import bin_edges
        from sts_core.measure.passes import norm_threshold
        from sts_core.measure.plan import prepare, remember_rate
        from sts_core.nets.saes import load_sae
        from sts_core.nets.tokenizer import load_tokenizer

        resolved, run_spec = self._resolved, self._resolved.spec.run
        self._watch(Progress("reading the data", 0, 0))
        work = prepare(resolved, load_tokenizer(resolved.model))
        self._total = work.tokens
        self._watch(Progress("loading the model", 0, self._total))
        decoder = self._decoder(run_spec.dtype)
        sae = load_sae(resolved.sae, run_spec.device, resolved.sae_dtype)
        self._parts = Parts(out, resolved.key, fresh)
        loaded = time.monotonic()
        target, outliers = work.pair_sets[0], resolved.spec.pool.outliers
        most_norm = None if outliers == "off" else norm_threshold(decoder, target, float(outliers))
        measured: dict[str, Measured] = {}
        for number, pairs in enumerate(work.pair_sets):
            stage = f"measuring {pairs.name}" if number else "measuring the target set"
            measured[pairs.name] = self._set(number, stage, decoder, sae, pairs, most_norm)
        if self._ran_here > _ENOUGH_FOR_A_RATE:
            remember_rate(resolved, self._ran_here / (time.monotonic() - loaded))
        noise = self._noise(len(work.pair_sets), decoder, sae, target, most_norm)
        self._watch(Progress("writing the result", self._total, self._total))
        sets = {name: m.sums for name, m in measured.items()} | _named(RAW, measured[TARGET].raw)
        if noise is not None:
            sets |= _named(NOISE, noise.sums) | _named(NOISE_RAW, noise.raw)
        if run_spec.examples:
            ensure(out)
            write_examples(out, _found(work.pair_sets, measured), bin_edges())
        result = write_result(out, self._manifest(work, measured, most_norm, noise is not None), sets)
        self._parts.clear()
        return result

    def _set(
        self, number: int, stage: str, decoder: Decoder, sae: Any, pairs: PairSet, most_norm: float | None, **more: Any
    ) -> Measured:
        """Measure a set, or go on where it was kept."""
        from sts_core.measure.passes import measure_set
        from sts_core.measure.plan import forward_tokens

        kept = self._parts.read(number)
        if kept is not None and kept.whole:
            self._done += 2 * forward_tokens(pairs, arms=("base",)) if "tuned" in more else forward_tokens(pairs)
            return kept.measured

        def skipped(tokens: int) -> None:
            self._done += tokens
            self._watch(Progress(stage, self._done, self._total))

        def ran(tokens: int) -> None:
            self._ran_here += tokens
            skipped(tokens)

        if self._resolved.spec.run.preset == "reference" and "tuned" not in more:
            from sts_core.measure.unaligned import measure_unaligned

            measured = measure_unaligned(decoder, sae, pairs, pairs.name == TARGET, ran)
            self._parts.write(number, measured)
            return measured
        if "tuned" not in more:
            more["examples"] = self._resolved.spec.run.examples
        measured = measure_set(
            decoder, sae, pairs, most_norm, pairs.name == TARGET, ran,
            before=kept, skipped=skipped, keep=lambda k: self._parts.write(number, k.measured, k.batches), **more,
        )  # fmt: skip
        self._parts.write(number, measured)
        return measured

    def _noise(
        self, number: int, decoder: Decoder, sae: Any, target: PairSet, most_norm: float | None
    ) -> Measured | None:
        """The shift of the unchanged model under another number format (METHOD 3, null d); None if it does not fit."""
        from torch import OutOfMemoryError

        other = "bfloat16" if self._resolved.spec.run.dtype == "float32" else "float32"
        stage = "measuring the noise of rounding"
        self._watch(Progress(stage, self._done, self._total))
        try:
            return self._set(number, stage, decoder, sae, target, most_norm, tuned=self._decoder(other))
        except (UserError, MemoryError, OutOfMemoryError) as error:
            self._warnings.append(f"The noise of rounding was not measured in {other}: {error}")
            return None

    def _decoder(self, dtype: str) -> Decoder:
        from sts_core.nets.decoder import load_decoder

        sae = self._resolved.sae
        return load_decoder(self._resolved.model, sae.layer, self._resolved.spec.run.device, dtype, sae.site)

    def _manifest(
        self, work: Work, measured: dict[str, Measured], most_norm: float | None, noise: bool
    ) -> dict[str, Any]:
        resolved = self._resolved
        spec = resolved.spec
        pooled = {name: int(m.sums.tokens.sum()) for name, m in measured.items()}
        return {
            "format": 1,
            "key": resolved.key,
            "spec": spec.to_dict(),
            "resolved": resolved.public(),
            "versions": _versions(),
            "machine": {"processor": cpu_name(), "system": platform.system()},
            "seed": spec.run.seed,
            "device": spec.run.device,
            "dtype": spec.run.dtype,
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._began, 2),
            "tokens": {
                "run": work.tokens,
                "run_in_this_sitting": self._ran_here,
                "pooled": sum(pooled.values()),
                "dropped_outliers": sum(m.outliers for m in measured.values()),
            },
            "outlier_norm": most_norm,
            "noise_measured": noise,
            "sets": {
                p.name: {**p.public(), "tokens": pooled[p.name], "outliers": measured[p.name].outliers}
                for p in work.pair_sets
            },
            "warnings": [*resolved.warnings, *(w for p in work.pair_sets for w in p.warnings), *self._warnings],
        }


def _named(name: str, sums: SetSums | None) -> dict[str, SetSums]:
    return {} if sums is None else {name: sums}


def _found(pair_sets: list[PairSet], measured: dict[str, Measured]) -> Iterator[Found]:
    for pairs in pair_sets:
        rows, pooled = [pair.row for pair in pairs.pairs], [pair.pooled for pair in pairs.pairs]
        for arm, examples in measured[pairs.name].examples.items():
            bands = {band: (picked.values.numpy(), picked.tokens.numpy()) for band, picked in examples.bands().items()}
            yield Found(pairs.name, arm, bands, examples.counts.numpy(), examples.seen, rows, pooled)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("sts-explorer", "torch", "transformers", "sae-lens", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions
