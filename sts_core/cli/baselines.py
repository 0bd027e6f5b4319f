"""`sts baselines`: the simpler predictions that need a model, measured for a finished result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sts_core.cli.telling import Teller, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.kept_baselines import Part
    from sts_core.train.baselines.order import BaselinesOrder

_WHAT = {
    "raw": "level and likeness of raw residuals",
    "after": "how far each domain's mean turned in the fine-tuned model",
    "probe": "a short LoRA probe",
}


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("baselines")(baselines)


def baselines(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT_DIR", help="A finished result's folder; or a .toml with these options.")
    ],
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN_OR_FOLDER", help="A fine-tune (its job's id or folder) or a model made from it."),
    ] = None,
    lora_steps: Annotated[int | None, typer.Option(metavar="STEPS", help="Steps of the short probe: 15.")] = None,
    rows: Annotated[
        int | None, typer.Option(metavar="ROWS", help="Questions a domain that the probe is scored on: 40.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the probe: the run's, else 5e-4.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="What the probe learns: answer or cot; the run's, else answer.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="PART,PART", help="raw, after, probe: all that can be measured if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the probe: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what there is to do and how long it takes.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Order it as a job: print its id and return.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was measured before.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what simpler questions would have foretold: raw residuals, a short LoRA probe, and, of a run, its turn.

    The result's own questions are used, and no row that a fine-tune is evaluated on. Kept in the cache; then
    `sts correlate`, the Transfer page and the report show them beside STS.

    Example: sts baselines cache/demo/result --rows 10 --lora-steps 10 --plan
    """
    given: dict[str, Any] = {
        "run": None if run is None else _run_folder(run), "lora_steps": lora_steps, "rows": rows,
        "learning_rate": learning_rate, "answer": answer, "seed": seed, "device": device,
        "parts": None if only is None else [part.strip() for part in only.split(",")],
    }  # fmt: skip
    if plan and detach:
        raise UserError("--plan and --detach are two different things to do", "Give one of them.")
    order = _order(result, {key: value for key, value in given.items() if value is not None})
    if plan or detach:
        from sts_core.train.baselines.work import plan as make_plan

        found = make_plan(order)  # whatever is wrong with the result, the run or the rows is told before it begins
        if plan:
            print_json(found) if json else typer.echo(_plan_text(found))
            return
        _detach(order, fresh, json)
        return
    _measure(order, fresh, json)


def _order(result: Path, given: dict[str, Any]) -> BaselinesOrder:
    """The options; those of a file below them."""
    from sts_core.spec_file import read_table
    from sts_core.train.baselines.order import BaselinesOrder

    if result.suffix in (".toml", ".json") and not result.is_dir():
        return BaselinesOrder.from_dict({**read_table(result), **given}, base=result.resolve().parent)
    return BaselinesOrder.from_dict({"result": str(result), **given})


def _run_folder(name: str) -> str:
    """The folder of a job that is named by its id or a part of it; anything else stays as it is."""
    from sts_core.jobs.folder import result_meant

    if Path(name).expanduser().exists():
        return name
    return str(result_meant(name) or name)


def _detach(order: BaselinesOrder, fresh: bool, json: bool) -> None:
    from dataclasses import replace

    from sts_core.jobs import launch

    run = Path(order.run).expanduser() if order.run is not None else None
    place = str(run.resolve()) if run is not None and run.exists() else order.run
    order = replace(order, result=str(Path(order.result).expanduser().resolve()), run=place)
    title = f"Baselines of {Path(order.result).name}"
    job = launch.start("baselines", order.to_dict(), title, {"device": order.device, "fresh": fresh})
    print_json({"job": job}) if json else typer.echo(job)


def _measure(order: BaselinesOrder, fresh: bool, json: bool) -> None:
    from sts_core.train.baselines.run import measure_baselines

    tell = Teller()
    try:
        parts = measure_baselines(order, tell, fresh=fresh)
    finally:
        tell.end()
    for warning in dict.fromkeys(line for part in parts for line in part.manifest["warnings"]):
        typer.echo(f"warning: {visible(warning)}", err=True)
    if json:
        print_json([{"file": str(part.path), **part.manifest} for part in parts])
    else:
        typer.echo(_table(parts))
    typer.echo("Beside STS: sts correlate RESULT_DIR --actual …", err=True)


def _table(parts: list[Part]) -> str:
    """A row a domain, a column a baseline; below them what each cost."""
    from sts_core.figures.numbers import DASH, duration, known, with_error

    found = [one for part in parts for one in part.baselines]
    domains = list(dict.fromkeys(name for one in found for name in one.values))
    rows = [("domain", *(one.name for one in found))]
    for name in domains:
        values = [(one.values.get(name), one.se.get(name)) for one in found]
        rows.append((name, *(with_error(*pair) if known(pair[0]) else DASH for pair in values)))
    costs = [("took", *(f"{duration(one.seconds)} on {one.device}" for one in found))]
    return table([*rows, *costs])


def _plan_text(found: dict[str, Any]) -> str:
    from sts_core.figures.numbers import count, duration

    rows = [("part", "what", "tokens", "time")]
    for one in found["parts"]:
        time = "measured before" if one["there"] else f"about {duration(one['seconds'])}"
        rows.append((one["part"], _WHAT[one["part"]], count(one["tokens"]), time))
    probe, lines = found["probe"], []
    if probe is not None:
        scored = sum(probe["scored"].values())
        lines.append(
            f"The probe trains {count(probe['steps'])} steps at a rate of {probe['learning_rate']:g} on "
            f"{count(probe['train_rows'])} rows and is scored twice on {count(scored)} questions of "
            f"{count(len(probe['scored']))} domains."
        )
    basis = "measured on this machine" if found["rate_measured_here"] else "in part a first guess for this device"
    done = all(one["there"] for one in found["parts"])
    told = f"In all about {duration(found['seconds'])} on {found['device']} ({basis})."
    lines.append("All of it was measured before; --fresh measures it again." if done else told)
    lines += [f"! {visible(warning)}" for warning in found["warnings"]]
    return "\n".join([table(rows), "", *lines])
