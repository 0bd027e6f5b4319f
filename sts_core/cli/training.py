"""`sts sae train`: a sparse autoencoder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sts_core.cli.telling import Teller


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    group = typer.Typer(help="Sparse autoencoders of one's own.", no_args_is_help=True)
    group.callback()(_group)
    group.command("train")(train)
    app.add_typer(group, name="sae")


def _group() -> None:
    """Sparse autoencoders of one's own."""


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="Model, layer, width, sparsity, corpora.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the SAE goes, as SAELens saves it, with its report.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what an unfinished training there left.")] = False,
) -> None:
    """Train a SAE, or several at once, with SAELens' trainer on this model's activations, and measure how good it is.

    A training that was stopped or killed goes on when the same command is given again.

    Example: sts sae train cache/demo/smollm2-l15/try.toml --out /tmp/my-sae
    """
    from sts_core.train.sae.checkpoint import part_folder
    from sts_core.train.sae.spec import SaeSpec
    from sts_core.train.sae.training import train_sae

    tell = Teller()
    try:
        folder = train_sae(SaeSpec.from_toml(spec), out, tell, fresh)
    except KeyboardInterrupt:
        tell.end()
        if part_folder(out).is_dir():
            typer.echo("The same command goes on from the last checkpoint.", err=True)
        raise
    finally:
        tell.end()
    for report in sorted(folder.glob("**/report.json")):
        typer.echo(f"{report.parent}: trained and measured; see its report.json.", err=True)
