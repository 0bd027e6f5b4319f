"""How commands tell: progress on stderr, values as JSON on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import typer

from sts_core.cli.terminal import as_json, visible
from sts_core.progress import Progress


def print_json(value: Any) -> None:
    """A JSON value on stdout; what is not a number is null."""
    typer.echo(as_json(value))


def for_a_program(asked: bool | None) -> bool:
    """Whether JSON is wanted: as it was asked for, else wherever nobody reads along."""
    return asked if asked is not None else not sys.stdout.isatty()


class Teller:
    """Watches a longer work: one line that rewrites itself on a terminal, elsewhere a line a stage and a minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._stage = ""
        self._last = 0.0
        self._began = time.monotonic()
        self._first: float | None = None
        self._total = 0.0
        self.moved = False
        """Whether anything was done at all."""

    def __call__(self, step: Progress) -> None:
        self.moved = True
        now = time.monotonic()
        new = step.stage != self._stage
        if not new and now - self._last < (0.1 if self._terminal else 60):
            return
        self._stage, self._last = step.stage, now
        if step.total and (self._first is None or (new and step.total != self._total)):  # counted anew, timed anew
            self._first, self._began, self._total = step.done, now, step.total
        line = self._line(step, now)
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._stage:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self, step: Progress, now: float) -> str:
        stage = visible(step.stage)
        if not step.total:
            return stage
        share = step.done / step.total
        moved = step.done - (self._first or 0.0)
        left = (step.total - step.done) * (now - self._began) / moved if moved > 0 else None
        tail = f", {duration(left)} left" if left is not None else ""
        return f"{share:4.0%}  {stage}{tail}"


def duration(seconds: float) -> str:
    """`3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns under each other, the last one ragged; a cell is a line, whatever it holds."""
    rows = [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )
