"""Finished results by their key: one folder each, never changed once it is there.

A result is believed when its manifest is there and names the folder's key. Folders are filled under another name and
appear by one rename, so nobody meets half of one.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from sts_core.errors import UserError
from sts_core.folders import atomic_write, ensure, results
from sts_core.results.examples import EXAMPLES, HISTOGRAMS
from sts_core.results.folder import Result

MANIFEST = "manifest.json"
FILES = ("shift.parquet", "shift_raw.parquet", "domains.parquet", "groups.safetensors", "scores.parquet")
"""What a finished result holds beside its manifest."""
ON_REQUEST = (EXAMPLES, HISTOGRAMS)
"""What it holds if its spec asked for it; nothing else of a folder is copied."""
_KEY = re.compile(r"[\w-]{1,128}", re.ASCII)


def find(key: str) -> Path | None:
    """The folder of the whole result with this key, measured on this machine; None when there is none."""
    folder = results() / key
    return folder if _KEY.fullmatch(key) and _key_of(folder) == key else None


def keep(folder: Path) -> Path:
    """Copy a finished result into the store; returns its place there. Who came first stays."""
    key = str(Result(folder).manifest.get("key", ""))
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not _KEY.fullmatch(key) or missing:
        what = f"lacks {', '.join(missing)}" if missing else "has no key"
        raise UserError(f"The result in {folder} is not whole: it {what}", "Measure it again with --fresh.")
    if (there := find(key)) is not None:
        return there
    draft = results() / f".{key}.{secrets.token_hex(4)}"
    try:
        _copy(folder, draft)
        return _place(draft, key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def fetch(key: str, out: Path) -> bool:
    """Fill `out` with the stored result of this key; False when there is none. `out` is whole only at the very end."""
    there = find(key)
    if there is None:
        return False
    if _key_of(out) == key and all((out / name).is_file() for name in FILES):
        return True  # it holds this result already, and a finished result never changes
    before = set(out.iterdir()) if out.is_dir() else None
    try:
        _copy(there, out)
    except OSError:  # half a copy is of no use to anyone
        for path in out.iterdir() if out.is_dir() else ():
            if before is None or path not in before:
                path.unlink(missing_ok=True)
        if before is None and out.is_dir():
            out.rmdir()
        raise
    return True


def _key_of(folder: Path) -> str | None:
    manifest = _manifest(folder)
    return str(manifest["key"]) if manifest and "key" in manifest else None


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder when it is one; None for a folder that holds no result one can believe."""
    try:
        manifest = Result(folder).manifest
    except (UserError, OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _copy(source: Path, to: Path) -> None:
    """Copy a result's files, the manifest last and only when all else is safely on the disk."""
    ensure(to)
    (to / MANIFEST).unlink(missing_ok=True)
    for name in (*FILES, *(extra for extra in ON_REQUEST if (source / extra).is_file())):
        fresh = to / f".{name}.{secrets.token_hex(4)}"
        try:
            shutil.copyfile(source / name, fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(to / name)
        finally:
            fresh.unlink(missing_ok=True)
    atomic_write(to / MANIFEST, (source / MANIFEST).read_bytes())


def _place(draft: Path, key: str) -> Path:
    """Give the filled folder its name, unless a whole result has it already."""
    folder = results() / key
    while True:
        try:
            draft.rename(folder)
            return folder
        except OSError:
            if find(key) is not None:
                return folder
            if not folder.exists():
                raise
        # What has the name is damaged: it is moved away first, so that no reader sees it half deleted.
        spoiled = results() / f".spoiled.{secrets.token_hex(4)}"
        folder.rename(spoiled)
        shutil.rmtree(spoiled) if spoiled.is_dir() else spoiled.unlink()
