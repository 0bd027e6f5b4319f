"""What `sts export` is asked for: a result or a run, however a person names it, and what happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.actual import Given
    from sts_core.store.results import Stored

_FEWEST_LETTERS = 6
"""Of a key that is not typed whole."""


class Source(NamedTuple):
    """What is exported."""

    name: str
    result: Path | None
    """A finished result's folder; of a run, the one it was held against."""
    run: Path | None = None
    """A run's job folder."""


def find_source(source: str) -> Source:
    """A folder, a key of the store or its beginning, or a job's id or a part of it."""
    from sts_core.jobs.folder import ID, SPEC, STATUS, locate, meant
    from sts_core.results.folder import Result

    folder = Path(source).expanduser()
    if all((folder / name).is_file() for name in (SPEC, STATUS)):
        return _run(folder)
    if folder.is_dir():
        key = Result(folder).manifest.get("key")
        if not isinstance(key, str):
            raise UserError(f"{folder} holds no finished result", "Name a result's folder, or a run by its id.")
        return Source(_safe(key[:12]), folder)
    if "/" in source or folder.exists():
        raise UserError(f"{source} is no folder", "Name the folder of a finished result, its key, or a run's id.")
    stored = _stored(source)
    if stored is not None:
        return Source(_safe(stored.key[:12]), stored.folder)
    if ID.fullmatch(run := meant(source)):
        return _run(locate(run))
    raise UserError(f"There is no stored result and no run {source!r}", "Name a result's folder or key, or a run's id.")


def _stored(key: str) -> Stored | None:
    """The result of this key, or the one whose key begins so; one measured here stands before a shipped one."""
    from sts_core.store.results import listing

    found = {one.key: one for one in sorted(listing(), key=lambda one: not one.demo) if one.key.startswith(key)}
    if key in found:
        return found[key]
    if len(key) < _FEWEST_LETTERS or not found:
        return None
    if len(found) > 1:
        raise UserError(
            f"{len(found)} results have keys like {key!r}", f"Type more of it: {', '.join(list(found)[:4])}."
        )
    return next(iter(found.values()))


def _run(folder: Path) -> Source:
    """A fine-tuning run that has ended, with the result it was held against where that is here."""
    from sts_core.jobs.folder import load
    from sts_core.store.results import open_result
    from sts_core.store.run_tables import predicted_key

    job = load(folder)
    if job.kind != "sft":
        raise UserError(f"{folder.name} is no fine-tuning run", "`sts jobs` tells what each job is.")
    if job.active:
        raise UserError(f"The run {folder.name} has not ended yet", "Export it when it has: `sts jobs` tells.")
    key = predicted_key(folder)
    try:
        result = open_result(key).folder if key else None
    except UserError:
        result = None
    return Source(folder.name, result, folder)


def nothing_to_report(found: Source) -> UserError:
    """That a run has no prediction here: it was made without one, or the result it was told from is elsewhere."""
    from sts_core.store.run_tables import predicted_key

    key = predicted_key(found.run) if found.run is not None else ""
    if not key:
        return UserError(
            f"The run {found.name} was held against no result: there is no prediction to report",
            "Export its tables: --format csv or parquet. Or name a result, and the run with --actual.",
        )
    return UserError(
        f"The result that predicted the run {found.name} is not on this machine ({key[:12]})",
        "Bring it with `sts import`, or export the run's tables: --format csv or parquet.",
    )


def what_happened(actual: list[str]) -> Given | None:
    """What happened, as a person names it: a job's id, an imported name, one file or two, the paper."""
    from sts_core.jobs.folder import ID, RESULT, locate, meant
    from sts_core.results import imported, paper
    from sts_core.results.actual import PAPER

    if len(actual) > 2:
        raise UserError(f"--actual is given {len(actual)} times", "Name one source, or two files: before, then after.")
    places: list[str | Path] = []
    for name in actual:
        if name.startswith(PAPER) and len(actual) == 1:
            return name
        if name == PAPER.rstrip(":") and not Path(name).exists():
            several = f"The paper has {len(paper.models())} models, and one is exported at a time"
            raise UserError(several, f"Name one: {', '.join(PAPER + model for model in paper.models())}.")
        kept = None if Path(name).exists() else imported.find(name)
        if kept is None and not Path(name).exists() and ID.fullmatch(job := meant(name)):
            places.append(locate(job) / RESULT)
        elif kept is None and not Path(name).exists() and "/" not in name and not Path(name).suffix:
            raise imported.unknown(name)
        else:
            places.append(kept or Path(name))
    if not places:
        return None
    return Path(places[0]) if len(places) == 1 else [Path(place) for place in places]


def result_of(run: Path) -> Path:
    """Where a run's own results lie."""
    from sts_core.jobs.folder import RESULT

    return run / RESULT


def evaluated(run: Path) -> Path | None:
    """The run's own results where it was evaluated before and after; a run that was broken off may lack the after."""
    from sts_core.results.outcomes.rows import AFTER, BEFORE, FILE, read_rows

    folder = result_of(run)
    phases = set(read_rows(folder)["phase"]) if (folder / FILE).is_file() else set()
    return folder if {BEFORE, AFTER} <= phases else None


def called(what: Given | None) -> str:
    """A run's title, with its id; nothing for what is no run's, which has a name of its own."""
    from sts_core.jobs.folder import SPEC, STATUS, load

    run = what.parent if isinstance(what, Path) else None
    if run is None or not all((run / name).is_file() for name in (SPEC, STATUS)):
        return ""
    return f"{load(run).title or 'run'} ({run.name})"


def _safe(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in text) or "result"
