"""SHA-256 of files, so that a changed byte is a new result. Large files are hashed once and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from sts_core import folders
from sts_core.errors import UserError

_REMEMBER_FROM = 50_000_000


def sha256_file(path: Path) -> str:
    """The hex digest of a file. Files over 50 MB are remembered by path, size and modification time."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    if stat.st_size < _REMEMBER_FROM:
        return _digest(path)
    known_file = folders.cache() / "digests.json"
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(known_file.read_text())
    if key not in known:
        known[key] = _digest(path)
        folders.atomic_json(known_file, known)
    return known[key]


def sha256_folder(folder: Path, endings: tuple[str, ...]) -> str:
    """One digest over the names and contents of a folder's files whose names end so."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.name.endswith(endings) and p.is_file()):
        digest.update(f"{path.name}:{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
