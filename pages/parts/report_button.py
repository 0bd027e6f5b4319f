"""The button for a report: one page of a result, and of what became of it, to send to a colleague.

It is made when it is asked for, by a child process, as `sts export` makes it: the dashboard reads no vectors for it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import streamlit as st

from pages.parts.plan import refusal
from sts_core.errors import UserError
from sts_core.folders import PROJECT
from sts_core.results.actual import PAPER, Given
from sts_core.store.results import Stored

COMMAND: tuple[str, ...] = (sys.executable, "-m", "sts_core", "export")
LONGEST = 300.0
"""Seconds until a report is given up."""
FILE = "report.html"


def report_button(stored: Stored, actual: Given | None = None, metric: str | None = None) -> None:
    """Draw it. `actual` is what happened, as `transfer_actual.given_of` gives it; without it, the prediction alone."""
    st.download_button(
        "Report",
        lambda: made(stored.folder, actual, metric),
        f"report-{stored.key[:12]}.html",
        "text/html",
        key="report",
        icon=":material/description:",
        on_click="ignore",
        help="One page with figures, numbers, method and limits, to send to a colleague: it opens anywhere, offline. "
        "The same as sts export on a command line.",
    )


def made(folder: Path, actual: Given | None = None, metric: str | None = None) -> bytes:
    """The report's file; where it cannot be made, a file that says why, for there is no other place left to say it."""
    try:
        return _made(folder, actual, metric)
    except UserError as error:
        return _apology(error).encode()


def _made(folder: Path, actual: Given | None, metric: str | None) -> bytes:
    with tempfile.TemporaryDirectory(prefix="sts-report-") as place:
        out = Path(place) / FILE
        command = [*COMMAND, str(folder), "--format", "html", "--out", str(out), *_happened(actual, metric)]
        try:
            ran = subprocess.run(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            raise UserError("The report takes too long", "Make it in a terminal: sts export.") from None
        if ran.returncode or not out.is_file():
            said = refusal(ran.stderr.decode("utf-8", "replace"))
            hint = "sts export in a terminal tells more."
            raise said or UserError(f"The report could not be made (code {ran.returncode})", hint)
        return out.read_bytes()


def _happened(actual: Given | None, metric: str | None) -> list[str]:
    """What happened, as the command takes it."""
    if actual is None:
        return []
    if isinstance(actual, str | Path):
        given: Sequence[str] = [str(actual)]
    else:
        given = [str(place) for place in actual if isinstance(place, str | Path)]
    named = [part for place in given for part in ("--actual", place)]
    of_paper = len(given) == 1 and given[0].startswith(PAPER)
    return named + (["--metric", metric] if metric and not of_paper else [])


def _apology(error: UserError) -> str:
    head = "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>No report</title>"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    return f"{head}{policy}<h1>There is no report</h1><p>{escape(error.message)}.</p><p>{escape(error.hint)}</p>"
