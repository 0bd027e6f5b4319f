"""`sts import`: outcomes and results from elsewhere, told apart by what is in them and checked whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.evaluating import outcome_table
from sts_core.cli.telling import print_json
from sts_core.cli.terminal import visible
from sts_core.errors import UserError
from sts_core.folders import atomic_write

if TYPE_CHECKING:
    from sts_core.results.outcomes.outcome import Outcome

_KINDS = {
    "csv": "a table of changes", "lm-eval": "lm-eval results", "mmlu-pro": "MMLU-Pro output",
    "own": "an evaluation of this program",
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("import")(read)


def read(
    before: Annotated[
        Path,
        typer.Argument(
            metavar="WHAT",
            help="A finished or exported result's folder; or outcomes: a .csv or folder with both sides, or the "
            "lm-eval results or MMLU-Pro output from before training.",
        ),
    ],
    after: Annotated[Path | None, typer.Argument(metavar="AFTER", help="The same of the fine-tuned model.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Keep the outcomes under this name, for `sts correlate --actual NAME`.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Take this metric alone.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write them as one table.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there under that name or key.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Bring in a result from another machine, or what a fine-tune did to each domain from others' files.

    It says what it recognised. A result is checked whole and copied into the store. Outcomes are told, and with --name
    kept for `sts correlate`, `sts export --actual` and the Transfer page. Nothing is replaced without --force.

    Example: sts import before/results.json after/results.json --metric exact_match,custom-extract --name my-run
    """
    from sts_core.results import receiving

    if after is None and before.is_dir() and receiving.looks_like_result(before):
        if name is not None or out is not None or metric is not None:
            raise UserError(f"{before} is a finished result, no outcomes", "Leave --name, --metric and --out out.")
        _receive(before, force, json)
        return
    _refuse_what_is_neither(before, after)
    _outcomes(before, after, name, metric, out, force, json)


def _receive(place: Path, force: bool, json: bool) -> None:
    from sts_core.results.receiving import receive

    got = receive(place, force)
    if json:
        told = {"domains": got.domains, "features": got.features, "new": got.new}
        print_json({"recognised": "result", "key": got.key, "folder": str(got.folder), **told})
        return
    typer.echo(f"recognised: a finished result of {got.domains:,} domains and {got.features:,} features", err=True)
    state = "stored" if got.new else "there already, byte for byte the same"
    typer.echo(f"{got.key}: {state}. Look at it on the Workbench, or: sts export {got.key}")


def _outcomes(
    before: Path, after: Path | None, name: str | None, metric: str | None, out: Path | None, force: bool, json: bool
) -> None:
    from sts_core.results import imported
    from sts_core.results.outcomes.csv_table import to_text
    from sts_core.results.outcomes.outcome import of_metric
    from sts_core.results.outcomes.reading import left_out, read_outcomes
    from sts_core.results.outcomes.rows import FILE

    found = read_outcomes(before, after)
    if metric is not None or out is not None:
        found = of_metric(found, metric)
    given = [place for place in (before, after) if place is not None]
    if out is not None:
        if out.exists() and any(out.samefile(place) for place in given):
            raise UserError(f"{out} is what is being read", "Name another file.")
        text = to_text(found)
        if out.exists() and not force and not (out.is_file() and out.read_bytes() == text.encode()):
            raise UserError(f"{out} is there already, with other content", "Name another --out, or --force it.")
        atomic_write(out, text)
    if name is not None:
        rows = before if (before / FILE).is_file() else None
        imported.keep(name, found, found[0].source, [place.name for place in given], rows, force)
    if json:
        print_json([{**one._asdict(), "harm": one.harm, "harm_se": one.harm_se} for one in found])
    else:
        typer.echo(f"recognised: {_recognised(found)}", err=True)
        typer.echo(outcome_table(found))
    if after is not None and (names := left_out(before, after)):
        typer.echo(visible(f"left out, for one side has no number: {', '.join(names)}"), err=True)
    if name is not None:
        told = f"kept as {name}: sts correlate cache/demo/result --actual {_quoted(name)}"
    elif out is None:
        suggested = imported.suggest(given)
        told = f"only read; --name {_quoted(suggested)} keeps them for `sts correlate` and Transfer"
    else:
        told = f"written: {visible(str(out))}"
    typer.echo(told, err=True)


def _recognised(found: list[Outcome]) -> str:
    """`lm-eval results, before and after: 14 domains, acc and exact_match`."""
    domains = {one.domain for one in found}
    metrics = list(dict.fromkeys(one.metric for one in found))
    what = _KINDS.get(found[0].source, found[0].source)
    both = " before and after" if found[0].before is not None else ""
    named = ", ".join(metrics[:4]) + (f" and {len(metrics) - 4} more" if len(metrics) > 4 else "")
    count = f"{len(domains):,} domain{'' if len(domains) == 1 else 's'}"
    return visible(f"{what}{both}, {count}, {named}")


def _refuse_what_is_neither(before: Path, after: Path | None) -> None:
    """What people bring by mistake, told as what it is."""
    for place in (before, after):
        if place is None:
            continue
        ending = place.suffix.casefold()
        if ending in (".zip", ".gz", ".tgz", ".tar", ".zst", ".7z"):
            raise UserError(f"{place} is an archive", "Unpack it, and name the folder.")
        if ending in (".html", ".htm"):
            raise UserError(
                f"{place} is a report to be read", "Bring the result itself: `sts export DIR --format parquet`."
            )
        if ending in (".parquet", ".safetensors"):
            raise UserError(f"{place} is one file of a result", "Name the folder that it lies in.")
        if ending in (".pkl", ".pickle", ".pt", ".bin", ".pth"):
            raise UserError(f"{place} could run code when it is read: it is not opened", "Bring JSON, CSV or a result.")
        if place.is_file() and ending not in (".csv", ".json", ".txt"):
            raise UserError(f"{place} is no kind of file that tells outcomes", "Bring .csv, .json, .txt or a folder.")
    if (
        after is None
        and before.is_dir()
        and (before / "scores.csv").is_file()
        and not (before / "rows.parquet").is_file()
    ):
        raise UserError(
            f"{before} is a result's export as CSV: its vectors are not there",
            "Export it with --format parquet, and bring that folder.",
        )


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)
