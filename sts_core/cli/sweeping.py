"""`sts sweep`: one measurement over many settings, in the foreground or as a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sts_core.cli.telling import Teller, duration, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError
from sts_core.figures.numbers import size

if TYPE_CHECKING:
    from sts_core.measure.sweep.spec import SweepSpec


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("sweep")(sweep)


def sweep(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="A spec of `sts run`, and lists of what to vary.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the table and its manifest there; goes on with a half.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only tell what is missing, how long it takes, the disk.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Order it as a job: print its id and return.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key: --set seeds=[0,1], --set base.domains.tokens=500."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure over layers, widths, sparsities, seeds and rank bands, and hold every point against what happened.

    What the store has is not measured again: Ctrl-C or a kill costs nothing that was whole. Without --out and --detach
    nothing is done.

    Example: sts sweep cache/demo/sweep.toml --plan
    """
    from sts_core.measure.sweep.spec import SweepSpec

    if sum((plan, detach, out is not None)) > 1:
        raise UserError("--plan, --out and --detach are three different things to do", "Give one of them.")
    if not plan and not detach and out is None:
        raise UserError("There is no place to write the sweep to", "Add --out DIR, --detach, or --plan to look first.")
    asked = SweepSpec.from_toml(spec, change or ())
    if out is not None:
        _run(asked, out, json)
        return
    from sts_core.measure.sweep.arranging import plan as make_plan

    found = make_plan(asked)  # whatever is wrong with the spec, the files or the outcomes is told before it begins
    if plan:
        print_json(found) if json else typer.echo(_plan_text(found))
        return
    from sts_core.jobs import launch

    for warning in found["warnings"]:
        typer.echo(f"warning: {visible(warning)}", err=True)
    job = launch.start("sweep", asked.to_dict(), asked.title, {"device": asked.base.run.device})
    print_json({"job": job}) if json else typer.echo(job)


def _run(asked: SweepSpec, out: Path, json: bool) -> None:
    from sts_core.measure.sweep.run import run_sweep
    from sts_core.results.sweeps import read_sweep

    tell = Teller()
    try:
        folder = run_sweep(asked, out, tell)
    finally:
        tell.end()
    done = read_sweep(folder)
    for warning in done.manifest["warnings"]:
        typer.echo(f"warning: {visible(warning)}", err=True)
    if json:
        print_json(done.manifest)
    else:
        from sts_core.figures.sweep import answer, beside

        typer.echo("\n".join(visible(text) for text in (answer(done), beside(done)) if text))
        typer.echo("")
        typer.echo(table(_rows(done)))
    typer.echo(f"done: {folder}", err=True)


def _rows(done: Any) -> list[tuple[str, ...]]:
    """The means over seeds against harm, a row a setting; the size of the change stands in the files alone."""
    from sts_core.figures.numbers import DASH, fixed, known
    from sts_core.figures.sweep import row_name
    from sts_core.figures.words import METRICS
    from sts_core.results.sweeps import over_seeds

    def cell(value: float, sd: float) -> str:
        return DASH if not known(value) else f"{fixed(value, 2)} ± {fixed(sd, 2)}" if known(sd) else fixed(value, 2)

    means = over_seeds(done.table)
    header = ("", "features", "score", "Spearman", "r", "same order as the first", "seeds")
    rows: list[tuple[str, ...]] = [header]
    for one in means[means["outcome"] != "size"].to_dict("records"):
        rows.append((
            row_name(one), str(one["choice"] or DASH), METRICS.get(one["score"], one["score"]),
            cell(one["spearman"], one["spearman_sd"]), cell(one["r"], one["r_sd"]),
            cell(one["same_order"], one["same_order_sd"]), str(one["seeds"]),
        ))  # fmt: skip
    return rows


def _plan_text(found: dict[str, Any]) -> str:
    rows = [("SAE", "layer", "features", "seed", "pool", "tokens", "time", "")]
    for one in found["measurements"]:
        cost = ("", "", "in the store") if one["stored"] else (f"{one['tokens']:,}", duration(one["seconds"]), "")
        rows.append((one["sae"], *(f"{one[name]:,}" for name in ("layer", "features", "seed")), one["pool"], *cost))
    basis = "measured on this machine" if found["rate_measured_here"] else "in part a first guess for this device"
    actual = found["actual"]
    lines = [
        ("points", f"{found['points']:,}, from {len(found['measurements']):,} measurements"),
        ("missing", f"{found['missing']:,} measurements, {found['tokens']:,} tokens; each is a pass of its own"),
        ("time", f"about {duration(found['seconds'])} on {found['device']} in {found['dtype']} ({basis})"),
        ("disk", f"about {size(found['bytes'])} of {size(found['free'])} free"),
        ("against", f"{actual['source']} ({actual['metric']}), {actual['domains']} domains" if actual else
                    "nothing: how alike the points rank the domains"),
    ]  # fmt: skip
    told = [f"— {name}: {why}." for name, why in found["not_stored"].items()]
    told += [f"! {visible(warning)}" for warning in found["warnings"]]
    return "\n".join([table(rows), "", table(lines), *told])
