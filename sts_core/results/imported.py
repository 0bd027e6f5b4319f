"""Outcomes that were brought from elsewhere, kept under a name of one's own: `correlate` and Transfer take the name.

Each is a folder `cache()/imported/NAME/` that reads like an evaluation's own: `evaluation.json` with the outcomes, and
`rows.parquet` where every question's value is known. Files of others are read once and never looked at again.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sts_core.errors import UserError, nearest
from sts_core.folders import atomic_json, cache, ensure
from sts_core.results.outcomes.outcome import Outcome
from sts_core.results.outcomes.rows import FILE, read_rows

EVALUATION = "evaluation.json"
NAME = re.compile(r"[\w][\w .+-]{0,63}", re.ASCII)


class Imported(NamedTuple):
    """One that is kept."""

    name: str
    folder: Path
    source: str
    """What kind of file it came from."""
    files: tuple[str, ...]
    """Their names."""
    domains: int


def keep(
    name: str, outcomes: Sequence[Outcome], source: str, files: Sequence[str], rows: Path | None = None,
    force: bool = False,
) -> Imported:  # fmt: skip
    """Keep outcomes under a name; the same again changes nothing, others under a name that is taken are refused.

    `rows` is a folder whose `rows.parquet` tells every question's value.
    """
    folder = _root() / checked(name)
    told = {
        "imported": {"source": source, "files": list(files)},
        "outcomes": [one._asdict() for one in outcomes],
    }
    if folder.exists() and not force:
        if _read(folder) == json.loads(json.dumps(told)):
            return _imported(folder)
        raise UserError(
            f"The name {name!r} is taken by other outcomes", "Give another --name, or --force to replace those."
        )
    draft = _root() / f".{name}.{secrets.token_hex(4)}"
    try:
        ensure(draft)
        if rows is not None:
            read_rows(rows)
            shutil.copyfile(rows / FILE, draft / FILE)
        atomic_json(draft / EVALUATION, told)
        if folder.exists():
            old = _root() / f".old.{secrets.token_hex(4)}"
            folder.rename(old)
            shutil.rmtree(old)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _imported(folder)


def listing() -> list[Imported]:
    """All that are kept, by name; damaged ones are passed over."""
    found = []
    for folder in sorted(_root().iterdir()):
        if NAME.fullmatch(folder.name) and _read(folder):
            found.append(_imported(folder))
    return found


def find(name: str) -> Path | None:
    """The folder of this name; None where nothing is kept under it."""
    folder = cache() / "imported" / name
    return folder if NAME.fullmatch(name) and (folder / EVALUATION).is_file() else None


def place_of(given: str | Path) -> Path:
    """The folder of an imported name; else the file or folder itself, which comes first where both are there."""
    place = Path(given)
    kept = None if place.exists() else find(str(given))
    return place if kept is None else kept


def metrics(folder: Path) -> list[str]:
    """What was measured of the domains, in the file's order."""
    told = _read(folder).get("outcomes") or []
    return list(dict.fromkeys(str(one.get("metric")) for one in told if isinstance(one, dict)))


def checked(name: str) -> str:
    """A name that can be a folder's, and is no file's or job's."""
    if not NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
        raise UserError(
            f"Outcomes cannot be named {name[:80]!r}",
            "Use 1 to 64 letters, digits, blanks, and . + - _, a letter or digit first.",
        )
    if name in ("paper", "none") or re.fullmatch(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{6}", name):
        raise UserError(f"The name {name!r} already means something else", "Give another --name.")
    return name


def suggest(files: Sequence[Path]) -> str:
    """A name after the last file, or its folder where many files have that name."""
    last = files[-1]
    common = last.stem.casefold().startswith(("results", "summary", "evaluation", "outcomes"))
    stem = last.absolute().parent.name if common and last.absolute().parent.name else last.stem or last.name
    stem = re.sub(r"[^\w .+-]", "-", stem, flags=re.ASCII).strip(" .+-_")[:64].strip()
    return stem if NAME.fullmatch(stem) else "imported"


def unknown(name: str) -> UserError:
    """That nothing is kept under a name, and what is."""
    names = [one.name for one in listing()]
    known = f"There are: {', '.join(names[:12])}." if names else "Bring one with `sts import FILE --name NAME`."
    return UserError(f"Nothing was imported as {name!r}{nearest(name, names)}", known)


def _imported(folder: Path) -> Imported:
    told = _read(folder)
    about: dict[str, Any] = told.get("imported") or {}
    domains = {str(one.get("domain")) for one in told.get("outcomes") or [] if isinstance(one, dict)}
    files = about.get("files")
    names = tuple(str(file) for file in files) if isinstance(files, list) else ()
    return Imported(folder.name, folder, str(about.get("source", "")), names, len(domains))


def _read(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    kinds = {"imported": dict, "outcomes": list}
    good = isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())
    return value if good else {}


def _root() -> Path:
    return ensure(cache() / "imported")
