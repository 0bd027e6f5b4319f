"""`sts mix`: training data from several domains, in the shares that a measured result's scores ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sts_core.cli.telling import Teller, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

_SHOWN = 72
"""Signs of a question or an answer that a preview shows."""
_UNANSWERED = "(the model has still to answer)"


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("mix")(mix)


def mix(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC.toml", help="Which result steers it, how many rows, whose answers.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write mixture.jsonl and manifest.json there.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it would be; nothing is written.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="key=value", help="Change a key of the spec; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Mix rows of other domains into a training set, shared out by their scores, as data that `sts sft` trains on.

    The same call goes on with what Ctrl-C or a kill left. Then: target.data = "DIR/manifest.json" in the spec of
    `sts sft`.

    Example: sts mix cache/demo/mix.toml --plan
    """
    from sts_core.train.mixture.spec import MixtureSpec

    asked = MixtureSpec.from_toml(spec, change or ())
    if not plan and out is None:
        raise UserError("There is no place to write the mixture to", "Add --out DIR, or --plan to look at it first.")
    from sts_core.train.mixture.plan import plan as make_plan

    if plan or out is None:
        found = make_plan(asked)
        print_json(found) if json else typer.echo(_plan_text(found))
        return
    from sts_core.train.mixture.manifest import read_manifest
    from sts_core.train.mixture.run import run_mixture

    tell = Teller()
    try:
        folder = run_mixture(asked, out, tell)
    finally:
        tell.end()
    made = read_manifest(folder)
    for warning in made["warnings"]:
        typer.echo(f"warning: {visible(warning)}", err=True)
    print_json(made) if json else typer.echo(_made_text(made))
    typer.echo(f"done: {folder}", err=True)


def _plan_text(found: dict[str, Any]) -> str:
    from sts_core.train.mixture.plan import PREVIEW

    target, answers = found["target"], found["answers"]
    lines = [
        ("target", f"{target['rows']:,} of {target['available']:,} rows of {Path(target['data']).name} that may train"),
        ("domains", f"{found['rows'] - target['rows']:,} rows of {len(found['domains']):,}"),
        ("cost", _cost(found["cost"])),
        ("answers", _answers(answers)),
    ]
    shown = [
        f"{one['set']} {one['row']}: {_short(one['question'])}\n    {_short(one['answer'] or _UNANSWERED)}"
        for one in found["preview"][::PREVIEW]
    ]
    told = [f"! {visible(warning)}" for warning in found["warnings"]]
    return "\n".join([table(lines), "", _domains(found["domains"]), "", *shown, *told])


def _made_text(made: dict[str, Any]) -> str:
    counts = made["counts"]
    rows = [{"domain": name, **told} for name, told in made["domains"].items()]
    lines = [
        ("target", f"{counts['target']:,} rows"),
        ("cost", _cost(made["cost"])),
        ("SHA-256", made["file"]["sha256"]),
    ]
    return "\n".join([_domains(rows), "", table(lines)])


def _domains(rows: list[dict[str, Any]]) -> str:
    lines = [("domain", "score", "may train", "quota", "rows", "sts", "uniform", "inverse", "tokens")]
    for one in rows:
        beside = (_count(one[how]) for how in ("sts", "uniform", "inverse"))
        numbers = (_count(one["available"]), _count(one["quota"]), _count(one["rows"]))
        lines.append((one["domain"], f"{one['score']:.4g}", *numbers, *beside, _count(one["tokens"])))
    return table(lines)


def _cost(cost: dict[str, Any]) -> str:
    own, domains = cost["target_tokens"], cost["domain_tokens"]
    told = f"{cost['tokens']:,} tokens a pass: {own:,} of the target, {domains:,} of the domains"
    if cost["domain_tokens_a_target_token"] is not None:
        told += f" ({cost['domain_tokens_a_target_token']:.3g} for each of the target)"
    return told + (
        f"; at most {cost['at_most']:,} with the model's answers" if cost["at_most"] > cost["tokens"] else ""
    )


def _answers(answers: dict[str, Any]) -> str:
    if answers["from"] != "model":
        return {"source": "the sources' answers", "cot": "the sources' worked answers"}[answers["from"]]
    return f"{answers['to_generate']:,} of the model's own, at most {answers['tokens_at_most']:,} tokens"


def _count(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return visible(line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…")
