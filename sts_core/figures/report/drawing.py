"""Scores as bars, and scores against what happened: the two figures of domains, each drawn for a width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sts_core.figures.beside import Lettering, Plot, middle, ways_beside
from sts_core.figures.frame import short
from sts_core.figures.numbers import DASH, column_decimals, known, with_error
from sts_core.figures.report.ink import LETTER, NARROW, Point, Sheet, hue, round_words, ticks
from sts_core.figures.transfer import Dot, reach, span
from sts_core.stats.correlation import Line

ROW, FOOT = 26, 44
_AXIS_LETTERS = 5.6


def score_bars(scores: pd.DataFrame, axis: str, width: int) -> Sheet:
    """`domain, value, se` as bars from zero, the longest first, with whiskers of one standard error and numbers."""
    measured = scores[scores["value"].map(known).astype(bool)].sort_values(["value", "domain"], ascending=[False, True])
    rows = pd.concat([measured, scores.drop(measured.index)])
    names = [short(str(name)) for name in rows["domain"]]
    values = [(float(v), float(s) if known(s) else None) for v, s in zip(rows["value"], rows["se"], strict=True)]
    decimals = column_decimals([v for v, _ in values], [s for _, s in values])
    left, right = 30 + LETTER * max(map(len, names), default=4), 104.0
    sheet = Sheet(width, ROW * max(len(names), 1) + FOOT)
    reach = max((v + (s or 0) for v, s in values if known(v)), default=1.0) or 1.0
    scale = (width - left - right) / (1.03 * reach)
    bottom = ROW * max(len(names), 1)
    _ticks_below(sheet, (0.0, reach), lambda v: left + v * scale, (0, bottom), 5 if width > NARROW else 3)
    for place, (name, label, (value, se)) in enumerate(zip(rows["domain"], names, values, strict=True)):
        y = ROW * (place + 0.5)
        sheet.text(left - 16, y + 4, label, "ink", "end")
        if not known(value):
            sheet.text(left + 8, y + 4, f"{DASH} not measured", "muted")
            continue
        sheet.box(left, y - 8, value * scale, 16, f"bar {hue(str(name))}")
        if se is not None:
            _whisker(sheet, (left + (value - se) * scale, y), (left + (value + se) * scale, y))
        sheet.domain(str(name), left, y, 5.5)
        sheet.text(width - right + 10, y + 4, with_error(value, se, decimals), "ink number")
    for step, line in enumerate(_in_lines(axis, width - 8)):
        sheet.text(width / 2, bottom + 32 + 13 * step, line, "muted", "middle")
    sheet.height += 13 * (len(_in_lines(axis, width - 8)) - 1)
    return sheet


def scatter(dots: Sequence[Dot], line: Line | None, ring: str | None, axes: tuple[str, str], width: int) -> Sheet:
    """Points with whiskers of one standard error both ways, their line with its 95 % band, one point ringed."""
    dots = [dot for dot in dots if known(dot.x) and known(dot.y)]
    height, left, bottom = (430, 62, 46) if width > NARROW else (400, 50, 46)
    sheet = Sheet(width, height)
    spans = span([(d.x, d.x_se) for d in dots]), span([(d.y, d.y_se) for d in dots], zero=True)
    size = width - left - 14, height - bottom - 10
    scale = size[0] / (spans[0][1] - spans[0][0]), size[1] / (spans[1][1] - spans[1][0])

    def at(x: float, y: float) -> Point:
        return left + (x - spans[0][0]) * scale[0], 10 + (spans[1][1] - y) * scale[1]

    many = 6 if width > NARROW else 4
    _ticks_below(sheet, spans[0], lambda v: at(v, 0)[0], (10, height - bottom), many)
    for value in ticks(*spans[1], many):
        y = at(0, value)[1]
        sheet.line((left, y), (width - 14, y), "zero" if value == 0 else "grid")
        sheet.text(left - 8, y + 4, round_words(value), "muted", "end")
    if line is not None:
        x = np.linspace(*spans[0], 41)
        _, low, high = (np.clip(part, *spans[1]) for part in line.band(x))
        sheet.path([at(*p) for p in (*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True))], "band", True)
        inside = [(a, b) for a, b in zip(x, line.intercept + line.slope * x, strict=True)]
        sheet.path([at(a, b) for a, b in inside if spans[1][0] <= b <= spans[1][1]], "fit")
    for dot in dots:
        x0, y0 = at(dot.x, dot.y)
        if dot.x_se is not None and known(dot.x_se):
            sheet.line((at(dot.x - dot.x_se, 0)[0], y0), (at(dot.x + dot.x_se, 0)[0], y0), "error")
        if dot.y_se is not None and known(dot.y_se):
            sheet.line((x0, at(0, dot.y - dot.y_se)[1]), (x0, at(0, dot.y + dot.y_se)[1]), "error")
    places = [at(dot.x, dot.y) for dot in dots]
    for dot, (x0, y0) in zip(dots, places, strict=True):
        if dot.name == ring:
            sheet.ring(x0, y0, 11, "ring")
        sheet.domain(dot.name, x0, y0, 5.5)
    for dot, (x0, y0) in zip(dots, _names_at(dots, places, scale, ring, (left, width - 14), -at(0, 0)[1]), strict=True):
        sheet.text(x0, y0 + 4, short(dot.name), "ink small halo", "middle")
    sheet.text(left + size[0] / 2, height - 8, axes[0], "muted", "middle")
    sheet.tilted(13, 10 + size[1] / 2, axes[1], "muted")
    return sheet


def _ticks_below(sheet: Sheet, span: Point, at: object, ends: Point, most: int) -> None:
    """Lines across the plot at round numbers, each with its number below."""
    for value in ticks(*span, most):
        x = at(value)  # type: ignore[operator]
        sheet.line((x, ends[0]), (x, ends[1]), "zero" if value == 0 else "grid")
        sheet.text(x, ends[1] + 15, round_words(value), "muted", "middle")


def _whisker(sheet: Sheet, start: Point, end: Point) -> None:
    sheet.line(start, end, "whisker")
    for x, y in (start, end):
        sheet.line((x, y - 3.5), (x, y + 3.5), "whisker")


def _names_at(
    dots: Sequence[Dot], places: Sequence[Point], scale: Point, ring: str | None, edges: Point, level: float
) -> list[Point]:
    """The middle of each name, beside its point."""
    names = Lettering([LETTER * len(short(dot.name)) for dot in dots], 14, (12, 10))
    plot = Plot(
        [x for x, _ in places], [-y for _, y in places],
        [scale[0] * reach(dot.x_se) for dot in dots], [scale[1] * reach(dot.y_se) for dot in dots], *edges, level,
    )  # fmt: skip
    ways = ways_beside([plot], names, next((i for i, dot in enumerate(dots) if dot.name == ring), None))
    found = [middle(plot, i, way, names) for i, way in enumerate(ways)]
    return [(x, -y) for x, y in found]


def _in_lines(text: str, width: float) -> list[str]:
    """A text in as many lines as the width needs."""
    lines: list[str] = []
    for word in text.split():
        if lines and _AXIS_LETTERS * (len(lines[-1]) + 1 + len(word)) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]
