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
) -> None:
    """Train a SAE with SAELens' trainer on this model's activations, and measure how good it is.

    Example: sts sae train cache/demo/smollm2-l15/try.toml --out /tmp/my-sae
    """
    from sts_core.train.sae import train_sae
    from sts_core.train.sae_spec import SaeSpec

    tell = Teller()
    try:
        folder = train_sae(SaeSpec.from_toml(spec), out, tell)
    finally:
        tell.end()
    typer.echo(f"{folder}: trained and measured; see its report.json.", err=True)
