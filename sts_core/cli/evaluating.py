"""`sts eval`, `sts import`: what a model can do, before and after, measured here or read from others' files."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.telling import Teller, print_json, table
from sts_core.errors import UserError
from sts_core.folders import atomic_write

if TYPE_CHECKING:
    from sts_core.results.outcomes.outcome import Level, Outcome
    from sts_core.results.outcomes.rows import Score
    from sts_core.train.evaluation.running import Evaluation

_PLACES = {"accuracy": 3, "first_choice": 3}


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("eval")(evaluate)
    app.command("import")(read)


def evaluate(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to evaluate (TOML, or the same as JSON).")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep every row's values and lm-eval's files there.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the spec: --set rows=40. May be repeated."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace another evaluation that DIR holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Evaluate a model, or one before and after a fine-tune, on rows that neither training nor scoring used.

    The spec names a model, and with tuned = "…" the one made from it; domains = "mmlu" or [[domains]] tables, a
    [target] set, and a [harness] table with lm-eval's tasks. Own metrics: nll, accuracy, nll_text, first_choice.

    Example: sts eval cache/demo/eval.toml --set rows=10 --set target_rows=10
    """
    from sts_core.train.evaluation.spec import EvalSpec

    checked = EvalSpec.from_toml(spec, change or ())
    from sts_core.train.evaluation.running import read_evaluation, run_evaluation

    tell = Teller()
    with tempfile.TemporaryDirectory(prefix="sts-eval-") as passing:
        try:
            evaluation = run_evaluation(checked, out or Path(passing), tell, fresh=fresh)
        except UserError as error:
            if passing in error.hint:  # what is kept there goes with this command
                raise UserError(error.message, "Name a folder with --out: all that lm-eval says stays there.") from None
            raise
        finally:
            tell.end()
        for warning in evaluation.warnings:
            typer.echo(f"warning: {warning}", err=True)
        if json:
            print_json(read_evaluation(evaluation.folder))
            return
    typer.echo(_outcome_table(evaluation.outcomes) if evaluation.outcomes else _score_table(evaluation))


def read(
    before: Annotated[
        Path,
        typer.Argument(
            metavar="BEFORE", help="lm-eval results, MMLU-Pro output or folder; or a .csv or folder with both sides."
        ),
    ],
    after: Annotated[Path | None, typer.Argument(metavar="AFTER", help="The same of the fine-tuned model.")] = None,
    metric: Annotated[str | None, typer.Option(help="Take this metric alone.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write them as one table.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Read what a fine-tune did to each domain from others' files: checked whole, with standard errors where known.

    Example: sts import before/results.json after/results.json --metric exact_match,custom-extract --out actual.csv
    """
    from sts_core.results.outcomes.csv_table import to_text
    from sts_core.results.outcomes.outcome import of_metric
    from sts_core.results.outcomes.reading import read_outcomes

    outcomes = read_outcomes(before, after)
    if metric is not None or out is not None:
        outcomes = of_metric(outcomes, metric)
    if out is not None:
        if out.exists() and any(given is not None and out.samefile(given) for given in (before, after)):
            raise UserError(f"{out} is what is being read", "Name another file.")
        atomic_write(out, to_text(outcomes))
    if json:
        print_json([{**one._asdict(), "harm": one.harm, "harm_se": one.harm_se} for one in outcomes])
    else:
        typer.echo(_outcome_table(outcomes))


def _outcome_table(outcomes: list[Outcome]) -> str:
    rows = [("domain", "metric", "before", "after", "change", "± 1 s.e.", "n")]
    for one in outcomes:
        places = _PLACES.get(one.metric, 4)
        before, after, se = (_number(value, places) for value in (one.before, one.after, one.se))
        rows.append((one.domain, one.metric, before, after, f"{one.change:+.{places}f}", se, _count(one.n)))
    return table(rows)


def _score_table(evaluation: Evaluation) -> str:
    rows = [("domain", "metric", "value", "± 1 s.e.", "n")]
    found: list[Score | Level] = [*chain(*evaluation.scores.values()), *chain(*evaluation.levels.values())]
    for domain, metric, value, se, n in (one[:5] for one in found):
        places = _PLACES.get(metric, 4)
        rows.append((domain, metric, _number(value, places), _number(se, places), _count(n)))
    return table(rows)


def _number(value: float | None, places: int) -> str:
    return "—" if value is None else f"{value:.{places}f}"


def _count(n: int | None) -> str:
    return "—" if n is None else str(n)
