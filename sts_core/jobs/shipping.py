"""A finished fine-tune put among those that ship: `cache/demo/runs/ID`, in the form of a job's folder.

What a page, a table or a command shows of a run goes with it. Weights and checkpoints stay behind, and so does the
machine: paths, process ids, its name (`traces`). Of the group sums those that an overlap is resampled from are kept.
No text of a data set ships: of a mixture that was trained on its manifest goes along, which makes the file again from
its sources, and what the model itself answered where it was asked.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sts_core import folders
from sts_core.errors import UserError
from sts_core.folders import atomic_json, atomic_write, demo_runs, disk_trouble, ensure, shipped
from sts_core.jobs import watch
from sts_core.jobs.events import EVENTS, read_events
from sts_core.jobs.folder import FORMAT, LOG, RESULT, SPEC, STATUS, Job
from sts_core.jobs.traces import Known, refuse_traces, scrubbed, without_paths

KIND = "sft"
NOTE, MIXTURE, MANIFEST, ANSWERS = "note.txt", "mixture", "manifest.json", "answers.jsonl"
LOG_LINES = 200
_TOLD = ("manifest.json", "prediction.json", "started_with.json", "evaluation.json", "point.json")
_TABLES = ("rows.parquet", "shift.parquet")
_GROUPS = "groups.safetensors"
_IN_GROUPS = ("target/absdiff", "target/tokens", "target/items")
_STANDING = ("state", "stage", "done", "total", "unit", "started", "ended", "result", "attempt")


class Kept(NamedTuple):
    """A run that ships now."""

    folder: Path
    bytes: int


def keep(job_id: str, replace: bool = False) -> Kept:
    """Put a finished fine-tune among those that ship; one that is there already is put anew only when asked."""
    job = watch.read(job_id)
    _refuse_unfit(job)
    place = demo_runs() / job.id
    if place.exists() and not replace:
        raise UserError(f"{job.title or job.id} ships already", "Put it there anew with --replace.")
    draft = demo_runs() / f".{job.id}"
    try:
        ensure(demo_runs())
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        _fill(job, draft)
        refuse_traces(draft, _texts(draft))
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    except OSError as error:
        raise disk_trouble(place, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Kept(place, sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))


def _refuse_unfit(job: Job) -> None:
    name = job.title or job.id
    if job.kind != KIND:
        raise UserError(f"{name} is no fine-tune", "`sts jobs` tells what each job is.")
    if job.demo:
        raise UserError(f"{name} ships already, and is not among this machine's jobs", "Name a job of your own.")
    if job.state != "done":
        raise UserError(f"{name} is not done ({job.state})", "Let it end first; only what is whole ships.")


def _fill(job: Job, draft: Path) -> None:
    known = _known(job)
    spec = {**job.spec}
    if (mixture := _mixture(spec)) is not None:
        _copy_mixture(mixture, ensure(draft / MIXTURE), known)
        spec["target"] = {**spec["target"], "data": f"demo/runs/{job.id}/{MIXTURE}/{MANIFEST}"}
    if spec.get("prediction") and (key := _told_key(job)):
        spec["prediction"] = key  # the shipped result is found by it, wherever the program lies
    order = {"kind": job.kind, "title": without_paths(job.title, known), "spec": scrubbed(spec, known), "options": {}}
    atomic_json(draft / SPEC, {**order, "format": FORMAT})
    status = json.loads((job.folder / STATUS).read_text(encoding="utf-8"))
    atomic_json(draft / STATUS, scrubbed({name: status[name] for name in _STANDING if name in status}, known))
    events = [json.dumps(scrubbed(event, known), ensure_ascii=False) for event in read_events(job.folder)]
    atomic_write(draft / EVENTS, "".join(f"{line}\n" for line in events))
    atomic_write(draft / LOG, "".join(f"{without_paths(line, known)}\n" for line in job.log_tail(LOG_LINES)))
    if (note := job.folder / NOTE).is_file():
        atomic_write(draft / NOTE, without_paths(note.read_text(encoding="utf-8", errors="replace"), known))
    _copy_result(job.folder / RESULT, ensure(draft / RESULT), known)
    for step in sorted((job.folder / RESULT / "shift").glob("step-*")):
        _copy_result(step, ensure(draft / RESULT / "shift" / step.name), known, groups=False)


def _known(job: Job) -> list[Known]:
    """The places that a run's files tell of, the innermost first."""
    found = [Known(job.folder, ""), Known(job.folder.resolve(), "")]
    if (mixture := _mixture(job.spec)) is not None:
        found += [Known(mixture, MIXTURE), Known(mixture.resolve(), MIXTURE)]
    return [*found, Known(folders.DEMO, "demo"), Known(folders.bundle(), "bundle"), Known(folders.cache(), "cache"),
            Known(folders.PROJECT, "")]  # fmt: skip


def _mixture(spec: Mapping[str, Any]) -> Path | None:
    """The folder of the mixture that a run trained on; None where it trained on rows of another kind."""
    target = spec.get("target")
    data = str(target.get("data", "")) if isinstance(target, dict) else ""
    place = shipped(data) or Path(data).expanduser()
    folder = place.parent if place.name == MANIFEST else place
    return folder if data and (folder / MANIFEST).is_file() else None


def _copy_mixture(mixture: Path, place: Path, known: list[Known]) -> None:
    told = json.loads((mixture / MANIFEST).read_text(encoding="utf-8"))
    atomic_json(place / MANIFEST, scrubbed(told, known))
    if told.get("answers", {}).get("file") is not None:
        shutil.copyfile(mixture / ANSWERS, place / ANSWERS)  # byte for byte: the manifest holds its hash


def _copy_result(result: Path, place: Path, known: list[Known], groups: bool = True) -> None:
    for name in _TOLD:
        if (result / name).is_file():
            told = json.loads((result / name).read_text(encoding="utf-8"))
            if name == "manifest.json" and isinstance(told.get("spec"), dict) and "prediction" in told["spec"]:
                told["spec"]["prediction"] = told.get("prediction", told["spec"]["prediction"])
            atomic_json(place / name, scrubbed(told, known))
    for name in _TABLES:
        if (result / name).is_file():
            shutil.copyfile(result / name, place / name)
    if groups and (result / _GROUPS).is_file():
        _copy_groups(result / _GROUPS, place / _GROUPS)


def _copy_groups(path: Path, place: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in _IN_GROUPS if name in file.keys()]  # noqa: SIM118 (it is no dict)
            save_file({name: file.get_tensor(name) for name in names}, place)
    except SafetensorError:
        raise UserError(f"{path} cannot be read", "Run the fine-tune again.") from None
    os.chmod(place, 0o644)


def _told_key(job: Job) -> str:
    """The key of the result that the run was held against, as it was written down at launch."""
    found = (event.get("key") for event in read_events(job.folder) if event.get("event") == "prediction")
    return str(next(found, ""))


def _texts(folder: Path) -> list[str]:
    """What people read of it; the model's own answers are its words and no trace of a machine."""
    endings = (".json", ".jsonl", ".txt")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in endings and path.name != ANSWERS]
    return [path.relative_to(folder).as_posix() for path in found]
