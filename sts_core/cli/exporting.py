"""`sts export`: a result or a run as tables for other programs, or as one page for a colleague."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sts_core.cli.export_sources import (
    Source,
    called,
    evaluated,
    find_source,
    nothing_to_report,
    result_of,
    what_happened,
)
from sts_core.cli.telling import print_json, table
from sts_core.errors import UserError, nearest
from sts_core.folders import atomic_write, ensure

if TYPE_CHECKING:
    from pyarrow import Table

    from sts_core.results.actual import Given

FORMATS = ("csv", "parquet", "html")
REPORT = "report.html"


def add_to(app: typer.Typer) -> None:
    """Hang this command on the program."""
    app.command("export")(export)


def export(
    source: Annotated[
        str, typer.Argument(metavar="DIR|KEY|RUN", help="A finished result's folder or key, or a fine-tuning run's id.")
    ],
    format: Annotated[str, typer.Option(help="csv, parquet, html, or several of them: csv,html.")] = "html",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to; export-NAME when left out. A .html file for one page.")
    ] = None,
    actual: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="What happened, as of `sts correlate`: a run's id, an imported name, a file (or two), paper:MODEL.",
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Which metric of WHAT; nll when it is there.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of other content.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Write a result's or a run's tables as CSV or Parquet, or a report: one HTML page that opens anywhere, offline.

    Parquet of a result is the result itself: `sts import` takes it on another machine.

    Example: sts export cache/demo/result --format csv,html --out /tmp/demo-export
    """
    formats = _formats(format)
    found = find_source(source)
    given = what_happened(actual or [])
    place = out if out is not None else Path(f"export-{found.name}")
    if place.suffix == ".html" and formats != ["html"]:
        raise UserError(f"{place} is one file, and {format} are more", "Name a folder with --out.")
    if place.suffix.lower() in {".csv", ".parquet"} and not place.is_dir():
        raise UserError(
            f"{place} would be a folder",
            f"Name a folder with --out, and the kind with --format {place.suffix[1:].lower()}.",
        )
    _apart(place, found)
    if found.result is None and ("html" in formats or given is not None):
        raise nothing_to_report(found)
    if metric and given is None and found.run is None:
        raise UserError(f"--metric {metric} is of what happened, and nothing is named", "Name it with --actual.")
    written = []
    for path, content in _contents(found, formats, given, metric, place):
        written.append((path, _write(path, content, force)))
    if json:
        print_json([{"file": str(path), "bytes": size} for path, size in written])
        return
    from sts_core.figures.numbers import size as in_words

    typer.echo(table([(str(path), in_words(size)) for path, size in written]))


def _contents(
    found: Source, formats: list[str], given: Given | None, metric: str | None, place: Path
) -> Iterator[tuple[Path, bytes | Path]]:
    """Every file with its content, one at a time; a path stands for the content of that file."""
    from sts_core.results.tables import csv_bytes, parquet_bytes

    whole = found.run is None and found.result is not None
    if "parquet" in formats and whole and found.result is not None:
        yield from ((place / file.name, file) for file in _whole(found.result))
    for name, one, of_result in _tables(found, formats, given, metric):
        if "csv" in formats:
            yield place / f"{name}.csv", csv_bytes(one)
        if "parquet" in formats and not (whole and of_result):
            yield place / f"{name}.parquet", parquet_bytes(one)
    if "html" in formats and found.result is not None:
        from sts_core.figures.report.page import report

        what = given if given is not None or found.run is None else result_of(found.run)
        page = report(found.result, what, metric, called(what))
        yield place if place.suffix == ".html" else place / REPORT, page.encode()


def _tables(
    found: Source, formats: list[str], given: Given | None, metric: str | None
) -> Iterator[tuple[str, Table, bool]]:
    """Name, table, and whether it is one of a result's own."""
    if formats == ["html"]:
        return
    if found.run is not None:
        from sts_core.store.run_tables import run_tables

        yield from ((name, one, False) for name, one in run_tables(found.run).items())
    elif found.result is not None:
        from sts_core.results.tables import result_tables

        yield from ((name, one, True) for name, one in result_tables(found.result))
    if found.result is None:
        return
    what = given if given is not None or found.run is None else evaluated(found.run)
    yield from ((name, one, False) for name, one in _compared(found, what, metric))


def _compared(found: Source, what: Given | None, metric: str | None) -> Iterator[tuple[str, Table]]:
    """The tables of a result held against what happened: points, correlations, baselines, overlap."""
    from sts_core.results.actual import SHIFT, read_actual
    from sts_core.results.agreement import PRIMARY_N, hold_against
    from sts_core.results.overlap import compare
    from sts_core.results.tables import agreement_tables, overlap_table
    from sts_core.results.vectors import Vectors

    if found.result is None:
        return
    folder = None if found.run is None else result_of(found.run)
    if what is not None:
        actual, result = read_actual(what, metric), Vectors(found.result)
        folder = actual.folder
        held = hold_against(result, actual, n=min(PRIMARY_N, len(result.ranking)))
        yield from agreement_tables(held).items()
    if folder is not None and (folder / SHIFT).is_file():
        yield "overlap", overlap_table(compare(found.result, folder))


def _formats(text: str) -> list[str]:
    names = list(dict.fromkeys(part.strip().casefold() for part in text.split(",") if part.strip()))
    unknown = next((name for name in names if name not in FORMATS), None)
    if unknown is not None or not names:
        raise UserError(
            f"There is no format {unknown or text!r}{nearest(unknown or '', FORMATS)}", "csv, parquet, html."
        )
    return names


def _whole(folder: Path) -> list[Path]:
    """The files a result is, its manifest last."""
    from sts_core.results import shelf

    names = (*shelf.FILES, *(name for name in shelf.ON_REQUEST if (folder / name).is_file()), shelf.MANIFEST)
    lacking = next((name for name in names if not (folder / name).is_file()), None)
    if lacking is not None:
        raise UserError(f"The result in {folder} is not whole: it lacks {lacking}", "Measure it again with --fresh.")
    return [folder / name for name in names]


def _write(path: Path, content: bytes | Path, force: bool) -> int:
    """Put a file there; the same again is no conflict."""
    ensure(path.parent)
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    if path.exists() or path.is_symlink():
        if path.is_file() and path.stat().st_size == size and _equal(path, content):
            return size
        if not force or not path.is_file() or path.is_symlink():
            raise UserError(f"{path} is there already, with other content", "Name another --out, or --force it.")
    if isinstance(content, Path):
        _copy(content, path)
    else:
        atomic_write(path, content)
    return size


def _copy(source: Path, to: Path) -> None:
    import shutil

    draft = to.with_name(f".{to.name}.part")
    try:
        shutil.copyfile(source, draft)
        draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)


def _equal(path: Path, content: bytes | Path) -> bool:
    from filecmp import cmp

    return cmp(path, content, shallow=False) if isinstance(content, Path) else path.read_bytes() == content


def _apart(place: Path, found: Source) -> None:
    """Nothing is written into what is exported."""
    target = place.resolve()
    for folder in (found.result, found.run):
        if folder is not None and target.is_relative_to(folder.resolve()):
            raise UserError(f"{place} lies in what is exported", "Name another folder with --out.")
