"""`sts jobs`: what runs, waits and ran in the background, and what a person can do about it.

Every call also lets waiting jobs begin whose place is free. One job is told with what the database has of it, which
is asked beside a running dashboard just as well.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from sts_core.cli.telling import duration, print_json, table
from sts_core.cli.terminal import brief, visible
from sts_core.errors import UserError
from sts_core.figures.numbers import number, size, with_error
from sts_core.figures.run_words import from_words
from sts_core.jobs.folder import STAGED, Job, marked

LOG_LINES = 20
MOST_METRICS = 12
LONGEST_TITLE, LONGEST_NOTE = 120, 400
"""Characters of a line that is a person's own."""


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("jobs")(jobs)


def jobs(
    job: Annotated[str | None, typer.Argument(metavar="ID", help="One job: numbers, scores, end of its log.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="End this job and all its processes.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Let a failed, vanished or cancelled job go on where it stopped.")
    ] = None,
    clone: Annotated[
        str | None, typer.Option(metavar="ID", help="Order the same once more, as a job of its own.")
    ] = None,
    delete: Annotated[str | None, typer.Option(metavar="ID", help="Remove an ended job with all its files.")] = None,
    first: Annotated[str | None, typer.Option(metavar="ID", help="Put a waiting job first in its line.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List background jobs, show one, or cancel, resume, clone, delete or move one.

    Of an id its beginning or its end is enough, where no other job's is the same.

    Example: sts jobs
    """
    from sts_core.jobs import launch, watch
    from sts_core.jobs.folder import meant

    asked = {"--cancel": cancel, "--resume": resume, "--clone": clone, "--delete": delete, "--first": first}
    _refuse_two(asked, job)
    told, done_to = _done({option: named and meant(named) for option, named in asked.items()})
    launch.start_waiting()
    if told and json:
        print_json({"id": done_to, "told": told})
    elif told:
        typer.echo(visible(told), err=True)
    elif job:
        _show(watch.read(meant(job)), json)
    else:
        _list(watch.all_jobs(), json)


def _refuse_two(asked: dict[str, str | None], job: str | None) -> None:
    given = [name for name, value in asked.items() if value is not None]
    if len(given) + (job is not None) > 1:
        words = " and ".join([*(["ID"] if job is not None else []), *given])
        raise UserError(f"{words} cannot be asked at once", "Ask for one thing at a time.")


def _done(asked: dict[str, str | None]) -> tuple[str, str]:
    """Do what was asked; what came of it, empty when nothing was, and the id of the job that is meant."""
    from sts_core.jobs import disk, launch, queue, watch

    if (job := asked["--cancel"]) is not None:
        return watch.cancel(job).message, job
    if (job := asked["--resume"]) is not None:
        resumed = launch.resume(job)
        before = queue.waits_for(resumed)
        waits = f"; it waits for {_name(before)}" if before else ""
        start = f", {from_words(disk.last_checkpoint(resumed.folder))}" if resumed.kind in STAGED else ""
        return f"{_name(resumed)} goes on as attempt {resumed.attempt}{start}{waits}.", job
    if (job := asked["--clone"]) is not None:
        ordered = watch.read(launch.clone(job))
        before = queue.waits_for(ordered)
        waits = f"; it waits for {_name(before)}" if before else ""
        return f"{_name(ordered)} is ordered as {ordered.id}{waits}.", ordered.id
    if (job := asked["--delete"]) is not None:
        return f"{job} is deleted; that freed {size(disk.delete(job))}.", job
    if (job := asked["--first"]) is not None:
        queue.move(job, "first")
        before = queue.waits_for(watch.read(job))
        return f"{job} is first in line" + (f"; it waits for {_name(before)}." if before else "."), job
    return "", ""


def _list(listed: list[Job], json: bool) -> None:
    if json:
        print_json([_public(entry) for entry in listed])
        return
    if not listed:
        typer.echo("No job yet. `sts sft SPEC.toml` starts one, and so does the dashboard's Measure button.", err=True)
        return
    typer.echo(table([("id", "state", "done", "left", "title"), *(_line(entry) for entry in listed)]))


def _show(job: Job, json: bool) -> None:
    """One job: how it stands, its newest numbers, its scores, the end of its log."""
    from sts_core.jobs.disk import disk_use

    use = disk_use(job.id)
    numbers, scores, note, seconds = _kept(job)
    if json:
        more = {"attempt": job.attempt, "bytes": use._asdict(), "metrics": numbers, "evaluations": scores, "note": note}
        print_json([_public(job) | more | {"log": job.log_tail(LOG_LINES)}])
        return
    typer.echo(table([("id", "state", "done", "left", "title"), _line(job)]))
    whole = " in all" if job.attempt > 1 else ""
    ran = f"ran {duration(seconds)}{whole}, " if seconds is not None else ""
    stage = f"{visible(job.stage)}; " if job.active and job.stage else ""
    typer.echo(
        f"{stage}attempt {job.attempt}, {ran}{size(use.total)} on disk, of which checkpoints {size(use.checkpoints)}"
    )
    for name, text in {"error": job.error, "hint": job.hint}.items():
        if text:
            typer.echo(f"{name}: {visible(' '.join(text.split()))}")
    if note.strip():
        typer.echo(f"note: {brief(note, LONGEST_NOTE)}")
    if numbers:
        typer.echo("\n" + table([("newest", "at step", "value"), *_newest(numbers)]))
    if scores:
        typer.echo("\n" + table([("domain", "score", "when", "source", "value"), *(_score(row) for row in scores)]))
    if log := job.log_tail(LOG_LINES):
        typer.echo("\n" + "\n".join(visible(line) for line in log))


def _kept(job: Job) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str, float | None]:
    """What is kept of a job: newest metrics, evaluations, note, and the seconds that its attempts took."""
    from sts_core.store import queries
    from sts_core.store.attempts import attempts, together
    from sts_core.store.note import read_note
    from sts_core.store.reading import read

    with read() as view:
        numbers = queries.newest_metrics(view.connection, job.id).to_dict("records")
        scores = queries.evaluations(view.connection, job.id).to_dict("records")
        seconds = together(job, attempts(view.connection, job.id)).seconds
    return numbers, scores, read_note(job.folder), seconds


def _newest(numbers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (row["name"], str(row["step"]), number(row["value"])) for row in numbers[:MOST_METRICS]
    ]
    more = len(numbers) - len(rows)
    return rows + ([("…", "", f"{more} more with --json")] if more else [])


def _score(row: dict[str, Any]) -> tuple[str, ...]:
    value, se = (None if v is None or math.isnan(v) else float(v) for v in (row["value"], row["se"]))
    return (row["domain"], row["metric"], row["phase"], row["source"], with_error(value, se, 3))


def _line(job: Job) -> tuple[str, ...]:
    done = f"{job.share:.0%}" if job.share is not None else "—"
    left = duration(job.time_left) if job.time_left is not None else "—"
    return (job.id, job.state, done, left, brief(marked(job.title, job.id), LONGEST_TITLE))


def _name(job: Job) -> str:
    return f'"{job.title}"' if job.title else job.id


def _public(job: Job) -> dict[str, object]:
    names = ("id", "kind", "title", "state", "stage", "done", "total", "unit", "rate", "seconds_left", "error", "hint")
    return {**{name: getattr(job, name) for name in names}, "demo": job.demo}
