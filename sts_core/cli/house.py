"""`sts app`, `sts doctor`: start the dashboard; say whether this machine is ready."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, NamedTuple

import typer

from sts_core import bundle, folders, hub
from sts_core.bundle import embedded
from sts_core.cli import app as dashboard
from sts_core.cli.telling import Teller, print_json, table
from sts_core.errors import UserError
from sts_core.nets.describe import shipped_saes
from sts_core.nets.device import choose_device, choose_dtype, cpu_name

PACKAGES = ("torch", "transformers", "sae-lens", "streamlit", "plotly", "datasets", "duckdb", "peft", "trl", "scipy")
_LITTLE_DISK = 2e9


class Finding(NamedTuple):
    """One thing the doctor looked at."""

    name: str
    state: str
    """ok, note or bad; one bad one makes the machine unusable."""
    told: str


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the program."""
    app.command("app")(start)
    app.command("doctor")(doctor)


def start(
    port: Annotated[int, typer.Option(help="Where the dashboard listens.")] = 8501,
    host: Annotated[str, typer.Option(help="127.0.0.1 for this machine alone.")] = "127.0.0.1",
) -> None:
    """Start the dashboard, after fetching the embedded bundle when it is not here yet.

    Example: sts app --port 8502
    """
    dashboard.check(port, host)
    tell = Teller()
    try:
        bundle.fetch(tell)
    finally:
        tell.end()
    dashboard.serve(port, host)


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Look over this machine: device, versions, disk, hub, embedded bundle, database. Exit 1 when it cannot be used.

    Example: sts doctor
    """
    findings = [_python(), *_packages(), _device(), *_cache(), _bundle(), _saes(), _database(), _hub()]
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        marks = {"ok": "✓", "note": "·", "bad": "✗"}
        typer.echo(table([(marks[f.state], f.name, f.told) for f in findings]))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> list[Finding]:
    found = []
    for package in PACKAGES:
        try:
            found.append(Finding(package, "ok", version(package)))
        except PackageNotFoundError:
            found.append(Finding(package, "bad", "not installed: pip install -r requirements.txt"))
    return found


def _device() -> Finding:
    device = choose_device("auto")
    return Finding(
        "device", "ok", f"{device} ({cpu_name()}, {os.cpu_count()} cores), computing in {choose_dtype('auto', device)}"
    )


def _cache() -> list[Finding]:
    try:
        folder = folders.cache()
        free = shutil.disk_usage(folder).free
        writable = os.access(folder, os.W_OK)
    except UserError as error:
        return [Finding("cache", "bad", f"{error.message}: {error.hint}")]
    return [
        Finding("cache", "ok" if writable else "bad", str(folder) if writable else f"{folder} may not be written to"),
        Finding("disk", "ok" if free > _LITTLE_DISK else "note", f"{free / 1e9:,.1f} GB free"),
    ]


def _bundle() -> Finding:
    try:
        embedded.require()
    except UserError as error:
        return Finding("bundle", "note", f"{error.message} {error.hint}")
    return Finding(
        "bundle",
        "ok",
        f"{embedded.MODEL_NAME} ({embedded.model_revision()}), {len(embedded.domain_names())} domains, "
        f"{', '.join(embedded.TRAIN_NAMES)}",
    )


def _saes() -> Finding:
    names = shipped_saes()
    return Finding(
        "embedded SAE", "ok" if names else "bad", ", ".join(names) or "none under cache/demo: the checkout is not whole"
    )


def _database() -> Finding:
    """Nothing here opens one yet: results are folders, and the list is read from them."""
    return Finding("database", "ok", "none, and none needed: finished results are folders in the cache")


def _hub() -> Finding:
    """Being offline is no fault."""
    if hub.switched_off():
        return Finding("hub", "note", "switched off by HF_HUB_OFFLINE; embedded and local models work")
    why = hub.trouble()
    if why:
        return Finding("hub", "note", f"not reachable ({why}); embedded and local models work")
    return Finding("hub", "ok", f"{hub.address()[0]} answers")
