"""The steps of `sts demo rebuild`: everything the demo shows, made anew into a draft and held against what ships.

result/         the measured result
gallery/        small enough to ship (full)
runs.json       name -> the fine-tune's job: it trains in the background, and is followed
seconds.json    step -> seconds spent here on it

What is finished in a draft is not done again, so the same call goes on after a Ctrl-C.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from sts_core import folders
from sts_core.cli import demo_words
from sts_core.cli.finetuning import followed, start
from sts_core.cli.telling import Teller, print_json
from sts_core.errors import UserError
from sts_core.figures.numbers import size
from sts_core.folders import atomic_json, ensure
from sts_core.results.folder import Result

if TYPE_CHECKING:
    from sts_core.jobs.folder import Job
    from sts_core.results.gallery_shipped import Shipped
    from sts_core.train.sft.spec import SftSpec

SMALL, FULL = "small", "full"
BUDGETS = (SMALL, FULL)
LORA = "lora"
SMALL_ROWS = 40
"""Questions of a domain that a small rebuild's LoRA is evaluated on."""
EXPERIMENT = folders.PROJECT / "docs" / "experiment"
_RESULT, _GALLERY, _RUNS, _SECONDS = "result", "gallery", "runs.json", "seconds.json"


class Run(NamedTuple):
    """A fine-tune of the demo."""

    name: str
    spec: Path
    changes: tuple[str, ...] = ()


def rebuild(budget: str, draft: Path, fresh: bool, replace: bool, as_json: bool) -> None:
    """Do all of it, tell how it compares and, when asked, put it in the place of what ships."""
    if fresh:
        shutil.rmtree(draft, ignore_errors=True)
    ensure(draft)
    with _timed(draft, "result"):
        result = _measure(draft)
    jobs = {}
    if budget == FULL:
        with _timed(draft, "gallery and labels"):
            _know_draft(draft)
    for run in runs(budget):
        with _timed(draft, f"run {run.name}"):
            jobs[run.name] = _train(draft, run)
    found = demo_words.Found(
        draft, result, shipped(), {name: job.id for name, job in jobs.items()}, _against(jobs), _read(draft / _SECONDS)
    )
    print_json(demo_words.public(found)) if as_json else typer.echo(demo_words.told(found))
    for line in _replace(draft, list(jobs.values())) if replace else ["Nothing that ships was changed."]:
        typer.echo(line, err=True)


def runs(budget: str) -> list[Run]:
    """The fine-tunes of a budget: one LoRA; or that one whole, and the experiment's."""
    spec = folders.DEMO / "sft.toml"
    if budget == SMALL:
        return [Run(LORA, spec, (f"evaluate.rows={SMALL_ROWS}",))]
    return [Run(LORA, spec), *(Run(path.stem, path) for path in sorted(EXPERIMENT.glob("*.toml")))]


def shipped() -> Result | None:
    """The result that ships; None where there is none."""
    try:
        return Result(folders.DEMO / _RESULT)
    except UserError:
        return None


def _measure(draft: Path) -> Result:
    from sts_core.measure.run import run
    from sts_core.spec import Spec

    tell = Teller()
    try:
        return run(Spec.from_toml(folders.DEMO / "demo.toml"), draft / _RESULT, tell, stored=False)
    finally:
        tell.end()


def examples(replace: bool) -> None:
    """Gather examples and names for the result that ships, and put them beside it."""
    result = folders.DEMO / _RESULT
    if (result / _GALLERY).is_dir() and not replace:
        raise UserError("Examples ship already", "Put others in their place with --replace.")
    began = time.monotonic()
    part = result / f".{_GALLERY}"
    shutil.rmtree(part, ignore_errors=True)
    small = _know(result, part)
    shutil.rmtree(result / _GALLERY, ignore_errors=True)
    part.rename(result / _GALLERY)
    left_out = f"; left out: {', '.join(small.left_out)}" if small.left_out else ""
    lost = f"; {small.lost:,} have no place in the bundle" if small.lost else ""
    typer.echo(f"{result / _GALLERY}: {small.examples:,} examples, {size(small.bytes)}{left_out}{lost}")
    for place in _ship_knowledge(Result(result)):
        typer.echo(f"{place}: {size(place.stat().st_size)}")
    typer.echo(f"examples and names: {time.monotonic() - began:,.1f} s", err=True)


def _know(result: Path, place: Path) -> Shipped:
    """Examples, what features write, their names: made in the cache, the examples then small enough to ship."""
    from sts_core.judge.know import know_features, where_texts_lie
    from sts_core.results.gallery_shipped import ship

    tell = Teller()
    try:
        whole = know_features(result, watch=tell)
    finally:
        tell.end()
    return ship(whole, place, where_texts_lie())


def _know_draft(draft: Path) -> None:
    if (draft / _GALLERY).is_dir():
        return
    part = draft / f".{_GALLERY}"
    shutil.rmtree(part, ignore_errors=True)
    _know(draft / _RESULT, part)
    part.rename(draft / _GALLERY)


def _train(draft: Path, run: Run) -> Job:
    """The run's job, done: ordered, gone on with, or done before. It is held against the draft's result."""
    from sts_core.jobs import launch, watch
    from sts_core.train.sft.plan import plan
    from sts_core.train.sft.spec import SftSpec

    asked = _held_against(draft, SftSpec.from_toml(run.spec, run.changes))
    known = _read(draft / _RUNS)
    job = _known(known.get(run.name), asked)
    if job is None:
        atomic_json(draft / _RUNS, {**known, run.name: start(asked, plan(asked))})
        job = watch.read(_read(draft / _RUNS)[run.name])
    elif not job.active and job.state != "done":
        job = launch.resume(job.id)
    if job.active:
        typer.echo(f"{run.name}: job {job.id}", err=True)
        job = followed(job.id)
    if job.state != "done":
        raise UserError(f"The run {run.name} is {job.state}: {job.error or job.id}", job.hint or "Call this again.")
    return job


def _held_against(draft: Path, spec: SftSpec) -> SftSpec:
    """A run of the demo's own prediction is held against the draft's; another keeps its own."""
    from sts_core.train.sft.spec import SftSpec

    own = spec.prediction is not None and Path(spec.prediction).resolve() == (folders.DEMO / _RESULT).resolve()
    told = {**spec.to_dict(), "prediction": str((draft / _RESULT).resolve())} if own else spec.to_dict()
    return SftSpec.from_dict(told)


def _known(job_id: Any, asked: SftSpec) -> Job | None:
    """The job of an earlier call, if it is still there and of this very spec."""
    from sts_core.jobs import watch

    try:
        job = watch.read(str(job_id)) if job_id else None
    except UserError:
        return None
    return job if job is not None and job.spec == json.loads(json.dumps(asked.to_dict())) else None


def _against(jobs: dict[str, Job]) -> dict[str, Job]:
    """Name of a run -> the shipped one of the same training, where one ships."""
    from sts_core.jobs.folder import shipped_jobs

    ship = shipped_jobs()
    return {
        name: same
        for name, job in jobs.items()
        if (same := next((one for one in ship if _training(one.spec) == _training(job.spec)), None)) is not None
    }


def _training(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a spec decides what is learned; files by their names, since what ships tells no place of a machine."""
    from sts_core.jobs.traces import scrubbed

    kept = {name: value for name, value in spec.items() if name not in ("prediction", "evaluate", "device", "dtype")}
    told: dict[str, Any] = scrubbed(kept | {"target_rows": spec.get("evaluate", {}).get("target_rows")}, ())
    return told


def _replace(draft: Path, jobs: list[Job]) -> Iterator[str]:
    """Put the draft in the place of what ships, piece by piece; a line for each."""
    from sts_core.jobs.shipping import keep

    shown = folders.DEMO / _RESULT
    before = folders.DEMO / ".before"
    shutil.rmtree(before, ignore_errors=True)
    ensure(before)
    fresh = shutil.copytree(draft / _RESULT, folders.DEMO / f".{_RESULT}", dirs_exist_ok=True)
    shutil.copytree(draft / _GALLERY, fresh / _GALLERY, dirs_exist_ok=True)
    if shown.exists():
        shown.rename(before / _RESULT)
    fresh.rename(shown)
    yield f"{shown}: the result and its gallery"
    yield from map(str, _ship_knowledge(Result(shown)))
    if folders.demo_runs().exists():
        folders.demo_runs().rename(before / "runs")
    for job in jobs:
        yield f"{keep(job.id).folder}: {job.title}"
    shutil.rmtree(before)


def _ship_knowledge(result: Result) -> Iterator[Path]:
    for made, ships in _knowledge(result):
        ensure(ships.parent)
        shutil.copyfile(made, ships)
        yield ships


def _knowledge(result: Result) -> Iterator[tuple[Path, Path]]:
    """What was made of the result's SAE, and where it ships: names by provenance, and what each feature writes.

    Other judges explain in words, which may be those of a corpus.
    """
    from sts_core.results.dictionary import FILE, place_of

    model, sae = (result.manifest["resolved"][name] for name in ("model", "sae"))
    labels = Path("labels") / sae["revision"] / model["revision"]
    if (named := folders.cache() / labels / "provenance.parquet").is_file():
        yield named, folders.DEMO / labels / named.name
    made = place_of(model["revision"], sae["revision"])
    if made.is_file() and (ships := folders.shipped(str(sae["name"]))) is not None:
        yield made, ships / FILE


@contextmanager
def _timed(draft: Path, step: str) -> Iterator[None]:
    """Add the seconds of this step to those of earlier calls, also when it is stopped; a line when it is done."""
    began = time.monotonic()
    try:
        yield
    finally:
        told = _read(draft / _SECONDS)
        spent = round(told.get(step, 0.0) + time.monotonic() - began, 1)
        atomic_json(draft / _SECONDS, {**told, step: spent})
    typer.echo(f"{step}: {spent:,.1f} s", err=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
