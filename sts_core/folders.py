"""Where things lie, and how a file is written so that a reader never meets half of it.

`STS_CACHE` names the cache folder; without it, it is `cache/` of the project's checkout.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sts_core.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
DEMO = PROJECT / "cache" / "demo"
"""The only part of the cache that is in git: the embedded SAE and the demo's measured results."""


def cache() -> Path:
    """The cache folder, made when it is not there."""
    folder = Path(os.environ.get("STS_CACHE") or PROJECT / "cache")
    return ensure(folder)


def bundle() -> Path:
    """Where the embedded bundle lies once fetched (it may not be there yet)."""
    return cache() / "bundle"


def results() -> Path:
    """Finished results, one folder a key."""
    return ensure(cache() / "results")


def jobs() -> Path:
    """One folder a job."""
    return ensure(cache() / "jobs")


def ensure(folder: Path) -> Path:
    """Make a folder; say in a person's words why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{folder} is needed as a folder, but a file is in its place",
            "Move the file away, or name another place (the cache's is STS_CACHE).",
        ) from None
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made: {error.strerror}", "Name a place you may write to."
        ) from error
    return folder


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace a file whole: a reader sees the old content or the new, also after a crash.

    Costs one fsync, so it is for small files that are read while they are written.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def atomic_json(path: Path, value: Any) -> None:
    """The same for a JSON value, indented for a person's eye."""
    atomic_write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
