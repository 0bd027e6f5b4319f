"""Sets that are finished within a run that is not: one file a set, under the key of the run.

An interrupted run reads them back and measures only the rest, to the same numbers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sts_core.errors import UserError
from sts_core.folders import atomic_json, ensure
from sts_core.results.folder import Result
from sts_core.results.sums import SetSums

if TYPE_CHECKING:
    from sts_core.measure.examples import Examples

FOLDER = "parts"
ALL = -1
"""Instead of a number of batches: the set is finished."""
_RESULT_SUFFIXES = (".parquet", ".safetensors")


class Measured(NamedTuple):
    """What a set gave."""

    sums: SetSums
    raw: SetSums | None
    """The raw residual's own sums; of the target set only."""
    outliers: int
    """Tokens dropped for their norm."""
    examples: Mapping[str, Examples] = MappingProxyType({})
    """Arm -> the strongest tokens and histograms, where they were asked for."""


class Kept(NamedTuple):
    """A set as it was kept."""

    measured: Measured
    batches: int
    """How many of its batches it holds; ALL when it is finished."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the set is left to do."""
        return self.batches == ALL


def look_at(out: Path, key: str, fresh: bool = False) -> bool:
    """Whether `out` already holds this very result; refuse a folder that holds something else.

    Something else is also what another run left unfinished there, unless it may be thrown away (`fresh`).
    """
    if out.is_symlink() and not out.exists():
        raise UserError(f"{out} is a link that leads nowhere", "Name another --out folder.")
    there_is = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there_is.is_dir():
        raise UserError(f"{there_is} is needed as a folder, but a file is in its place", "Name another --out folder.")
    if (out / "manifest.json").exists():
        if Result(out).manifest.get("key") == key:
            return True
        raise UserError(
            f"{out} already holds another result", "Name another --out folder; a finished result never changes."
        )
    if not fresh and _begun(out) not in (None, key):
        raise UserError(
            f"{out} holds an unfinished run of another spec",
            "Name another --out folder, or throw it away with --fresh.",
        )
    there = list(out.iterdir()) if out.exists() else []
    strangers = [
        p.name for p in there if p.name != FOLDER and p.suffix not in _RESULT_SUFFIXES and not p.name.startswith(".")
    ]
    if strangers:
        raise UserError(f"{out} holds other things ({strangers[0]})", "Name a new or empty --out folder.")
    return False


def _begun(out: Path) -> str | None:
    """The key of the run that was begun in a folder; None when there is none that one could go on with."""
    try:
        key = json.loads((out / FOLDER / "key.json").read_text())
    except (OSError, ValueError):
        return None
    return key if isinstance(key, str) else None


class Parts:
    """The finished sets of a run."""

    def __init__(self, out: Path, key: str, fresh: bool) -> None:
        """Open them; those of another key, or all when `fresh`, are thrown away first."""
        self._folder = out / FOLDER
        mark = self._folder / "key.json"
        if fresh or _begun(out) != key:
            shutil.rmtree(self._folder, ignore_errors=True)
            (out / "manifest.json").unlink(missing_ok=True)
        ensure(self._folder)
        atomic_json(mark, key)

    def write(self, number: int, measured: Measured, batches: int = ALL) -> None:
        """Keep a set, finished or after so many batches; the file is there whole or not at all."""
        arrays: dict[str, np.ndarray] = {"outliers": np.array([measured.outliers]), "batches": np.array([batches])}
        for name in ("sums", "raw"):
            sums: SetSums | None = getattr(measured, name)
            if sums is not None:
                arrays |= {f"{name}/{quantity}": value for quantity, value in sums.sums.items()}
                arrays |= {f"{name}/tokens": sums.tokens, f"{name}/items": sums.items}
        for arm, found in measured.examples.items():
            arrays |= {f"examples/{arm}/{what}": value for what, value in found.arrays().items()}
        unfinished = self._path(number).with_suffix(".part")
        save_file(arrays, unfinished)
        unfinished.replace(self._path(number))

    def read(self, number: int) -> Kept | None:
        """A set that was kept, or None."""
        if not self._path(number).exists():
            return None
        try:
            arrays = load_file(self._path(number))
            examples = _examples({name: arrays.pop(name) for name in list(arrays) if name.startswith("examples/")})
        except (SafetensorError, TypeError):  # torn by a power cut, or kept by an earlier version: measured again
            return None
        outliers, batches = int(arrays.pop("outliers")[0]), int(arrays.pop("batches")[0])
        found: dict[str, dict[str, Any]] = {"sums": {}, "raw": {}}
        for key, value in arrays.items():
            name, quantity = key.split("/")
            found[name][quantity] = value
        sums = {n: SetSums(s, tokens=s.pop("tokens"), items=s.pop("items")) for n, s in found.items() if s}
        return Kept(Measured(sums["sums"], sums.get("raw"), outliers, examples), batches)

    def clear(self) -> None:
        """The result is written: they are not needed any more."""
        shutil.rmtree(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:03d}.safetensors"


def _examples(arrays: dict[str, np.ndarray]) -> dict[str, Examples]:
    if not arrays:
        return {}
    from sts_core.measure.examples import Examples  # here, because it needs torch

    arms: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        _, arm, what = name.split("/")
        arms.setdefault(arm, {})[what] = value
    return {arm: Examples.of(kept) for arm, kept in arms.items()}
