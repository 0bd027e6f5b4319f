"""`sts eval`: what a model can do, before and after a fine-tune."""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.telling import Teller, print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.outcomes.outcome import Level, Outcome
    from sts_core.results.outcomes.rows import Score
    from sts_core.train.evaluation.running import Evaluation

_PLACES = {"accuracy": 3, "first_choice": 3}


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("eval")(evaluate)


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
    [target] set, and a [harness] table with lm-eval's tasks. Own metrics: nll, accuracy, nll_choice, nll_text,
    first_choice.

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
            typer.echo(f"warning: {visible(warning)}", err=True)
        if json:
            print_json(read_evaluation(evaluation.folder))
            return
    typer.echo(outcome_table(evaluation.outcomes) if evaluation.outcomes else _score_table(evaluation))


def outcome_table(outcomes: list[Outcome]) -> str:
    """Every domain and metric before and after."""
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
