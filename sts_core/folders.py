"""Where things lie, and how a file is written so that a reader never meets half of it.

`STS_CACHE` names the cache folder; without it, it is `cache/` of the project's checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def demo_runs() -> Path:
    """Fine-tunes that ship with the program, one job folder each; they are only read."""
    return DEMO / "runs"


def shows_demo_runs() -> bool:
    """Whether they are shown among this machine's: always, unless `STS_DEMO_RUNS=0` hides them."""
    return os.environ.get("STS_DEMO_RUNS") != "0" and demo_runs().is_dir()


def job(name: str) -> Path:
    """The folder of a job by its id: among this machine's or, failing that, among those that ship.

    Of a job that is nowhere, where it would lie on this machine.
    """
    own = jobs() / name
    ships = shows_demo_runs() and (demo_runs() / name).is_dir()
    return demo_runs() / name if ships and not own.is_dir() else own


def shipped(name: str) -> Path | None:
    """The place in the demo that a name such as `demo/runs/…` means on any machine; None for any other name."""
    head, _, rest = name.partition("/")
    return DEMO / rest if head == "demo" and rest and ".." not in Path(rest).parts else None


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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for one writer on this machine; a second is refused at once.

    The lock lies with the system's temporary files, under the folder's path: it holds whatever cache each writer uses,
    also before the folder is there, and goes when its process goes.
    """
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:24]
    with (Path(tempfile.gettempdir()) / f"sts-{os.getuid()}-{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another run is writing to {folder}", "Wait until it has ended, or name another folder."
            ) from None
        yield


def disk_trouble(folder: Path, error: BaseException) -> UserError:
    """What to tell a person when the disk refuses: full, read-only, a name too long."""
    why = getattr(error, "strerror", None) or (" ".join(str(error).split())[:160] or type(error).__name__)
    return UserError(
        f"{folder} cannot be written: {why}",
        "Free some space or name another folder; the same command goes on from here.",
    )


def atomic_write(path: Path, content: bytes | str, mode: int = 0o644) -> None:
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
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def atomic_json(path: Path, value: Any) -> None:
    """The same for a JSON value, indented for a person's eye."""
    atomic_write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


STARTED = "started_with.json"
"""What a work that can be gone on with was begun with, in the folder of what comes of it."""


def goes_on(folder: Path, now: dict[str, Any], other: UserError) -> bool:
    """Remember in an empty folder what a work is made of; whether it was begun there before.

    A folder with anything else in it is refused, and by `other` one where another work was begun.
    """
    path = folder / STARTED
    if not path.is_file():
        if any(folder.iterdir()):
            raise UserError(f"{folder} holds something else already", "Name another folder.")
        atomic_json(path, now)
        return False
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        before = None
    if before != json.loads(json.dumps(now)):
        raise other
    return True
