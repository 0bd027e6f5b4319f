"""`sts overlap`: what two rankings of features share, beside what they would share for no good reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sts_core.cli.telling import print_json
from sts_core.errors import UserError


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("overlap")(overlap)


def overlap(
    result: Annotated[Path, typer.Argument(metavar="DIR", help="A finished result folder.")],
    other: Annotated[
        Path,
        typer.Argument(
            metavar="OTHER",
            help="Another result, a fine-tune's id or folder, or a .parquet or .csv with feature and one value column.",
        ),
    ],
    k: Annotated[
        str | None, typer.Option("--k", metavar="K,K,…", help="10,50,100,200,500 (those that fit) when left out.")
    ] = None,
    draws: Annotated[int, typer.Option(min=100, help="How often the questions are drawn again.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The seed of those draws.")] = 0,
) -> None:
    """Overlap of the leading features with another ranking, with its nulls, as JSON; no model is loaded.

    An overlap is claimed only where its interval lies above the highest null.

    Example: sts overlap cache/demo/result cache/demo/result --k 10,100
    """
    ks = _list(k)
    from sts_core.results.overlap import compare  # SciPy's distributions take a second to load

    print_json(compare(_place(result), _place(other), ks, draws, seed).public())


def _place(given: Path) -> Path:
    """What is named: a job's result where it is a job's id, else the path."""
    from sts_core.jobs.folder import ID, locate, meant, result_folder

    if given.exists() or len(given.parts) != 1 or not ID.fullmatch(job := meant(str(given))):
        return given
    return result_folder(locate(job).name)


def _list(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"--k {text} is not a list of whole numbers", "For example --k 10,50,100.")
    return [int(part) for part in parts]
