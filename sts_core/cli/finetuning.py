"""`sts sft`: a fine-tune in the background, followed from the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sts_core.cli.telling import Teller, duration, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError
from sts_core.figures.mixture_words import mixture_told
from sts_core.figures.numbers import size
from sts_core.figures.run_words import from_words, time_words
from sts_core.jobs.folder import Job
from sts_core.progress import Progress

if TYPE_CHECKING:
    from sts_core.train.sft.spec import SftSpec

_NAMED = 4
"""So many domains of a mixture are named one by one."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the job that is followed."""


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("sft")(sft)


def sft(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="Model, training set, method, learning rate.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="key=value", help="Change a key of the spec; may be repeated.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it would do: rows, steps, time, disk.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow it: print its id and return.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fine-tune a model on a training set, in the background, and follow it; Ctrl-C leaves it running.

    One that was cancelled or killed goes on from its last checkpoint with `sts jobs --resume ID`.

    Example: sts sft cache/demo/sft.toml --set steps=20
    """
    from sts_core.train.sft.plan import plan as make_plan
    from sts_core.train.sft.spec import SftSpec

    asked = SftSpec.from_toml(spec, change or ())
    found = make_plan(asked)  # whatever is wrong with the spec, the model's files or the rows is told before it begins
    if plan:
        print_json(found) if json else typer.echo(_plan_text(found))
        return
    for warning in found["warnings"]:
        typer.echo(f"warning: {visible(warning)}", err=True)
    job = start(asked, found)
    if detach:
        print_json({"job": job}) if json else typer.echo(job)
        return
    typer.echo(f"job {job}", err=True)
    ended = followed(job)
    if json:
        print_json({"job": job, "state": ended.state, "result": _result(ended), "seconds": ended.seconds})
    _tell_end(ended)


def start(asked: SftSpec, found: dict[str, Any]) -> str:
    """Order the job of a spec whose plan was found; its id."""
    from sts_core.jobs import launch
    from sts_core.train.mixture.manifest import folder_of, read_manifest

    method = {"lora": "LoRA", "full": "full"}[asked.method]
    mixture = folder_of(asked.target.data)
    data = mixture_told(read_manifest(mixture)) if mixture is not None else Path(asked.target.data).name
    title = f"{data}, {method}, {found['steps']} steps"
    return launch.start("sft", asked.to_dict(), title)


def followed(job: str) -> Job:
    """Look at the job until it has ended; it then."""
    from sts_core.jobs import queue, watch

    tell, told = Teller(), ""
    try:
        while (stands := watch.read(job)).active:
            if stands.state == "waiting":
                before = queue.waits_for(stands)
                waits = f"waiting for {before.title or before.id}" if before else "starting"
                stands, told = _waiting(stands, told, waits, tell), waits
            elif stands.stage:
                tell(Progress(stands.stage, stands.done, stands.total, stands.unit))
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        tell.end()
        typer.echo(f"It goes on in the background. Look: sts jobs {job}  End it: sts jobs --cancel {job}", err=True)
        raise
    finally:
        tell.end()
    return stands


def _waiting(stands: Job, told: str, waits: str, tell: Teller) -> Job:
    if waits != told:
        tell(Progress(waits, 0, 0))
    return stands


def _tell_end(job: Job) -> None:
    """The result's place, or why there is none; leaves with 1 or, where a person must change something, with 2."""
    from sts_core.jobs.disk import last_checkpoint

    if job.state == "done":
        took = f" in {duration(job.seconds)}" if job.seconds is not None else ""
        typer.echo(f"done{took}: {_result(job)}", err=True)
        typer.echo(f"Losses, scores before and after, and what really shifted: sts jobs {job.id}", err=True)
        return
    if job.state == "failed" and f"error: {job.error}" in job.log_tail(5):  # so the worker tells what a person can mend
        raise UserError(job.error, job.hint)
    why = f": {visible(job.error)}" if job.error else ""
    typer.echo(f"{job.id} is {job.state}{why}", err=True)
    typer.echo(f"It goes on {from_words(last_checkpoint(job.folder))} with: sts jobs --resume {job.id}", err=True)
    raise typer.Exit(1)


def _result(job: Job) -> str | None:
    return str(job.folder / job.result) if job.result else None


def _plan_text(found: dict[str, Any]) -> str:
    rows, work, batch, checkpoints = found["rows"], found["work"], found["batch"], found["checkpoints"]
    basis = "measured on this machine" if work["rate_measured_here"] else "a first guess for this kind of device"
    trained, model = found["parameters"]["trained"], found["parameters"]["model"]
    lines = [
        ("model", f"{found['model']['name']}, {found['method']}: {trained:,} of {model:,} parameters are trained"),
        ("rows", f"{rows['train']:,} of {rows['records']:,} train; {rows['never_trained_on']:,} are kept for queries, "
                 f"{rows['evaluation']:,} for evaluation; the longest has {rows['longest']:,} tokens"),
        ("batch", f"{batch['rows']:,} rows a step, {batch['at_once']:,} at once, {batch['accumulation']:,} times"),
        ("steps", f"{found['steps']:,}: {found['epochs']:.3g} passes over the rows, about {found['tokens']:,} tokens"),
        ("time", f"about {time_words(work)} on {found['device']} in {found['dtype']}, trained at {work['rate']:,.0f} "
                 f"tokens/s ({basis})"),
        ("memory", f"up to about {work['memory_gb']:.1f} GB"),
        ("disk", f"{checkpoints['kept']:,} checkpoints of {size(checkpoints['bytes_each'])}, "
                 f"one every {checkpoints['every']:,} steps, and room for one more, as the next is written and for the "
                 f"final model: {work['disk_gb']:,.2f} GB in all"),
    ]  # fmt: skip
    mixed = "mixture" in found
    lines.insert(1, ("mixture", _mixture(found["mixture"])) if mixed else ("data", found["data"]))
    return "\n".join([table(lines), *(f"! {visible(warning)}" for warning in found["warnings"])])


def _mixture(mixture: dict[str, Any]) -> str:
    counts = dict(mixture["counts"])
    target = counts.pop("target", 0)
    others = {name: n for name, n in counts.items() if n}
    named = ", ".join(f"{n:,} of {name}" for name, n in others.items())
    if len(others) > _NAMED:
        named = f"{sum(others.values()):,} of {len(others):,} domains"
    own = f"{target:,} rows of {Path(mixture['target']).name}"
    return f"{own}{f', {named}' if named else ''}; none of them is evaluated"
