"""`sts jobs`: what runs and ran in the background."""

from __future__ import annotations

from typing import Annotated

import typer

from sts_core.cli.telling import duration, print_json, table
from sts_core.jobs.folder import Job


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("jobs")(jobs)


def jobs(
    job: Annotated[str | None, typer.Argument(metavar="ID", help="One job, with the end of its log.")] = None,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="End this job and all its processes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List background jobs, show one, or cancel one.

    Example: sts jobs
    """
    from sts_core.jobs import watch

    if cancel:
        ended = watch.cancel(cancel)
        typer.echo(f"{cancel} is {watch.read(cancel).state}." if ended is None else str(ended), err=True)
        return
    listed = [watch.read(job)] if job else watch.all_jobs()
    if json:
        print_json([_public(entry) for entry in listed])
        return
    if not listed:
        typer.echo("No job yet. The dashboard's Measure button starts one.", err=True)
        return
    typer.echo(table([("id", "state", "done", "left", "title"), *(_line(entry) for entry in listed)]))
    if job:
        typer.echo(listed[0].log_tail(20))


def _line(job: Job) -> tuple[str, ...]:
    done = f"{job.done / job.total:.0%}" if job.total else "—"
    left = duration(job.seconds_left) if job.seconds_left is not None else "—"
    return (job.id, job.state, done, left, job.title)


def _public(job: Job) -> dict[str, object]:
    names = ("id", "kind", "title", "state", "stage", "done", "total", "unit", "rate", "seconds_left", "error", "hint")
    return {name: getattr(job, name) for name in names}
