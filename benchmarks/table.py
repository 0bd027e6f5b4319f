"""The findings as Markdown: machine and settings, one table a part, and what was promised beside what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks.findings import TOLERANCE, Cell, Flat, Memory
from benchmarks.task import Report, Task
from sts_core.nets.device import cpu_name

FASTER = {1_500: 10, 6_000: 30}
"""Prefix -> how many times faster than the rival is promised."""
_MB = 1e6


def head(task: Task) -> str:
    """Who measured what, where and when; asked before the work begins, which is a load of its own."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "sae-lens"))
    sae = task.sae or "a SAE of random weights"
    busy = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, {os.cpu_count()} cores, load {busy:.1f} at the start; "
        f"Python {platform.python_version()}, {packages}; seed {task.seed}.\n"
        f"{os.path.basename(task.model.rstrip('/'))}, block {task.layer}, {os.path.basename(sae)}, "
        f"{task.features:,} features, model in {task.dtype}, SAE in float32, both sides alike."
    )


def whole(cells: Sequence[Cell], memory: Memory | None, flat: Flat | None) -> str:
    """All tables that there is something for."""
    parts = [_speed(cells), _agreement(cells)] if cells else []
    parts += [_memory(memory)] if memory else []
    parts += [_flat(flat)] if flat else []
    return "\n" + "\n\n".join([*parts, _promises(cells, memory, flat)])


def _speed(cells: Sequence[Cell]) -> str:
    rows = []
    for cell in cells:
        rows += [_side(cell.prefix, "ours", cell.ours), _side(cell.prefix, "rival", cell.rival)]
        rows[-1][-1] = f"ours ×{cell.faster_same:.1f}"
        if cell.many is not cell.ours:
            cost = cell.rival.cost
            guessed = [
                f"{cell.prefix:,}", "rival, extrapolated", f"{cell.many.items}", f"{cost.wall * cell.scale:.1f}", "0",
                f"{cost.cpu * cell.scale:.1f}", "—", "—", f"{cell.rival.pooled / cost.wall:,.0f}", "—",
                f"ours ×{cell.faster_all:.1f}",
            ]  # fmt: skip
            rows += [_side(cell.prefix, "ours", cell.many), guessed]
    return _table(
        ("prefix", "side", "queries", "wall s", "repeats", "CPU s", "peak RSS MB", "beyond the model MB",
         "pooled tokens/s", "share of matmul rate", "faster"), rows,
    )  # fmt: skip


def _side(prefix: int, name: str, report: Report) -> list[str]:
    cost = report.cost
    return [
        f"{prefix:,}", name, f"{report.items}", f"{cost.wall:.2f}", f"{cost.repeats}", f"{cost.cpu:.2f}",
        f"{cost.peak / _MB:,.0f}", f"{cost.beyond / _MB:,.0f}", f"{report.pooled / cost.wall:,.0f}",
        f"{report.share:.0%} of {report.rate / 1e9:,.0f} GFLOP/s" if report.rate else "—", "",
    ]  # fmt: skip


def _agreement(cells: Sequence[Cell]) -> str:
    rows = [
        [f"{c.prefix:,}", f"{c.difference:.1e}", f"{c.shared_top}", f"{c.rival.batch}", "yes" if c.agrees else "NO"]
        for c in cells
    ]
    return _table(("prefix", "Σ of differences / Σ shift", "shared of the top 100", "rival's batch", "agree"), rows)


def _memory(memory: Memory) -> str:
    how = "extrapolated from bytes a token" if memory.extrapolated else "measured"
    rows = [
        ["ours", f"{memory.ours.pooled:,}", f"{memory.ours.cost.beyond / _MB:,.0f}",
         "measured, the model's batches included"],
        ["rival", f"{memory.tokens:,}", f"{memory.rival / _MB:,.0f}",
         f"{how}, {memory.rival_each / 1e3:,.0f} kB a token; a tiny model, so its own batches count for nothing"],
    ]  # fmt: skip
    return _table(("side", "pooled tokens", f"peak beyond the model MB at {memory.features:,} features", "how"), rows)


def _flat(flat: Flat) -> str:
    rows = [
        [f"{r.pooled:,}", f"{r.cost.beyond / _MB:,.0f}", f"{r.cost.wall:.2f}", f"{r.cost.wall / r.pooled * 1e6:,.1f}"]
        for r in flat.reports
    ]
    columns = (
        "pooled tokens",
        f"peak beyond the model MB, tiny model, {flat.features:,} features",
        "wall s",
        "µs a token",
    )
    return _table(columns, rows)


def _promises(cells: Sequence[Cell], memory: Memory | None, flat: Flat | None) -> str:
    rows = [row for cell in cells for row in _promises_of(cell)]
    if memory:
        asked_of = f"peak memory at {memory.tokens:,} × {memory.features:,}"
        rows.append([asked_of, "≤ 10 % of the rival's", f"{memory.ratio:.1%}", _yes(memory.ratio <= 0.1)])
    if flat:
        few, most = flat.reports[0].pooled, flat.reports[-1].pooled
        before, after = flat.halves
        change = after / before - 1
        rows += [
            [f"memory from {few:,} to {most:,} tokens", "≤ +5 %", f"{flat.growth:+.1%}", _yes(flat.growth <= 0.05)],
            [f"time a token, {flat.reports[-2].pooled:,} to {most:,}: second half against first", "± 20 %",
             f"{change:+.1%}", _yes(abs(change) <= 0.2)],
        ]  # fmt: skip
    return _table(("promise", "asked", "measured", "holds"), rows)


def _promises_of(cell: Cell) -> list[list[str]]:
    limit = TOLERANCE[cell.dtype]
    rows = [[f"same shift at {cell.prefix:,}", f"≤ {limit:g}", f"{cell.difference:.1e}", _yes(cell.agrees)]]
    asked = FASTER.get(cell.prefix)
    if asked:
        what = f"faster at a prefix of {cell.prefix:,}, {{}}"
        same, whole_cell = cell.faster_same, cell.faster_all
        rows.append([what.format(f"{cell.ours.items} queries"), f"≥ {asked}×", f"{same:.1f}×", _yes(same >= asked)])
        if cell.many is not cell.ours:
            beyond = f"{cell.many.items} queries, the rival's seconds extrapolated"
            rows.append([what.format(beyond), f"≥ {asked}×", f"{whole_cell:.1f}×", _yes(whole_cell >= asked)])
    return rows


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
