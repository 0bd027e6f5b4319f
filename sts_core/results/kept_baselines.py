"""Baselines that were measured with a model, as files beside the results: `baselines/KEY/PART.json` in the cache.

A part is what one sitting measures together: `raw`; `probe-DIGEST`, one a choice of settings; `after-REVISION`, one a
fine-tuned model. Each file holds the numbers and all that they were made of, and is there whole or not at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError
from sts_core.folders import atomic_json, cache, disk_trouble, ensure
from sts_core.results.baselines import BEFORE_AFTER, LORA_PROBE, NOT_STORED, RAW_LEVEL, RAW_SIMILARITY, Baseline
from sts_core.results.folder import Result

FOLDER, FORMAT = "baselines", 1
RAW, AFTER, PROBE = "raw", "after", "probe"
PARTS = (RAW, AFTER, PROBE)
PART_OF = {RAW_LEVEL: RAW, RAW_SIMILARITY: RAW, BEFORE_AFTER: AFTER, LORA_PROBE: PROBE}
_EVALUATION = "evaluation.json"
_KEY = re.compile(r"[\w-]{1,128}", re.ASCII)


class Part(NamedTuple):
    """One file."""

    path: Path
    manifest: Mapping[str, Any]
    """What it was made of: order, rows, seconds, versions, device."""
    baselines: list[Baseline]


class Kept(NamedTuple):
    """What is there for a result, and for a run of it."""

    baselines: list[Baseline]
    missing: dict[str, str]
    """METHOD's name of a baseline -> why it is not there."""


def folder_of(result: Result) -> Path:
    """Where a result's parts lie, made or not."""
    key = str(result.manifest.get("key", ""))
    if not _KEY.fullmatch(key):
        raise UserError(f"The result in {result.folder} has no key", "Measure it again with --fresh.")
    return cache() / FOLDER / key


def part_path(result: Result, part: str, mark: str = "") -> Path:
    """The file of a part; `mark` tells apart those that there may be several of."""
    return folder_of(result) / f"{part}{f'-{mark}' if mark else ''}.json"


def write_part(path: Path, manifest: Mapping[str, Any], found: Sequence[Baseline]) -> Part:
    """Put a part in its place, whole."""
    plain = {**manifest, "format": FORMAT, "baselines": [_plain(one) for one in found]}
    try:
        ensure(path.parent)
        atomic_json(path, plain)
    except OSError as error:
        raise disk_trouble(path, error) from error
    return read_part(path)


def read_part(path: Path) -> Part:
    """A part's file; UserError when it is not there, damaged, or of another format."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}")
        return Part(path, told, [_baseline(one) for one in told["baselines"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"The measured baselines in {path.name} cannot be read", "Measure them again: `sts baselines … --fresh`."
        ) from None


def kept_baselines(result: Result, run: Path | None = None) -> Kept:
    """What was measured for a result; of a run's folder also what was measured of its model.

    Of several short probes the one that was measured last counts: to choose the best would be to look at the outcome.
    """
    found: dict[str, Part] = {}
    missing = dict(NOT_STORED)
    for path in _paths(result):
        part = path.stem.partition("-")[0]
        try:
            one = read_part(path)
        except UserError:
            _tell(missing, part, "its file is damaged: measure it again")
            continue
        if part == AFTER and not (run is not None and _is_of(one.manifest, run)):
            continue
        if part not in found or str(found[part].manifest.get("finished")) < str(one.manifest.get("finished")):
            found[part] = one
    for part in found:
        missing = {name: why for name, why in missing.items() if PART_OF[name] != part}
    return Kept([one for part in PARTS if part in found for one in found[part].baselines], missing)


def stamp(result: Result) -> tuple[tuple[str, int], ...]:
    """Changes with every part that is written: for whoever keeps what was read."""
    return tuple((path.name, path.stat().st_mtime_ns) for path in _paths(result))


def _paths(result: Result) -> Iterator[Path]:
    if _KEY.fullmatch(str(result.manifest.get("key", ""))):
        folder = folder_of(result)
        yield from (path for part in PARTS for path in sorted(folder.glob(f"{part}*.json")))


def _tell(missing: dict[str, str], part: str, why: str) -> None:
    for name, its in PART_OF.items():
        if its == part and name in missing:
            missing[name] = why


def _is_of(manifest: Mapping[str, Any], run: Path) -> bool:
    """Whether a part was measured on the model of this run or evaluation.

    A run's folder is known by its place or, where the cache was moved, by its last two names (a job's id and `result`);
    an evaluation by the revision of the model it calls `after`.
    """
    told = manifest.get("run")
    if not isinstance(told, Mapping):
        return False
    folder = Path(str(told.get("folder", "")))
    if folder == run.resolve() or (run.name == "result" and folder.parts[-2:] == run.resolve().parts[-2:]):
        return True
    try:
        after = json.loads((run / _EVALUATION).read_text(encoding="utf-8"))["models"]["after"]["revision"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(after == told.get("revision"))


def _plain(one: Baseline) -> dict[str, Any]:
    """JSON knows no NaN."""
    values = {name: value if math.isfinite(value) else None for name, value in one.values.items()}
    return {**one.public(), "values": values}


def _baseline(told: Mapping[str, Any]) -> Baseline:
    values = {str(name): math.nan if value is None else float(value) for name, value in told["values"].items()}
    errors = {str(name): None if se is None else float(se) for name, se in told["se"].items()}
    seconds = told["seconds"]
    return Baseline(
        str(told["name"]), str(told["words"]), values, errors, bool(told["foretells"]),
        seconds=None if seconds is None else float(seconds), device=str(told["device"]),
    )  # fmt: skip
