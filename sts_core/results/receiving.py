"""A finished result from elsewhere, taken into this cache: looked over whole before it is believed.

Only files of the names a result has are read, each a plain file of a sane size, through no link; tables and vectors are
held against the manifest and against each other. What comes in is a copy, put into the store by one rename.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from sts_core.errors import UserError
from sts_core.fingerprint import sha256_file
from sts_core.folders import disk_trouble, ensure, results
from sts_core.results import shelf
from sts_core.results.folder import TARGET, Result
from sts_core.results.vectors import GROUPS, Vectors
from sts_core.spec import Spec

MOST_BYTES = {shelf.MANIFEST: 32 * 2**20, "scores.parquet": 64 * 2**20}
LARGEST = 8 * 2**30
"""Of the other files: the group sums of a hundred domains and 131,072 features."""
MOST_FEATURES, MOST_SCORES = 2**24, 10**6
COLUMNS = {
    "shift.parquet": ("feature", "shift_icl", "shift_icl_sq", "signed_icl", "mean_base", "mean_icl", "rate_base",
                      "rate_icl"),
    "shift_raw.parquet": ("feature", "shift_icl"),
    "domains.parquet": ("domain", "feature", "mean_act", "mean_act_sq", "mean_absdiff", "mean_diff_sq", "rate"),
    "scores.parquet": ("domain", "metric", "n", "power", "value", "se", "tokens", "items"),
}  # fmt: skip
"""What each table must have; more is let through."""
_KEY = re.compile(r"[\w-]{1,128}", re.ASCII)
_BLOCK = 2**20
_AGAIN = "Copy the whole folder again, or export it with `sts export DIR --format parquet`."


class Received(NamedTuple):
    """A result that is in the store now."""

    key: str
    folder: Path
    new: bool
    """False where the very same was there already."""
    domains: int
    features: int


def looks_like_result(place: Path) -> bool:
    """Whether a folder means to be a finished result; a run's or a mixture's folder has a manifest too."""
    try:
        manifest = json.loads((place / shelf.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return (place / GROUPS).is_file() and (place / "domains.parquet").is_file()
    return isinstance(manifest, dict) and "key" in manifest and "kind" not in manifest


def receive(place: Path, force: bool = False) -> Received:
    """Look a result's folder over and take a copy; another result of the same key is replaced only by `force`."""
    draft = results() / f".import.{secrets.token_hex(4)}"
    try:
        _copy(place, draft)
        key, features = check(draft, place)
        domains = len(Result(draft).domains)
        there = shelf.find(key)
        if there is not None and _same(there, draft):
            return Received(key, there, False, domains, features)
        if there is not None and not force:
            raise UserError(
                f"There is another result {key} here, and the two are not equal",
                "A result never changes, so one was altered: look at both, then --force replaces the one here.",
            )
        if there is not None:
            old = results() / f".replaced.{secrets.token_hex(4)}"
            there.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        return Received(key, shelf.keep(draft), True, domains, features)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check(folder: Path, named: Path | None = None) -> tuple[str, int]:
    """The key and the number of features of a folder that is a whole result; else what is wrong, about `named`."""
    named = named or folder
    try:
        manifest = Result(folder).manifest
    except UserError:
        raise UserError(f"The manifest in {named} is no JSON table", _AGAIN) from None
    key = manifest.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise UserError(f"The manifest in {named} has no key", "Measure with `sts run`: its folder has one.")
    domains = _domains(manifest, named)
    features = _tables(folder, named, domains)
    _vectors(folder, named, domains, features)
    _scores(folder, named)
    return key, features


def _copy(place: Path, draft: Path) -> None:
    """The files a result has, as they are now; no link is followed."""
    ensure(draft)
    if place.is_symlink() or not place.is_dir():
        raise UserError(f"{place} is no folder of its own", "Name the folder itself.")
    for name in (*shelf.FILES, *shelf.ON_REQUEST, shelf.MANIFEST):
        source = place / name
        if name in shelf.ON_REQUEST and not source.exists() and not source.is_symlink():
            continue
        try:
            handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise UserError(f"{place} is not a whole result: it lacks {name}", _AGAIN) from None
        except OSError as error:
            why = "is a link" if source.is_symlink() else f"cannot be read: {error.strerror}"
            raise UserError(f"{source} {why}", "A result is brought in as plain files.") from None
        try:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise UserError(f"{source} is no plain file", "A result is brought in as plain files.")
            most = MOST_BYTES.get(name, LARGEST)
            if about.st_size > most:
                raise UserError(f"{source} is larger than {most >> 20:,} MB", "No result of ours is: look what it is.")
            with open(handle, "rb", closefd=False) as file:
                _write(file, draft / name)
        finally:
            os.close(handle)


def _write(file: Any, to: Path) -> None:
    try:
        with to.open("xb") as copy:
            shutil.copyfileobj(file, copy, _BLOCK)
    except OSError as error:
        raise disk_trouble(to.parent, error) from error


def _domains(manifest: dict[str, Any], named: Path) -> list[str]:
    """The domains of a spec that `sts run` would take; its files and folders are not looked for."""
    try:
        return [domain.name for domain in Spec.from_dict(manifest["spec"]).domains]
    except UserError as error:
        raise UserError(f"The spec in {named}: {error.message}", error.hint) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"The manifest in {named} has no spec", _AGAIN) from None


def _tables(folder: Path, named: Path, domains: list[str]) -> int:
    """Hold the tables against one another; how many features there are."""
    rows = {}
    for name, wanted in COLUMNS.items():
        try:
            file = pq.ParquetFile(folder / name)
            schema, rows[name] = file.schema_arrow, file.metadata.num_rows
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"{named / name} is no Parquet table: {str(error).splitlines()[0][:100]}", _AGAIN) from None
        lacking = [column for column in wanted if column not in schema.names]
        if lacking:
            raise UserError(f"{named / name} has no column {lacking[0]!r}", _AGAIN)
        words = [c for c in wanted if not _fits(schema.field(c).type, c in ("domain", "metric"))]
        if words:
            raise UserError(f"The column {words[0]!r} of {named / name} is of another kind", _AGAIN)
    features = rows["shift.parquet"]
    if not 0 < features <= MOST_FEATURES:
        raise UserError(f"{named / 'shift.parquet'} lists {features:,} features", _AGAIN)
    if rows["domains.parquet"] != features * len(domains):
        raise UserError(
            f"{named / 'domains.parquet'} has {rows['domains.parquet']:,} rows, not {features:,} for each of "
            f"{len(domains)} domains",
            _AGAIN,
        )
    if rows["scores.parquet"] > MOST_SCORES:
        raise UserError(f"{named / 'scores.parquet'} has {rows['scores.parquet']:,} rows", _AGAIN)
    numbers = pq.read_table(folder / "shift.parquet", columns=["feature"])["feature"].to_numpy()
    if not np.array_equal(numbers, np.arange(features)):
        raise UserError(f"{named / 'shift.parquet'} does not list each feature once, in order", _AGAIN)
    return int(features)


def _fits(kind: pa.DataType, text: bool) -> bool:
    if text:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _vectors(folder: Path, named: Path, domains: list[str], features: int) -> None:
    """Every set the manifest names has its sums, and they are of as many features."""
    try:
        with safe_open(folder / GROUPS, framework="numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        raise UserError(f"{named / GROUPS} is damaged", _AGAIN) from None
    for name in (TARGET, *domains):
        groups = shapes.get(f"{name}/tokens", ())
        for quantity in ("base", "absdiff"):
            found = shapes.get(f"{name}/{quantity}")
            if len(groups) != 1 or shapes.get(f"{name}/items") != groups or found != (*groups, features):
                told = "no" if found is None else "other"
                raise UserError(f"{named / GROUPS} has {told} sums of {name}", _AGAIN)


def _scores(folder: Path, named: Path) -> None:
    """The scores in the table follow from the vectors."""
    told = pq.read_table(folder / "scores.parquet").to_pandas()
    told = told[told["power"] == 1]
    if told.empty:
        raise UserError(f"{named / 'scores.parquet'} holds no score", _AGAIN)
    n = int(told["n"].min())
    own = Vectors(folder).scores(n=n)
    both = own.merge(told[told["n"] == n], on=["domain", "metric"], suffixes=("", "_told"))
    close = [_close(a, b) for a, b in zip(both["value"], both["value_told"], strict=True)]
    if len(both) != len(own) or not all(close):
        raise UserError(f"The scores in {named} do not follow from its vectors", f"One of them was altered. {_AGAIN}")


def _close(one: float, other: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-9)


def _same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same result, byte for byte."""
    return all(sha256_file(one / name) == sha256_file(other / name) for name in (*shelf.FILES, shelf.MANIFEST))
