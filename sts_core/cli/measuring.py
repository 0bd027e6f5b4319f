"""`sts plan`, `sts run`, `sts score`: from a spec to scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sts_core.cli.telling import Teller, duration, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError
from sts_core.results import Result
from sts_core.spec import Spec

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to measure (TOML, or the same as JSON).")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the spec: --set run.seed=1. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("plan")(plan)
    app.command("run")(run)
    app.command("score")(score)


def plan(
    spec: SpecFile,
    change: Changes = None,
    prompts: Annotated[
        int, typer.Option(min=0, help="Show the exact prompts of the first K queries of every set.")
    ] = 0,
    json: AsJson = False,
) -> None:
    """Say what a run will do: checks, tokens, memory, time. Nothing is computed.

    Example: sts plan cache/demo/demo.toml --prompts 1
    """
    from sts_core.measure.requests import planned

    value = planned(Spec.from_toml(spec, change or ()), prompts)
    if json:
        print_json(value)
        return
    typer.echo(_plan_text(value))
    for prompt in value.get("prompts", []):
        typer.echo(_prompt_text(prompt))


def run(
    spec: SpecFile,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the result folder goes; a half-done one is finished.")
    ],
    change: Changes = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew, whatever the store has.")] = False,
) -> None:
    """Measure: the shift, the domains' vectors and their scores. Progress goes to stderr.

    Example: sts run cache/demo/demo.toml --out /tmp/first --set target.tokens=400 --set domains.tokens=200
    """
    from sts_core.measure.run import run as measure

    tell = Teller()
    try:
        result = measure(Spec.from_toml(spec, change or ()), out, tell, fresh)
    finally:
        tell.end()
    manifest = result.manifest
    for warning in manifest["warnings"]:
        typer.echo(f"warning: {visible(warning)}", err=True)
    best = (
        result.scores(n=min(100, len(result.shift))).query("metric == 'sts_act'").sort_values("value", ascending=False)
    )
    n = min(100, len(result.shift))
    rows = [("domain", f"STS act (N {n})", "± 1 s.e.", "questions")]
    rows += [
        (r.domain, f"{r.value:.3g}", "—" if r.se != r.se else f"{r.se:.2g}", str(r.items)) for r in best.itertuples()
    ]
    typer.echo(table(rows))
    how = (
        f"measured in {duration(manifest['seconds'])}"
        if tell.moved
        else f"from the store, measured {manifest['finished'][:10]}"
    )
    typer.echo(f"{out}: {manifest['tokens']['pooled']:,} pooled tokens, {how}.", err=True)


def score(
    result: Annotated[Path, typer.Argument(metavar="DIR", help="A finished result folder.")],
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="How many of the most shifted features to average over: 100.")
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(metavar="FIRST-LAST", help="A rank band instead of the top n: 101-200, or 100:200 as a slice."),
    ] = None,
    dims: Annotated[str, typer.Option(help="icl, sft, random, or a file of feature numbers.")] = "icl",
    power: Annotated[str, typer.Option(help="1, 2 or 1,2 (squares, as in the reference notebook).")] = "1",
) -> None:
    """Scores from stored vectors, as JSON; no model is loaded.

    Example: sts score cache/demo/result --n 200 --power 1,2
    """
    if n is not None and ranks is not None:
        raise UserError("--n and --ranks are two choices of features", "Leave one of them out.")
    folder = Result(result)
    rows: list[dict[str, Any]] = []
    for one in _powers(power):
        rows += folder.scores(n=n or 100, dims=dims, ranks=ranks_band(ranks), power=one).to_dict("records")
    print_json(rows)


def _powers(text: str) -> list[int]:
    try:
        powers = [int(part) for part in text.split(",")]
    except ValueError:
        powers = [0]
    if not set(powers) <= {1, 2}:
        raise UserError(f"--power {text} is not known", "Use 1, 2 or 1,2.")
    return powers


def ranks_band(text: str | None) -> tuple[int, int] | None:
    """`101-200`, as the page counts them, or the slice `100:200`; None where no band was asked for."""
    if text is None:
        return None
    from_one = "-" in text
    first, _, last = text.partition("-" if from_one else ":")
    if not (first.isdecimal() and last.isdecimal()) or (from_one and int(first) < 1):
        hint = "For example --ranks 101-200, both ends included, or the same as a slice, 100:200."
        raise UserError(f"--ranks {text} is no band of ranks", hint)
    return int(first) - from_one, int(last)


def _plan_text(value: dict[str, Any]) -> str:
    work = value["work"]
    lines = [f"{'✓' if check['level'] == 'ok' else '!'} {check['text']}" for check in value["checks"]]
    rows = [("set", "rows", "items", "tokens", "asked", "dropped")]
    for entry in value["sets"]:
        dropped = ", ".join(f"{reason}: {n}" for reason, n in entry["dropped"].items()) or "—"
        rows.append((entry["set"], *(f"{entry[k]:,}" for k in ("rows", "items", "tokens", "asked")), dropped))
    basis = "measured on this machine" if work["rate_measured_here"] else "a first guess for this kind of device"
    lines += [
        "",
        table(rows),
        "",
        f"{work['tokens']:,} tokens to run on {value['device']} in {value['dtype']}: about {duration(work['seconds'])}",
    ]
    lines[-1] += f" at {work['rate']:,} tokens/s ({basis}), {work['memory_gb']:.1f} GB of memory."
    lines.append(f"Key {value['key']}" + (": in the store already." if value["stored"] else "."))
    return "\n".join(lines)


def _prompt_text(prompt: dict[str, Any]) -> str:
    parts = [f"\n=== {prompt['set']}, row {prompt['row']}"]
    for arm in ("base", "icl"):
        spans = ", ".join(f"[{a}, {b})" for a, b in prompt[f"{arm}_spans"])
        parts.append(f"--- {arm}: {len(prompt[f'{arm}_ids'])} tokens, pooled {spans}\n{prompt[f'{arm}_text']}")
    return "\n".join(parts)
