"""`sts ledger`: how good have predictions been here? The answer first, then a line for every prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.telling import print_json, table
from sts_core.cli.terminal import visible
from sts_core.errors import UserError

if TYPE_CHECKING:
    from sts_core.results.ledger import Entry

_HEADER = ("written", "run", "trained on", "Spearman", "p", "95 % interval", "r", "n", "first three", "state")
_DASH = "—"


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("ledger")(ledger)


def ledger(
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the lines as a CSV instead.")] = False,
) -> None:
    """Every prediction as it was written down before its run, scored by what the run did; nothing has to be entered.

    Example: sts ledger --csv > predictions.csv
    """
    from sts_core.figures import ledger_words as words
    from sts_core.results.ledger import to_csv
    from sts_core.results.ledger_overall import overall
    from sts_core.store.ledger import entries, without_prediction
    from sts_core.store.reading import read

    if json and csv:
        raise UserError("--json and --csv are two forms of the same", "Leave one of the two out.")
    with read() as view:
        found, without = entries(view.connection), without_prediction(view.connection)
    whole = overall(found)
    if json:
        rates = {"hit_rate": whole.hit_rate, "chance": whole.chance}
        told = {**whole._asdict(), **rates, "without_prediction": without}
        print_json({"overall": told, "predictions": [entry.public() for entry in found]})
        return
    if csv:
        typer.echo(to_csv(found), nl=False)
        return
    typer.echo(visible(words.headline(whole, found)))
    if found:
        typer.echo(visible(words.explanation(whole)))
        typer.echo("\n" + table([_HEADER, *(_line(entry) for entry in found)]))
    else:
        typer.echo("Launch a run with a prediction: sts sft cache/demo/sft.toml", err=True)
    if told_of := words.without_words(without):
        typer.echo(f"\n{told_of}")


def _line(entry: Entry) -> tuple[str, ...]:
    from sts_core.figures.correlation_words import interval_words
    from sts_core.figures.ledger_words import shared
    from sts_core.figures.numbers import fixed, p_value
    from sts_core.jobs.folder import marked
    from sts_core.results.ledger import SCORED

    found, one = entry.found, entry.foretold
    written = f"{one.written:%Y-%m-%d %H:%M}" if one.written else _DASH
    state = entry.state if entry.state == SCORED else f"{entry.state}: {entry.why}"
    head = (written, marked(one.run, one.run), one.data.rstrip("/").rsplit("/", 1)[-1])
    if found is None:
        return (*head, *[_DASH] * 6, state)
    hits = f"{shared(found.hits.shared)} of {found.hits.k}" if found.hits else _DASH
    p = p_value(found.p_spearman).removeprefix("p = ").removeprefix("p ")
    interval = interval_words(found.ci_spearman)
    return (*head, fixed(found.spearman, 2), p, interval, fixed(found.r, 2), str(found.n), hits, state)
